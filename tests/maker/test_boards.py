"""Boards over every door that has them."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import pytest

from gen.busbar.api.v1.options_pb import CredentialKind
from tests.conftest import Person, Running, Start
from tests.doors import Refused

MEMBERS = {
    "id", "ownerId", "name", "boardType", "connectionType", "status", "lastSeenAt", "firmwareVersion", "projectIds",
    "tokenPrefix", "createdAt", "updatedAt",
}  # fmt: skip


async def test_a_new_board_shows_its_token_once(busbar: Running, alice: Person) -> None:
    answer = await busbar.http(alice.session).post("/api/boards", json={"name": "Bench"})
    body = answer.json()
    assert answer.status_code == 201
    assert answer.headers["location"] == f"/api/boards/{body['id']}"
    assert set(body) == MEMBERS | {"deviceToken"}
    assert re.fullmatch(r"pbt_[A-Za-z0-9]{43}", body["deviceToken"])
    assert body["tokenPrefix"] == body["deviceToken"][:6]
    assert (body["boardType"], body["connectionType"], body["status"]) == ("esp32", "wifi", "never")
    read = (await busbar.http(alice.session).get(f"/api/boards/{body['id']}")).json()
    assert set(read) == MEMBERS
    assert read == {name: body[name] for name in MEMBERS}


async def test_a_board_id_is_a_source_id(bench: Any) -> None:
    assert re.fullmatch(r"[a-z0-9][a-z0-9._-]*", bench.id)
    assert len(bench.id) <= 64


@pytest.mark.parametrize("door", ["grpc", "rest", "mcp"])
async def test_boards_are_listed_by_name(busbar: Running, alice: Person, door: str) -> None:
    for name in ("beta", "Alpha", "gamma"):
        await busbar.board(alice, name)
    key = await busbar.key(alice, CredentialKind.AGENT_KEY, "boards:read")
    client = busbar.client(door, key if door == "mcp" else alice.session)
    listed = await client.call("BoardService.ListBoards")
    assert [board.name for board in listed.boards] == ["Alpha", "beta", "gamma"]


async def test_pages_of_boards_hold_each_board_once(busbar: Running, alice: Person) -> None:
    for index in range(5):
        await busbar.board(alice, f"board {index}")
    client, names, cursor = busbar.client("rest", alice.session), [], ""
    while True:
        page = await client.call("BoardService.ListBoards", limit=2, cursor=cursor)
        names += [board.name for board in page.boards]
        if not page.has_field("next_cursor"):
            break
        cursor = page.next_cursor
    assert names == [f"board {index}" for index in range(5)]
    with pytest.raises(Refused, match="invalid cursor"):
        await client.call("BoardService.ListBoards", cursor="!!!")


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({}, "name"),
        ({"name": ""}, "name"),
        ({"name": "   "}, "name"),
        ({"name": "x" * 81}, "name"),
        ({"name": 5}, "name"),
        ({"name": "b", "connectionType": "smoke"}, "connectionType"),
        ({"name": "b", "boardType": "t" * 65}, "boardType"),
    ],
)
async def test_a_bad_board_is_400_and_not_made(busbar: Running, alice: Person, body: dict[str, Any], message: str) -> None:
    client = busbar.http(alice.session)
    answer = await client.post("/api/boards", json=body)
    assert answer.status_code == 400
    assert answer.json()["error"].startswith(f"{message}:")
    assert (await client.get("/api/boards")).json()["boards"] == []


async def test_the_51st_board_is_409(start: Start) -> None:
    busbar = await start(quotas={"boards": 2})
    alice = await busbar.person()
    for _ in range(2):
        await busbar.board(alice)
    answer = await busbar.http(alice.session).post("/api/boards", json={"name": "one more"})
    assert answer.status_code == 409


async def test_patch_changes_what_it_names(busbar: Running, alice: Person, bench: Any) -> None:
    client = busbar.http(alice.session)
    before = (await client.get(f"/api/boards/{bench.id}")).json()
    unchanged = (await client.patch(f"/api/boards/{bench.id}", json={})).json()
    assert unchanged == before
    renamed = (await client.patch(f"/api/boards/{bench.id}", json={"name": "Shelf", "unknown": 1})).json()
    assert renamed["name"] == "Shelf"
    assert renamed["boardType"] == before["boardType"]
    assert renamed["updatedAt"] >= before["updatedAt"]
    for bad in ({"name": None}, {"name": ""}, {"connectionType": "smoke"}):
        assert (await client.patch(f"/api/boards/{bench.id}", json=bad)).status_code == 400
    assert (await client.get(f"/api/boards/{bench.id}")).json()["name"] == "Shelf"


async def test_delete_takes_everything_and_a_second_one_is_404(busbar: Running, alice: Person, bench: Any) -> None:
    client = busbar.http(alice.session)
    await client.put(f"/api/boards/{bench.id}/pins/1", json={"value": 1})
    assert (await client.delete(f"/api/boards/{bench.id}")).json() == {"ok": True}
    for path in (f"/api/boards/{bench.id}", f"/api/boards/{bench.id}/pins/1"):
        assert (await client.get(path)).status_code == 404
    assert (await client.delete(f"/api/boards/{bench.id}")).status_code == 404
    with pytest.raises(Refused) as refused:
        await busbar.client("grpc", bench.device_token).call("PinService.ListPins", board_id=bench.id)
    assert refused.value.code == "UNAUTHENTICATED"


async def test_a_rotated_token_dies_at_once(busbar: Running, alice: Person, bench: Any) -> None:
    device = busbar.client("grpc", bench.device_token)
    await device.call("PinService.WritePin", board_id=bench.id, pin_index=1, value=1)
    answer = await busbar.http(alice.session).post(f"/api/boards/{bench.id}/token")
    assert answer.status_code == 200
    with pytest.raises(Refused) as refused:
        await device.call("PinService.WritePin", board_id=bench.id, pin_index=1, value=2)
    assert refused.value.code == "UNAUTHENTICATED"
    renewed = busbar.client("grpc", answer.json()["deviceToken"])
    await renewed.call("PinService.WritePin", board_id=bench.id, pin_index=1, value=3)


async def test_a_request_sent_again_with_its_key_is_done_once(busbar: Running, alice: Person) -> None:
    client = busbar.http(alice.session)
    headers = {"Idempotency-Key": "first-board"}
    first = await client.post("/api/boards", json={"name": "Bench"}, headers=headers)
    again = await client.post("/api/boards", json={"name": "Bench"}, headers=headers)
    assert (first.status_code, again.status_code) == (201, 201)
    assert again.json()["id"] == first.json()["id"]
    assert again.json()["deviceToken"] == ""
    other = await client.post("/api/boards", json={"name": "Other"}, headers=headers)
    assert other.status_code == 409
    assert len((await client.get("/api/boards")).json()["boards"]) == 1


async def test_a_refused_request_frees_its_key(busbar: Running, alice: Person) -> None:
    client = busbar.http(alice.session)
    headers = {"Idempotency-Key": "k"}
    assert (await client.post("/api/boards", json={"name": "   "}, headers=headers)).status_code == 400
    assert (await client.post("/api/boards", json={"name": "Bench"}, headers=headers)).status_code == 201


async def test_of_racing_requests_with_one_key_one_is_done(busbar: Running, alice: Person) -> None:
    client = busbar.http(alice.session)
    headers = {"Idempotency-Key": "race"}
    answers = await asyncio.gather(*(client.post("/api/boards", json={"name": "B"}, headers=headers) for _ in range(5)))
    assert {answer.status_code for answer in answers} <= {201, 409}
    assert len({answer.json()["id"] for answer in answers if answer.status_code == 201}) == 1
    assert len((await client.get("/api/boards")).json()["boards"]) == 1
