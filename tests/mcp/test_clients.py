"""The official client, in both eras, over a real socket."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import httpx
import pytest
import uvicorn
from mcp import Client, MCPError
from mcp.client import Transport
from mcp.client.streamable_http import streamable_http_client
from mcp.shared._httpx_utils import create_mcp_http_client

from adapters.mcp.app import MAX_BODY_BYTES, McpApp
from core.kernel.pipeline import Platform
from core.kernel.settings import Settings
from gen.busbar.api.v1.options_pb import CredentialKind
from tests.mcp.fakes import KEY, MODERN, READER, SESSION, FakeKeys, unrecorded

ERAS = pytest.mark.parametrize(("mode", "version"), [("legacy", "2025-11-25"), (MODERN, MODERN), ("auto", MODERN)])


@dataclass
class Served:
    """A server on a port of its own."""

    url: str

    @asynccontextmanager
    async def client(self, mode: str, key: str = KEY, path: str = "/mcp") -> AsyncGenerator[Client]:
        """Connect the official client."""
        async with create_mcp_http_client(headers={"Authorization": f"Bearer {key}"}) as http:
            transport: Transport = streamable_http_client(f"{self.url}{path}", http_client=http)
            async with Client(transport, mode=mode, cache=None, read_timeout_seconds=20) as client:
                yield client


class Announcing(uvicorn.Server):
    """The real HTTP server, which says when it answers."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.answers = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.answers.set()


@pytest.fixture
async def served(platform: Platform) -> AsyncIterator[Served]:
    """The endpoint behind the real HTTP server."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{bound.getsockname()[1]}"
        app = McpApp(platform, Settings(http=address), unrecorded)
        server = Announcing(uvicorn.Config(app, lifespan="off", log_config=None))
        task = asyncio.create_task(server.serve(sockets=[bound]))
        await asyncio.wait_for(server.answers.wait(), 20)
        yield Served(f"http://{address}")
        server.should_exit = True
        await asyncio.wait_for(task, 20)


@ERAS
async def test_a_client_lists_tools_and_calls_each(served: Served, mode: str, version: str) -> None:
    async with served.client(mode, path="/api/mcp/rpc") as client:
        assert client.protocol_version == version
        listed = (await client.list_tools()).tools
        assert [tool.name for tool in listed] == ["plynx_list_boards", "plynx_read_pin", "plynx_write_pin"]
        assert listed[0].annotations is not None
        assert (listed[0].annotations.read_only_hint, listed[0].annotations.open_world_hint) == (True, False)
        boards = await client.call_tool("plynx_list_boards", {})
        written = await client.call_tool("plynx_write_pin", {"boardId": "b1", "pin": "V4", "value": 21.5})
        read = await client.call_tool("plynx_read_pin", {"boardId": "b1", "pin": 4})
    assert boards.structured_content is not None
    assert boards.structured_content["boards"][0]["id"] == "b1"
    assert read.structured_content is not None
    assert (written.structured_content, read.structured_content["value"]) == (read.structured_content, 21.5)


@ERAS
async def test_a_refusal_is_a_result_that_an_agent_can_read(served: Served, mode: str, version: str) -> None:
    async with served.client(mode, READER) as client:
        assert [tool.name for tool in (await client.list_tools()).tools] == ["plynx_read_pin"]
        scope = await client.call_tool("plynx_write_pin", {"boardId": "b1", "pin": 4, "value": 1})
        board = await client.call_tool("plynx_read_pin", {"boardId": "else", "pin": 4})
        argument = await client.call_tool("plynx_read_pin", {"boardId": "b1", "pin": 300})
    assert [result.is_error for result in (scope, board, argument)] == [True, True, True]
    texts = [result.content[0].model_dump()["text"] for result in (scope, board, argument)]
    assert texts[:2] == ["insufficient scope: pins:write required", "board not found"]
    assert texts[2].startswith("pin: must be")


@ERAS
async def test_an_unknown_tool_is_a_protocol_error(served: Served, mode: str, version: str) -> None:
    async with served.client(mode) as client:
        with pytest.raises(MCPError) as caught:
            await client.call_tool("plynx_nothing", {})
    assert caught.value.code == -32602


@ERAS
async def test_a_revoked_key_is_refused_at_once(served: Served, keys: FakeKeys, mode: str, version: str) -> None:
    keys.issue("plnx_short", CredentialKind.AGENT_KEY)
    async with served.client(mode, "plnx_short") as client:
        await client.list_tools()
        keys.revoke("plnx_short")
        with pytest.raises(MCPError):
            await client.call_tool("plynx_read_pin", {"boardId": "b1", "pin": 4})


@ERAS
async def test_a_client_chooses_its_toolsets_by_the_address(served: Served, mode: str, version: str) -> None:
    async with served.client(mode, SESSION, "/mcp?toolsets=projects") as client:
        assert (await client.list_tools()).tools == []


async def test_many_clients_are_served_at_once(served: Served) -> None:
    async def write(index: int) -> bool | None:
        async with served.client("legacy" if index % 2 else MODERN) as client:
            return (await client.call_tool("plynx_write_pin", {"boardId": "b1", "pin": index, "value": index})).is_error

    assert await asyncio.gather(*(write(index) for index in range(8))) == [False] * 8


@pytest.mark.parametrize("size", [MAX_BODY_BYTES + 1, 8 * MAX_BODY_BYTES])
async def test_who_sends_too_much_still_reads_why(served: Served, size: int) -> None:
    async with httpx.AsyncClient(base_url=served.url, timeout=20) as http:
        answers = [await http.post("/mcp", content=b" " * size) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [413, 413]


@pytest.mark.parametrize("method", ["GET", "DELETE", "HEAD"])
async def test_what_older_clients_try_first_is_answered_with_what_is_allowed(served: Served, method: str) -> None:
    async with httpx.AsyncClient(base_url=served.url, timeout=20) as http:
        answer = await http.request(method, "/mcp", headers={"Accept": "text/event-stream"})
    assert (answer.status_code, answer.headers["allow"]) == (405, "POST")
