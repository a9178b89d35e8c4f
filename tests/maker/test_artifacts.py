"""Firmware artifacts, over REST and gRPC: streamed to disk, whole or not at all, and only for members of their project."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from core.kernel.settings import Quotas
from core.maker.artifacts import MOST_BYTES
from gen.busbar.api.v1.options_pb import CredentialKind
from tests.conftest import Person, Running, Start
from tests.doors import Refused
from tests.maker.workshop import OCTETS, chunked, path_of, post, project, send_chunks, upload

MEMBERS = {"id", "projectId", "version", "boardType", "sha256", "size", "createdAt"}


def files(busbar: Running) -> list[Path]:
    """Return all files of artifacts, whole or not."""
    return [path for path in (busbar.app.settings.data / "artifacts").rglob("*") if path.is_file()]


async def pieces(data: bytes, size: int = 100_000) -> AsyncIterator[bytes]:
    """Yield some bytes as a client without a Content-Length sends them."""
    for start in range(0, len(data), size):
        yield data[start : start + size]


async def test_an_artifact_is_stored_as_it_came_with_its_digest(busbar: Running, alice: Person) -> None:
    data = os.urandom(300_000)
    where = await project(busbar, alice)
    answer = await post(busbar, alice, where, data, version="1.2.0", boardType="esp32-c3")
    body = answer.json()
    assert (answer.status_code, set(body)) == (201, MEMBERS)
    assert answer.headers["location"] == f"{path_of(where)}/{body['id']}"
    expected = {"projectId": where, "version": "1.2.0", "boardType": "esp32-c3", "size": 300_000}
    assert expected.items() <= body.items()
    assert body["sha256"] == hashlib.sha256(data).hexdigest()
    assert [path.read_bytes() for path in files(busbar)] == [data]
    assert (await busbar.http(alice.session).get(answer.headers["location"])).json() == body


@pytest.mark.parametrize("kind", ["application/octet-stream", "application/json", "text/plain", None])
async def test_the_type_of_the_body_does_not_matter(busbar: Running, alice: Person, kind: str | None) -> None:
    headers = {} if kind is None else {"Content-Type": kind}
    answer = await busbar.http(alice.session, **headers).post(path_of(await project(busbar, alice)), content=b'{"a": 1}')
    assert answer.json()["size"] == 8
    assert (answer.json()["version"], answer.json()["boardType"]) == (None, "esp8266")


async def test_the_largest_artifact_fits_and_one_byte_more_leaves_nothing(busbar: Running, alice: Person) -> None:
    where = await project(busbar, alice)
    largest = b"\xa5" * MOST_BYTES
    assert (await upload(busbar, alice, where, largest))["size"] == MOST_BYTES
    kept = files(busbar)
    for body in (largest + b"x", pieces(largest + b"x")):
        answer = await post(busbar, alice, where, body)
        assert answer.status_code == 413
        assert set(answer.json()) == {"error"}
    assert files(busbar) == kept
    assert len((await busbar.http(alice.session).get(path_of(where))).json()["artifacts"]) == 1


async def test_chunks_over_grpc_make_the_same_artifact(busbar: Running, alice: Person) -> None:
    where = await project(busbar, alice)
    made = await send_chunks(busbar, alice.session, chunked(where, b"firm", b"", b"ware", version="2"))
    rest = await upload(busbar, alice, where, b"firmware", version="2")
    assert (made.sha256, made.size, made.version, made.board_type) == (rest["sha256"], 8, "2", "esp8266")
    assert len(files(busbar)) == 1


async def test_too_much_over_grpc_leaves_nothing(busbar: Running, alice: Person) -> None:
    where = await project(busbar, alice)
    with pytest.raises(Refused, match="RESOURCE_EXHAUSTED"):
        await send_chunks(busbar, alice.session, chunked(where, *[b"\0" * 4_194_304] * 4, b"x"))
    assert files(busbar) == []


async def test_an_empty_artifact_is_refused_by_name(busbar: Running, alice: Person) -> None:
    where = await project(busbar, alice)
    answer = await post(busbar, alice, where, b"")
    assert (answer.status_code, answer.json()["error"].partition(":")[0]) == (400, "body")
    with pytest.raises(Refused, match="INVALID_ARGUMENT"):
        await send_chunks(busbar, alice.session, chunked(where, b""))
    with pytest.raises(Refused, match="INVALID_ARGUMENT"):
        await send_chunks(busbar, alice.session, [])
    assert files(busbar) == []


async def test_a_version_that_is_too_long_is_refused_by_name(busbar: Running, alice: Person) -> None:
    answer = await post(busbar, alice, await project(busbar, alice), b"x", version="v" * 65)
    assert (answer.status_code, answer.json()["error"].partition(":")[0]) == (400, "version")
    assert files(busbar) == []


async def test_an_upload_that_is_cut_off_leaves_nothing(busbar: Running, alice: Person) -> None:
    where = await project(busbar, alice)
    begun = asyncio.Event()

    async def half() -> AsyncIterator[bytes]:
        yield b"a" * 200_000
        begun.set()
        await asyncio.Event().wait()

    task = asyncio.create_task(post(busbar, alice, where, half()))
    await begun.wait()
    async with asyncio.timeout(10):
        while not files(busbar):  # noqa: ASYNC110 - what another task writes to disk tells nobody
            await asyncio.sleep(0.01)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        while files(busbar):  # noqa: ASYNC110 - as above
            await asyncio.sleep(0.01)
    assert (await busbar.http(alice.session).get(path_of(where))).json()["artifacts"] == []


async def test_members_read_and_editors_write(busbar: Running, alice: Person, eve: Person) -> None:
    editor, viewer = await busbar.person("editor"), await busbar.person("viewer")
    where = await project(busbar, alice, visibility="public", editor=editor, viewer=viewer)
    made = await upload(busbar, editor, where)
    one = f"{path_of(where)}/{made['id']}"
    for reader in (alice, editor, viewer):
        assert (await busbar.http(reader.session).get(one)).json() == made
        assert (await busbar.http(reader.session).get(path_of(where))).json() == {"artifacts": [made], "nextCursor": None}
    for other, status in ((viewer, 403), (eve, 403)):
        assert (await post(busbar, other, where, b"x")).status_code == status
        assert (await busbar.http(other.session).delete(one)).status_code == status
    # To a stranger a public project shows no firmware, and a private one not even itself.
    assert (await busbar.http(eve.session).get(one)).status_code == 403
    hidden = await project(busbar, alice)
    answers = [await busbar.http(eve.session).get(path_of(hidden)), await post(busbar, eve, hidden, b"x")]
    assert [(a.status_code, a.json()) for a in answers] == [(404, {"error": f"project {hidden} not found"})] * 2


async def test_a_credential_and_its_scope_are_needed_before_a_byte_is_taken(busbar: Running, alice: Person) -> None:
    where = await project(busbar, alice)
    assert (await busbar.http(**OCTETS).post(path_of(where), content=b"x")).status_code == 401
    poor = await busbar.key(alice, CredentialKind.AGENT_KEY, "projects:read")
    assert (await busbar.http(poor, **OCTETS).post(path_of(where), content=b"x")).status_code == 401
    with pytest.raises(Refused, match="PERMISSION_DENIED"):
        await send_chunks(busbar, poor, chunked(where, b"x"))
    rich = await busbar.key(alice, CredentialKind.AGENT_KEY, "projects:write")
    assert (await send_chunks(busbar, rich, chunked(where, b"x"))).size == 1
    with pytest.raises(Refused, match="UNAUTHENTICATED"):
        await send_chunks(busbar, "nonsense", chunked(where, b"x"))


async def test_artifacts_are_listed_newest_first_in_pages(busbar: Running, alice: Person) -> None:
    where = await project(busbar, alice)
    made = [(await upload(busbar, alice, where, f"firmware {n}".encode()))["id"] for n in range(5)]
    for door in ("rest", "grpc"):
        client, found, cursor = busbar.client(door, alice.session), [], ""
        while True:
            page = await client.call("ArtifactService.ListArtifacts", project_id=where, limit=2, cursor=cursor)
            found += [artifact.id for artifact in page.artifacts]
            if not page.has_field("next_cursor"):
                break
            cursor = page.next_cursor
        assert found == made[::-1]
        with pytest.raises(Refused, match="invalid cursor"):
            await client.call("ArtifactService.ListArtifacts", project_id=where, cursor="!!!")


@pytest.mark.parametrize("door", ["rest", "grpc"])
async def test_equal_bytes_are_kept_until_their_last_artifact_goes(busbar: Running, alice: Person, door: str) -> None:
    where = await project(busbar, alice)
    made = [await upload(busbar, alice, where, b"same") for _ in range(2)]
    client = busbar.client(door, alice.session)
    for number, artifact in enumerate(made, 1):
        await client.call("ArtifactService.DeleteArtifact", project_id=where, artifact_id=artifact["id"])
        assert len(files(busbar)) == 2 - number
        with pytest.raises(Refused, match=f"artifact {artifact['id']} not found"):
            await client.call("ArtifactService.GetArtifact", project_id=where, artifact_id=artifact["id"])
        with pytest.raises(Refused, match="NOT_FOUND"):
            await client.call("ArtifactService.DeleteArtifact", project_id=where, artifact_id=artifact["id"])


async def test_an_artifact_of_another_project_is_not_found_there(busbar: Running, alice: Person) -> None:
    here, there = await project(busbar, alice), await project(busbar, alice)
    made = await upload(busbar, alice, here)
    assert (await busbar.http(alice.session).get(f"{path_of(there)}/{made['id']}")).status_code == 404


async def test_uploads_and_deletions_of_the_same_bytes_at_once_lose_none(busbar: Running, alice: Person) -> None:
    where = await project(busbar, alice)
    client = busbar.client("grpc", alice.session)

    async def come_and_go(*, stay: bool) -> None:
        made = await send_chunks(busbar, alice.session, chunked(where, b"same bytes"))
        if not stay:
            await client.call("ArtifactService.DeleteArtifact", project_id=where, artifact_id=made.id)

    await asyncio.gather(*(come_and_go(stay=number == 7) for number in range(12)))
    assert [path.read_bytes() for path in files(busbar)] == [b"same bytes"]
    assert len((await busbar.http(alice.session).get(path_of(where))).json()["artifacts"]) == 1


async def test_a_project_holds_no_more_than_its_quota(start: Start) -> None:
    busbar = await start(quotas=Quotas(artifacts=2))
    alice = await busbar.person("alice")
    where = await project(busbar, alice)
    answers = await asyncio.gather(*(post(busbar, alice, where, f"{number}".encode()) for number in range(2)))
    assert [answer.status_code for answer in answers] == [201, 201]
    refused = await post(busbar, alice, where, b"more")
    assert (refused.status_code, refused.json()) == (409, {"error": "the project holds 2 artifacts, the most is 2"})
    assert len(files(busbar)) == 2


async def test_what_a_crash_or_a_deleted_project_left_is_gone_after_a_restart(start: Start) -> None:
    first = await start()
    alice = await first.person("alice")
    where = await project(first, alice)
    made = await upload(first, alice, where, b"wanted")
    folder = first.app.settings.data / "artifacts"
    orphan = folder / "ab" / ("ab" * 32)
    half = folder / "incoming" / "in_1"
    for path in (orphan, half):
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"left")
    await first.server.stop(1)
    await first.app.close()
    second = await start()
    assert [path.name for path in files(second)] == [made["sha256"]]
    assert (await second.http(alice.session).get(f"{path_of(where)}/{made['id']}")).json() == made


async def test_the_document_describes_the_upload(busbar: Running) -> None:
    document: dict[str, Any] = (await busbar.http().get("/api/openapi.json")).json()
    operation = document["paths"]["/api/projects/{projectId}/firmware/artifacts"]["post"]
    assert {parameter["name"] for parameter in operation["parameters"]} >= {"projectId", "version", "boardType"}
    assert operation["x-plynx-extension"] is True
    assert operation["requestBody"]["content"] == {"*/*": {"schema": {"type": "string", "format": "binary"}}}
    assert {"201", "400", "401", "403", "404", "409", "413"} <= set(operation["responses"])


def test_httpx_sends_pieces_without_a_length() -> None:
    assert "content-length" not in httpx.Request("POST", "http://x", content=pieces(b"x")).headers
