"""Which class stands behind which service of the lab."""

from __future__ import annotations

from dataclasses import dataclass

from protobuf import DescService

from core.foundations import Foundations
from core.identity.external import ExternalUsers
from core.identity.members import Members
from core.identity.signing import Signer
from core.lab.access_tokens import AccessTokens
from core.lab.auth import AuthService
from core.lab.bundles import Bundles
from core.lab.dashboards import DashboardService
from core.lab.datapoint_messages import Presenter
from core.lab.datapoints import DatapointService
from core.lab.effects import Effects
from core.lab.erasing import Erasing
from core.lab.event_directory import EventDirectory
from core.lab.event_keeper import EventKeeper
from core.lab.events import EventService
from core.lab.events_gone import EventsGone
from core.lab.experiment_directory import KIND as EXPERIMENT
from core.lab.experiment_directory import ExperimentDirectory
from core.lab.experiments import ExperimentService
from core.lab.health_watch import HealthWatch
from core.lab.hooks import KIND, Webhooks
from core.lab.ingest import LabIngest
from core.lab.installation import Installation
from core.lab.latest import LatestDatapoints
from core.lab.live_datapoints import LiveDatapoints
from core.lab.log_book import LogBook
from core.lab.logging import LoggingService
from core.lab.oidc import Provider
from core.lab.ota import OtaService
from core.lab.ota_apply import Updater
from core.lab.packages import PackageService
from core.lab.plugin_catalog import PluginCatalog
from core.lab.plugin_channels import PluginChannels
from core.lab.plugin_directory import PluginDirectory
from core.lab.plugin_runner import PluginRunner
from core.lab.plugins import PluginService
from core.lab.points_watch import PointsWatch
from core.lab.readings import Readings
from core.lab.releases import Releases
from core.lab.rule_engine import RuleEngine
from core.lab.rules import RuleService
from core.lab.sending import WebhookSender
from core.lab.sso import SsoService
from core.lab.sso_store import SsoStore
from core.lab.sso_users import SsoUsers
from core.lab.startup import StartUpEntry
from core.lab.stream import StreamService
from core.lab.tokens import TokenService
from core.lab.users import UserService
from core.lab.users_gone import UsersGone
from core.lab.webhook_secrets import WebhookSecrets
from core.lab.webhooks import WebhookService
from gen.busbar.lab.v1 import (
    auth_pb,
    dashboards_pb,
    datapoints_pb,
    events_pb,
    experiments_pb,
    logging_pb,
    ota_pb,
    packages_pb,
    plugins_pb,
    rules_pb,
    sso_pb,
    stream_pb,
    tokens_pb,
    users_pb,
    webhooks_pb,
)

Bound = list[tuple[DescService, object]]


@dataclass(frozen=True)
class _Parts:
    """What several services share."""

    book: LogBook
    events: EventDirectory
    experiments: ExperimentDirectory
    hooks: Webhooks
    engine: RuleEngine
    effects: Effects
    users_gone: UsersGone
    events_gone: EventsGone


def services(found: Foundations) -> Bound:
    """Build the services and what they share."""
    parts = _parts(found)
    # What names events lets go of a user's things before the events themselves go.
    return [*_people(found, parts), *_reactions(found, parts), *_measuring(found, parts)]


def _parts(found: Foundations) -> _Parts:
    database, signals, clock = found.database, found.signals, found.clock
    book = LogBook(clock)
    hooks, readings = found.keep(Webhooks(database, found.outbox, clock)), Readings()
    events, experiments = found.keep(EventDirectory(database, signals)), found.keep(ExperimentDirectory(database))
    # What belongs to an experiment is said once, for the lab and for everybody who reads recordings.
    signals.on_selecting(EXPERIMENT, lambda row: experiments.stretches(row, events.of_org(row.org_id), clock.now_us()))
    engine = found.keep(RuleEngine(database, hooks, book, clock))
    watch = PointsWatch(signals, events, engine, hooks, readings, clock)
    return _Parts(
        book,
        events,
        experiments,
        hooks,
        engine,
        found.keep(Effects(database, signals, watch, engine, hooks, readings=readings, clock=clock)),
        UsersGone(),
        EventsGone(),
    )


def _people(found: Foundations, parts: _Parts) -> Bound:
    """Build what people sign in with and write down."""
    database, credentials, clock = found.database, found.credentials, found.clock
    members = Members(database, credentials, clock)
    signer = Signer(found.secret, "lab-access", clock)
    tokens = found.keep(AccessTokens(credentials, signer, clock, found.settings.lab.access_token_minutes))
    parts.users_gone.on_forget(parts.book.forget_user)
    return [
        *_single_sign_on(found, parts, members, tokens),
        (auth_pb.desc().services[0], AuthService(database, found.identity, members, tokens, parts.book)),
        (tokens_pb.desc().services[0], TokenService(database, credentials)),
        (users_pb.desc().services[0], UserService(database, members, credentials, parts.users_gone)),
        (logging_pb.desc().services[0], LoggingService(database, parts.book)),
    ]


def _single_sign_on(found: Foundations, parts: _Parts, members: Members, tokens: AccessTokens) -> Bound:
    """Build what people of an identity provider sign in with."""
    database, settings, external = found.database, found.settings, ExternalUsers(found.clock)
    found.keep(StartUpEntry(database, external, parts.book, settings.lab.version))
    store = SsoStore(database, found.clock)
    parts.users_gone.on_forget(store.forget_user)
    service = SsoService(
        database,
        settings=settings,
        provider=found.keep(Provider(settings, found.clock)),
        store=store,
        users=SsoUsers(external, settings),
        members=members,
        tokens=tokens,
        book=parts.book,
    )
    return [(sso_pb.desc().services[0], service)]


def _reactions(found: Foundations, parts: _Parts) -> Bound:
    """Build what reacts to values: rules, webhooks and dashboards."""
    database, signals, clock, engine = found.database, found.signals, found.clock, parts.engine
    secrets = found.keep(WebhookSecrets(database, found.secret))
    found.handle(KIND, found.keep(WebhookSender(database, secrets, clock, found.settings.outgoing)).handler)
    found.keep(HealthWatch(found.health, database, parts.hooks))
    rules = RuleService(database, signals, parts.events, parts.experiments, engine, clock)
    webhooks = WebhookService(database, found.outbox, parts.hooks, secrets, clock)
    dashboards = DashboardService(database, parts.events, clock)
    parts.events_gone.on_forget(rules.forget_events, engine.refresh)
    parts.events_gone.on_forget(dashboards.forget_events)
    parts.users_gone.on_forget(rules.forget_user, engine.user_forgotten)
    parts.users_gone.on_forget(webhooks.forget_user, webhooks.user_forgotten)
    parts.users_gone.on_forget(dashboards.forget_user)
    return [
        (rules_pb.desc().services[0], rules),
        (webhooks_pb.desc().services[0], webhooks),
        (dashboards_pb.desc().services[0], dashboards),
    ]


def _measuring(found: Foundations, parts: _Parts) -> Bound:
    """Build what measures: events, experiments and datapoints."""
    database, signals, clock = found.database, found.signals, found.clock
    events, experiments, hooks = parts.events, parts.experiments, parts.hooks
    erasing = found.keep(Erasing())
    keeper = found.keep(EventKeeper(database, signals, events, parts.events_gone, erasing, clock))
    service = found.keep(
        ExperimentService(database, signals, events, experiments, parts.book, erasing=erasing, clock=clock, hooks=hooks)
    )
    parts.users_gone.on_forget(service.forget_user, service.user_forgotten)
    parts.users_gone.on_forget(keeper.forget_user, keeper.user_forgotten)
    presenter = Presenter(events, experiments)
    ingest = found.keep(LabIngest(signals, events, experiments, clock, parts.effects))
    latest = LatestDatapoints(signals, events, presenter)
    live = LiveDatapoints(signals, events, presenter, found.bus, clock)
    return [
        *_plugins(found, parts, keeper, ingest),
        (events_pb.desc().services[0], EventService(database, signals, events, keeper)),
        (experiments_pb.desc().services[0], service),
        (datapoints_pb.desc().services[0], DatapointService(signals, events, ingest, latest, presenter, clock)),
        (stream_pb.desc().services[0], StreamService(live, ingest, found.credentials, clock)),
    ]


def _plugins(found: Foundations, parts: _Parts, keeper: EventKeeper, ingest: LabIngest) -> Bound:
    """Build what reads devices, and what is installed: plugins, packages and updates."""
    database, clock, lab, events = found.database, found.clock, found.settings.lab, parts.events
    folder, installation = found.settings.data.resolve() / "plugins", Installation(database)
    directory = found.keep(PluginDirectory(database))
    catalog = PluginCatalog(database, folder, lab.plugin_timeout_seconds)
    packages = found.keep(
        PackageService(database, catalog, directory, installation, folder=folder, uploads=lab.plugin_uploads, clock=clock)
    )
    runner = found.keep(PluginRunner(directory, catalog, events, ingest, found.signals, settings=lab, clock=clock))
    service = PluginService(
        database,
        directory,
        catalog,
        runner,
        PluginChannels(database, catalog, keeper, clock),
        events=events,
        keeper=keeper,
        most=found.settings.quotas.plugin_instances,
        clock=clock,
    )
    events.on_mapping(directory.mapped)
    parts.events_gone.on_forget(service.forget_events, directory.reload_org)
    parts.users_gone.on_forget(service.forget_user, service.user_forgotten)
    return [
        (plugins_pb.desc().services[0], service),
        (packages_pb.desc().services[0], packages),
        (ota_pb.desc().services[0], _updates(found, installation, parts.users_gone)),
    ]


def _updates(found: Foundations, installation: Installation, users_gone: UsersGone) -> OtaService:
    """Build what keeps updates of the installation."""
    database, clock, lab = found.database, found.clock, found.settings.lab
    bundles, releases = found.keep(Bundles(found.settings)), found.keep(Releases(lab))
    updater = found.keep(Updater(database, bundles, found.settings.outgoing, clock))
    service = OtaService(database, updater, bundles, releases, installation, version=lab.version, clock=clock)
    users_gone.on_forget(service.forget_user)
    return service
