"""Which class stands behind which service of the lab."""

from __future__ import annotations

from protobuf import DescService

from core.foundations import Foundations
from core.identity.members import Members
from core.identity.signing import Signer
from core.lab.access_tokens import AccessTokens
from core.lab.auth import AuthService
from core.lab.dashboards import DashboardService
from core.lab.event_directory import EventDirectory
from core.lab.events_gone import EventsGone
from core.lab.health_watch import HealthWatch
from core.lab.hooks import KIND, Webhooks
from core.lab.log_book import LogBook
from core.lab.logging import LoggingService
from core.lab.points_watch import PointsWatch
from core.lab.readings import Readings
from core.lab.rule_engine import RuleEngine
from core.lab.rules import RuleService
from core.lab.sending import WebhookSender
from core.lab.tokens import TokenService
from core.lab.users import UserService
from core.lab.users_gone import UsersGone
from core.lab.webhooks import WebhookService
from gen.busbar.lab.v1 import auth_pb, dashboards_pb, logging_pb, rules_pb, tokens_pb, users_pb, webhooks_pb


def services(found: Foundations) -> list[tuple[DescService, object]]:
    """Build the services and what they share."""
    database, credentials, clock = found.database, found.credentials, found.clock
    members = Members(database, credentials, clock)
    signer = Signer(found.secret, "lab-access", clock)
    tokens = found.keep(AccessTokens(credentials, signer, clock, found.settings.lab.access_token_minutes))
    gone = UsersGone()
    book = LogBook(clock)
    gone.on_forget(book.forget_user)
    events = found.keep(EventDirectory(database, found.signals))
    events_gone = found.keep(EventsGone())
    return [
        *_reactions(found, book, events, gone, events_gone),
        (auth_pb.desc().services[0], AuthService(database, found.identity, members, tokens, book)),
        (tokens_pb.desc().services[0], TokenService(database, credentials)),
        (users_pb.desc().services[0], UserService(database, members, credentials, gone)),
        (logging_pb.desc().services[0], LoggingService(database, book)),
    ]


def _reactions(
    found: Foundations, book: LogBook, events: EventDirectory, users_gone: UsersGone, events_gone: EventsGone
) -> list[tuple[DescService, object]]:
    """Build what reacts to values: rules, webhooks and dashboards."""
    database, signals, clock = found.database, found.signals, found.clock
    hooks = found.keep(Webhooks(database, found.outbox, clock))
    engine = found.keep(RuleEngine(database, hooks, book, clock))
    found.keep(PointsWatch(signals, events, engine, hooks, Readings(), clock))
    found.handle(KIND, found.keep(WebhookSender(database, clock, found.settings.outgoing)).handler)
    found.keep(HealthWatch(found.health, database, hooks))
    rules = RuleService(database, signals, events, engine, clock)
    webhooks = WebhookService(database, found.outbox, hooks, clock)
    dashboards = DashboardService(database, events, clock)
    events_gone.on_forget(rules.forget_events, engine.refresh)
    events_gone.on_forget(dashboards.forget_events)
    users_gone.on_forget(rules.forget_user, engine.user_forgotten)
    users_gone.on_forget(webhooks.forget_user, webhooks.user_forgotten)
    users_gone.on_forget(dashboards.forget_user)
    return [
        (rules_pb.desc().services[0], rules),
        (webhooks_pb.desc().services[0], webhooks),
        (dashboards_pb.desc().services[0], dashboards),
    ]
