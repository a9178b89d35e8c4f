"""Collaborators of projects, and people who are only invited yet."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from sqlalchemy import text

from core.documents.documents import Documents
from core.live.events import Policy
from core.maker.attachments import Attachments
from core.maker.events import BoardDetached, CollaboratorChanged, CollaboratorRemoved, project_topic
from tests.conftest import PASSWORD, Person, Running, Start
from tests.databases import Postgres, database_url, postgres
from tests.doors import Refused
from tests.maker.making import attach, member, notices, project

__all__ = ["database_url", "postgres"]

MEMBERS = {"id", "userId", "username", "displayName", "avatarUrl", "role", "status", "joinedAt", "invitedAt"}


async def collaborators(busbar: Running, reader: Person, project_id: str) -> list[dict[str, Any]]:
    """Return the members of a project as somebody sees them."""
    answer = await busbar.http(reader.session).get(f"/api/projects/{project_id}/collaborators")
    assert answer.status_code == 200, answer.text
    return answer.json()["collaborators"]


async def register(busbar: Running, name: str) -> Person:
    """Register over REST."""
    body = {"email": f"{name}@example.com", "password": PASSWORD, "username": name}
    answer = await busbar.http().post("/api/auth/register", json=body)
    assert answer.status_code == 201, answer.text
    user = answer.json()["user"]
    return Person(user["id"], user["email"], "", answer.json()["token"])


@pytest.mark.parametrize("named", ["username", "email", "userId"])
async def test_a_user_is_added_by_any_name(busbar: Running, alice: Person, eve: Person, named: str) -> None:
    made = await project(busbar, alice)
    names = {"username": "EVE", "email": "Eve@Example.com", "userId": eve.id}
    path = f"/api/projects/{made['id']}/collaborators"
    answer = await busbar.http(alice.session).post(path, json={named: names[named]})
    body = answer.json()
    assert (answer.status_code, set(body)) == (201, MEMBERS)
    assert (body["userId"], body["username"], body["displayName"]) == (eve.id, "eve", "eve")
    assert (body["role"], body["status"], body["joinedAt"]) == ("editor", "active", body["invitedAt"])
    assert (await busbar.http(eve.session).get(f"/api/projects/{made['id']}")).json()["role"] == "editor"
    (notice,) = await notices(busbar, eve, 1)
    assert (notice["kind"], notice["link"]) == ("collaborator.added", f"/projects/{made['id']}")
    assert notice["data"] == {"projectId": made["id"], "role": "editor"}


async def test_the_owner_stands_first_and_the_others_by_their_invitation(busbar: Running, alice: Person) -> None:
    made = await project(busbar, alice)
    for name in ("zoe", "bob", "mia"):
        await member(busbar, alice, made["id"], name, "viewer")
    listed = await collaborators(busbar, alice, made["id"])
    assert [(one["username"], one["role"]) for one in listed] == [
        ("alice", "owner"), ("zoe", "viewer"), ("bob", "viewer"), ("mia", "viewer"),
    ]  # fmt: skip
    assert listed[0]["joinedAt"] is not None
    http, path = busbar.http(alice.session), f"/api/projects/{made['id']}/collaborators"
    seen, cursor = list[str](), ""
    while cursor is not None:
        page = (await http.get(path, params={"limit": 1, "cursor": cursor})).json()
        seen += [one["username"] for one in page["collaborators"]]
        cursor = page["nextCursor"]
    assert seen == ["alice", "zoe", "bob", "mia"]
    assert (await http.get(path, params={"cursor": "nonsense"})).status_code == 400
    assert (await http.get(f"/api/projects/{made['id']}")).json()["collaboratorCount"] == 3


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({}, 400),
        ({"username": "eve", "email": "eve@example.com"}, 400),
        ({"email": "no address"}, 400),
        ({"username": "eve", "role": "owner"}, 400),
        ({"username": "nobody"}, 404),
        ({"userId": "usr_nobody"}, 404),
        ({"username": "alice"}, 409),
        ({"email": "ALICE@example.com"}, 409),
    ],
)
async def test_who_cannot_be_added_is_refused(
    busbar: Running, alice: Person, eve: Person, body: dict[str, Any], status: int
) -> None:
    made = await project(busbar, alice)
    answer = await busbar.http(alice.session).post(f"/api/projects/{made['id']}/collaborators", json=body)
    assert answer.status_code == status
    assert len(await collaborators(busbar, alice, made["id"])) == 1
    assert (await busbar.http(eve.session).get(f"/api/projects/{made['id']}")).status_code == 404


async def test_of_two_who_add_one_user_one_succeeds(start: Start, database_url: str) -> None:
    busbar = await start(database=database_url)
    alice, eve = await busbar.person("alice"), await busbar.person("eve")
    made = await project(busbar, alice)
    path, http = f"/api/projects/{made['id']}/collaborators", busbar.http(alice.session)
    bodies = [{"username": "eve"}, {"userId": eve.id}, {"email": eve.email}, {"email": "new@example.com"}] * 2
    answers = await asyncio.gather(*(http.post(path, json=body) for body in bodies))
    assert sorted(answer.status_code for answer in answers) == [201, 201, *[409] * 6]
    assert len(await collaborators(busbar, alice, made["id"])) == 3
    assert len(await notices(busbar, eve, 1)) == 1


async def test_an_invited_address_is_shown_to_the_owner_only(busbar: Running, alice: Person) -> None:
    made = await project(busbar, alice)
    viewer = await member(busbar, alice, made["id"], "vera", "viewer")
    path = f"/api/projects/{made['id']}/collaborators"
    body = {"email": "New@Example.com", "role": "viewer"}
    invited = (await busbar.http(alice.session).post(path, json=body)).json()
    assert (invited["userId"], invited["username"], invited["displayName"]) == (None, None, "new@example.com")
    assert (invited["status"], invited["joinedAt"], invited["role"]) == ("invited", None, "viewer")
    assert (await collaborators(busbar, alice, made["id"]))[2] == invited
    seen = (await collaborators(busbar, viewer, made["id"]))[2]
    assert seen == {**invited, "displayName": "invited"}


async def test_an_invitation_is_resolved_by_registering(busbar: Running, alice: Person, bench: Any) -> None:
    one, two = await project(busbar, alice, "One"), await project(busbar, alice, "Two")
    await attach(busbar, alice, one["id"], bench.id)
    http = busbar.http(alice.session)
    for made, role in ((one, "editor"), (two, "viewer")):
        body = {"email": "new@example.com", "role": role}
        await http.post(f"/api/projects/{made['id']}/collaborators", json=body)
    other = await member(busbar, alice, one["id"], "other", "viewer")
    assert (await busbar.http(other.session).get(f"/api/boards/{bench.id}")).status_code == 200
    new = await register(busbar, "new")
    joined = (await collaborators(busbar, new, one["id"]))[1]
    assert (joined["userId"], joined["username"], joined["status"]) == (new.id, "new", "active")
    assert joined["joinedAt"] is not None
    shared = (await busbar.http(new.session).get("/api/projects?scope=shared")).json()["projects"]
    assert {(entry["name"], entry["role"]) for entry in shared} == {("One", "editor"), ("Two", "viewer")}
    assert {notice["title"] for notice in await notices(busbar, new, 2)} == {
        "You are now an editor of One", "You are now a viewer of Two",
    }  # fmt: skip
    written = await busbar.http(new.session).put(f"/api/boards/{bench.id}/pins/1", json={"value": 1})
    assert written.status_code == 200


async def test_an_address_that_is_invited_while_it_registers_ends_as_collaborator(start: Start, database_url: str) -> None:
    busbar = await start(database=database_url)
    alice = await busbar.person("alice")
    made = await project(busbar, alice)
    path, http = f"/api/projects/{made['id']}/collaborators", busbar.http(alice.session)
    names = [f"new{number}" for number in range(6)]
    people, answers = await asyncio.gather(
        asyncio.gather(*(register(busbar, name) for name in names)),
        asyncio.gather(*(http.post(path, json={"email": f"{name}@example.com"}) for name in names)),
    )
    assert {answer.status_code for answer in answers} == {201}
    listed = await collaborators(busbar, alice, made["id"])
    assert {one["userId"] for one in listed[1:]} == {person.id for person in people}
    assert {one["status"] for one in listed} == {"active"}


async def test_a_role_is_changed_by_the_owner(busbar: Running, alice: Person) -> None:
    made = await project(busbar, alice)
    viewer = await member(busbar, alice, made["id"], "vera", "viewer")
    path = f"/api/projects/{made['id']}/collaborators/{viewer.id}"
    assert (await busbar.http(viewer.session).patch(path, json={"role": "editor"})).status_code == 403
    async with busbar.app.bus.subscribe(project_topic(made["id"]), policy=Policy.LAGGED, size=10) as events:
        for _ in range(2):
            answer = await busbar.http(alice.session).patch(path, json={"role": "editor"})
            assert (answer.status_code, answer.json()["role"]) == (200, "editor")
        assert [event for _, event in events.drain()] == [CollaboratorChanged(viewer.id, "editor")]
    assert (await busbar.http(viewer.session).patch(f"/api/projects/{made['id']}", json={"name": "x"})).status_code == 200
    for who, body, status in ((alice.id, {"role": "viewer"}, 404), (viewer.id, {"role": "owner"}, 400), (viewer.id, {}, 400)):
        answer = await busbar.http(alice.session).patch(f"/api/projects/{made['id']}/collaborators/{who}", json=body)
        assert answer.status_code == status


async def test_a_collaborator_leaves_and_takes_their_boards_along(busbar: Running, alice: Person, bench: Any) -> None:
    made = await project(busbar, alice)
    await attach(busbar, alice, made["id"], bench.id)
    editor = await member(busbar, alice, made["id"], "edith", "editor")
    viewer = await member(busbar, alice, made["id"], "vera", "viewer")
    board = await busbar.board(editor, "Hers")
    await attach(busbar, editor, made["id"], board.id)
    path = f"/api/projects/{made['id']}/collaborators"
    assert (await busbar.http(editor.session).delete(f"{path}/{viewer.id}")).status_code == 403
    async with busbar.app.bus.subscribe(project_topic(made["id"]), policy=Policy.LAGGED, size=10) as events:
        assert (await busbar.http(editor.session).delete(f"{path}/{editor.id}")).json() == {"ok": True}
        assert [event for _, event in events.drain()] == [BoardDetached(board.id, editor.id), CollaboratorRemoved(editor.id)]
    assert (await busbar.http(editor.session).get(f"/api/projects/{made['id']}")).status_code == 404
    assert (await busbar.http(viewer.session).get(f"/api/boards/{board.id}")).status_code == 404
    left = (await busbar.http(alice.session).get(f"/api/projects/{made['id']}/boards")).json()["boards"]
    assert [one["id"] for one in left] == [bench.id]
    assert (await busbar.http(alice.session).delete(f"{path}/{editor.id}")).status_code == 404


async def test_an_invitation_is_taken_back_by_its_id(busbar: Running, alice: Person) -> None:
    made = await project(busbar, alice)
    path, http = f"/api/projects/{made['id']}/collaborators", busbar.http(alice.session)
    invited = (await http.post(path, json={"email": "new@example.com"})).json()
    assert (await http.patch(f"{path}/{invited['id']}", json={"role": "viewer"})).json()["role"] == "viewer"
    assert (await http.delete(f"{path}/{invited['id']}")).status_code == 200
    new = await register(busbar, "new")
    assert (await busbar.http(new.session).get(f"/api/projects/{made['id']}")).status_code == 404


@pytest.mark.parametrize("door", ["grpc", "rest"])
async def test_collaborators_are_kept_at_each_door(busbar: Running, alice: Person, eve: Person, door: str) -> None:
    made = await project(busbar, alice)
    client = busbar.client(door, alice.session)
    added = await client.call("CollaboratorService.AddCollaborator", project_id=made["id"], username="eve", role="viewer")
    assert (added.user_id, added.role) == (eve.id, "viewer")
    hers = await busbar.client(door, eve.session).call("CollaboratorService.ListCollaborators", project_id=made["id"])
    assert [one.username for one in hers.collaborators] == ["alice", "eve"]
    await client.call("CollaboratorService.RemoveCollaborator", project_id=made["id"], user_id=eve.id)
    with pytest.raises(Refused, match="not found"):
        await busbar.client(door, eve.session).call("ProjectService.GetProject", project_id=made["id"])


class Pause:
    """Holds an async method up, as a slow database would, until the test lets it go on."""

    def __init__(self, patch: pytest.MonkeyPatch, owner: type, name: str) -> None:
        self.reached, self.go_on = asyncio.Event(), asyncio.Event()
        whole = getattr(owner, name)

        async def slow(*args: Any, **named: Any) -> Any:
            self.reached.set()
            await self.go_on.wait()
            return await whole(*args, **named)

        patch.setattr(owner, name, slow)


async def waits_for_a_lock(busbar: Running, task: asyncio.Task[Any]) -> None:
    """Return once somebody waits for another's lock; the task that is meant must not end before."""
    async with asyncio.timeout(20):
        while True:
            assert not task.done(), task
            async with busbar.app.database.read() as session:
                waiting = text(
                    "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
                )
                if (await (await session.connection()).execute(waiting)).scalar_one():
                    return
            await asyncio.sleep(0.01)


WRITES = {
    "a document": ("put", "wiring", {"data": {"wires": []}}),
    "a field": ("patch", "", {"description": "mine"}),
    "an attachment": ("delete", "boards/none", None),
}


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
async def test_whoever_is_being_removed_changes_nothing_any_more(
    start: Start, postgres: Postgres, monkeypatch: pytest.MonkeyPatch, write: tuple[str, str, Any]
) -> None:
    busbar = await start(database=await postgres.migrated())
    alice = await busbar.person("alice")
    made = await project(busbar, alice)
    eve = await member(busbar, alice, made["id"], "eve", "editor")
    path, (method, part, body) = f"/api/projects/{made['id']}", write
    removal = Pause(monkeypatch, Attachments, "detach")
    removed = asyncio.create_task(busbar.http(alice.session).delete(f"{path}/collaborators/{eve.id}"))
    await asyncio.wait_for(removal.reached.wait(), 20)
    changed = asyncio.create_task(busbar.http(eve.session).request(method, f"{path}/{part}".rstrip("/"), json=body))
    await waits_for_a_lock(busbar, changed)
    removal.go_on.set()
    assert [(await removed).status_code, (await changed).status_code] == [200, 404]
    assert (await busbar.http(alice.session).get(path)).json()["description"] == ""
    assert (await busbar.http(alice.session).get(f"{path}/wiring")).json()["revision"] == 0


async def test_a_removal_waits_for_the_save_that_has_begun(
    start: Start, postgres: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    busbar = await start(database=await postgres.migrated())
    alice = await busbar.person("alice")
    made = await project(busbar, alice)
    eve = await member(busbar, alice, made["id"], "eve", "editor")
    path = f"/api/projects/{made['id']}"
    save = Pause(monkeypatch, Documents, "save")
    saved = asyncio.create_task(busbar.http(eve.session).put(f"{path}/wiring", json={"data": {"wires": []}}))
    await asyncio.wait_for(save.reached.wait(), 20)
    removed = asyncio.create_task(busbar.http(alice.session).delete(f"{path}/collaborators/{eve.id}"))
    await waits_for_a_lock(busbar, removed)
    save.go_on.set()
    assert [(await saved).status_code, (await removed).status_code] == [200, 200]
    assert (await busbar.http(alice.session).get(f"{path}/wiring")).json()["revision"] == 1
    assert (await busbar.http(eve.session).put(f"{path}/wiring", json={"data": {}})).status_code == 404
