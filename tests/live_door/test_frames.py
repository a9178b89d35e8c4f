"""What passes over an open socket, frame by frame."""

from __future__ import annotations

import pytest

from tests.live_door.serving import Serving, ask, hear


async def test_a_write_is_acknowledged_and_told_to_everyone(server: Serving) -> None:
    async with server.connect() as writer, server.connect() as watcher:
        await hear(writer)
        await hear(watcher)
        assert await ask(writer, {"type": "write", "id": "1", "pinIndex": 4, "value": 1}) == {
            "type": "ack",
            "id": "1",
            "seq": 1,
        }
        mine, seen = await hear(writer), await hear(watcher)
    assert mine == seen
    assert (seen["type"], seen["seq"], seen["pin"]["pinIndex"], seen["pin"]["value"], seen["origin"]) == (
        "pin",
        1,
        4,
        1,
        "user",
    )
    assert seen["clientId"] == server.service.calls[0].client_id


async def test_members_have_names_in_camel_case(server: Serving) -> None:
    async with server.connect() as client:
        await hear(client)
        many = {"type": "writeMany", "id": "m", "pins": [{"pinIndex": 1, "value": True}, {"pinIndex": 2, "value": "x"}]}
        assert await ask(client, many) == {"type": "ack", "id": "m", "seq": 2}
        assert await ask(client, {"type": "ping"}) == {"type": "pong"}


@pytest.mark.parametrize("index", [7, "7", "V7", "v7", "07"])
async def test_a_pin_may_be_named_as_people_write_it(server: Serving, index: int | str) -> None:
    async with server.connect() as client:
        await hear(client)
        await ask(client, {"type": "write", "id": "1", "pinIndex": index, "value": None})
        change = await hear(client)
    assert (change["pin"]["pinIndex"], change["pin"]["value"]) == (7, None)


@pytest.mark.parametrize(
    ("frame", "known", "error"),
    [
        ("{", None, "frame is not valid JSON"),
        ("[]", None, "frame must be a JSON object"),
        ({"id": "1"}, "1", "type: required"),
        ({"type": 5, "id": "1"}, "1", "type: must be a string"),
        ({"type": "explode", "id": "1"}, "1", "unknown frame type explode"),
        ({"type": "write_many", "id": "1"}, "1", "unknown frame type write_many"),
        ({"type": "open", "boardId": "b2"}, None, "unknown frame type open"),
        ({"type": "write", "id": "1", "pinIndex": "x", "value": 1}, "1", "pinIndex: must be an integer"),
        ({"type": "write", "id": 5, "pinIndex": 1, "value": 1}, 5, "id: must be a string"),
        ({"type": "write", "id": {"a": 1}, "pinIndex": 1, "value": 1}, None, "id: must be a string"),
        ({"type": "writeMany", "id": "1", "pins": 3}, "1", "pins: must be a list"),
        ({"type": "write", "id": "1", "pinIndex": 1}, "1", "value: required"),
        (b"\x00\x01", None, "frames must be text"),
    ],
)
async def test_a_bad_frame_is_answered_and_the_talk_goes_on(
    server: Serving, frame: object, known: str | int | None, error: str
) -> None:
    async with server.connect() as client:
        await hear(client)
        answer = await ask(client, frame)
        assert (answer["type"], answer["id"]) == ("error", known)
        assert answer["error"].startswith(error)
        assert await ask(client, {"type": "ping"}) == {"type": "pong"}


async def test_a_frame_nested_without_end_is_refused(server: Serving) -> None:
    deep = '{"type":"write","id":"1","value":' + "[" * 500 + "]" * 500 + "}"
    async with server.connect() as client:
        await hear(client)
        assert (await ask(client, deep))["type"] == "error"
        assert await ask(client, {"type": "ping"}) == {"type": "pong"}
