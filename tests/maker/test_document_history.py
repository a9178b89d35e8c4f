"""Documents by kind, as agents use them, and their revisions."""

from __future__ import annotations

import json
from typing import Any

import jsonpatch
import pytest

from core.maker.access import Role
from gen.busbar.api.v1.options_pb import CredentialKind
from tests.conftest import Person, Running
from tests.doors import Refused
from tests.maker.projects import make_project

KINDS = ("firmware", "wiring", "pcb", "case", "widgets")
EMPTY = {"firmware": {}, "wiring": {}, "pcb": {}, "case": {}, "widgets": {"widgets": []}}
CONTENTS: dict[str, list[dict[str, Any]]] = {
    "firmware": [{"files": [{"path": "main.ino", "content": text}]} for text in ("a", "b", "c")],
    "widgets": [{"widgets": [{"id": "w", "type": "LED", "x": x}]} for x in (1, 2, 3)],
    **{kind: [{"nodes": list(range(n))} for n in (1, 2, 3)] for kind in ("wiring", "pcb", "case")},
}


@pytest.fixture
async def project(busbar: Running, alice: Person) -> str:
    return await make_project(busbar, alice)


async def holds(client: Any, door: str, project: str, kind: str) -> Any:
    found = await client.call("DocumentHistoryService.ReadDocument", project_id=project, kind=kind)
    return json.loads(found.content)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("door", ["grpc", "rest", "mcp"])
async def test_agents_read_a_document_and_save_it_from_what_they_read(
    busbar: Running, alice: Person, project: str, door: str, kind: str
) -> None:
    key = await busbar.key(alice, CredentialKind.AGENT_KEY, "projects:read", "projects:write")
    client = busbar.client(door, key if door == "mcp" else alice.session)
    content: Any = CONTENTS[kind][0]
    read = await client.call("DocumentHistoryService.ReadDocument", project_id=project, kind=kind)
    assert (read.revision, json.loads(read.content)) == (0, EMPTY[kind])
    names = {"project_id": project, "kind": kind}
    saved = await client.call("DocumentHistoryService.SaveDocument", **names, content=content, base_revision=0)
    assert (saved.revision, saved.updated_by) == (1, alice.id)
    assert content.items() <= json.loads(saved.content).items() or kind == "widgets"
    with pytest.raises(Refused, match=f"{kind} is at revision 1, not 0"):
        await client.call("DocumentHistoryService.SaveDocument", **names, content=content, base_revision=0)
    again = await client.call("DocumentHistoryService.ReadDocument", **names)
    assert again == saved


async def test_what_an_agent_saves_is_what_the_editors_open(busbar: Running, alice: Person, project: str) -> None:
    client = busbar.http(alice.session)
    await client.put(f"/api/projects/{project}/wiring", json={"data": {"n": 1}, "schemaVersion": 4})
    path = f"/api/projects/{project}/documents/wiring"
    saved = await client.put(path, json={"content": {"n": 2}})
    assert (saved.status_code, saved.headers["etag"], saved.json()["schemaVersion"]) == (200, '"2"', 4)
    opened = (await client.get(f"/api/projects/{project}/wiring")).json()
    assert (opened["data"], opened["schemaVersion"], opened["revision"]) == ({"n": 2}, 4, 2)
    assert (await client.put(path, json={"content": {"n": 2}, "schemaVersion": 5})).json()["revision"] == 3
    stale = await client.put(path, json={"content": {}}, headers={"If-Match": '"2"'})
    assert stale.status_code == 412


@pytest.mark.parametrize(
    ("kind", "body", "name"),
    [
        ("wiring", {}, "content"),
        ("wiring", {"content": []}, "content"),
        ("wiring", {"content": {}, "schemaVersion": 0}, "schemaVersion"),
        ("firmware", {"content": {}}, "source"),
        ("firmware", {"content": {"source": "x"}, "schemaVersion": 2}, "schemaVersion"),
        ("firmware", {"content": {"files": [{"path": "../a", "content": ""}]}}, "files[0].path"),
        ("widgets", {"content": {}}, "widgets"),
        ("widgets", {"content": {"widgets": [{"type": "led"}]}}, "widgets[0].type"),
        ("widgets", {"content": {"widgets": [7]}}, "widgets[0]"),
        ("music", {"content": {}}, "kind"),
    ],
)
async def test_a_bad_document_is_400_by_name(
    busbar: Running, alice: Person, project: str, kind: str, body: object, name: str
) -> None:
    answer = await busbar.http(alice.session).put(f"/api/projects/{project}/documents/{kind}", json=body)
    assert answer.status_code == 400
    assert answer.json()["error"].startswith(f"{name}: ")


@pytest.mark.parametrize("kind", KINDS)
async def test_revisions_are_listed_read_compared_and_restored(busbar: Running, alice: Person, project: str, kind: str) -> None:
    client, path = busbar.http(alice.session), f"/api/projects/{project}/documents/{kind}"
    for content in CONTENTS[kind]:
        assert (await client.put(path, json={"content": content})).status_code == 200
    first = (await client.get(f"{path}/revisions?limit=2")).json()
    rest = (await client.get(f"{path}/revisions", params={"cursor": first["nextCursor"]})).json()
    assert [one["revision"] for one in first["revisions"] + rest["revisions"]] == [3, 2, 1]
    assert rest["nextCursor"] is None
    assert {one["updatedBy"] for one in first["revisions"]} == {alice.id}
    contents = [(await client.get(f"{path}/revisions/{number}")).json()["content"] for number in (1, 2, 3)]
    assert len({json.dumps(content) for content in contents}) == 3
    for query, start, number in (("", contents[1], 3), ("?base=1", contents[0], 3), ("?base=0", EMPTY[kind], 2)):
        told = (await client.get(f"{path}/revisions/{number}/diff{query}")).json()
        assert jsonpatch.apply_patch(start, told["patch"]) == contents[number - 1]
        assert told["toRevision"] == number
    assert (await client.post(f"{path}/revisions/1/restore", json={"baseRevision": 2})).status_code == 409
    back = await client.post(f"{path}/revisions/1/restore")
    assert (back.status_code, back.json()["revision"], back.json()["restoredFrom"]) == (200, 4, 1)
    assert (await client.get(path)).json()["content"] == contents[0]
    assert (await client.get(f"{path}/revisions")).json()["revisions"][0]["restoredFrom"] == 1


async def test_a_revision_that_there_is_not_is_404(busbar: Running, alice: Person, project: str) -> None:
    client, path = busbar.http(alice.session), f"/api/projects/{project}/documents/wiring/revisions"
    assert (await client.get(path)).json() == {"revisions": [], "nextCursor": None}
    for number in (0, 1, -1, 2_000_000_000):
        for answer in (
            await client.get(f"{path}/{number}"),
            await client.get(f"{path}/{number}/diff"),
            await client.post(f"{path}/{number}/restore"),
        ):
            assert (answer.status_code, answer.json()) == (404, {"error": f"wiring has no revision {number}"})
    assert (await client.get(path, params={"cursor": "!!"})).status_code == 400


async def test_history_is_for_members_and_restoring_for_editors(busbar: Running, alice: Person, eve: Person) -> None:
    viewer = await busbar.person("viewer")
    project = await make_project(busbar, alice, visibility="public", **{viewer.id: Role.VIEWER})
    path = f"/api/projects/{project}/documents/wiring"
    for number in (1, 2):
        await busbar.http(alice.session).put(path, json={"content": {"n": number}})
    reading = ["revisions", "revisions/1", "revisions/2/diff"]
    for person, status in ((alice, 200), (viewer, 200), (eve, 403)):
        client = busbar.http(person.session)
        assert {(await client.get(f"{path}/{part}")).status_code for part in reading} == {status}
        assert (await client.get(path)).status_code == 200
    for person in (viewer, eve):
        assert (await busbar.http(person.session).post(f"{path}/revisions/1/restore")).status_code == 403
        assert (await busbar.http(person.session).put(path, json={"content": {}})).status_code == 403
    hidden = await busbar.http(eve.session).get(f"/api/projects/{project}/documents/firmware")
    assert hidden.status_code == 403
    private = await make_project(busbar, alice)
    for part in ("", *(f"/{part}" for part in reading)):
        assert (await busbar.http(eve.session).get(f"/api/projects/{private}/documents/wiring{part}")).status_code == 404


async def test_a_key_without_the_write_scope_only_reads(busbar: Running, alice: Person, project: str) -> None:
    key = await busbar.key(alice, CredentialKind.AGENT_KEY, "projects:read")
    client = busbar.client("mcp", key)
    await client.call("DocumentHistoryService.ReadDocument", project_id=project, kind="wiring")
    with pytest.raises(Refused, match="insufficient scope: projects:write required"):
        await client.call("DocumentHistoryService.SaveDocument", project_id=project, kind="wiring", content={})
