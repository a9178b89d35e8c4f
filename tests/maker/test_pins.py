"""Pins: written through one door, read through every other, watched live."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from gen.busbar.api.v1.options_pb import CredentialKind
from tests.conftest import Person, Running, Start
from tests.doors import Refused

AGENT_SCOPES = ("boards:read", "pins:read", "pins:write")


async def client_of(busbar: Running, person: Person, door: str) -> Any:
    """Return a client with the credential that people use at a door."""
    if door != "mcp":
        return busbar.client(door, person.session)
    return busbar.client("mcp", await busbar.key(person, CredentialKind.AGENT_KEY, *AGENT_SCOPES))


@pytest.mark.parametrize("reading", ["grpc", "rest", "mcp"])
@pytest.mark.parametrize("writing", ["grpc", "rest", "mcp"])
async def test_a_pin_written_at_one_door_is_read_at_another(
    busbar: Running, alice: Person, bench: Any, writing: str, reading: str
) -> None:
    writer, reader = await client_of(busbar, alice, writing), await client_of(busbar, alice, reading)
    written = await writer.call("PinService.WritePin", board_id=bench.id, pin_index=3, value=21.5)
    assert (written.seq, written.updated_by) == (1, "mcp" if writing == "mcp" else "user")
    read = await reader.call("PinService.ReadPin", board_id=bench.id, pin_index=3)
    assert (read.value.to_python(), read.text, read.value_type) == (21.5, "21.5", "number")


async def test_a_pin_that_was_never_written_is_200_with_nulls(busbar: Running, alice: Person, bench: Any) -> None:
    answer = await busbar.http(alice.session).get(f"/api/boards/{bench.id}/pins/7")
    assert answer.status_code == 200
    assert answer.json() == {
        "boardId": bench.id, "pinIndex": 7, "label": "V7", "value": None, "valueType": "none", "text": "",
        "updatedAt": None, "updatedBy": None, "seq": 0,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("value", "kind", "text"),
    [
        (True, "bool", "1"),
        (False, "bool", "0"),
        (128.0, "number", "128"),
        (-0.25, "number", "-0.25"),
        (1e21, "number", "1e+21"),
        ("", "string", ""),
        ("naïve ☃", "string", "naïve ☃"),
        ("x" * 1024, "string", "x" * 1024),
        (None, "none", ""),
    ],
)
async def test_every_scalar_keeps_its_kind_and_text(
    busbar: Running, alice: Person, bench: Any, value: object, kind: str, text: str
) -> None:
    client = busbar.http(alice.session)
    body = (await client.put(f"/api/boards/{bench.id}/pins/0", json={"value": value})).json()
    assert (body["value"], body["valueType"], body["text"]) == (value, kind, text)
    assert body == (await client.get(f"/api/boards/{bench.id}/pins/0")).json()


@pytest.mark.parametrize(
    "content",
    ["{}", '{"value": [1]}', '{"value": {"a": 1}}', "[1]", '{"value": NaN}', '{"value": 1e999}', "nonsense", '{"value":',
     json.dumps({"value": "x" * 1025}), '{"value": 1, "label": 5}'],
)  # fmt: skip
async def test_a_bad_value_is_400_and_changes_nothing(busbar: Running, alice: Person, bench: Any, content: str) -> None:
    client = busbar.http(alice.session)
    answer = await client.put(f"/api/boards/{bench.id}/pins/0", content=content, headers={"Content-Type": "application/json"})
    assert answer.status_code == 400
    assert set(answer.json()) == {"error"}
    assert (await client.get(f"/api/boards/{bench.id}/pins")).json() == {"pins": []}


@pytest.mark.parametrize(("body", "value"), [("42", 42), ('"on"', "on"), ("true", True), ("null", None)])
async def test_a_bare_scalar_is_a_value(busbar: Running, alice: Person, bench: Any, body: str, value: object) -> None:
    client = busbar.http(alice.session)
    answer = await client.put(f"/api/boards/{bench.id}/pins/0", content=body)
    assert (answer.status_code, answer.json()["value"]) == (200, value)


@pytest.mark.parametrize(("spelling", "status"), [("V7", 200), ("v7", 200), ("07", 200), ("7", 200), ("256", 400),
                                                 ("-1", 400), ("x", 400), ("7.5", 400), ("VV7", 400)])  # fmt: skip
async def test_pins_are_spelled_with_or_without_a_letter(
    busbar: Running, alice: Person, bench: Any, spelling: str, status: int
) -> None:
    answer = await busbar.http(alice.session).get(f"/api/boards/{bench.id}/pins/{spelling}")
    assert answer.status_code == status
    if status == 400:
        assert answer.json()["error"].startswith("pinIndex:")
    else:
        assert answer.json()["pinIndex"] == 7


async def test_an_equal_value_is_still_an_event(busbar: Running, alice: Person, bench: Any) -> None:
    client = busbar.client("grpc", alice.session)
    seqs = [(await client.call("PinService.WritePin", board_id=bench.id, pin_index=0, value=1)).seq for _ in range(3)]
    assert seqs == [1, 2, 3]


async def test_labels_stay_and_cleared_pins_stay_listed(busbar: Running, alice: Person, bench: Any) -> None:
    client = busbar.http(alice.session)
    await client.put(f"/api/boards/{bench.id}/pins/4", json={"value": 1, "label": "Relay"})
    await client.put(f"/api/boards/{bench.id}/pins/2", json={"value": None})
    await client.put(f"/api/boards/{bench.id}/pins/4", json={"value": None})
    pins = (await client.get(f"/api/boards/{bench.id}/pins")).json()["pins"]
    assert [(pin["pinIndex"], pin["label"], pin["value"]) for pin in pins] == [(2, "V2", None), (4, "Relay", None)]


@pytest.mark.parametrize("door", ["grpc", "rest", "mcp"])
async def test_a_stranger_learns_nothing_about_a_board(busbar: Running, eve: Person, bench: Any, door: str) -> None:
    client = await client_of(busbar, eve, door)
    for name, fields in (("ReadPin", {"pin_index": 3}), ("WritePin", {"pin_index": 3, "value": 1})):
        with pytest.raises(Refused) as refused:
            await client.call(f"PinService.{name}", board_id=bench.id, **fields)
        assert refused.value.code == ("TOOL_ERROR" if door == "mcp" else "NOT_FOUND")
        assert refused.value.message == "board not found"


async def test_a_key_reaches_only_its_boards(busbar: Running, alice: Person, bench: Any) -> None:
    other = await busbar.board(alice, "Other")
    created = await busbar.http(alice.session).post(
        "/api/mcp/keys", json={"name": "one board", "scopes": list(AGENT_SCOPES), "boardIds": [bench.id]}
    )
    client = busbar.client("mcp", created.json()["key"])
    assert [b.id for b in (await client.call("BoardService.ListBoards")).boards] == [bench.id]
    await client.call("PinService.WritePin", board_id=bench.id, pin_index=1, value=1)
    with pytest.raises(Refused, match="not found"):
        await client.call("PinService.WritePin", board_id=other.id, pin_index=1, value=1)


async def test_concurrent_writers_get_every_number_once(busbar: Running, alice: Person, bench: Any) -> None:
    client = busbar.client("grpc", alice.session)
    watcher = client.stream("PinService.WatchPins", board_id=bench.id, since=0)
    await client.call("PinService.WritePin", board_id=bench.id, pin_index=0, value=0)
    first = await asyncio.wait_for(anext(watcher), 10)
    assert first.seq == 1

    async def write(index: int) -> float:
        return (await client.call("PinService.WritePin", board_id=bench.id, pin_index=index % 8, value=index)).seq

    seqs = await asyncio.gather(*(write(index) for index in range(100)))
    assert sorted(seqs) == list(range(2, 102))
    seen = [(await asyncio.wait_for(anext(watcher), 10)).seq for _ in range(100)]
    assert seen == list(range(2, 102))
    await watcher.aclose()


async def test_a_watch_resumes_after_the_last_sequence_seen(busbar: Running, alice: Person, bench: Any) -> None:
    client = busbar.client("grpc", alice.session)
    for index in range(4):
        await client.call("PinService.WritePin", board_id=bench.id, pin_index=index, value=index)
    watcher = client.stream("PinService.WatchPins", board_id=bench.id, since=2)
    assert [(await asyncio.wait_for(anext(watcher), 10)).pin_index for _ in range(2)] == [2, 3]
    await watcher.aclose()


async def test_the_51st_write_of_a_second_is_429(start: Start) -> None:
    busbar = await start(rate_limits="on")
    alice = await busbar.person()
    bench = await busbar.board(alice)
    client = busbar.http(alice.session)
    answers = await asyncio.gather(*(client.put(f"/api/boards/{bench.id}/pins/0", json={"value": i}) for i in range(60)))
    refused = [answer for answer in answers if answer.status_code == 429]
    assert refused
    assert {answer.status_code for answer in answers} == {200, 429}
    assert refused[0].headers["retry-after"] == "1"


async def test_pins_survive_a_restart(start: Start) -> None:
    first = await start()
    alice = await first.person()
    bench = await first.board(alice)
    await first.client("grpc", alice.session).call("PinService.WritePin", board_id=bench.id, pin_index=9, value="kept")
    await first.server.stop(1)
    await first.app.close()
    second = await start()
    pin = await second.client("grpc", alice.session).call("PinService.ReadPin", board_id=bench.id, pin_index=9)
    assert (pin.text, pin.seq, pin.updated_by) == ("kept", 1, "user")
    written = await second.client("grpc", alice.session).call(
        "PinService.WritePin", board_id=bench.id, pin_index=9, value="new"
    )
    assert written.seq == 2
