"""Bodies as clients of the pins write them: strict JSON, lenient members, named faults."""

from __future__ import annotations

import httpx
import pytest
from protobuf import message_to_json_value as to_json

from tests.rest.fakes import ALICE, World

PIN = "/api/boards/b1/pins/7"


@pytest.mark.parametrize(
    ("body", "value"),
    [
        ("42", 42),
        ('"on"', "on"),
        ("true", True),
        ("null", None),
        ('{"value": null}', None),
        ('{"value": 1.50, "unknown": {"x": []}}', 1.5),
    ],
)
async def test_a_pin_takes_an_object_or_a_bare_scalar(web: httpx.AsyncClient, world: World, body: str, value: object) -> None:
    answer = await web.put(PIN, content=body, headers=ALICE)
    assert (answer.status_code, answer.json()["value"]) == (200, value)
    assert world.request.has_field("value")
    assert to_json(world.request.value) == value


@pytest.mark.parametrize("body", ["{}", ""])
async def test_a_pin_needs_a_value(web: httpx.AsyncClient, body: str) -> None:
    answer = await web.put(PIN, content=body, headers=ALICE)
    assert (answer.status_code, answer.json()) == (400, {"error": "value: required"})


@pytest.mark.parametrize(
    ("path", "body"),
    [(PIN, "[1]"), ("/api/boards", "[1]"), ("/api/boards", "5"), ("/api/boards", '"x"'), ("/api/boards", "null")],
)
async def test_a_body_that_is_no_object_is_refused(web: httpx.AsyncClient, path: str, body: str) -> None:
    answer = await web.request("PUT" if path == PIN else "POST", path, content=body, headers=ALICE)
    assert (answer.status_code, answer.json()) == (400, {"error": "request body must be a JSON object"})


@pytest.mark.parametrize(
    "body",
    [
        b'{"value": NaN}',
        b'{"value": Infinity}',
        b'{"value": 1e999}',
        b'{"value": "\\ud800"}',
        b'{"value": "\xff"}',
        b'{"value": 1, "value": 2}',
        b'{"value": {"a:b": 1, "a:b": 2}}',
        b'{"value": 1} 2',
        b'{"value": 1,}',
        b"{'value': 1}",
        b"\xef\xbb\xbf{}",
        b'{"value": ' + b"[" * 101 + b"]" * 101 + b"}",
        b'{"unknown": ' + b"[" * 5000 + b"]" * 5000 + b"}",
        b"[" * 100_000,
    ],
)
async def test_what_is_no_strict_json_is_refused_and_never_a_fault(web: httpx.AsyncClient, world: World, body: bytes) -> None:
    answer = await web.put(PIN, content=body, headers=ALICE)
    assert answer.status_code == 400
    assert list(answer.json()) == ["error"]
    assert world.calls == []


@pytest.mark.parametrize(
    "body",
    [
        '{"name": "a:b", "name": "c"}',
        '{"name": "a\\u003ab", "name": ""}',
        '{"unknown": ' + '{"a": ' * 300 + '{"name": 1, "name": 2}' + "}" * 301,
    ],
)
async def test_a_member_named_twice_is_named_in_the_refusal(web: httpx.AsyncClient, body: str) -> None:
    answer = await web.post("/api/boards", content=body, headers=ALICE)
    assert answer.json() == {"error": "request body names 'name' twice"}


async def test_colons_within_strings_are_no_members(web: httpx.AsyncClient, world: World) -> None:
    assert (await web.post("/api/boards", content='{"name": "a:b:c"}', headers=ALICE)).status_code == 201
    assert world.request.name == "a:b:c"


@pytest.mark.parametrize("spelling", ["7", "07", "V7", "v7", "V07"])
async def test_a_pin_has_many_spellings(web: httpx.AsyncClient, world: World, spelling: str) -> None:
    assert (await web.get(f"/api/boards/b1/pins/{spelling}", headers=ALICE)).json()["pinIndex"] == 7
    await web.put(PIN, json={"pinIndex": spelling, "value": 1}, headers=ALICE)
    assert world.request.pin_index == 7


@pytest.mark.parametrize("spelling", ["V", "VV7", "7V", "x", "-1", "7.0", "+7", "0x7", "V 7", "\u0667"])
async def test_anything_else_is_no_pin(web: httpx.AsyncClient, spelling: str) -> None:
    answer = await web.get(f"/api/boards/b1/pins/{spelling}", headers=ALICE)
    assert (answer.status_code, answer.json()) == (400, {"error": "pinIndex: must be an integer"})


async def test_a_pin_out_of_range_is_refused_with_its_range(web: httpx.AsyncClient) -> None:
    answer = await web.get("/api/boards/b1/pins/256", headers=ALICE)
    assert answer.status_code == 400
    assert answer.json()["error"].startswith("pinIndex: must be greater than or equal to 0")


async def test_a_patch_changes_what_it_names_and_null_is_a_name(web: httpx.AsyncClient, world: World) -> None:
    await web.patch("/api/boards/b1", json={"boardType": None, "name": "New", "boardId": "b9", "nope": 1}, headers=ALICE)
    assert world.request.update_mask.paths == ["board_type", "name"]
    assert (world.request.board_id, world.request.name, world.request.has_field("board_type")) == ("b1", "New", False)


async def test_an_empty_patch_names_nothing(web: httpx.AsyncClient, world: World) -> None:
    await web.patch("/api/boards/b1", json={}, headers=ALICE)
    assert world.request.update_mask.paths == []


async def test_absent_and_null_lists_are_told_from_empty_ones(web: httpx.AsyncClient) -> None:
    for body, boards in (
        ({"name": "k"}, None),
        ({"name": "k", "boardIds": None}, None),
        ({"name": "k", "boardIds": ["b1"]}, ["b1"]),
    ):
        assert (await web.post("/api/mcp/keys", json=body, headers=ALICE)).json()["boardIds"] == boards
    empty = await web.post("/api/mcp/keys", json={"name": "k", "boardIds": []}, headers=ALICE)
    assert (empty.status_code, empty.json()) == (400, {"error": "boardIds: must hold 1 to 200 board ids"})


async def test_home_assistant_may_send_any_text_of_any_type(web: httpx.AsyncClient, world: World) -> None:
    headers = {"authorization": "Bearer plnx_agent", "content-type": "application/x-www-form-urlencoded"}
    for method in ("POST", "PUT", "PATCH"):
        answer = await web.request(method, "/api/ha/board/b1/pin/v3?value=2", content="ON", headers=headers)
        assert (answer.status_code, answer.json()["value"], answer.json()["is_on"]) == (200, 128, True)
        request = world.request
        assert (request.pin, request.body.data, request.value) == (3, b"ON", "2")
