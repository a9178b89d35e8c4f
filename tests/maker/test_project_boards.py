"""Boards of projects: attaching them, and what members may do with them at every door."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from core.kernel import limits
from core.live.events import Policy
from core.maker.events import BoardAttached, BoardDetached, project_topic
from core.storage.database import Database
from gen.busbar.api.v1.options_pb import CredentialKind
from tests.conftest import Person, Running, Start
from tests.databases import database_url, postgres
from tests.doors import Refused
from tests.maker.making import attach, member, project, take
from tests.maker.test_pin_socket import close_code, frame, say, socket_of

__all__ = ["database_url", "postgres"]


async def test_boards_are_listed_in_the_order_of_their_attachment(busbar: Running, alice: Person) -> None:
    made = await project(busbar, alice)
    boards = [await busbar.board(alice, name) for name in ("Zeta", "Alpha", "Mid")]
    for board in boards:
        await attach(busbar, alice, made["id"], board.id)
    http, path = busbar.http(alice.session), f"/api/projects/{made['id']}/boards"
    first = (await http.get(path, params={"limit": 2})).json()
    second = (await http.get(path, params={"limit": 2, "cursor": first["nextCursor"]})).json()
    assert [one["name"] for one in first["boards"] + second["boards"]] == ["Zeta", "Alpha", "Mid"]
    assert second["nextCursor"] is None
    assert first["boards"][0]["projectIds"] == [made["id"]]
    assert (await http.get(path, params={"cursor": "nonsense"})).status_code == 400
    assert (await http.get(f"/api/projects/{made['id']}")).json()["boardCount"] == 3


async def test_attaching_and_detaching_again_changes_nothing(busbar: Running, alice: Person, bench: Any) -> None:
    made = await project(busbar, alice)
    http, path = busbar.http(alice.session), f"/api/projects/{made['id']}/boards/{bench.id}"
    async with busbar.app.bus.subscribe(project_topic(made["id"]), policy=Policy.LAGGED, size=10) as events:
        for _ in range(2):
            answer = await http.post(path)
            body = answer.json()
            assert (answer.status_code, body["ok"], body["attached"]) == (200, True, True)
            assert (body["board"]["id"], body["board"]["projectIds"]) == (bench.id, [made["id"]])
            assert "deviceToken" not in body["board"]
        for _ in range(2):
            assert (await http.delete(path)).json() == {"ok": True, "attached": False}
        assert (await http.delete(f"/api/projects/{made['id']}/boards/unknown")).status_code == 200
        assert [event for _, event in events.drain()] == [
            BoardAttached(bench.id, alice.id),
            BoardDetached(bench.id, alice.id),
        ]
    assert (await http.get(f"/api/boards/{bench.id}")).json()["tokenPrefix"] == bench.token_prefix


async def test_two_who_attach_one_board_attach_it_once(start: Start, database_url: str) -> None:
    busbar = await start(database=database_url)
    alice = await busbar.person("alice")
    bench, made = await busbar.board(alice), await project(busbar, alice)
    path = f"/api/projects/{made['id']}/boards/{bench.id}"
    async with busbar.app.bus.subscribe(project_topic(made["id"]), policy=Policy.LAGGED, size=20) as events:
        answers = await asyncio.gather(*(busbar.http(alice.session).post(path) for _ in range(6)))
        assert {answer.status_code for answer in answers} == {200}
        assert [event for _, event in events.drain()] == [BoardAttached(bench.id, alice.id)]
    listed = (await busbar.http(alice.session).get(f"/api/projects/{made['id']}/boards")).json()["boards"]
    assert [one["id"] for one in listed] == [bench.id]


async def test_only_the_owner_of_a_board_attaches_it(busbar: Running, alice: Person, eve: Person, bench: Any) -> None:
    made = await project(busbar, alice)
    editor = await member(busbar, alice, made["id"], "edith", "editor")
    await attach(busbar, alice, made["id"], bench.id)
    own = await project(busbar, editor, "Edith's")
    http = busbar.http(editor.session)
    seen = await http.post(f"/api/projects/{own['id']}/boards/{bench.id}")
    assert (seen.status_code, seen.json()["error"]) == (403, "only the owner of a board may attach it")
    unseen = await http.post(f"/api/projects/{own['id']}/boards/{(await busbar.board(eve)).id}")
    assert unseen.status_code == 404
    hers = await busbar.board(editor, "Hers")
    assert (await http.post(f"/api/projects/{made['id']}/boards/{hers.id}")).status_code == 200
    assert (await http.delete(f"/api/projects/{made['id']}/boards/{bench.id}")).status_code == 200


async def test_a_new_board_is_attached_at_once(busbar: Running, alice: Person, eve: Person) -> None:
    made = await project(busbar, alice)
    http = busbar.http(alice.session)
    board = (await http.post("/api/boards", json={"name": "New", "projectId": made["id"]})).json()
    assert board["projectIds"] == [made["id"]]
    assert [one["id"] for one in (await http.get(f"/api/projects/{made['id']}/boards")).json()["boards"]] == [board["id"]]
    refused = await busbar.http(eve.session).post("/api/boards", json={"name": "New", "projectId": made["id"]})
    assert refused.status_code == 404
    viewer = await member(busbar, alice, made["id"], "vera", "viewer")
    refused = await busbar.http(viewer.session).post("/api/boards", json={"name": "New", "projectId": made["id"]})
    assert refused.status_code == 403
    assert (await busbar.http(viewer.session).get("/api/boards")).json()["boards"] == []


async def test_a_board_names_the_projects_that_the_reader_sees(busbar: Running, alice: Person, bench: Any) -> None:
    shared, private = await project(busbar, alice, "Shared"), await project(busbar, alice, "Private")
    public = await project(busbar, alice, "Public", visibility="public")
    for one in (shared, private, public):
        await attach(busbar, alice, one["id"], bench.id)
    viewer = await member(busbar, alice, shared["id"], "vera", "viewer")
    mine = (await busbar.http(alice.session).get("/api/boards")).json()["boards"][0]
    assert mine["projectIds"] == [shared["id"], private["id"], public["id"]]
    theirs = (await busbar.http(viewer.session).get(f"/api/boards/{bench.id}")).json()
    assert theirs["projectIds"] == [shared["id"], public["id"]]
    assert (theirs["tokenPrefix"], mine["tokenPrefix"]) == ("", bench.token_prefix)


async def test_a_deleted_board_is_detached_everywhere(busbar: Running, alice: Person, bench: Any) -> None:
    made = await project(busbar, alice)
    await attach(busbar, alice, made["id"], bench.id)
    http = busbar.http(alice.session)
    async with busbar.app.bus.subscribe(project_topic(made["id"]), policy=Policy.LAGGED, size=20) as events:
        assert (await http.delete(f"/api/boards/{bench.id}")).status_code == 200
        assert [event for _, event in events.drain()] == [BoardDetached(bench.id, alice.id)]
    assert (await http.get(f"/api/projects/{made['id']}/boards")).json()["boards"] == []


OPERATIONS: list[tuple[str, dict[str, Any]]] = [
    ("BoardService.GetBoard", {}),
    ("PinService.ReadPin", {"pin_index": 1}),
    ("PinService.ListPins", {}),
    ("HomeAssistantService.ReadHomePin", {"pin": 1}),
    ("PinService.WritePin", {"pin_index": 1, "value": 5}),
    ("HomeAssistantService.WriteHomePin", {"pin": 1, "value": "6"}),
    ("BoardService.UpdateBoard", {"name": "Changed"}),
    ("BoardService.RotateBoardToken", {}),
    ("BoardService.DeleteBoard", {}),
]
"""What is done to a board, by growing rights."""
MATRIX = {
    "stranger": ["NOT_FOUND"] * 9,
    "reader of the public project": ["NOT_FOUND"] * 9,
    "invited": ["NOT_FOUND"] * 9,
    "viewer": [*["OK"] * 4, *["PERMISSION_DENIED"] * 5],
    "editor": [*["OK"] * 6, *["PERMISSION_DENIED"] * 3],
    "owner of the project": [*["OK"] * 6, *["PERMISSION_DENIED"] * 3],
    "owner": ["OK"] * 9,
}


@pytest.mark.parametrize("door", ["grpc", "rest", "mcp"])
@pytest.mark.parametrize("who", list(MATRIX))
async def test_members_of_a_project_see_its_boards(busbar: Running, alice: Person, eve: Person, who: str, door: str) -> None:
    owner = await busbar.person("owner")
    made = await project(busbar, alice, visibility="public" if "public" in who else "private")
    editor = await member(busbar, alice, made["id"], "edith", "editor")
    board = await busbar.board(editor, "Hers")
    await attach(busbar, editor, made["id"], board.id)
    people = {"owner": editor, "owner of the project": alice, "editor": owner, "viewer": owner}
    person = people.get(who, eve)
    if person is owner:
        body = {"username": "owner", "role": who}
        await busbar.http(alice.session).post(f"/api/projects/{made['id']}/collaborators", json=body)
    session, agent = person.session, await busbar.key(person, CredentialKind.AGENT_KEY)
    for (name, fields), wanted in zip(OPERATIONS, MATRIX[who], strict=True):
        home = name.startswith("Home")
        client = busbar.client(door, agent if home or door == "mcp" else session)
        if door == "mcp" and client.rpc(name).tool is None:
            continue
        try:
            await client.call(name, board_id=board.id, **fields)
            found = "OK"
        except Refused as refused:
            found = refused.code
            if found == "TOOL_ERROR":
                found = "NOT_FOUND" if "not found" in refused.message else "PERMISSION_DENIED"
        assert (name, found) == (name, wanted)


async def test_an_agent_lists_the_boards_of_a_project(busbar: Running, alice: Person, eve: Person, bench: Any) -> None:
    made = await project(busbar, alice)
    await attach(busbar, alice, made["id"], bench.id)
    await busbar.board(alice, "Elsewhere")
    viewer = await member(busbar, alice, made["id"], "vera", "viewer")
    own = await busbar.board(viewer, "Vera's")

    async def listed(person: Person, **fields: Any) -> list[str]:
        agent = busbar.client("mcp", await busbar.key(person, CredentialKind.AGENT_KEY, "boards:read"))
        return [one.id for one in (await agent.call("BoardService.ListBoards", **fields)).boards]

    assert await listed(viewer, project_id=made["id"]) == [bench.id]
    assert await listed(viewer) == [own.id]
    assert len(await listed(alice)) == 2
    with pytest.raises(Refused, match=f"project {made['id']} not found"):
        await listed(eve, project_id=made["id"])
    some = await busbar.client("grpc", viewer.session).call("AgentKeyService.CreateAgentKey", name="k", board_ids=[own.id])
    found = await busbar.client("grpc", some.key).call("BoardService.ListBoards", project_id=made["id"])
    assert list(found.boards) == []


async def test_the_pin_map_holds_every_board_and_the_newest_value_of_each_index(busbar: Running, alice: Person) -> None:
    made = await project(busbar, alice)
    one, two, bare = [await busbar.board(alice, name) for name in ("One", "Two", "Bare")]
    for board in (one, two, bare):
        await attach(busbar, alice, made["id"], board.id)
    viewer = await member(busbar, alice, made["id"], "vera", "viewer")
    http = busbar.http(alice.session)
    for board, index, value in ((one, 0, 21.5), (two, 0, 22), (two, 3, True), (one, 7, "x"), (one, 7, None)):
        await http.put(f"/api/boards/{board.id}/pins/{index}", json={"value": value})
    body = (await busbar.http(viewer.session).get(f"/api/projects/{made['id']}/pins")).json()
    assert set(body) == {"projectId", "pins", "boards", "serverTime"}
    assert body["pins"] == {"V0": 22, "V3": True, "V7": None}
    assert set(body["boards"]) == {one.id, two.id, bare.id}
    assert body["boards"][bare.id] == []
    for board in (one, two):
        assert body["boards"][board.id] == (await http.get(f"/api/boards/{board.id}/pins")).json()["pins"]
    await http.put(f"/api/boards/{one.id}/pins/0", json={"value": 1})
    assert (await http.get(f"/api/projects/{made['id']}/pins")).json()["pins"]["V0"] == 1


async def test_a_member_watches_and_writes_over_the_socket_of_a_board(busbar: Running, alice: Person, bench: Any) -> None:
    made = await project(busbar, alice)
    await attach(busbar, alice, made["id"], bench.id)
    editor = await member(busbar, alice, made["id"], "edith", "editor")
    viewer = await member(busbar, alice, made["id"], "vera", "viewer")
    async with socket_of(busbar, bench.id, editor.session) as one, socket_of(busbar, bench.id, viewer.session) as two:
        assert (await frame(one))["type"] == (await frame(two))["type"] == "snapshot"
        await say(two, type="write", id="1", pinIndex=1, value=1)
        assert await frame(two) == {"type": "error", "id": "1", "error": "editor role required"}
        await say(one, type="write", id="1", pinIndex=1, value=1)
        assert {(await frame(one))["type"], (await frame(one))["type"]} == {"ack", "pin"}
        assert (await frame(two))["pin"]["value"] == 1


@pytest.mark.parametrize("act", ["remove", "detach", "delete"])
async def test_who_loses_a_board_is_shut_out_at_once(busbar: Running, alice: Person, bench: Any, act: str) -> None:
    made = await project(busbar, alice)
    await attach(busbar, alice, made["id"], bench.id)
    editor = await member(busbar, alice, made["id"], "edith", "editor")
    stream = busbar.client("grpc", editor.session).stream("PinService.WatchPins", board_id=bench.id)
    await busbar.http(alice.session).put(f"/api/boards/{bench.id}/pins/1", json={"value": 1})
    assert (await take(stream)).seq == 1
    paths = {
        "remove": f"/api/projects/{made['id']}/collaborators/{editor.id}",
        "detach": f"/api/projects/{made['id']}/boards/{bench.id}",
        "delete": f"/api/projects/{made['id']}",
    }
    async with socket_of(busbar, bench.id, editor.session) as theirs, socket_of(busbar, bench.id, alice.session) as hers:
        await frame(theirs)
        await frame(hers)
        assert (await busbar.http(alice.session).delete(paths[act])).status_code == 200
        assert await close_code(theirs) == 4403
        await say(hers, type="ping")
        assert (await frame(hers))["type"] == "pong"
    with pytest.raises(Exception, match="no longer shared"):
        await take(stream)
    answer = await busbar.http(editor.session).put(f"/api/boards/{bench.id}/pins/1", json={"value": 1})
    assert answer.status_code == 404


async def test_a_smaller_role_counts_at_once_and_leaves_the_socket_open(busbar: Running, alice: Person, bench: Any) -> None:
    made = await project(busbar, alice)
    await attach(busbar, alice, made["id"], bench.id)
    editor = await member(busbar, alice, made["id"], "edith", "editor")
    async with socket_of(busbar, bench.id, editor.session) as socket:
        await frame(socket)
        path = f"/api/projects/{made['id']}/collaborators/{editor.id}"
        assert (await busbar.http(alice.session).patch(path, json={"role": "viewer"})).status_code == 200
        await say(socket, type="write", id="1", pinIndex=1, value=1)
        assert (await frame(socket))["type"] == "error"
        assert (await busbar.http(editor.session).put(f"/api/boards/{bench.id}/pins/1", json={"value": 1})).status_code == 403
        assert (await busbar.http(editor.session).get(f"/api/boards/{bench.id}/pins/1")).status_code == 200


async def test_a_member_reads_pins_without_asking_storage(
    busbar: Running, alice: Person, bench: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = await project(busbar, alice)
    await attach(busbar, alice, made["id"], bench.id)
    viewer = await member(busbar, alice, made["id"], "vera", "viewer")
    client = busbar.client("grpc", viewer.session)
    await client.call("PinService.ReadPin", board_id=bench.id, pin_index=1)
    asked = list[str]()
    monkeypatch.setattr(Database, "read", lambda *_: asked.append("read"))
    await client.call("PinService.ReadPin", board_id=bench.id, pin_index=1)
    assert asked == []


async def test_members_share_the_writes_of_a_board(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    busbar = await start(rate_limits="on")
    alice = await busbar.person("alice")
    bench, made = await busbar.board(alice), await project(busbar, alice)
    await attach(busbar, alice, made["id"], bench.id)
    editor = await member(busbar, alice, made["id"], "edith", "editor")
    client = busbar.client("grpc", editor.session)
    agent = busbar.client("grpc", await busbar.key(alice, CredentialKind.AGENT_KEY))

    monkeypatch.setattr(limits, "time", SimpleNamespace(monotonic=lambda: 1000.0))

    async def write(door: Any) -> bool:
        try:
            await door.call("PinService.WritePin", board_id=bench.id, pin_index=1, value=1)
        except Refused as refused:
            return refused.code != "RESOURCE_EXHAUSTED"
        return True

    done = await asyncio.gather(*(write(door) for _ in range(40) for door in (client, agent)))
    assert sum(done) == 50
