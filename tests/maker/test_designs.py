"""Wiring, circuit board and case of projects: lenient bodies, revisions, and who may do what."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from core.documents.documents import Documents
from core.maker.access import Role
from core.maker.tables import ProjectRow
from tests.conftest import Person, Running, Start
from tests.databases import database_url, postgres
from tests.doors import Refused
from tests.maker.projects import make_project

__all__ = ["database_url", "postgres"]

KINDS = ("wiring", "pcb", "case")
MEMBERS = {"projectId", "kind", "schemaVersion", "data", "revision", "updatedBy", "updatedAt"}


@pytest.fixture
async def project(busbar: Running, alice: Person) -> str:
    return await make_project(busbar, alice)


@pytest.mark.parametrize("kind", KINDS)
async def test_a_design_that_was_never_saved_is_empty(busbar: Running, alice: Person, project: str, kind: str) -> None:
    answer = await busbar.http(alice.session).get(f"/api/projects/{project}/{kind}")
    assert (answer.status_code, answer.headers["etag"]) == (200, '"0"')
    assert answer.json() == {
        "projectId": project, "kind": kind, "schemaVersion": 1, "data": {}, "revision": 0, "updatedBy": None, "updatedAt": None,
    }  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
async def test_what_is_saved_comes_back_with_its_revision(busbar: Running, alice: Person, project: str, kind: str) -> None:
    client, path = busbar.http(alice.session), f"/api/projects/{project}/{kind}"
    data = {"nodes": [{"x": 1.5, "on": True, "big": 9007199254740993, "none": None}], "Ünï code/~": {}}
    saved = await client.put(path, json={"data": data, "schemaVersion": 3})
    assert (saved.status_code, saved.headers["etag"], set(saved.json())) == (200, '"1"', MEMBERS)
    read = (await client.get(path)).json()
    assert read == saved.json()
    assert (read["data"], read["schemaVersion"], read["revision"], read["updatedBy"]) == (data, 3, 1, alice.id)
    assert (await client.put(path, json={"data": {"other": 1}})).json()["revision"] == 2
    for other in set(KINDS) - {kind}:
        assert (await client.get(f"/api/projects/{project}/{other}")).json()["revision"] == 0


@pytest.mark.parametrize(
    ("body", "data", "version"),
    [
        ({"nodes": [1], "schemaVersion": 2}, {"nodes": [1]}, 2),
        ({"nodes": [1], "baseRevision": 0}, {"nodes": [1]}, 1),
        ({"projectId": "mine", "kind": "x", "revision": 7}, {"projectId": "mine", "kind": "x", "revision": 7}, 1),
        ({"data": None, "a": 1}, {"a": 1}, 1),
        ({"data": {"a": 1}, "revision": 7, "kind": "wiring"}, {"a": 1}, 1),
        ({}, {}, 1),
    ],
)
async def test_a_body_without_data_is_the_document(
    busbar: Running, alice: Person, project: str, body: dict[str, Any], data: object, version: int
) -> None:
    answer = await busbar.http(alice.session).put(f"/api/projects/{project}/wiring", json=body)
    assert answer.status_code == 200
    assert (answer.json()["data"], answer.json()["schemaVersion"]) == (data, version)


async def test_the_same_content_keeps_the_revision(busbar: Running, alice: Person, project: str) -> None:
    client, path = busbar.http(alice.session), f"/api/projects/{project}/pcb"
    await client.put(path, json={"data": {"a": 1, "b": 2}})
    assert (await client.put(path, content='{ "b": 2.0, "a": 1 }')).json()["revision"] == 1
    assert (await client.put(path, json={"data": {"a": 1, "b": 2}, "schemaVersion": 2})).json()["revision"] == 2


async def test_a_stale_base_is_409_and_a_stale_if_match_is_412(busbar: Running, alice: Person, project: str) -> None:
    client, path = busbar.http(alice.session), f"/api/projects/{project}/case"
    await client.put(path, json={"data": {"n": 1}})
    await client.put(path, json={"data": {"n": 2}})
    stale = await client.put(path, json={"data": {"n": 3}, "baseRevision": 1})
    assert (stale.status_code, stale.json()) == (409, {"error": "case is at revision 2, not 1"})
    assert (await client.put(path, json={"data": {"n": 3}}, headers={"If-Match": '"1"'})).status_code == 412
    both = await client.put(path, json={"data": {"n": 3}, "baseRevision": 1}, headers={"If-Match": '"2"'})
    assert both.status_code == 409
    assert (await client.get(path)).json()["data"] == {"n": 2}
    assert (await client.put(path, json={"data": {"n": 3}, "baseRevision": 2}, headers={"If-Match": '"2"'})).status_code == 200
    assert (await client.put(path, json={"data": {"n": 4}}, headers={"If-Match": "*"})).json()["revision"] == 4


async def test_who_has_the_present_revision_gets_no_body(busbar: Running, alice: Person, project: str) -> None:
    client, path = busbar.http(alice.session), f"/api/projects/{project}/case"
    await client.put(path, json={"data": {"n": 1}})
    for tags in ('"1"', '"7", W/"1"', "*"):
        same = await client.get(path, headers={"If-None-Match": tags})
        assert (same.status_code, same.content, same.headers["etag"]) == (304, b"", '"1"')
    assert (await client.get(path, headers={"If-None-Match": '"0"'})).status_code == 200
    assert (await client.put(path, json={"data": {"n": 2}}, headers={"If-None-Match": '"2"'})).status_code == 200


@pytest.mark.parametrize(
    ("body", "name"),
    [
        ({"data": []}, "data"),
        ({"data": 5}, "data"),
        ({"data": {}, "schemaVersion": 0}, "schemaVersion"),
        ({"data": {}, "schemaVersion": "x"}, "schemaVersion"),
        ({"data": {}, "baseRevision": -1}, "baseRevision"),
    ],
)
async def test_a_bad_design_is_400_by_name(busbar: Running, alice: Person, project: str, body: object, name: str) -> None:
    client = busbar.http(alice.session)
    answer = await client.put(f"/api/projects/{project}/wiring", json=body)
    assert answer.status_code == 400
    assert answer.json()["error"].startswith(f"{name}: ")
    assert (await client.get(f"/api/projects/{project}/wiring")).json()["revision"] == 0


@pytest.mark.parametrize("body", ["[]", "5", "nonsense", '{"data": NaN}'])
async def test_what_is_no_json_object_is_400(busbar: Running, alice: Person, project: str, body: str) -> None:
    answer = await busbar.http(alice.session).put(f"/api/projects/{project}/wiring", content=body)
    assert answer.status_code == 400


def nested(levels: int) -> dict[str, Any]:
    document: dict[str, Any] = {}
    for _ in range(levels - 1):
        document = {"a": document}
    return document


async def test_designs_are_64_levels_deep_at_most(busbar: Running, alice: Person, project: str) -> None:
    client, grpc = busbar.http(alice.session), busbar.client("grpc", alice.session)
    path = f"/api/projects/{project}/wiring"
    saved = await client.put(path, json={"data": nested(64)}, headers={"Idempotency-Key": "deep"})
    assert saved.status_code == 200
    assert json.loads((await grpc.call("DesignService.GetWiring", project_id=project)).data) == nested(64)
    for levels in (65, 150, 400, 5000):
        text = '{"a":' * (levels - 1) + "{}" + "}" * (levels - 1)
        assert (await client.put(path, content=f'{{"data":{text}}}')).status_code == 400
    with pytest.raises(Refused, match="nested more than 64 levels"):
        await grpc.call("DesignService.SaveWiring", project_id=project, data=nested(65))
    assert (await client.get(path)).json()["revision"] == 1


async def test_a_design_takes_2_mib_and_no_more(busbar: Running, alice: Person, project: str) -> None:
    client, path = busbar.http(alice.session), f"/api/projects/{project}/wiring"
    most = 2_097_152 - len('{"t":""}')
    assert (await client.put(path, json={"data": {"t": "x" * most}})).status_code == 200
    for size in (most + 1, 5_000_000):
        assert (await client.put(path, json={"data": {"t": "x" * size}})).status_code == 413
    assert len((await client.get(path)).json()["data"]["t"]) == most


async def test_of_concurrent_saves_from_one_revision_one_wins(start: Start, database_url: str) -> None:
    busbar = await start(database=database_url)
    alice = await busbar.person("alice")
    project = await make_project(busbar, alice)
    client, path = busbar.http(alice.session), f"/api/projects/{project}/wiring"
    answers = await asyncio.gather(*(client.put(path, json={"data": {"n": number}, "baseRevision": 0}) for number in range(10)))
    assert sorted(answer.status_code for answer in answers) == [200] + [409] * 9
    won = next(answer for answer in answers if answer.status_code == 200)
    assert (await client.get(path)).json() == won.json()
    # Saves that name no revision, of all kinds at once, while the project is deleted: each is done or finds no project.
    answers = await asyncio.gather(
        *(client.put(f"/api/projects/{project}/{kind}", json={"n": number}) for number in range(8) for kind in KINDS),
        client.delete(f"/api/projects/{project}"),
    )
    assert {answer.status_code for answer in answers} <= {200, 404}
    async with busbar.app.database.read() as session:
        assert await Documents().revisions(session, project) == {}


async def test_roles_decide_who_reads_and_who_saves(busbar: Running, alice: Person, eve: Person) -> None:
    editor, viewer = await busbar.person("editor"), await busbar.person("viewer")
    roles = {editor.id: Role.EDITOR, viewer.id: Role.VIEWER}
    for visibility, stranger in (("private", (404, 404)), ("unlisted", (200, 403)), ("public", (200, 403))):
        project = await make_project(busbar, alice, visibility=visibility, **roles)
        for person, statuses in ((alice, (200, 200)), (editor, (200, 200)), (viewer, (200, 403)), (eve, stranger)):
            client, path = busbar.http(person.session), f"/api/projects/{project}/wiring"
            found = ((await client.get(path)).status_code, (await client.put(path, json={"by": person.id})).status_code)
            assert found == statuses
        saved = (await busbar.http(alice.session).get(path)).json()
        assert (saved["data"], saved["revision"], saved["updatedBy"]) == ({"by": editor.id}, 2, editor.id)
        assert (await busbar.http().get(path)).status_code == 401
    unknown = await busbar.http(alice.session).get("/api/projects/nothing/wiring")
    assert (unknown.status_code, unknown.json()) == (404, {"error": "project nothing not found"})


async def test_a_save_moves_the_project_to_the_front(busbar: Running, alice: Person, project: str) -> None:
    async def changed() -> int:
        async with busbar.app.database.read() as session:
            row = await session.get(ProjectRow, project)
            assert row is not None
            return row.updated_us

    client, path = busbar.http(alice.session), f"/api/projects/{project}/wiring"
    before = await changed()
    busbar.clock.forward(seconds=5)
    await client.put(path, json={"n": 1})
    after = await changed()
    assert after >= before + 5_000_000
    busbar.clock.forward(seconds=5)
    await client.put(path, json={"n": 1})
    assert await changed() == after


async def test_designs_outlive_a_restart(start: Start) -> None:
    busbar = await start()
    alice = await busbar.person()
    project = await make_project(busbar, alice)
    await busbar.http(alice.session).put(f"/api/projects/{project}/wiring", json={"n": 1})
    again = await start()
    read = await again.http(alice.session).get(f"/api/projects/{project}/wiring")
    assert (read.json()["data"], read.json()["revision"]) == ({"n": 1}, 1)
