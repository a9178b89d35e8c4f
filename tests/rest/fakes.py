"""A small platform of fake services, behind the real door."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, cast

import httpx
from protobuf import DescMethod, DescService
from protobuf.wkt import Timestamp, Value

from adapters.rest.app import RestApp
from core.kernel.call import Call, Cookie, Ended, Principal
from core.kernel.errors import NotFound, Unavailable
from core.kernel.limits import Limiter
from core.kernel.pipeline import Platform
from core.kernel.rpc import Rpc, bind
from core.kernel.settings import Settings
from gen.busbar.api.v1.error_reason_pb import ErrorReason
from gen.busbar.api.v1.options_pb import CredentialKind, Surface
from gen.busbar.maker.v1 import agent_keys_pb as keys
from gen.busbar.maker.v1 import auth_pb as auth
from gen.busbar.maker.v1 import boards_pb as boards
from gen.busbar.maker.v1 import home_assistant_pb as home
from gen.busbar.maker.v1 import pins_pb as pins
from gen.busbar.system.v1 import health_pb as health
from gen.busbar.telemetry.v1 import ingest_pb as ingest
from gen.busbar.telemetry.v1 import keys_pb as telemetry_keys
from gen.busbar.telemetry.v1 import query_pb as query

SESSION, AGENT_KEY, TELEMETRY_KEY = "session-of-alice", "plnx_agent", "plx_org"
CREDENTIALS = {
    SESSION: CredentialKind.SESSION,
    AGENT_KEY: CredentialKind.AGENT_KEY,
    TELEMETRY_KEY: CredentialKind.TELEMETRY_KEY,
}
ALICE = {"authorization": f"Bearer {SESSION}"}
DEVICE = {"x-api-key": TELEMETRY_KEY}


class FakeAuthenticator:
    """Knows a few credentials; `scopeless` may do nothing at all."""

    def known(self, credential: str) -> Principal | None:
        if credential == "scopeless":
            return Principal("c-none", CredentialKind.SESSION, "org", scopes=frozenset())
        kind = CREDENTIALS.get(credential)
        return None if kind is None else Principal(f"c-{kind}", kind, "org", "alice")

    async def authenticate(self, credential: str) -> Principal | None:
        return None

    def why_not(self, credential: str) -> Ended:
        return Ended("unknown", None)


@dataclass
class World:
    """What the fake services saw, and what they are to do.

    Attributes:
        calls: Requests with their calls, in order.
        fail: Raised by the next service that is asked.
        streams: Messages that watchers are sent; None in between makes them wait for `go`.
        ended: Set when a stream's service has ended.
    """

    calls: list[tuple[Any, Call]] = field(default_factory=list[tuple[Any, Call]])
    fail: Exception | None = None
    streams: list[pins.Pin | Exception | None] = field(default_factory=list["pins.Pin | Exception | None"])
    yielded: int = 0
    go: asyncio.Event = field(default_factory=asyncio.Event)
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    dress: Callable[[Call], None] = lambda _call: None

    def seen(self, request: Any, call: Call) -> None:
        self.calls.append((request, call))
        if self.fail is not None:
            raise self.fail
        self.dress(call)

    @property
    def request(self) -> Any:
        return self.calls[-1][0]

    @property
    def call(self) -> Call:
        return self.calls[-1][1]


class _Fake:
    def __init__(self, world: World) -> None:
        self.world = world


class PinService(_Fake):
    async def read_pin(self, request: pins.ReadPinRequest, call: Call) -> pins.Pin:
        self.world.seen(request, call)
        if request.board_id != "b1":
            raise NotFound(f"board {request.board_id} not found", board=request.board_id)
        return pins.Pin(board_id="b1", pin_index=request.pin_index, label=f"V{request.pin_index}")

    async def write_pin(self, request: pins.WritePinRequest, call: Call) -> pins.Pin:
        self.world.seen(request, call)
        return pins.Pin(
            board_id=request.board_id,
            pin_index=request.pin_index,
            label=request.label,
            value=request.value,
            updated_at=Timestamp(seconds=1_775_000_000),
            updated_by="user",
            seq=7.0,
        )

    async def list_pins(self, request: pins.ListPinsRequest, call: Call) -> pins.ListPinsResponse:
        self.world.seen(request, call)
        return pins.ListPinsResponse()

    async def watch_pins(self, request: pins.WatchPinsRequest, call: Call) -> AsyncIterator[pins.Pin]:
        try:
            self.world.seen(request, call)
            for item in self.world.streams:
                if isinstance(item, Exception):
                    raise item
                if item is None:
                    await self.world.go.wait()
                else:
                    self.world.yielded += 1
                    yield item
        finally:
            self.world.ended.set()

    async def connect_pins(
        self, request: AsyncIterator[pins.ConnectPinsRequest], call: Call
    ) -> AsyncIterator[pins.ConnectPinsResponse]:
        async for _ in request:
            yield pins.ConnectPinsResponse()


class BoardService(_Fake):
    async def list_boards(self, request: boards.ListBoardsRequest, call: Call) -> boards.ListBoardsResponse:
        self.world.seen(request, call)
        return boards.ListBoardsResponse(boards=[boards.Board(id="b1", name="Bench")])

    async def create_board(self, request: boards.CreateBoardRequest, call: Call) -> boards.BoardWithToken:
        self.world.seen(request, call)
        return boards.BoardWithToken(id="b2", name=request.name, device_token="pbt_x")

    async def get_board(self, request: boards.GetBoardRequest, call: Call) -> boards.Board:
        self.world.seen(request, call)
        return boards.Board(id=request.board_id)

    async def update_board(self, request: boards.UpdateBoardRequest, call: Call) -> boards.Board:
        self.world.seen(request, call)
        return boards.Board(id=request.board_id)

    async def delete_board(self, request: boards.DeleteBoardRequest, call: Call) -> boards.DeleteBoardResponse:
        self.world.seen(request, call)
        return boards.DeleteBoardResponse(ok=True)

    async def rotate_board_token(self, request: boards.RotateBoardTokenRequest, call: Call) -> boards.BoardWithToken:
        self.world.seen(request, call)
        return boards.BoardWithToken(id=request.board_id)


class AuthService(_Fake):
    async def register(self, request: auth.RegisterRequest, call: Call) -> auth.SessionEnvelope:
        self.world.seen(request, call)
        return auth.SessionEnvelope(token="t")

    async def login(self, request: auth.LoginRequest, call: Call) -> auth.SessionEnvelope:
        self.world.seen(request, call)
        call.cookies.append(Cookie("plynx_session", "t", 2_592_000))
        return auth.SessionEnvelope(token="t")

    async def logout(self, request: auth.LogoutRequest, call: Call) -> auth.LogoutResponse:
        self.world.seen(request, call)
        return auth.LogoutResponse(ok=True)

    async def get_session(self, request: auth.GetSessionRequest, call: Call) -> auth.SessionEnvelope:
        self.world.seen(request, call)
        return auth.SessionEnvelope()

    async def change_password(self, request: auth.ChangePasswordRequest, call: Call) -> auth.ChangePasswordResponse:
        self.world.seen(request, call)
        return auth.ChangePasswordResponse(ok=True)


class AgentKeyService(_Fake):
    async def create_agent_key(self, request: keys.CreateAgentKeyRequest, call: Call) -> keys.CreatedAgentKey:
        self.world.seen(request, call)
        return keys.CreatedAgentKey(id="k1", name=request.name, board_ids=request.board_ids)

    async def list_agent_keys(self, request: keys.ListAgentKeysRequest, call: Call) -> keys.ListAgentKeysResponse:
        self.world.seen(request, call)
        return keys.ListAgentKeysResponse()

    async def revoke_agent_key(self, request: keys.RevokeAgentKeyRequest, call: Call) -> keys.RevokeAgentKeyResponse:
        self.world.seen(request, call)
        return keys.RevokeAgentKeyResponse(ok=True)


class HomeAssistantService(_Fake):
    async def list_home_boards(self, request: home.ListHomeBoardsRequest, call: Call) -> home.ListHomeBoardsResponse:
        self.world.seen(request, call)
        return home.ListHomeBoardsResponse()

    async def read_home_pin(self, request: home.ReadHomePinRequest, call: Call) -> home.HomePin:
        self.world.seen(request, call)
        return home.HomePin(board_id=request.board_id, pin=request.pin)

    async def write_home_pin(self, request: home.WriteHomePinRequest, call: Call) -> home.HomePin:
        self.world.seen(request, call)
        return home.HomePin(board_id=request.board_id, pin=request.pin, value=Value.from_python(128.0), is_on=True)


class HealthService(_Fake):
    async def check_liveness(self, request: health.CheckLivenessRequest, call: Call) -> health.CheckLivenessResponse:
        return health.CheckLivenessResponse(status="ok")

    async def check_readiness(self, request: health.CheckReadinessRequest, call: Call) -> health.CheckReadinessResponse:
        raise Unavailable("storage does not answer", reason=ErrorReason.STORAGE_UNAVAILABLE, retry_after=0.2)

    async def get_health(self, request: health.GetHealthRequest, call: Call) -> health.Health:
        return health.Health(status="ok", version="1", uptime_seconds=1.5)


class IngestService(_Fake):
    async def ingest(self, request: ingest.IngestRequest, call: Call) -> ingest.IngestResponse:
        self.world.seen(request, call)
        return ingest.IngestResponse(success=True, count=1, persisted=True, persisted_count=1)

    async def ingest_columns(
        self, request: AsyncIterator[ingest.IngestColumnsRequest], call: Call
    ) -> AsyncIterator[ingest.IngestColumnsResponse]:
        async for message in request:
            yield ingest.IngestColumnsResponse(seq=message.seq)


class KeyService(_Fake):
    async def verify_key(self, request: telemetry_keys.VerifyKeyRequest, call: Call) -> telemetry_keys.VerifyKeyResponse:
        self.world.seen(request, call)
        return telemetry_keys.VerifyKeyResponse(org_id="org", scopes=["write"])


class QueryService(_Fake):
    async def query_telemetry(self, request: query.QueryTelemetryRequest, call: Call) -> query.QueryTelemetryResponse:
        self.world.seen(request, call)
        point = query.StoredPoint(source_id="s", metric="m", value=Value.from_python({"a": [1.0, 2.5]}), tags={"k": "v"})
        return query.QueryTelemetryResponse(data=[point], count=1)

    async def query_series(self, request: query.QuerySeriesRequest, call: Call) -> query.QuerySeriesResponse:
        self.world.seen(request, call)
        return query.QuerySeriesResponse(source=request.source, timestamps=[1.0], values=[2.5])


SERVICES = {
    pins: PinService,
    boards: BoardService,
    auth: AuthService,
    keys: AgentKeyService,
    home: HomeAssistantService,
    health: HealthService,
    ingest: IngestService,
    telemetry_keys: KeyService,
    query: QueryService,
}


def fake_rpcs(world: World) -> list[Rpc]:
    """Bind a fake to every service of the proto; what a fake does not have answers with an empty message."""
    return [
        rpc
        for module, fake in SERVICES.items()
        for rpc in bind(module.desc().services[0], made(fake, module.desc().services[0])(world))
    ]


def made(fake: type[_Fake] | None, service: DescService, answers: Mapping[str, Any] | None = None) -> Callable[[World], object]:
    """Return what makes a fake with a handler for every method: its own, what `answers` it by its name, or an empty message."""
    given = answers or {}
    rest = {
        _handler_name(method): _answering(method, given.get(method.name))
        for method in service.methods
        if fake is None or not hasattr(fake, _handler_name(method))
    }
    return cast("Callable[[World], object]", type(service.name, (fake or _Fake,), rest))


def _handler_name(method: DescMethod) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "_", method.name).lower()


def _answering(method: DescMethod, answer: Any) -> Any:
    """Return a handler that notes the call and answers as `answer` does; with an empty message where there is none."""
    kind: Any = method.output.type
    streams = method.method_kind == "server_streaming"

    async def handler(self: _Fake, request: Any, call: Call) -> Any:
        self.world.seen(request, call)
        return kind() if answer is None else await answer(request, call)

    async def stream(self: _Fake, request: Any, call: Call) -> AsyncIterator[Any]:
        self.world.seen(request, call)
        if answer is None:
            yield kind()
            return
        async for message in answer(request, call):
            yield message

    found = stream if streams else handler
    found.__annotations__ = {
        "request": method.input.type,
        "call": Call,
        "return": AsyncIterator[kind] if streams else kind,
    }
    return found


def rest_app(
    rpcs: list[Rpc],
    *,
    limits: bool = False,
    surfaces: set[Surface] | None = None,
    extra_routes: Any = None,
    extra_paths: Any = None,
    **settings: Any,
) -> RestApp:
    """Return the door before a platform of some rpcs."""
    platform = Platform(rpcs, FakeAuthenticator(), limiter=Limiter(enabled=limits))
    return RestApp(platform, Settings(**settings), surfaces=surfaces, extra_routes=extra_routes, extra_paths=extra_paths)


def client(app: RestApp, **options: Any) -> httpx.AsyncClient:
    """Return a client that talks to a door without a network; failures of the door are failures of the test."""
    transport = httpx.ASGITransport(app=app, client=options.pop("peer", ("203.0.113.9", 1234)))
    return httpx.AsyncClient(transport=transport, base_url=options.pop("base_url", "http://box.test"), **options)
