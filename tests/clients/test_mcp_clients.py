"""The official MCP client, in both eras of the protocol, works a board of the whole server."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from mcp import Client, MCPError
from mcp.client.streamable_http import streamable_http_client
from mcp.shared._httpx_utils import create_mcp_http_client

from gen.busbar.api.v1.options_pb import CredentialKind
from tests.conftest import Person, Running

MODERN = "2026-07-28"
ERAS = pytest.mark.parametrize(("mode", "version"), [("legacy", "2025-11-25"), (MODERN, MODERN), ("auto", MODERN)])

READING = {"plans_diff", "plans_list", "plans_run_status"}
DESTROYING = {"plans_rewind"}
PLANS = READING | {
    "plans_apply", "plans_apply_to_project", "plans_create", "plans_load_context", "plans_load_project", "plans_reject",
    "plans_rewind", "plans_tell", "plans_undo_rewind",
}  # fmt: skip


@asynccontextmanager
async def connected(busbar: Running, key: str, mode: str, path: str = "/mcp") -> AsyncGenerator[Client]:
    """Connect with a key."""
    async with create_mcp_http_client(headers={"Authorization": f"Bearer {key}"}) as http:
        transport = streamable_http_client(f"{busbar.url}{path}", http_client=http)
        async with Client(transport, mode=mode, cache=None, read_timeout_seconds=20) as client:
            yield client


@pytest.fixture
async def key(busbar: Running, alice: Person) -> str:
    """A key of Alice's for everything."""
    return await busbar.key(alice, CredentialKind.AGENT_KEY)


@ERAS
@pytest.mark.parametrize("path", ["/mcp", "/api/mcp/rpc"])
async def test_an_agent_finds_a_board_writes_a_pin_and_reads_it(
    busbar: Running, bench: Any, key: str, mode: str, version: str, path: str
) -> None:
    async with connected(busbar, key, mode, path) as client:
        assert client.protocol_version == version
        tools = {tool.name for tool in (await client.list_tools()).tools}
        assert {"plynx_list_boards", "plynx_read_pin", "plynx_write_pin"} <= tools
        boards = await client.call_tool("plynx_list_boards", {})
        written = await client.call_tool("plynx_write_pin", {"boardId": bench.id, "pin": "V4", "value": 21.5})
        read = await client.call_tool("plynx_read_pin", {"boardId": bench.id, "pin": 4})
    assert boards.structured_content is not None
    assert [board["id"] for board in boards.structured_content["boards"]] == [bench.id]
    assert read.structured_content is not None
    assert read.structured_content == written.structured_content
    assert (read.structured_content["value"], read.structured_content["updatedBy"]) == (21.5, "mcp")


@ERAS
async def test_an_agent_plans_and_rewinds_with_a_key_for_that(busbar: Running, alice: Person, mode: str, version: str) -> None:
    key = await busbar.key(alice, CredentialKind.AGENT_KEY, "plans:read", "plans:write")
    project = await busbar.client("grpc", alice.session).call("plans.ProjectService.CreateProject", name="Rig")
    async with connected(busbar, key, mode, "/mcp?toolsets=plans") as client:
        assert client.protocol_version == version
        tools = {tool.name: tool for tool in (await client.list_tools()).tools}
        assert set(tools) == PLANS - {"plans_tell"}
        hints = {name: tool.annotations for name, tool in tools.items() if tool.annotations is not None}
        assert {name for name, said in hints.items() if said.read_only_hint} == READING
        assert {name for name, said in hints.items() if said.destructive_hint} == DESTROYING
        made = await client.call_tool("plans_create", {"projectId": project.id, "name": "parser"})
        assert made.structured_content is not None
        main = {"planId": made.structured_content["id"], "branch": "main"}
        note = {"contextType": "note", "name": "n", "body": "b"}
        loaded = await client.call_tool("plans_load_context", {**main, "items": [note]})
        listed = await client.call_tool("plans_list", {"projectId": [project.id]})
        diff = await client.call_tool("plans_diff", {**main, "plain": True})
        undone = await client.call_tool("plans_undo_rewind", main)
        told = await client.call_tool("plans_tell", {**main, "prompt": "go"})
    assert [result.is_error for result in (loaded, listed, diff)] == [False] * 3
    assert listed.structured_content is not None
    assert [plan["name"] for plan in listed.structured_content["plans"]] == ["parser"]
    assert (undone.is_error, told.is_error) == (True, True)
    assert told.content[0].model_dump()["text"] == "insufficient scope: plans:run required"


async def test_a_key_that_reads_sees_the_tools_of_plans_that_read(busbar: Running, alice: Person) -> None:
    scopes = ["plans:read", "plans:write", "plans:run"]
    body = {"name": "k", "scopes": scopes, "readOnly": True}
    issued = await busbar.http(authorization=f"Bearer {alice.session}").post("/api/mcp/keys", json=body)
    assert issued.status_code == 201, issued.text
    every = await busbar.key(alice, CredentialKind.AGENT_KEY, *scopes)
    for key, names in ((issued.json()["key"], READING), (every, PLANS)):
        async with connected(busbar, key, MODERN, "/mcp?toolsets=plans") as client:
            assert {tool.name for tool in (await client.list_tools()).tools} == names


@ERAS
async def test_refusals_are_results_that_say_what_to_do(
    busbar: Running, alice: Person, eve: Person, bench: Any, mode: str, version: str
) -> None:
    theirs = await busbar.board(eve)
    reader = await busbar.key(alice, CredentialKind.AGENT_KEY, "pins:read")
    async with connected(busbar, reader, mode) as client:
        assert [tool.name for tool in (await client.list_tools()).tools] == ["plynx_read_pin"]
        scope = await client.call_tool("plynx_write_pin", {"boardId": bench.id, "pin": 4, "value": 1})
        foreign = await client.call_tool("plynx_read_pin", {"boardId": theirs.id, "pin": 4})
        argument = await client.call_tool("plynx_read_pin", {"boardId": bench.id, "pin": 300})
    assert [result.is_error for result in (scope, foreign, argument)] == [True, True, True]
    texts = [result.content[0].model_dump()["text"] for result in (scope, foreign, argument)]
    assert texts[0] == "insufficient scope: pins:write required"
    assert texts[1] == "board not found"
    assert texts[2].startswith("pin: must be")


@ERAS
async def test_a_revoked_key_is_refused_at_once(busbar: Running, alice: Person, bench: Any, mode: str, version: str) -> None:
    session = busbar.http(authorization=f"Bearer {alice.session}")
    body = {"name": "short", "scopes": ["pins:read"]}
    issued = (await session.post("/api/mcp/keys", json=body)).json()
    async with connected(busbar, issued["key"], mode) as client:
        assert not (await client.call_tool("plynx_read_pin", {"boardId": bench.id, "pin": 4})).is_error
        assert (await session.delete(f"/api/mcp/keys/{issued['id']}")).status_code == 200
        with pytest.raises(MCPError):
            await client.call_tool("plynx_read_pin", {"boardId": bench.id, "pin": 4})


async def test_a_key_of_no_agent_opens_nothing(busbar: Running, alice: Person, bench: Any) -> None:
    telemetry = await busbar.key(alice, CredentialKind.TELEMETRY_KEY, "read", "write")
    for wrong in (telemetry, alice.session, bench.device_token, "plnx_" + "a" * 43):
        answer = await busbar.http(authorization=f"Bearer {wrong}").post(
            "/api/mcp/rpc", json={"jsonrpc": "2.0", "id": 1, "method": "tools/list"}
        )
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"].startswith("Bearer")
        assert set(answer.json()) == {"error"}
