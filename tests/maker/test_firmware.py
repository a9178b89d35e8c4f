"""The firmware of projects: one source or many files, for members only."""

from __future__ import annotations

from typing import Any

import pytest

from core.maker.access import Role
from tests.conftest import Person, Running
from tests.doors import Refused
from tests.maker.projects import make_project

MEMBERS = {"projectId", "language", "entry", "files", "source", "revision", "updatedBy", "updatedAt"}
SKETCH = "void setup() {}\nvoid loop() {}\n"


@pytest.fixture
async def project(busbar: Running, alice: Person) -> str:
    return await make_project(busbar, alice)


async def test_firmware_that_was_never_saved_is_404(busbar: Running, alice: Person, project: str) -> None:
    answer = await busbar.http(alice.session).get(f"/api/projects/{project}/firmware")
    assert (answer.status_code, answer.json()) == (404, {"error": "no firmware saved"})


async def test_a_source_is_the_entry_file(busbar: Running, alice: Person, project: str) -> None:
    client, path = busbar.http(alice.session), f"/api/projects/{project}/firmware"
    saved = await client.put(path, json={"source": SKETCH})
    assert (saved.status_code, saved.headers["etag"], set(saved.json())) == (200, '"1"', MEMBERS)
    body = (await client.get(path)).json()
    assert body == saved.json()
    assert (body["language"], body["entry"], body["source"]) == ("arduino", "main.ino", SKETCH)
    assert (body["files"], body["updatedBy"]) == ([{"path": "main.ino", "content": SKETCH}], alice.id)
    assert (await client.put(path, json={"source": ""})).json()["files"] == [{"path": "main.ino", "content": ""}]


async def test_files_come_back_in_their_order(busbar: Running, alice: Person, project: str) -> None:
    client, path = busbar.http(alice.session), f"/api/projects/{project}/firmware"
    files = [{"path": "lib/näh.h", "content": "// a"}, {"path": "main.py", "content": "print()"}]
    body = {"files": files, "entry": "main.py", "language": "micropython"}
    saved = await client.put(path, json={**body, "unknown": 1})
    assert saved.status_code == 200
    assert (saved.json()["files"], saved.json()["source"], saved.json()["entry"]) == (files, "print()", "main.py")
    assert (await client.put(path, json={"files": files, "entry": "main.py", "language": "micropython"})).json()[
        "revision"
    ] == 1


@pytest.mark.parametrize(
    ("body", "name"),
    [
        ({}, "source"),
        ({"files": []}, "source"),
        ({"source": "x", "files": [{"path": "main.ino", "content": ""}]}, "source"),
        ({"source": 5}, "source"),
        ({"source": "x", "language": "cobol"}, "language"),
        ({"source": "x", "entry": "../main.ino"}, "entry"),
        ({"source": "x", "entry": ""}, "entry"),
        ({"source": "x", "baseRevision": "y"}, "baseRevision"),
        ({"files": [{"path": "a.ino", "content": ""}]}, "entry"),
        ({"files": [{"path": "a", "content": ""}, {"path": "a", "content": ""}], "entry": "a"}, "files"),
        ({"files": [{"path": f"f{i}", "content": ""} for i in range(65)], "entry": "f0"}, "files"),
        *(
            ({"files": [{"path": path, "content": ""}], "entry": "main.ino"}, "files[0].path")
            for path in ("", "/etc/passwd", "../x", "a/../b", "a//b", "a/", "./a", "..", "a\\b", "C:/x", "a\nb", "x" * 201)
        ),
    ],
)
async def test_bad_firmware_is_400_by_name(busbar: Running, alice: Person, project: str, body: object, name: str) -> None:
    client, path = busbar.http(alice.session), f"/api/projects/{project}/firmware"
    answer = await client.put(path, json=body)
    assert answer.status_code == 400
    assert answer.json()["error"].startswith(f"{name}: ")
    assert (await client.get(path)).status_code == 404


async def test_firmware_takes_1_mib_and_no_more(busbar: Running, alice: Person, project: str) -> None:
    client, path = busbar.http(alice.session), f"/api/projects/{project}/firmware"
    files = [{"path": "main.ino", "content": "\x01" * 1_000_000}, {"path": "b", "content": "é" * 24_288}]
    assert (await client.put(path, json={"files": files})).status_code == 200
    files[1]["content"] += "x"
    for body in ({"files": files}, {"source": "x" * 8_000_000}):
        assert (await client.put(path, json=body)).status_code == 413
    assert (await client.get(path)).json()["revision"] == 1


async def test_revisions_of_firmware_are_guarded(busbar: Running, alice: Person, project: str) -> None:
    client, path = busbar.http(alice.session), f"/api/projects/{project}/firmware"
    assert (await client.put(path, json={"source": "1", "baseRevision": 1})).status_code == 409
    assert (await client.put(path, json={"source": "1", "baseRevision": 0})).status_code == 200
    assert (await client.put(path, json={"source": "2", "baseRevision": 0})).status_code == 409
    assert (await client.put(path, json={"source": "2"}, headers={"If-Match": '"0"'})).status_code == 412
    assert (await client.put(path, json={"source": "2"}, headers={"If-Match": '"1"'})).json()["revision"] == 2


async def test_only_members_see_firmware(busbar: Running, alice: Person, eve: Person) -> None:
    viewer = await busbar.person("viewer")
    for visibility, stranger in (("private", 404), ("unlisted", 403), ("public", 403)):
        project = await make_project(busbar, alice, visibility=visibility, **{viewer.id: Role.VIEWER})
        path = f"/api/projects/{project}/firmware"
        await busbar.http(alice.session).put(path, json={"source": "secret"})
        assert (await busbar.http(viewer.session).get(path)).json()["source"] == "secret"
        assert (await busbar.http(viewer.session).put(path, json={"source": "x"})).status_code == 403
        for send in (busbar.http(eve.session).get(path), busbar.http(eve.session).put(path, json={"source": "x"})):
            answer = await send
            assert answer.status_code == stranger
            assert "secret" not in answer.text


@pytest.mark.parametrize("door", ["grpc", "rest"])
async def test_every_door_serves_firmware(busbar: Running, alice: Person, project: str, door: str) -> None:
    client: Any = busbar.client(door, alice.session)
    with pytest.raises(Refused) as refused:
        await client.call("FirmwareService.GetFirmware", project_id=project)
    assert refused.value.code == "NOT_FOUND"
    saved = await client.call("FirmwareService.SaveFirmware", project_id=project, source="x")
    assert (await client.call("FirmwareService.GetFirmware", project_id=project)) == saved
    with pytest.raises(Refused) as refused:
        await client.call("FirmwareService.SaveFirmware", project_id=project, source="y", base_revision=0)
    assert refused.value.code == "CONFLICT"
