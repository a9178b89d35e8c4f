"""Members of a project at work on it together, over real WebSockets."""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import grpc
import jsonpatch
import pytest
import websockets
from protobuf import message_from_json_value
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed, InvalidStatus

from core.documents.documents import Documents
from core.maker.access import Role
from gen.busbar.api.v1.options_pb import CredentialKind
from gen.busbar.maker.v1.collab_pb import CollaborateRequest, CollaborateResponse
from tests.conftest import Person, Running, Start
from tests.maker.projects import make_project

DOUBLING = [{"op": "copy", "from": "", "path": f"/{name}"} for name in "abcdefghij"]
NEVER = {"firmware": 0, "wiring": 0, "pcb": 0, "case": 0, "widgets": 0}


@asynccontextmanager
async def raw_socket(busbar: Running, project: str, token: str, **more: Any) -> AsyncGenerator[ClientConnection]:
    """Connect to a project."""
    url = f"{busbar.ws_url}/ws/projects/{project}/collab"
    async with websockets.connect(url, additional_headers={"Authorization": f"Bearer {token}"}, **more) as socket:
        yield socket


@asynccontextmanager
async def joined(busbar: Running, project: str, person: Person) -> AsyncGenerator[tuple[ClientConnection, dict[str, Any]]]:
    """Connect to a project and read the welcome."""
    async with raw_socket(busbar, project, person.session) as socket:
        yield socket, await frame(socket, "welcome")


async def frame(socket: ClientConnection, kind: str | None = None) -> dict[str, Any]:
    """Return the next frame; of a kind, passing over what is told of other clients."""
    while True:
        found: dict[str, Any] = json.loads(await asyncio.wait_for(socket.recv(), 10))
        if kind is None or found["type"] == kind:
            return found
        assert found["type"] in {"peer.joined", "peer.left", "presence"}, found


async def say(socket: ClientConnection, **members: Any) -> None:
    """Send a frame."""
    await socket.send(json.dumps(members))


async def close_code(socket: ClientConnection) -> int | None:
    """Read until the server closes, and return the code."""

    async def read_on() -> None:
        async for _ in socket:
            pass

    with suppress(ConnectionClosed):
        await asyncio.wait_for(read_on(), 10)
    return socket.close_code


def add(path: str, value: object) -> list[dict[str, Any]]:
    return [{"op": "add", "path": path, "value": value}]


@pytest.fixture
async def bob(busbar: Running) -> Person:
    """Somebody who edits Alice's project."""
    return await busbar.person("bob")


@pytest.fixture
async def project(busbar: Running, alice: Person, bob: Person) -> str:
    return await make_project(busbar, alice, visibility="private", **{bob.id: Role.EDITOR})


async def attach(busbar: Running, project: str, owner: Person, board_id: str) -> None:
    await busbar.client("grpc", owner.session).call("ProjectService.AttachBoard", project_id=project, board_id=board_id)


async def test_the_welcome_tells_the_state_of_the_project(
    busbar: Running, alice: Person, bob: Person, project: str, bench: Any
) -> None:
    client = busbar.http(alice.session)
    await attach(busbar, project, alice, bench.id)
    await client.put(f"/api/boards/{bench.id}/pins/3", json={"value": 21.5})
    for number in (1, 2):
        await client.put(f"/api/projects/{project}/wiring", json={"n": number})
    async with joined(busbar, project, alice) as (_, first), joined(busbar, project, bob) as (_, welcome):
        assert set(welcome) == {"type", "projectId", "clientId", "role", "revisions", "peers", "pins"}
        assert (welcome["projectId"], welcome["role"], first["role"]) == (project, "editor", "owner")
        assert welcome["revisions"] == {**NEVER, "wiring": 2}
        assert first["peers"] == []
        [peer] = welcome["peers"]
        assert (peer["clientId"], peer["userId"], peer["username"]) == (first["clientId"], alice.id, "alice")
        assert set(peer) == {"clientId", "userId", "username", "displayName", "color"}
        pins = (await client.get(f"/api/projects/{project}/pins")).json()
        assert {**welcome["pins"], "serverTime": None} == {**pins, "serverTime": None}
        assert welcome["pins"]["pins"] == {"V3": 21.5}


async def test_each_connection_of_a_user_is_a_peer(busbar: Running, alice: Person, bob: Person, project: str) -> None:
    async with joined(busbar, project, alice) as (watcher, _):
        async with joined(busbar, project, bob) as (_, one), joined(busbar, project, bob) as (_, two):
            told = [await frame(watcher), await frame(watcher)]
            assert [(t["type"], t["clientId"], t["userId"]) for t in told] == [
                ("peer.joined", one["clientId"], bob.id),
                ("peer.joined", two["clientId"], bob.id),
            ]
        left = {(await frame(watcher))["clientId"], (await frame(watcher))["clientId"]}
        assert left == {one["clientId"], two["clientId"]}
    async with joined(busbar, project, bob) as (_, last):
        assert last["peers"] == []


async def test_presence_reaches_the_others_and_is_kept_nowhere(
    busbar: Running, alice: Person, bob: Person, project: str
) -> None:
    async with joined(busbar, project, alice) as (one, first), joined(busbar, project, bob) as (two, _):
        await frame(one, "peer.joined")
        await say(one, type="presence", doc="wiring", cursor={"x": 1, "deep": [None]}, selection=["n1"])
        await say(one, type="ping")
        assert await frame(one) == {"type": "pong"}
        assert await frame(two) == {
            "type": "presence", "clientId": first["clientId"], "doc": "wiring", "cursor": {"x": 1, "deep": [None]},
            "selection": ["n1"],
        }  # fmt: skip
        await say(one, type="presence", doc="wiring", cursor={"text": "x" * 20_000})
        assert (await frame(one))["type"] == "error"
        async with joined(busbar, project, bob) as (late, welcome):
            assert "cursor" not in json.dumps(welcome)
            await say(late, type="ping")
            assert (await frame(late))["type"] == "pong"


async def test_more_than_20_presences_a_second_are_refused(start: Start) -> None:
    busbar = await start(rate_limits="on")
    alice = await busbar.person()
    project = await make_project(busbar, alice)
    async with joined(busbar, project, alice) as (one, _), joined(busbar, project, alice) as (two, _):
        await frame(one, "peer.joined")
        for number in range(30):
            await say(one, type="presence", doc=str(number))
        await say(one, type="ping")
        answers = [(await frame(one))["type"]]
        while answers[-1] != "pong":
            answers.append((await frame(one))["type"])
        refused = len(answers) - 1
        assert set(answers[:-1]) == {"error"}
        relayed = [(await frame(two, "presence"))["doc"] for _ in range(30 - refused)]
        assert len(relayed) >= 20
        assert relayed[:20] == [str(number) for number in range(20)]


@pytest.mark.parametrize(
    ("doc", "patch", "value"),
    [
        ("wiring", add("/nodes", [1]), {"nodes": [1]}),
        ("pcb", add("/a~1b", {}), {"a/b": {}}),
        ("case", add("", {"whole": True}), {"whole": True}),
        ("widgets", add("/widgets/-", {"id": "w", "type": "LED"}), None),
        ("firmware", add("/files", [{"path": "main.ino", "content": "x"}]), None),
    ],
)
async def test_a_patch_is_saved_acknowledged_and_told_to_the_others(
    busbar: Running, alice: Person, bob: Person, project: str, doc: str, patch: list[dict[str, Any]], value: object
) -> None:
    async with joined(busbar, project, alice) as (one, first), joined(busbar, project, bob) as (two, _):
        await say(one, type="op", id="1", doc=doc, baseRevision=0, patch=patch)
        assert await frame(one, "ack") == {"type": "ack", "id": "1", "revision": 1, "seq": None}
        assert await frame(two) == {
            "type": "op", "doc": doc, "revision": 1, "patch": patch, "clientId": first["clientId"],
            "by": {"id": alice.id, "username": "alice", "displayName": "alice"},
        }  # fmt: skip
        saved = (await busbar.http(bob.session).get(f"/api/projects/{project}/{doc}")).json()
        if value is not None:
            assert (saved["data"], saved["revision"], saved["updatedBy"]) == (value, 1, alice.id)
        elif doc == "widgets":
            assert [widget["id"] for widget in saved["widgets"]] == ["w"]
        else:
            assert (saved["source"], saved["language"]) == ("x", "arduino")
        await say(one, type="ping")
        assert await frame(one) == {"type": "pong"}


async def test_a_patch_of_an_old_revision_is_a_conflict(busbar: Running, alice: Person, project: str) -> None:
    client, path = busbar.http(alice.session), f"/api/projects/{project}/wiring"
    await client.put(path, json={"data": {"n": 1}, "schemaVersion": 4})
    async with joined(busbar, project, alice) as (socket, _):
        for stale in (0, 2):
            await say(socket, type="op", id="a", doc="wiring", baseRevision=stale, patch=add("/n", 2))
            assert await frame(socket) == {"type": "conflict", "id": "a", "doc": "wiring", "revision": 1}
        await say(socket, type="op", id="b", doc="wiring", baseRevision=1, patch=add("/m", 2))
        assert (await frame(socket))["revision"] == 2
    saved = (await client.get(path)).json()
    assert (saved["data"], saved["schemaVersion"]) == ({"n": 1, "m": 2}, 4)


@pytest.mark.parametrize(
    ("members", "word"),
    [
        ({"doc": "wiring", "patch": [{"op": "remove", "path": "/missing"}]}, "patch"),
        ({"doc": "wiring", "patch": [{"op": "dance", "path": "/a"}]}, "patch"),
        ({"doc": "wiring", "patch": {}}, "patch"),
        ({"doc": "wiring"}, "patch"),
        ({"doc": "wiring", "patch": add("", [])}, "patch"),
        ({"doc": "music", "patch": []}, "doc"),
        ({"doc": "wiring", "patch": [], "baseRevision": -1}, "baseRevision"),
        ({"doc": "widgets", "patch": add("/widgets/-", {"type": "led"})}, "widgets[0].type"),
        ({"doc": "widgets", "patch": add("/widgets", 5)}, "widgets"),
        ({"doc": "firmware", "patch": add("/files", [{"path": "../x", "content": ""}])}, "files[0].path"),
        ({"doc": "wiring", "patch": [*add("/text", "x" * 50_000), *DOUBLING]}, "patch"),
    ],
)  # fmt: skip
async def test_a_bad_patch_is_refused_and_the_connection_goes_on(
    busbar: Running, alice: Person, project: str, members: dict[str, Any], word: str
) -> None:
    async with joined(busbar, project, alice) as (socket, _):
        await say(socket, type="op", id="9", **{"baseRevision": 0, **members})
        refused = await frame(socket)
        assert (refused["type"], refused["id"]) == ("error", "9")
        assert refused["error"].startswith(f"{word}: ")
        await say(socket, type="ping")
        assert await frame(socket) == {"type": "pong"}
    async with joined(busbar, project, alice) as (_, welcome):
        assert welcome["revisions"] == NEVER


async def test_fifty_concurrent_patches_of_two_clients_converge(
    busbar: Running, alice: Person, bob: Person, project: str
) -> None:
    path = f"/api/projects/{project}/wiring"
    await busbar.http(alice.session).put(path, json={"data": {"log": []}})

    async def work(person: Person, name: str) -> tuple[int, object]:
        """Make 25 changes, each from the newest revision known, and follow those of the other one; return what is held."""
        http = busbar.http(person.session)
        async with joined(busbar, project, person) as (socket, welcome):
            held = (await http.get(path)).json()
            revision, document = held["revision"], held["data"]
            assert welcome["revisions"]["wiring"] <= revision
            done = 0
            pending: list[dict[str, Any]] | None = None
            while done < 25 or len(document["log"]) < 50:
                if pending is None and done < 25:
                    pending = add("/log/-", f"{name}{done}")
                    await say(socket, type="op", id=str(done), doc="wiring", baseRevision=revision, patch=pending)
                told = await frame(socket)
                if told["type"] == "ack":
                    assert pending is not None
                    document, revision, pending, done = (
                        jsonpatch.apply_patch(document, pending),
                        told["revision"],
                        None,
                        done + 1,
                    )
                elif told["type"] == "op" and told["revision"] > revision:
                    assert told["revision"] == revision + 1
                    document, revision = jsonpatch.apply_patch(document, told["patch"]), told["revision"]
                elif told["type"] == "conflict":
                    pending = None
                    if told["revision"] > revision:
                        held = (await http.get(path)).json()
                        revision, document = held["revision"], held["data"]
            return revision, document

    results = await asyncio.gather(work(alice, "a"), work(bob, "b"))
    final = (await busbar.http(alice.session).get(path)).json()
    assert [(final["revision"], final["data"])] * 2 == list(results)
    assert final["revision"] == 51
    assert sorted(final["data"]["log"]) == sorted(f"{name}{number}" for name in "ab" for number in range(25))
    for name in "ab":
        mine = [entry for entry in final["data"]["log"] if entry[0] == name]
        assert mine == [f"{name}{number}" for number in range(25)]


async def test_saves_over_rest_and_mcp_are_told_once_to_everybody(
    busbar: Running, alice: Person, bob: Person, project: str
) -> None:
    by = {"id": alice.id, "username": "alice", "displayName": "alice"}
    client = busbar.http(alice.session)
    key = await busbar.key(alice, CredentialKind.AGENT_KEY, "projects:write")
    async with joined(busbar, project, alice) as (one, _), joined(busbar, project, bob) as (two, _):
        await frame(one, "peer.joined")
        for _ in range(2):
            await client.put(f"/api/projects/{project}/wiring", json={"n": 1})
        await client.put(f"/api/projects/{project}/widgets", json=[{"type": "LED"}])
        await client.put(f"/api/projects/{project}/firmware", json={"source": "x"})
        await busbar.client("mcp", key).call(
            "DocumentHistoryService.SaveDocument", project_id=project, kind="case", content={"n": 2}
        )
        await client.put(f"/api/projects/{project}/wiring", json={"n": 2})
        await client.post(f"/api/projects/{project}/documents/wiring/revisions/1/restore")
        for socket in (one, two):
            told = [await frame(socket) for _ in range(7)]
            assert [(t["type"], t["doc"], t["revision"]) for t in told] == [
                ("doc.saved", "wiring", 1),
                ("doc.saved", "widgets", 1),
                ("widgets.replaced", "widgets", 1),
                ("doc.saved", "firmware", 1),
                ("doc.saved", "case", 1),
                ("doc.saved", "wiring", 2),
                ("doc.saved", "wiring", 3),
            ]
            assert all((t["by"], t["clientId"]) == (by, None) for t in told)


async def test_pins_of_every_attached_board_are_told_and_written(
    busbar: Running, alice: Person, bob: Person, project: str, bench: Any
) -> None:
    theirs = await busbar.board(bob, "Bob's")
    await attach(busbar, project, alice, bench.id)
    async with joined(busbar, project, alice) as (one, first), joined(busbar, project, bob) as (two, _):
        await frame(one, "peer.joined")
        await busbar.http(bob.session).put(f"/api/boards/{theirs.id}/pins/1", json={"value": "before"})
        await attach(busbar, project, bob, theirs.id)
        for socket in (one, two):
            told = await frame(socket, "board.attached")
            assert (told["boardId"], told["by"]["id"], told["clientId"]) == (theirs.id, bob.id, None)
            assert [pin["value"] for pin in told["pins"]] == ["before"]
        for board in (bench, theirs):
            await say(one, type="write", id="w", boardId=board.id, pinIndex="V4", value=7)
            frames = {f["type"]: f for f in (await frame(one), await frame(one))}
            assert (frames["ack"]["id"], frames["ack"]["seq"]) == ("w", frames["pin"]["seq"])
            for told in (frames["pin"], await frame(two, "pin")):
                assert (told["boardId"], told["pin"]["value"], told["clientId"]) == (board.id, 7, first["clientId"])
                assert told["origin"] == "user"
        await busbar.http(bob.session).delete(f"/api/projects/{project}/boards/{theirs.id}")
        for socket in (one, two):
            assert (await frame(socket, "board.detached"))["boardId"] == theirs.id
        await busbar.http(bob.session).put(f"/api/boards/{theirs.id}/pins/1", json={"value": "unseen"})
        await busbar.http(alice.session).put(f"/api/boards/{bench.id}/pins/1", json={"value": "seen"})
        for socket in (one, two):
            assert (await frame(socket, "pin"))["pin"]["value"] == "seen"
        await say(one, type="write", id="x", boardId=theirs.id, pinIndex=1, value=1)
        assert (await frame(one))["error"] == f"board {theirs.id} is not attached to the project"
        await busbar.http(alice.session).delete(f"/api/boards/{bench.id}")
        assert (await frame(two, "board.detached"))["boardId"] == bench.id


async def test_writes_while_connecting_are_seen_exactly_once(busbar: Running, alice: Person, project: str, bench: Any) -> None:
    await attach(busbar, project, alice, bench.id)
    client = busbar.client("grpc", alice.session)

    async def write() -> None:
        for number in range(1, 41):
            await client.call("PinService.WritePin", board_id=bench.id, pin_index=0, value=number)

    async def watch() -> None:
        async with joined(busbar, project, alice) as (socket, welcome):
            seen = [pin["seq"] for pin in welcome["pins"]["boards"][bench.id]] or [0]
            while seen[-1] < 40:
                seen.append((await frame(socket, "pin"))["seq"])
        assert seen == list(range(seen[0], 41))

    await asyncio.gather(write(), *(watch() for _ in range(4)))


async def test_viewers_only_read(busbar: Running, alice: Person, project: str, bench: Any) -> None:
    viewer = await busbar.person("viewer")
    names = {"project_id": project, "user_id": viewer.id}
    owner = busbar.client("grpc", alice.session)
    await owner.call("CollaboratorService.AddCollaborator", **names, role="viewer")
    await attach(busbar, project, alice, bench.id)
    async with joined(busbar, project, viewer) as (socket, welcome):
        assert welcome["role"] == "viewer"
        await say(socket, type="op", id="1", doc="wiring", baseRevision=0, patch=add("/a", 1))
        assert await frame(socket) == {"type": "error", "id": "1", "error": "editor role required"}
        await say(socket, type="write", id="2", boardId=bench.id, pinIndex=1, value=1)
        assert await frame(socket) == {"type": "error", "id": "2", "error": "editor role required"}
        await busbar.http(alice.session).put(f"/api/projects/{project}/wiring", json={"n": 1})
        assert (await frame(socket))["type"] == "doc.saved"
        await owner.call("CollaboratorService.UpdateCollaborator", **names, role="editor")
        updated = await frame(socket)
        assert (updated["type"], updated["role"], updated["by"]) == ("project.updated", "editor", None)
        await say(socket, type="op", id="3", doc="wiring", baseRevision=1, patch=add("/a", 1))
        assert (await frame(socket))["type"] == "ack"


async def test_changes_of_the_project_are_told(busbar: Running, alice: Person, bob: Person, project: str) -> None:
    async with joined(busbar, project, alice) as (socket, _):
        await busbar.http(bob.session).patch(f"/api/projects/{project}", json={"name": "Glasshouse"})
        told = await frame(socket)
        assert (told["type"], told["projectId"], told["role"]) == ("project.updated", project, "owner")
        assert (told["by"]["id"], told["clientId"]) == (bob.id, None)


async def test_connections_close_with_the_reason_for_their_end(
    busbar: Running, alice: Person, bob: Person, project: str
) -> None:
    owner = busbar.http(alice.session)
    async with joined(busbar, project, alice) as (watcher, _):
        async with joined(busbar, project, bob) as (socket, _):
            await owner.delete(f"/api/projects/{project}/collaborators/{bob.id}")
            assert await close_code(socket) == 4403
        await owner.patch(f"/api/projects/{project}", json={"visibility": "public"})
        assert (await frame(watcher, "project.updated"))["type"] == "project.updated"
        await owner.post(f"/api/projects/{project}/collaborators", json={"userId": bob.id})
        async with joined(busbar, project, bob) as (socket, _):
            await owner.delete(f"/api/projects/{project}/collaborators/{bob.id}")
            assert await close_code(socket) == 4403
        await owner.delete(f"/api/projects/{project}")
        assert await close_code(watcher) == 4404
    other = await make_project(busbar, alice)
    async with joined(busbar, other, alice) as (socket, _):
        await say(socket, type="presence", doc="x" * 1_050_000)
        assert await close_code(socket) == 4413
    async with joined(busbar, other, alice) as (socket, _):
        await owner.post("/api/auth/logout")
        assert await close_code(socket) == 4401


async def test_handshakes_are_refused_as_plain_http(
    busbar: Running, alice: Person, eve: Person, project: str, bench: Any
) -> None:
    public = await make_project(busbar, alice, visibility="public")
    key = await busbar.key(alice, CredentialKind.AGENT_KEY)
    for target, token, status in (
        (project, "nonsense", 401),
        (project, key, 401),
        (project, bench.device_token, 401),
        (project, eve.session, 404),
        ("nothing", alice.session, 404),
        (public, eve.session, 403),
    ):
        with pytest.raises(InvalidStatus) as refused:
            async with raw_socket(busbar, target, token):
                pass
        assert refused.value.response.status_code == status
        assert set(json.loads(refused.value.response.body or b"")) == {"error"}


async def test_what_a_deleted_project_held_is_gone(busbar: Running, alice: Person, project: str) -> None:
    client = busbar.http(alice.session)
    await client.put(f"/api/projects/{project}/wiring", json={"n": 1})
    await client.delete(f"/api/projects/{project}")
    assert (await client.get(f"/api/projects/{project}/wiring")).status_code == 404
    async with busbar.app.database.read() as session:
        assert await Documents().revisions(session, project) == {}


async def test_copies_of_a_project_have_its_documents(busbar: Running, alice: Person, project: str) -> None:
    client = busbar.http(alice.session)
    await client.put(f"/api/projects/{project}/wiring", json={"n": 1})
    await client.put(f"/api/projects/{project}/firmware", json={"source": "x"})
    copy = (await client.post("/api/projects", json={"name": "Copy", "templateProjectId": project})).json()["id"]
    wiring = (await client.get(f"/api/projects/{copy}/wiring")).json()
    assert (wiring["data"], wiring["revision"], wiring["projectId"]) == ({"n": 1}, 1, copy)
    assert (await client.get(f"/api/projects/{copy}/firmware")).json()["source"] == "x"


async def test_a_reader_who_falls_behind_is_closed_with_4429_and_finds_out_by_the_welcome(
    busbar: Running, alice: Person, project: str
) -> None:
    async with joined(busbar, project, alice) as (socket, _):
        # This client takes one frame and no more: the others wait in the server, until there are too many. Text at random
        # takes its room whatever compression does.
        url = f"{busbar.ws_url}/ws/projects/{project}/collab"
        headers = {"Authorization": f"Bearer {alice.session}"}
        async with websockets.connect(url, additional_headers=headers, max_queue=1) as slow:
            assert (await frame(slow))["type"] == "welcome"
            for _ in range(1500):
                await say(socket, type="presence", doc="wiring", cursor=secrets.token_hex(8000))
            await say(socket, type="op", id="1", doc="wiring", baseRevision=0, patch=add("/a", 1))
            assert (await frame(socket, "ack"))["revision"] == 1
            assert await close_code(slow) == 4429
    async with joined(busbar, project, alice) as (_, welcome):
        assert welcome["revisions"]["wiring"] == 1


async def test_agents_work_along_over_grpc(busbar: Running, alice: Person, project: str) -> None:
    key = await busbar.key(alice, CredentialKind.AGENT_KEY, "projects:read", "projects:write")
    said: asyncio.Queue[CollaborateRequest] = asyncio.Queue()

    async def requests() -> AsyncIterator[CollaborateRequest]:
        while True:
            yield await said.get()

    def tell(**member: Any) -> None:
        said.put_nowait(message_from_json_value(CollaborateRequest, member))

    async with grpc.aio.insecure_channel(busbar.server.grpc_address) as channel, joined(busbar, project, alice) as (socket, _):
        method = channel.stream_stream(
            "/busbar.maker.v1.CollabService/Collaborate",
            request_serializer=CollaborateRequest.to_binary,
            response_deserializer=CollaborateResponse.from_binary,
        )
        call = method(requests(), metadata=(("authorization", f"Bearer {key}"),), timeout=20)
        answers = aiter(call)
        tell(open={"projectId": project})
        welcome: Any = (await anext(answers)).frame
        assert welcome.field == "welcome"
        tell(op={"id": "1", "doc": "wiring", "baseRevision": 0, "patch": json.dumps(add("/a", 1))})
        told = await frame(socket, "op")
        assert (told["patch"], told["clientId"]) == (add("/a", 1), welcome.value.client_id)
        ack: Any = (await anext(answers)).frame
        assert (ack.field, ack.value.revision) == ("ack", 1)
        call.cancel()
        assert (await frame(socket, "peer.left"))["clientId"] == welcome.value.client_id
