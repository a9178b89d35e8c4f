"""The composition root: settings in, services out. The only place that knows which class stands behind which service."""

from __future__ import annotations

import asyncio
import contextlib
from functools import partial

import structlog
from protobuf import DescService

from core.identity.accounts import Accounts
from core.identity.credentials import Credentials
from core.kernel.clock import Clock
from core.kernel.limits import Limiter
from core.kernel.pipeline import Observer, Platform
from core.kernel.rpc import Rpc, bind
from core.kernel.settings import Settings
from core.kernel.telemetry import observers
from core.live.bus import Bus
from core.maker.agent_keys import AgentKeyService
from core.maker.auth import AuthService
from core.maker.boards import BoardService
from core.maker.home_assistant import HomeAssistantService
from core.maker.pins import PinService
from core.outbox.outbox import Outbox
from core.outbox.worker import OutboxWorker
from core.signals.service import Signals
from core.signals.topics import publish_on
from core.storage.database import Database
from core.storage.idempotency import IdempotencyKeys
from core.system.health import HealthService
from core.telemetry.ingest import IngestService
from core.telemetry.keys import KeyService
from core.telemetry.query import QueryService
from gen.busbar.maker.v1 import agent_keys_pb, auth_pb, boards_pb, home_assistant_pb, pins_pb
from gen.busbar.system.v1 import health_pb
from gen.busbar.telemetry.v1 import ingest_pb, keys_pb, query_pb

log = structlog.get_logger("busbar.app")


class App:
    """Everything that Busbar does, without a door.

    Attributes:
        settings: What was set.
        database: Where everything is kept.
        identity: Users, organisations and credentials.
        bus: Live events.
        signals: Devices, channels and points.
        outbox: Where side effects that survive a restart are put in; `outbox_worker` carries them out.
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
        self.outbox_worker = OutboxWorker(self.database, self.outbox, {}, clock=clock)
        self.idempotency = IdempotencyKeys(self.database, clock)
        limiter = Limiter(enabled=settings.rate_limits == "on")
        self.platform = Platform(
            self._bind(limiter),
            self.credentials,
            limiter=limiter,
            idempotency=self.idempotency,
            observers=_observers(settings),
        )

    def _bind(self, limiter: Limiter) -> list[Rpc]:
        database, credentials, signals, clock = self.database, self.credentials, self.signals, self.clock
        quotas = self.settings.quotas
        boards = BoardService(database, credentials, signals, self.bus, clock, self.settings)
        pins = PinService(boards, signals, self.bus, limiter, clock)
        services: list[tuple[DescService, object]] = [
            (auth_pb.desc().services[0], AuthService(self.identity, limiter, clock)),
            (boards_pb.desc().services[0], boards),
            (pins_pb.desc().services[0], pins),
            (agent_keys_pb.desc().services[0], AgentKeyService(database, credentials, boards, clock, quotas)),
            (home_assistant_pb.desc().services[0], HomeAssistantService(boards, pins)),
            (ingest_pb.desc().services[0], IngestService(signals, clock, quotas)),
            (query_pb.desc().services[0], QueryService(signals, clock)),
            (keys_pb.desc().services[0], KeyService()),
            (health_pb.desc().services[0], HealthService(database, signals, lambda: self.platform.draining)),
        ]
        return [rpc for descriptor, implementation in services for rpc in bind(descriptor, implementation)]

    @classmethod
    async def create(cls, settings: Settings, *, clock: Clock | None = None) -> App:
        """Migrate storage and start every foundation.

        Raises:
            Unavailable: Storage cannot be opened.
            BindingError: A proto and its code do not agree.
        """
        app = cls(settings, clock or Clock())
        await app.database.start()
        try:
            await app.database.migrate()
            await app.signals.start()
            await app.credentials.start()
            app.outbox_worker.start()
            app.idempotency.start()
        except BaseException:
            await app.database.stop()
            raise
        return app

    async def close(self) -> None:
        """Stop every foundation; what was acknowledged is stored."""
        for part in (
            self.outbox_worker.stop,
            self.idempotency.stop,
            self.credentials.stop,
            self.signals.stop,
            self.bus.close,
            self.database.stop,
        ):
            with contextlib.suppress(asyncio.CancelledError):
                await part()


def _observers(settings: Settings) -> tuple[Observer, ...]:
    return tuple(observers(settings))
