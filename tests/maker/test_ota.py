"""Firmware on its way to boards: pushed over every door, offered over the socket, downloaded by the board, and ended once."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator
from typing import Any

import pytest
from sqlmodel import col, select

from core.maker.ota_jobs import LIFE_US
from core.maker.tables import NotificationRow
from gen.busbar.api.v1.options_pb import CredentialKind
from tests.conftest import Person, Running, Start
from tests.databases import Postgres, postgres
from tests.doors import Refused
from tests.maker.workshop import frame, path_of, project, say, socket_of, upload

__all__ = ["postgres"]

MEMBERS = {"id", "boardId", "artifactId", "version", "sha256", "size", "status", "error", "createdAt", "updatedAt"}
DAY = LIFE_US / 1_000_000


async def credential(busbar: Running, person: Person, door: str) -> str:
    """Return what somebody pushes firmware with at a door."""
    return await busbar.key(person, CredentialKind.AGENT_KEY, "ota:push") if door == "mcp" else person.session


async def push(busbar: Running, person: Person, board: Any, artifact: dict[str, Any]) -> dict[str, Any]:
    """Push an artifact over REST, and return the job."""
    answer = await busbar.http(person.session).post(f"/api/boards/{board.id}/ota", json={"artifactId": artifact["id"]})
    assert answer.status_code == 202, answer.text
    assert answer.headers["location"] == f"/api/ota/{answer.json()['id']}"
    return answer.json()


async def job(busbar: Running, person: Person, job_id: str) -> dict[str, Any]:
    """Read a job over REST."""
    return (await busbar.http(person.session).get(f"/api/ota/{job_id}")).json()


async def notices(busbar: Running, person: Person) -> list[NotificationRow]:
    """Return what a user was told of firmware, once there is something."""
    mine = col(NotificationRow.user_id) == person.id, col(NotificationRow.kind) == "ota.finished"
    query = select(NotificationRow).where(*mine)
    async with asyncio.timeout(10):
        while True:
            async with busbar.app.database.read() as session:
                if found := list((await session.exec(query)).all()):
                    return found
            await asyncio.sleep(0.02)


@pytest.fixture
async def artifact(busbar: Running, alice: Person) -> dict[str, Any]:
    """An artifact in a project of Alice's."""
    return await upload(busbar, alice, await project(busbar, alice), b"firmware 1", version="1.0")


@pytest.mark.parametrize("door", ["rest", "grpc", "mcp"])
async def test_a_push_queues_one_job_whatever_the_door(
    busbar: Running, alice: Person, bench: Any, artifact: dict[str, Any], door: str
) -> None:
    client = busbar.client(door, await credential(busbar, alice, door))
    made = await client.call("OtaService.PushOta", board_id=bench.id, artifact_id=artifact["id"])
    assert (made.board_id, made.artifact_id, made.status, made.version) == (bench.id, artifact["id"], "queued", "1.0")
    assert (made.sha256, made.size, made.has_field("error")) == (artifact["sha256"], 10, False)
    read = await job(busbar, alice, made.id)
    assert (set(read), read["status"], read["error"]) == (MEMBERS, "queued", None)
    with pytest.raises(Refused, match="under way"):
        await client.call("OtaService.PushOta", board_id=bench.id, artifact_id=artifact["id"])


@pytest.mark.parametrize("door", ["rest", "grpc", "mcp"])
async def test_a_project_stands_for_its_latest_artifact(busbar: Running, alice: Person, bench: Any, door: str) -> None:
    where = await project(busbar, alice)
    client = busbar.client(door, await credential(busbar, alice, door))
    with pytest.raises(Refused, match="no firmware artifact"):
        await client.call("OtaService.PushOta", board_id=bench.id, project_id=where)
    await upload(busbar, alice, where, b"old")
    newest = await upload(busbar, alice, where, b"new")
    made = await client.call("OtaService.PushOta", board_id=bench.id, project_id=where)
    assert (made.artifact_id, made.sha256) == (newest["id"], hashlib.sha256(b"new").hexdigest())


@pytest.mark.parametrize("door", ["rest", "grpc", "mcp"])
async def test_a_push_of_nothing_is_no_success(
    busbar: Running, alice: Person, eve: Person, bench: Any, artifact: dict[str, Any], door: str
) -> None:
    client = busbar.client(door, await credential(busbar, alice, door))
    foreign = await upload(busbar, eve, await project(busbar, eve, visibility="public"), b"foreign")
    for artifact_id in ("art_nothing", foreign["id"]):
        with pytest.raises(Refused, match="no firmware artifact"):
            await client.call("OtaService.PushOta", board_id=bench.id, artifact_id=artifact_id)
    with pytest.raises(Refused, match="project prj_nothing not found"):
        await client.call("OtaService.PushOta", board_id=bench.id, project_id="prj_nothing")
    for fields in ({}, {"artifact_id": artifact["id"], "project_id": artifact["projectId"]}):
        with pytest.raises(Refused, match="name either"):
            await client.call("OtaService.PushOta", board_id=bench.id, **fields)
    with pytest.raises(Refused, match="board not found"):
        await client.call("OtaService.PushOta", board_id="brd-nothing", artifact_id=artifact["id"])
    assert (await busbar.http(alice.session).get(f"/api/boards/{bench.id}/ota")).json() == {"jobs": [], "nextCursor": None}


async def test_boards_of_others_and_boards_beyond_a_key_do_not_exist(
    busbar: Running, alice: Person, eve: Person, bench: Any, artifact: dict[str, Any]
) -> None:
    made = await push(busbar, alice, bench, artifact)
    stranger = busbar.http(eve.session)
    body = {"artifactId": artifact["id"]}
    answers = [
        await stranger.post(f"/api/boards/{bench.id}/ota", json=body),
        await stranger.get(f"/api/boards/{bench.id}/ota"),
        await stranger.get(f"/api/ota/{made['id']}"),
        await stranger.post(f"/api/ota/{made['id']}/cancel"),
    ]
    assert [answer.status_code for answer in answers] == [404] * 4
    assert answers[2].json() == {"error": f"ota job {made['id']} not found"}
    other = await busbar.board(alice, "Other")
    narrow = await busbar.client("grpc", alice.session).call(
        "AgentKeyService.CreateAgentKey", name="narrow", scopes=["ota:push"], board_ids=[other.id]
    )
    with pytest.raises(Refused, match="not found"):
        await busbar.client("mcp", narrow.key).call("OtaService.PushOta", board_id=bench.id, artifact_id=artifact["id"])
    poor = await busbar.key(alice, CredentialKind.AGENT_KEY, "boards:read")
    with pytest.raises(Refused, match="insufficient scope: ota:push required"):
        await busbar.client("mcp", poor).call("OtaService.PushOta", board_id=bench.id, artifact_id=artifact["id"])


async def test_the_tool_says_what_it_does(busbar: Running, alice: Person) -> None:
    client = busbar.client("mcp", await credential(busbar, alice, "mcp"))
    tool = next(t for t in (await client.method("tools/list"))["tools"] if t["name"] == "plynx_push_ota")
    assert set(tool["inputSchema"]["properties"]) == {"boardId", "artifactId", "projectId"}
    assert (tool["inputSchema"]["required"], tool["inputSchema"]["additionalProperties"]) == (["boardId"], False)
    assert (tool["annotations"]["destructiveHint"], tool["annotations"]["openWorldHint"]) == (True, False)
    assert set(tool["outputSchema"]["properties"]) == MEMBERS


@pytest.fixture(params=["sqlite", "postgresql"])
async def either(request: pytest.FixtureRequest, start: Start) -> Running:
    """A server on one of both databases."""
    if request.param == "sqlite":
        return await start()
    server: Postgres = request.getfixturevalue("postgres")
    return await start(database=await server.migrated())


async def test_of_many_pushes_at_once_exactly_one_makes_a_job(either: Running) -> None:
    alice = await either.person("alice")
    board = await either.board(alice)
    artifact = await upload(either, alice, await project(either, alice))
    http = either.http(alice.session)
    bodies = [{"artifactId": artifact["id"]}, {"projectId": artifact["projectId"]}] * 6
    answers = await asyncio.gather(*(http.post(f"/api/boards/{board.id}/ota", json=body) for body in bodies))
    assert sorted(answer.status_code for answer in answers) == [202] + [409] * 11
    assert len((await http.get(f"/api/boards/{board.id}/ota")).json()["jobs"]) == 1


async def test_a_push_and_the_deletion_of_its_artifact_at_once_agree(either: Running) -> None:
    alice = await either.person("alice")
    board = await either.board(alice)
    where = await project(either, alice)
    http = either.http(alice.session)
    for number in range(5):
        artifact = await upload(either, alice, where, f"firmware {number}".encode())
        pushed, deleted = await asyncio.gather(
            http.post(f"/api/boards/{board.id}/ota", json={"artifactId": artifact["id"]}),
            http.delete(f"{path_of(where)}/{artifact['id']}"),
        )
        assert (pushed.status_code, deleted.status_code) in {(202, 409), (404, 200)}
        if pushed.status_code == 202:
            await http.post(f"/api/ota/{pushed.json()['id']}/cancel")


async def test_a_connected_board_is_offered_downloads_and_reports(either: Running) -> None:
    busbar = either
    alice = await busbar.person("alice")
    bench = await busbar.board(alice)
    data = os.urandom(200_000)
    artifact = await upload(busbar, alice, await project(busbar, alice), data, version="2.0")
    async with socket_of(busbar, bench.id, bench.device_token) as board, socket_of(busbar, bench.id, alice.session) as owner:
        made = await push(busbar, alice, bench, artifact)
        offered = await frame(board, "ota")
        assert set(offered) == {"type", "job", "percent"}
        assert (set(offered["job"]), offered["job"]["id"], offered["job"]["status"]) == (MEMBERS, made["id"], "offered")
        assert [(await frame(owner, "ota"))["job"]["status"] for _ in range(2)] == ["queued", "offered"]

        answer = await busbar.http(bench.device_token).get(f"/api/ota/{made['id']}/artifact")
        assert (answer.status_code, answer.content) == (200, data)
        assert answer.headers["content-type"] == "application/octet-stream"
        assert answer.headers["content-length"] == str(len(data))
        assert answer.headers["etag"] == f'"{artifact["sha256"]}"'
        assert answer.headers["x-artifact-sha256"] == hashlib.sha256(data).hexdigest()
        assert (await frame(owner, "ota"))["job"]["status"] == "downloading"

        await say(board, type="ota.progress", jobId=made["id"], status="downloading", percent=50)
        told = await frame(owner, "ota")
        assert (told["job"]["status"], told["percent"]) == ("downloading", 50)
        await say(board, type="ota.progress", jobId=made["id"], status="applied", percent=100)
        assert (await frame(owner, "ota"))["job"]["status"] == "applied"

        # What a board told itself is not told to it again: the next thing it hears is its pong.
        await say(board, type="ping")
        assert await frame(board) == {"type": "pong"}
    assert (await job(busbar, alice, made["id"]))["status"] == "applied"
    assert (await busbar.http(alice.session).get(f"/api/boards/{bench.id}")).json()["firmwareVersion"] == "2.0"
    (notice,) = await notices(busbar, alice)
    assert (notice.title, notice.link) == ("Bench runs new firmware", f"/boards/{bench.id}")
    await push(busbar, alice, bench, artifact)


async def test_a_board_that_was_away_is_offered_its_job_when_it_comes_and_when_it_comes_back(
    busbar: Running, alice: Person, bench: Any, artifact: dict[str, Any]
) -> None:
    made = await push(busbar, alice, bench, artifact)
    for _ in range(2):
        async with socket_of(busbar, bench.id, bench.device_token) as board:
            offered = (await frame(board, "ota"))["job"]
            assert (offered["id"], offered["status"]) == (made["id"], "offered")
    await busbar.http(bench.device_token).get(f"/api/ota/{made['id']}/artifact")
    async with socket_of(busbar, bench.id, bench.device_token) as board:
        assert (await frame(board, "ota"))["job"]["status"] == "downloading"


async def test_a_restart_loses_nothing(start: Start) -> None:
    first = await start()
    alice = await first.person("alice")
    bench = await first.board(alice)
    artifact = await upload(first, alice, await project(first, alice), b"firmware")
    made = await push(first, alice, bench, artifact)
    await first.server.stop(1)
    await first.app.close()
    second = await start()
    assert (await job(second, alice, made["id"])) == made
    async with socket_of(second, bench.id, bench.device_token) as board:
        assert (await frame(board, "ota"))["job"]["id"] == made["id"]
        assert (await second.http(bench.device_token).get(f"/api/ota/{made['id']}/artifact")).content == b"firmware"
        second.clock.forward(seconds=DAY + 1)
        second.app.outbox.notify()
        assert (await frame(board, "ota"))["job"]["status"] == "expired"
    assert [notice.title for notice in await notices(second, alice)] == ["Bench never answered"]


async def test_a_board_reports_a_failure_with_its_reason(
    busbar: Running, alice: Person, bench: Any, artifact: dict[str, Any]
) -> None:
    made = await push(busbar, alice, bench, artifact)
    async with socket_of(busbar, bench.id, bench.device_token) as board:
        await say(board, type="ota.progress", jobId=made["id"], status="failed", error="bad checksum")
        (notice,) = await notices(busbar, alice)
    assert (notice.title, notice.body) == ("Bench did not take its firmware", "bad checksum")
    ended = await job(busbar, alice, made["id"])
    assert (ended["status"], ended["error"]) == ("failed", "bad checksum")
    assert (await busbar.http(alice.session).get(f"/api/boards/{bench.id}")).json()["firmwareVersion"] is None


async def test_news_that_cannot_be_is_refused_and_the_connection_goes_on(
    busbar: Running, alice: Person, bench: Any, artifact: dict[str, Any]
) -> None:
    made = await push(busbar, alice, bench, artifact)
    other = await busbar.board(alice, "Other")
    async with socket_of(busbar, other.id, other.device_token) as stranger:
        await say(stranger, type="ota.progress", jobId=made["id"], status="applied")
        assert (await frame(stranger, "error"))["error"] == f"ota job {made['id']} not found"
    async with socket_of(busbar, bench.id, alice.session) as owner:
        await say(owner, type="ota.progress", jobId=made["id"], status="applied")
        assert (await frame(owner, "error"))["error"] == "only a board tells of its firmware"
    async with socket_of(busbar, bench.id, bench.device_token) as board:
        for wrong, named in (({"status": "done"}, "status"), ({"status": "applied", "percent": 101}, "percent")):
            await say(board, type="ota.progress", jobId=made["id"], **wrong)
            assert named in (await frame(board, "error"))["error"]
        await say(board, type="ota.progress", jobId=made["id"], status="applied")
        await notices(busbar, alice)
        await say(board, type="ota.progress", jobId=made["id"], status="failed")
        assert "has ended" in (await frame(board, "error"))["error"]
        await say(board, type="ping")
        assert (await frame(board, "pong")) == {"type": "pong"}
    assert (await job(busbar, alice, made["id"]))["status"] == "applied"


@pytest.mark.parametrize("door", ["rest", "grpc"])
async def test_a_job_that_is_called_off_is_over_for_everybody(
    busbar: Running, alice: Person, bench: Any, artifact: dict[str, Any], door: str
) -> None:
    made = await push(busbar, alice, bench, artifact)
    client = busbar.client(door, alice.session)
    async with socket_of(busbar, bench.id, bench.device_token) as board:
        assert (await frame(board, "ota"))["job"]["status"] == "offered"
        ended = await client.call("OtaService.CancelOtaJob", job_id=made["id"])
        assert (ended.status, ended.error) == ("failed", "cancelled")
        told = (await frame(board, "ota"))["job"]
        assert (told["status"], told["error"]) == ("failed", "cancelled")
    with pytest.raises(Refused, match="has ended"):
        await client.call("OtaService.CancelOtaJob", job_id=made["id"])
    assert (await busbar.http(bench.device_token).get(f"/api/ota/{made['id']}/artifact")).status_code == 404
    again = await push(busbar, alice, bench, artifact)
    assert again["id"] != made["id"]


async def test_only_the_board_of_a_job_downloads_its_artifact(
    busbar: Running, alice: Person, bench: Any, artifact: dict[str, Any]
) -> None:
    made = await push(busbar, alice, bench, artifact)
    other = await busbar.board(alice, "Other")
    key = await busbar.key(alice, CredentialKind.AGENT_KEY, "ota:push")
    url = f"/api/ota/{made['id']}/artifact"
    statuses = {
        token: (await busbar.http(token).get(url)).status_code for token in (alice.session, key, other.device_token, "nonsense")
    }
    assert list(statuses.values()) == [401, 401, 404, 401]
    assert (await busbar.http().get(url)).status_code == 401
    assert (await job(busbar, alice, made["id"]))["status"] == "queued"


async def test_the_artifact_streams_over_grpc_too(busbar: Running, alice: Person, bench: Any) -> None:
    data = os.urandom(150_000)
    made = await push(busbar, alice, bench, await upload(busbar, alice, await project(busbar, alice), data))
    chunks: AsyncIterator[Any] = busbar.client("grpc", bench.device_token).stream(
        "OtaService.DownloadOtaArtifact", job_id=made["id"]
    )
    assert b"".join([chunk.data async for chunk in chunks]) == data


async def test_an_artifact_on_its_way_cannot_be_deleted(
    busbar: Running, alice: Person, bench: Any, artifact: dict[str, Any]
) -> None:
    made = await push(busbar, alice, bench, artifact)
    http = busbar.http(alice.session)
    one = f"{path_of(artifact['projectId'])}/{artifact['id']}"
    assert (await http.delete(one)).status_code == 409
    await http.post(f"/api/ota/{made['id']}/cancel")
    assert (await http.delete(one)).json() == {"ok": True}
    kept = await job(busbar, alice, made["id"])
    assert (kept["version"], kept["sha256"]) == ("1.0", artifact["sha256"])


async def test_a_job_whose_time_is_over_is_expired_before_anybody_has_carried_that_out(
    busbar: Running, alice: Person, bench: Any, artifact: dict[str, Any]
) -> None:
    made = await push(busbar, alice, bench, artifact)
    await busbar.app.outbox_worker.stop()
    busbar.clock.forward(seconds=DAY + 1)
    assert (await job(busbar, alice, made["id"]))["status"] == "expired"
    assert (await busbar.http(bench.device_token).get(f"/api/ota/{made['id']}/artifact")).status_code == 404
    async with socket_of(busbar, bench.id, bench.device_token) as board:
        await say(board, type="ota.progress", jobId=made["id"], status="applied")
        assert "it is expired" in (await frame(board, "error"))["error"]
    await push(busbar, alice, bench, artifact)
    busbar.app.outbox_worker.start()
    assert [notice.title for notice in await notices(busbar, alice)] == ["Bench never answered"]


async def test_jobs_are_listed_newest_first_in_pages(
    busbar: Running, alice: Person, bench: Any, artifact: dict[str, Any]
) -> None:
    made: list[str] = []
    for _ in range(3):
        made.append((await push(busbar, alice, bench, artifact))["id"])
        await busbar.http(alice.session).post(f"/api/ota/{made[-1]}/cancel")
    for door in ("rest", "grpc"):
        client = busbar.client(door, alice.session)
        first = await client.call("OtaService.ListOtaJobs", board_id=bench.id, limit=2)
        second = await client.call("OtaService.ListOtaJobs", board_id=bench.id, limit=2, cursor=first.next_cursor)
        assert [one.id for one in (*first.jobs, *second.jobs)] == made[::-1]
        assert not second.has_field("next_cursor")


async def test_a_board_that_goes_takes_its_jobs_along(
    busbar: Running, alice: Person, bench: Any, artifact: dict[str, Any]
) -> None:
    made = await push(busbar, alice, bench, artifact)
    assert (await busbar.http(alice.session).delete(f"/api/boards/{bench.id}")).status_code == 200
    assert (await busbar.http(alice.session).get(f"/api/ota/{made['id']}")).status_code == 404
