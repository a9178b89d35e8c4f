"""The composition root: settings in, services out. The only place that knows which class stands behind which service."""

from __future__ import annotations

import asyncio
import contextlib
from functools import partial

import structlog
from protobuf import DescService

from core.identity.accounts import Accounts
from core.identity.credentials import Credentials
from core.identity.signing import ServerSecret, Signer
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
from core.telemetry.dashboard_tokens import DashboardTokens
from core.telemetry.export import ExportService
from core.telemetry.grants import DeviceGrants
from core.telemetry.ingest import IngestService
from core.telemetry.keys import KeyService
from core.telemetry.pairing import PairingService
from core.telemetry.query import QueryService
from core.telemetry.quotas import PointQuotas
from core.telemetry.recordings import RecordingKeeper
from core.telemetry.replay import ReplayService
from core.telemetry.runs import RunService
from core.telemetry.sessions import SessionService
from core.telemetry.shares import ShareService
from core.telemetry.sign_in import SignInService
from core.telemetry.sources import SourceService
from core.telemetry.stream.service import StreamService
from core.telemetry.subscribe import SubscribeService
from gen.busbar.maker.v1 import agent_keys_pb, auth_pb, boards_pb, home_assistant_pb, pins_pb
from gen.busbar.system.v1 import health_pb
from gen.busbar.telemetry.v1 import (
    export_pb,
    ingest_pb,
    keys_pb,
    pairing_pb,
    query_pb,
    replay_pb,
    runs_pb,
    sessions_pb,
    shares_pb,
    sign_in_pb,
    sources_pb,
    stream_pb,
    subscribe_pb,
)

log = structlog.get_logger("busbar.app")


class App:
    """Everything that Busbar does, without a door.

    Attributes:
        settings: What was set.
        database: Where everything is kept.
        identity: Users, organisations and credentials.
        bus: Live events.
        signals: Devices, channels and points.
        secret: What short-lived tokens are signed with.
        dashboard_tokens: Tokens with which dashboards open their sockets.
        point_quotas: How many points keys may write in a month.
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
        self.secret = ServerSecret(settings)
        self.dashboard_tokens = DashboardTokens(Signer(self.secret, "dashboard", clock), self.credentials)
        self.point_quotas = PointQuotas(self.database, clock)
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
        keeper = RecordingKeeper(signals, clock)
        self.stream = self._connect_streams(keeper)
        services: list[tuple[DescService, object]] = [
            (auth_pb.desc().services[0], AuthService(self.identity, limiter, clock)),
            (boards_pb.desc().services[0], boards),
            (pins_pb.desc().services[0], pins),
            (agent_keys_pb.desc().services[0], AgentKeyService(database, credentials, boards, clock, quotas)),
            (home_assistant_pb.desc().services[0], HomeAssistantService(boards, pins)),
            (ingest_pb.desc().services[0], IngestService(signals, clock, quotas, self.point_quotas)),
            (query_pb.desc().services[0], QueryService(signals, clock)),
            (export_pb.desc().services[0], ExportService(signals, clock)),
            (replay_pb.desc().services[0], ReplayService(signals, self.bus, clock)),
            (subscribe_pb.desc().services[0], SubscribeService(signals, self.bus, credentials, clock)),
            (keys_pb.desc().services[0], KeyService(database, credentials, self.point_quotas, clock)),
            (pairing_pb.desc().services[0], PairingService(database, credentials, signals, limiter, clock)),
            (sign_in_pb.desc().services[0], self._sign_in(limiter)),
            (sources_pb.desc().services[0], SourceService(database, credentials, signals, clock, self.settings.live)),
            (sessions_pb.desc().services[0], SessionService(keeper, clock)),
            (shares_pb.desc().services[0], ShareService(database, credentials, signals, clock)),
            (runs_pb.desc().services[0], RunService(keeper, clock)),
            (stream_pb.desc().services[0], self.stream),
            (health_pb.desc().services[0], HealthService(database, signals, lambda: self.platform.draining)),
        ]
        return [rpc for descriptor, implementation in services for rpc in bind(descriptor, implementation)]

    def _connect_streams(self, keeper: RecordingKeeper) -> StreamService:
        return StreamService(
            self.database,
            self.credentials,
            self.signals,
            self.clock,
            bus=self.bus,
            keeper=keeper,
            tokens=self.dashboard_tokens,
            quotas=self.point_quotas,
            shell=self.settings.stream.execute,
            limited=self.settings.rate_limits == "on",
        )

    def _sign_in(self, limiter: Limiter) -> SignInService:
        grants = DeviceGrants(self.database, self.credentials, self.clock)
        return SignInService(self.identity, grants, self.dashboard_tokens, self.bus, limiter, self.settings)

    @classmethod
    async def create(cls, settings: Settings, *, clock: Clock | None = None) -> App:
        """Migrate storage and start every foundation.

        Raises:
            Unavailable: Storage cannot be opened.
            BindingError: A proto and its code do not agree.
        """
        app = cls(settings, clock or Clock())
        app.secret.start()
        await app.database.start()
        try:
            await app.database.migrate()
            await app.signals.start()
            await app.credentials.start()
            await app.point_quotas.start()
            app.outbox_worker.start()
            app.idempotency.start()
        except BaseException:
            await app.database.stop()
            raise
        return app

    async def close(self) -> None:
        """Stop every foundation; what was acknowledged is stored."""
        for part in (
            self.stream.close,
            self.outbox_worker.stop,
            self.idempotency.stop,
            self.point_quotas.stop,
            self.credentials.stop,
            self.signals.stop,
            self.bus.close,
            self.database.stop,
        ):
            with contextlib.suppress(asyncio.CancelledError):
                await part()


def _observers(settings: Settings) -> tuple[Observer, ...]:
    return tuple(observers(settings))
