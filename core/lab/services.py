"""Which class stands behind which service of the lab."""

from __future__ import annotations

from protobuf import DescService

from core.foundations import Foundations
from core.identity.members import Members
from core.identity.signing import Signer
from core.lab.access_tokens import AccessTokens
from core.lab.auth import AuthService
from core.lab.bundles import Bundles
from core.lab.datapoint_messages import Presenter
from core.lab.datapoints import DatapointService
from core.lab.erasing import Erasing
from core.lab.event_directory import EventDirectory
from core.lab.event_keeper import EventKeeper
from core.lab.events import EventService
from core.lab.events_gone import EventsGone
from core.lab.experiment_directory import ExperimentDirectory
from core.lab.experiments import ExperimentService
from core.lab.ingest import LabIngest
from core.lab.installation import Installation
from core.lab.latest import LatestDatapoints
from core.lab.live_datapoints import LiveDatapoints
from core.lab.log_book import LogBook
from core.lab.logging import LoggingService
from core.lab.ota import OtaService
from core.lab.ota_apply import Updater
from core.lab.packages import PackageService
from core.lab.plugin_catalog import PluginCatalog
from core.lab.plugin_channels import PluginChannels
from core.lab.plugin_directory import PluginDirectory
from core.lab.plugin_runner import PluginRunner
from core.lab.plugins import PluginService
from core.lab.releases import Releases
from core.lab.stream import StreamService
from core.lab.tokens import TokenService
from core.lab.users import UserService
from core.lab.users_gone import UsersGone
from gen.busbar.lab.v1 import (
    auth_pb,
    datapoints_pb,
    events_pb,
    experiments_pb,
    logging_pb,
    ota_pb,
    packages_pb,
    plugins_pb,
    stream_pb,
    tokens_pb,
    users_pb,
)


def services(found: Foundations) -> list[tuple[DescService, object]]:
    """Build the services and what they share."""
    database, credentials, clock = found.database, found.credentials, found.clock
    members = Members(database, credentials, clock)
    signer = Signer(found.secret, "lab-access", clock)
    tokens = found.keep(AccessTokens(credentials, signer, clock, found.settings.lab.access_token_minutes))
    gone = UsersGone()
    book = LogBook(clock)
    gone.on_forget(book.forget_user)
    return [
        *_measuring(found, book, gone),
        (auth_pb.desc().services[0], AuthService(database, found.identity, members, tokens, book)),
        (tokens_pb.desc().services[0], TokenService(database, credentials)),
        (users_pb.desc().services[0], UserService(database, members, credentials, gone)),
        (logging_pb.desc().services[0], LoggingService(database, book)),
    ]


def _measuring(found: Foundations, book: LogBook, users_gone: UsersGone) -> list[tuple[DescService, object]]:
    """Build what measures: events, experiments and datapoints."""
    database, signals, clock = found.database, found.signals, found.clock
    events, experiments = found.keep(EventDirectory(database, signals)), found.keep(ExperimentDirectory(database))
    erasing, events_gone = found.keep(Erasing()), EventsGone()
    keeper = found.keep(EventKeeper(database, signals, events, events_gone, erasing, clock))
    service = found.keep(ExperimentService(database, signals, events, experiments, book, erasing=erasing, clock=clock))
    users_gone.on_forget(service.forget_user, service.user_forgotten)
    users_gone.on_forget(keeper.forget_user, keeper.user_forgotten)
    presenter = Presenter(events, experiments)
    ingest = found.keep(LabIngest(database, signals, events, experiments, clock))
    latest = LatestDatapoints(signals, events, presenter)
    live = LiveDatapoints(signals, events, presenter, found.bus, clock)
    return [
        *_plugins(found, events, keeper, ingest, users_gone=users_gone, events_gone=events_gone),
        (events_pb.desc().services[0], EventService(database, signals, events, keeper)),
        (experiments_pb.desc().services[0], service),
        (datapoints_pb.desc().services[0], DatapointService(signals, events, ingest, latest, presenter, clock)),
        (stream_pb.desc().services[0], StreamService(live, ingest)),
    ]


def _plugins(
    found: Foundations,
    events: EventDirectory,
    keeper: EventKeeper,
    ingest: LabIngest,
    *,
    users_gone: UsersGone,
    events_gone: EventsGone,
) -> list[tuple[DescService, object]]:
    """Build what reads devices, and what is installed: plugins, packages and updates."""
    database, clock, lab = found.database, found.clock, found.settings.lab
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
    events_gone.on_forget(service.forget_events, directory.reload_org)
    users_gone.on_forget(service.forget_user, service.user_forgotten)
    return [
        (plugins_pb.desc().services[0], service),
        (packages_pb.desc().services[0], packages),
        (ota_pb.desc().services[0], _updates(found, installation, users_gone)),
    ]


def _updates(found: Foundations, installation: Installation, users_gone: UsersGone) -> OtaService:
    """Build what keeps updates of the installation."""
    database, clock, lab = found.database, found.clock, found.settings.lab
    bundles, releases = found.keep(Bundles(found.settings)), found.keep(Releases(lab))
    updater = found.keep(Updater(database, bundles, found.settings.outgoing, clock))
    service = OtaService(database, updater, bundles, releases, installation, version=lab.version, clock=clock)
    users_gone.on_forget(service.forget_user)
    return service
