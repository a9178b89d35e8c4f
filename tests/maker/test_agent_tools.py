"""Tools for agents, all of the area at once: their groups, what they say of themselves, and the keys that open them."""

from __future__ import annotations

import re
from typing import Any

import pytest

from core.kernel.rpc import Rpc
from gen.buf.validate.validate_pb import ext_field
from gen.busbar.api.v1.options_pb import CredentialKind, Surface, ext_access
from gen.busbar.maker.v1.agent_keys_pb import CreateAgentKeyRequest
from tests.conftest import Person, Running
from tests.maker.making import notices
from tests.test_authorisation import methods, option

BOARDS = {"plynx_list_boards", "plynx_list_projects", "plynx_push_ota", "plynx_read_pin", "plynx_write_pin"}
MAKER = {
    "plynx_browse_listings", "plynx_list_assignments", "plynx_list_classrooms", "plynx_list_notifications",
    "plynx_list_submissions", "plynx_mark_notifications_read", "plynx_read_document", "plynx_read_listing", "plynx_read_roster",
    "plynx_save_document",
}  # fmt: skip
HINTS = {
    "plynx_write_pin": (False, False, True),
    "plynx_push_ota": (False, True, False),
    "plynx_save_document": (False, False, True),
    "plynx_mark_notifications_read": (False, False, True),
}
"""What the tools that change something say: read-only, destructive, idempotent. All others only read."""


def tools_of(busbar: Running) -> list[Rpc]:
    """Return the rpcs of the area that are tools."""
    return [rpc for rpc in busbar.rpcs if rpc.surface == Surface.MAKER and rpc.tool is not None]


def grantable() -> list[str]:
    """Return the scopes that an agent key may be given."""
    field = next(field for field in CreateAgentKeyRequest.desc().fields if field.name == "scopes")
    assert field.proto.options is not None
    rules: Any = field.proto.options[ext_field].type
    return list(rules.value.items.type.value.in_)


def needed() -> set[str]:
    """Return the scopes that rpcs ask for of those areas whose agents come with such keys."""
    areas = ("busbar.maker.", "busbar.plans.")
    return {option(method, ext_access).scope for method in methods() if method.parent.type_name.startswith(areas)} - {""}


async def listed(busbar: Running, key: str, toolset: str = "") -> dict[str, Any]:
    """Return the tools that a key sees, by name."""
    client = busbar.client("mcp", key)
    body = {"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {}}
    answer = await client.http.post(f"/mcp?toolsets={toolset}", json=body, headers=client.headers)
    return {tool["name"]: tool for tool in answer.json()["result"]["tools"]}


def test_keys_can_be_given_every_scope_that_there_is_and_no_other() -> None:
    assert set(grantable()) == needed()
    assert grantable() == sorted(grantable())


async def test_the_toolset_boards_is_five_tools_and_maker_all_of_the_area(busbar: Running, alice: Person) -> None:
    key = await busbar.key(alice, CredentialKind.AGENT_KEY)
    assert set(await listed(busbar, key, "boards")) == BOARDS
    assert set(await listed(busbar, key, "maker")) == BOARDS | MAKER
    assert {rpc.tool.name for rpc in tools_of(busbar) if rpc.tool and rpc.tool.toolset == "maker"} == MAKER


async def test_every_tool_says_what_it_does_to_things(busbar: Running, alice: Person) -> None:
    for name, tool in (await listed(busbar, await busbar.key(alice, CredentialKind.AGENT_KEY), "maker")).items():
        hints = tool["annotations"]
        shown = (hints["readOnlyHint"], hints["destructiveHint"], hints["idempotentHint"])
        assert shown == HINTS.get(name, (True, False, True)), name
        assert hints["openWorldHint"] is False
        assert tool["description"]


async def test_a_read_only_key_sees_the_tools_that_read_and_may_call_no_other(busbar: Running, alice: Person) -> None:
    body = {"name": "reader", "scopes": grantable(), "readOnly": True}
    key = (await busbar.http(alice.session).post("/api/mcp/keys", json=body)).json()["key"]
    assert set(await listed(busbar, key, "maker")) == (BOARDS | MAKER) - set(HINTS)
    client = busbar.client("mcp", key)
    for name in HINTS:
        result = await client.method("tools/call", {"name": name, "arguments": {}})
        assert (result["isError"], result["content"][0]["text"]) == (True, "this key is read-only")


async def test_a_key_for_one_tool_opens_each_and_no_other_and_every_call_is_in_the_book(busbar: Running, alice: Person) -> None:
    user = busbar.http(alice.session)
    names = sorted(BOARDS | MAKER)
    for name in names:
        other = names[names.index(name) - 1]
        issued = await user.post("/api/mcp/keys", json={"name": name, "scopes": grantable(), "tools": [name]})
        assert issued.status_code == 201, issued.text
        key = issued.json()
        assert set(await listed(busbar, key["key"])) == {name}
        client = busbar.client("mcp", key["key"])
        refused = await client.method("tools/call", {"name": other, "arguments": {}})
        assert refused["content"][0]["text"] == f"this key may not call {other}"
        own = await client.method("tools/call", {"name": name, "arguments": {}})
        assert not re.match("this key|insufficient", own["content"][0]["text"])
        book = (await user.get("/api/mcp/calls", params={"keyId": key["id"]})).json()["calls"]
        assert [call["tool"] for call in book] == [name, other]
        assert book[1]["outcome"] == "PERMISSION_DENIED"
        assert (book[0]["outcome"] == "OK") is not own.get("isError", False)
        assert (await user.delete(f"/api/mcp/keys/{key['id']}")).status_code == 200


@pytest.mark.parametrize("door", ["grpc", "rest", "mcp"])
async def test_an_agent_reads_notifications_and_marks_them_read(busbar: Running, alice: Person, eve: Person, door: str) -> None:
    project = (await busbar.http(eve.session).post("/api/projects", json={"name": "Weather"})).json()["id"]
    added = await busbar.http(eve.session).post(f"/api/projects/{project}/collaborators", json={"userId": alice.id})
    assert added.status_code == 201
    key = await busbar.key(alice, CredentialKind.AGENT_KEY, "me:read", "me:write") if door == "mcp" else alice.session
    await notices(busbar, alice, 1)
    client = busbar.client(door, key)
    found = await client.call("MeService.ListNotifications", limit=5)
    assert ([one.kind for one in found.notifications], found.unread_count) == (["collaborator.added"], 1)
    for _ in range(2):
        marked = await client.call("MeService.MarkNotificationsRead", ids=[found.notifications[0].id])
        assert marked.ok
    assert (await client.call("MeService.ListNotifications", unread=True)).unread_count == 0
