"""The composition root: settings in, services out. It builds the foundations and asks each area for its services."""

from __future__ import annotations

import asyncio
import contextlib
from functools import partial

import structlog

import core.lab.services
import core.maker.services
import core.plans.services
import core.system.services
import core.telemetry.services
from core.documents.documents import Documents
from core.foundations import Foundations
from core.identity.accounts import Accounts
from core.identity.credentials import Credentials
from core.identity.signing import ServerSecret
from core.identity.tool_calls import ToolCalls
from core.kernel.clock import Clock
from core.kernel.health import HealthCheck
from core.kernel.limits import Limiter
from core.kernel.pipeline import Platform
from core.kernel.rpc import bind
from core.kernel.settings import Settings
from core.kernel.telemetry import observers
from core.live.bus import Bus
from core.mail.folder import FolderCarrier
from core.mail.post import KIND as MAIL
from core.mail.post import Carrier, Post
from core.outbox.outbox import Outbox
from core.outbox.worker import OutboxWorker
from core.signals.service import Signals
from core.signals.topics import publish_on
from core.storage.database import Database
from core.storage.idempotency import IdempotencyKeys

AREAS = (
    core.maker.services.services,
    core.lab.services.services,
    core.telemetry.services.services,
    core.plans.services.services,
    core.system.services.services,
)
"""What makes the services of each area; nothing else is known of them here."""

log = structlog.get_logger("busbar.app")


class App:
    """Everything that Busbar does, without a door.

    Attributes:
        settings: What was set.
        found: The foundations, and what the areas keep beside their services.
        outbox_worker: Carries out the side effects in the outbox.
        platform: All rpcs behind the one pipeline.
    """

    def __init__(self, settings: Settings, clock: Clock) -> None:
        self.settings = settings
        self.clock = clock
        self.database = Database(settings.database_url, settings.storage)
        self.bus = Bus(replay_events=settings.live.replay_events, clock=clock)
        self.signals = Signals(self.database, partial(publish_on, self.bus), clock)
        self.credentials = Credentials(self.database, clock)
        self.identity = Accounts(self.database, self.credentials, clock)
        self.outbox = Outbox(clock)
        self.idempotency = IdempotencyKeys(self.database, clock)
        secret = ServerSecret(settings)
        self.found = Foundations(
            settings=settings,
            clock=clock,
            database=self.database,
            bus=self.bus,
            signals=self.signals,
            credentials=self.credentials,
            identity=self.identity,
            secret=secret,
            outbox=self.outbox,
            mail=Post(self.outbox, secret, _carrier(settings), settings.mail.sender, clock),
            limiter=Limiter(enabled=settings.rate_limits == "on"),
            tool_calls=ToolCalls(self.database, clock, settings.tool_call_days),
            documents=Documents(clock),
            health=HealthCheck(self.database, clock),
        )
        self.found.keep(self.found.tool_calls)
        self.found.handle(MAIL, self.found.mail.handler(3 * settings.mail.timeout_seconds))
        bound = [bind(service, implementation) for area in AREAS for service, implementation in area(self.found)]
        self.platform = _platform(settings)(
            [rpc for rpcs in bound for rpc in rpcs],
            self.credentials,
            placing=self.credentials.places,
            local_mode=settings.local_mode,
            limiter=self.found.limiter,
            idempotency=self.idempotency,
            observers=observers(settings),
        )
        self.found.draining = lambda: self.platform.draining
        self.found.tools = frozenset(rpc.tool.name for rpc in self.platform.rpcs if rpc.tool is not None)
        # After the areas, which say how their side effects are carried out.
        self.outbox_worker = OutboxWorker(self.database, self.outbox, self.found.handlers, clock=clock)

    @classmethod
    async def create(cls, settings: Settings, *, clock: Clock | None = None) -> App:
        """Migrate storage and start every foundation.

        Raises:
            Unavailable: Storage cannot be opened.
            BindingError: A proto and its code do not agree.
        """
        app = cls(settings, clock or Clock())
        app.found.secret.start()
        await app.database.start()
        try:
            await app.database.migrate()
            await app.signals.start()
            await app.credentials.start()
            await app.found.start_parts()
            app.outbox_worker.start()
            app.idempotency.start()
        except BaseException:
            await app.database.stop()
            raise
        return app

    async def close(self) -> None:
        """Stop every foundation; what was acknowledged is stored."""
        for stop in (
            # First, since what it carries out may need the parts of an area.
            self.outbox_worker.stop,
            *(part.stop for part in self.found.stopping),
            self.idempotency.stop,
            self.credentials.stop,
            self.signals.stop,
            self.bus.close,
            self.database.stop,
        ):
            with contextlib.suppress(asyncio.CancelledError):
                await stop()


def _platform(settings: Settings) -> type[Platform]:
    if not settings.traces:
        return Platform
    from core.kernel.tracing import TracedPlatform  # noqa: PLC0415 - what makes spans takes time to load

    return TracedPlatform


def _carrier(settings: Settings) -> Carrier:
    if not settings.mail.smtp_url.get_secret_value():
        return FolderCarrier(settings.data / "mail")
    from core.mail.smtp import SmtpCarrier  # noqa: PLC0415 - smtplib and its TLS are loaded where mail is sent only

    return SmtpCarrier(settings.mail)
