"""Boards and pins in a dictionary behind the real descriptors, and a client that speaks to the endpoint by hand."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import httpx
from protobuf.wkt import Timestamp

from core.kernel.call import Call, Ended, Principal
from core.kernel.errors import NotFound
from core.kernel.rpc import Rpc, bind
from gen.busbar.api.v1.options_pb import CredentialKind
from gen.busbar.maker.v1 import boards_pb, pins_pb
from gen.busbar.maker.v1.boards_pb import (
    Board,
    BoardWithToken,
    CreateBoardRequest,
    DeleteBoardRequest,
    DeleteBoardResponse,
    GetBoardRequest,
    ListBoardsRequest,
    ListBoardsResponse,
    RotateBoardTokenRequest,
    UpdateBoardRequest,
)
from gen.busbar.maker.v1.pins_pb import (
    ConnectPinsRequest,
    ConnectPinsResponse,
    ListPinsRequest,
    ListPinsResponse,
    Pin,
    ReadPinRequest,
    WatchPinsRequest,
    WritePinRequest,
)

KEY = "plnx_everything"
READER = "plnx_reader"
SESSION = "session-of-a-user"

MODERN = "2026-07-28"
META = "io.modelcontextprotocol"


class FakePins:
    """Pins of one board, `b1`."""

    def __init__(self) -> None:
        self.pins: dict[int, Pin] = {}
        self.doors: list[str] = []

    async def read_pin(self, request: ReadPinRequest, call: Call) -> Pin:
        self._require(request.board_id)
        return self.pins.get(request.pin_index) or Pin(board_id="b1", pin_index=request.pin_index, value_type="none")

    async def write_pin(self, request: WritePinRequest, call: Call) -> Pin:
        self._require(request.board_id)
        if request.pin_index == 255:
            raise RuntimeError("the secret of the code")
        self.doors.append(call.door)
        pin = Pin(board_id="b1", pin_index=request.pin_index, value=request.value, seq=1, updated_by="mcp")
        pin.updated_at = Timestamp(seconds=1_700_000_000, nanos=5_000_000)
        self.pins[request.pin_index] = pin
        return pin

    async def list_pins(self, request: ListPinsRequest, call: Call) -> ListPinsResponse:
        return ListPinsResponse(pins=list(self.pins.values()))

    async def watch_pins(self, request: WatchPinsRequest, call: Call) -> AsyncIterator[Pin]:
        for pin in self.pins.values():
            yield pin

    async def connect_pins(self, request: AsyncIterator[ConnectPinsRequest], call: Call) -> AsyncIterator[ConnectPinsResponse]:
        async for _ in request:
            yield ConnectPinsResponse()

    def _require(self, board_id: str) -> None:
        if board_id != "b1":
            raise NotFound("board not found", board=board_id)


class FakeBoards:
    """One board that was never seen."""

    def __init__(self) -> None:
        self.updates: list[UpdateBoardRequest] = []

    async def list_boards(self, request: ListBoardsRequest, call: Call) -> ListBoardsResponse:
        return ListBoardsResponse(boards=[Board(id="b1", owner_id="u1", name="Bench", board_type="esp32", status="never")])

    async def create_board(self, request: CreateBoardRequest, call: Call) -> BoardWithToken:
        return BoardWithToken(id="b2", name=request.name)

    async def get_board(self, request: GetBoardRequest, call: Call) -> Board:
        return Board(id=request.board_id)

    async def update_board(self, request: UpdateBoardRequest, call: Call) -> Board:
        self.updates.append(request)
        return Board(id=request.board_id)

    async def delete_board(self, request: DeleteBoardRequest, call: Call) -> DeleteBoardResponse:
        return DeleteBoardResponse(ok=True)

    async def rotate_board_token(self, request: RotateBoardTokenRequest, call: Call) -> BoardWithToken:
        return BoardWithToken(id=request.board_id)


class FakeKeys:
    """Credentials that a test can add and revoke."""

    def __init__(self) -> None:
        self.holders: dict[str, Principal] = {}

    def issue(self, secret: str, kind: CredentialKind, *scopes: str) -> None:
        held = frozenset(scopes) or frozenset({"*"})
        self.holders[secret] = Principal(credential_id=secret, kind=kind, org_id="o1", user_id="u1", scopes=held)

    def revoke(self, secret: str) -> None:
        del self.holders[secret]

    def known(self, credential: str) -> Principal | None:
        return None

    async def authenticate(self, credential: str) -> Principal | None:
        return self.holders.get(credential)

    def why_not(self, credential: str) -> Ended:
        return Ended("unknown", None)


async def unrecorded(principal: Principal, tool: str, outcome: str, seconds: float) -> None:
    """Note nothing of a call."""


def rpcs(pins: FakePins, boards: FakeBoards) -> list[Rpc]:
    """Bind the fakes to the services that they stand for."""
    return [*_bound(pins_pb, pins), *_bound(boards_pb, boards)]


def _bound(module: Any, service: object) -> list[Rpc]:
    return bind(module.desc().services[0], service)


class Agent:
    """Speaks JSON-RPC by hand, so that a test decides over every header."""

    def __init__(self, http: httpx.AsyncClient, path: str = "/api/mcp/rpc", key: str = KEY) -> None:
        self.http = http
        self.path = path
        self.key = key

    async def post(self, body: Any, headers: dict[str, str | None] | None = None, *, path: str = "") -> httpx.Response:
        """Send a body; a header of None is left out."""
        sent = {"Authorization": f"Bearer {self.key}", "Accept": "application/json, text/event-stream", **(headers or {})}
        kept = {name: value for name, value in sent.items() if value is not None}
        if isinstance(body, bytes):
            return await self.http.post(path or self.path, content=body, headers=kept)
        return await self.http.post(path or self.path, json=body, headers=kept)

    async def legacy(self, method: str, params: Any = None, *, key: str = "", path: str = "") -> httpx.Response:
        """Send a request of the handshake era."""
        return await self.post(request(method, params), {"Authorization": f"Bearer {key or self.key}"}, path=path)

    async def modern(self, method: str, params: dict[str, Any] | None = None, **headers: str | None) -> httpx.Response:
        """Send a request of 2026-07-28 with the headers it needs; `mcp_name=None` leaves one out."""
        full: dict[str, Any] = {
            **(params or {}),
            "_meta": {f"{META}/protocolVersion": MODERN, f"{META}/clientCapabilities": {}},
        }
        sent: dict[str, str | None] = {"MCP-Protocol-Version": MODERN, "Mcp-Method": method}
        if "name" in full:
            sent["Mcp-Name"] = full["name"]
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        kept = {name: value for name, value in sent.items() if name.lower() not in named}
        return await self.post(request(method, full), {**kept, **named})

    async def call(self, tool: str, *, key: str = "", path: str = "", **arguments: Any) -> dict[str, Any]:
        """Call a tool and return its result."""
        answer = await self.legacy("tools/call", {"name": tool, "arguments": arguments}, key=key, path=path)
        assert answer.status_code == 200, answer.text
        return answer.json()["result"]

    async def refusal(self, tool: str, *, key: str = "", **arguments: Any) -> str:
        """Call a tool that must refuse, and return the sentence."""
        result = await self.call(tool, key=key, **arguments)
        assert result["isError"] is True
        assert "structuredContent" not in result
        assert [item["type"] for item in result["content"]] == ["text"]
        return result["content"][0]["text"]

    async def tools(self, *, key: str = "", path: str = "") -> list[str]:
        """List the names of tools."""
        answer = await self.legacy("tools/list", key=key, path=path)
        return [tool["name"] for tool in answer.json()["result"]["tools"]]


def request(method: str, params: Any = None, request_id: Any = 1) -> dict[str, Any]:
    """Return a JSON-RPC request."""
    body = {"jsonrpc": "2.0", "id": request_id, "method": method}
    return body if params is None else {**body, "params": params}
