"""What a key may do when its owner narrowed it, and the book of what agents did."""

from __future__ import annotations

from typing import Any

import pytest

from tests.conftest import PASSWORD, Person, Running
from tests.doors import Refused

WRITE = {"pin_index": 1, "value": 1}


async def make_key(busbar: Running, person: Person, **body: Any) -> dict[str, Any]:
    """Issue a key over REST and return the answer."""
    answer = await busbar.http(person.session).post("/api/mcp/keys", json={"name": "agent", **body})
    assert answer.status_code == 201, answer.text
    return answer.json()


async def listed(busbar: Running, key: str) -> list[str]:
    """Return the names of the tools that a key sees."""
    return [tool["name"] for tool in (await busbar.client("mcp", key).method("tools/list"))["tools"]]


@pytest.mark.parametrize("door", ["grpc", "mcp"])
async def test_a_read_only_key_changes_nothing_whatever_its_scopes_say(
    busbar: Running, alice: Person, bench: Any, door: str
) -> None:
    key = await make_key(busbar, alice, scopes=["boards:read", "pins:read", "pins:write"], readOnly=True)
    assert key["readOnly"] is True
    assert "plynx_write_pin" not in await listed(busbar, key["key"])
    agent = busbar.client(door, key["key"])
    assert (await agent.call("PinService.ReadPin", board_id=bench.id, pin_index=1)).pin_index == 1
    with pytest.raises(Refused, match="this key is read-only"):
        await agent.call("PinService.WritePin", board_id=bench.id, **WRITE)


async def test_home_assistant_reads_with_a_read_only_key_and_cannot_switch(busbar: Running, alice: Person, bench: Any) -> None:
    key = await make_key(busbar, alice, scopes=["boards:read", "pins:read", "pins:write"], readOnly=True)
    home = busbar.http(key["key"])
    assert (await home.get(f"/api/ha/board/{bench.id}/pin/1")).status_code == 200
    refused = await home.post(f"/api/ha/board/{bench.id}/pin/1", content=b"ON")
    assert (refused.status_code, refused.json()) == (403, {"error": "this key is read-only"})


async def test_a_key_for_one_tool_calls_that_tool_and_nothing_else_on_any_door(
    busbar: Running, alice: Person, bench: Any
) -> None:
    key = await make_key(busbar, alice, scopes=["boards:read", "pins:read", "pins:write"], tools=["plynx_read_pin"])
    assert key["tools"] == ["plynx_read_pin"]
    assert await listed(busbar, key["key"]) == ["plynx_read_pin"]
    for door in ("grpc", "mcp"):
        agent = busbar.client(door, key["key"])
        assert (await agent.call("PinService.ReadPin", board_id=bench.id, pin_index=1)).pin_index == 1
        with pytest.raises(Refused, match="this key may not call plynx_write_pin"):
            await agent.call("PinService.WritePin", board_id=bench.id, **WRITE)
    refused = await busbar.http(key["key"]).get(f"/api/ha/board/{bench.id}/pin/1")
    assert refused.status_code == 403


async def test_every_call_of_a_tool_is_in_the_book_refused_ones_too(busbar: Running, alice: Person, bench: Any) -> None:
    key = await make_key(busbar, alice, scopes=["boards:read", "pins:read"])
    agent = busbar.client("mcp", key["key"])
    await agent.call("PinService.ReadPin", board_id=bench.id, pin_index=1)
    for name, arguments in (
        ("plynx_read_pin", {"boardId": "nobody", "pin": 1}),
        ("plynx_read_pin", {"boardId": bench.id, "pin": 999}),
        ("plynx_write_pin", {"boardId": bench.id, "pin": 1, "value": 1}),
    ):
        result = await agent.method("tools/call", {"name": name, "arguments": arguments})
        assert result["isError"] is True
    with pytest.raises(Refused, match="unknown tool: rm_rf"):
        await agent.method("tools/call", {"name": "rm_rf", "arguments": {}})
    book = (await busbar.http(alice.session).get("/api/mcp/calls")).json()
    assert [(call["tool"], call["outcome"]) for call in reversed(book["calls"])] == [
        ("plynx_read_pin", "OK"),
        ("plynx_read_pin", "NOT_FOUND"),
        ("plynx_read_pin", "INVALID_ARGUMENT"),
        ("plynx_write_pin", "PERMISSION_DENIED"),
        ("rm_rf", "UNIMPLEMENTED"),
    ]
    assert {(call["keyId"], call["keyName"]) for call in book["calls"]} == {(key["id"], "agent")}


@pytest.mark.parametrize("door", ["grpc", "rest"])
async def test_the_book_is_read_by_pages_and_by_key(busbar: Running, alice: Person, bench: Any, door: str) -> None:
    keys = [await make_key(busbar, alice, name=name) for name in ("one", "two")]
    for number in range(6):
        await busbar.client("mcp", keys[number % 2]["key"]).call("PinService.ReadPin", board_id=bench.id, pin_index=number)
    client = busbar.client(door, alice.session)
    first = await client.call("AgentCallService.ListAgentCalls", key_id=keys[0]["id"], limit=2)
    second = await client.call("AgentCallService.ListAgentCalls", key_id=keys[0]["id"], limit=2, cursor=first.next_cursor)
    assert [len(first.calls), len(second.calls), second.has_field("next_cursor")] == [2, 1, False]
    assert {call.key_name for call in [*first.calls, *second.calls]} == {"one"}
    assert len((await client.call("AgentCallService.ListAgentCalls")).calls) == 6


async def test_nobody_reads_the_book_of_another_user(busbar: Running, alice: Person, eve: Person, bench: Any) -> None:
    key = await make_key(busbar, alice)
    await busbar.client("mcp", key["key"]).call("PinService.ReadPin", board_id=bench.id, pin_index=1)
    assert (await busbar.http(eve.session).get("/api/mcp/calls", params={"keyId": key["id"]})).json()["calls"] == []


async def test_old_calls_leave_the_book(busbar: Running, alice: Person, bench: Any) -> None:
    key = await make_key(busbar, alice)
    await busbar.client("mcp", key["key"]).call("PinService.ReadPin", board_id=bench.id, pin_index=1)
    busbar.clock.forward(seconds=89 * 86_400)
    await busbar.app.found.tool_calls.sweep()
    again = await busbar.app.identity.sign_in(alice.email, PASSWORD)
    assert again is not None
    assert again.session is not None
    client = busbar.http(again.session.secret)
    assert len((await client.get("/api/mcp/calls")).json()["calls"]) == 1
    busbar.clock.forward(seconds=2 * 86_400)
    await busbar.app.found.tool_calls.sweep()
    assert (await client.get("/api/mcp/calls")).json()["calls"] == []
