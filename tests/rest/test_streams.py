"""Server streams over plain HTTP: lines, events, errors on the way, slow and vanished readers."""

from __future__ import annotations

import asyncio
import json

import pytest

from adapters.rest import streams
from adapters.rest.app import RestApp
from core.kernel.errors import NotFound, ResourceExhausted
from gen.busbar.maker.v1.pins_pb import Pin
from tests.rest.fakes import World, fake_rpcs, rest_app
from tests.rest.wire import PATIENCE, Wire

WATCH = "/api/boards/b1/pins:watch"
EVENTS = "text/event-stream"


def pin(seq: float) -> Pin:
    return Pin(board_id="b1", pin_index=int(seq), label="", seq=seq)


@pytest.fixture
def app(world: World) -> RestApp:
    return rest_app(fake_rpcs(world))


async def test_a_stream_is_lines_of_json_unless_events_are_asked_for(app: RestApp, world: World) -> None:
    world.streams = [pin(1.0), pin(2.0)]
    wire = Wire(app, WATCH)
    status, headers = await wire.start()
    assert (status, headers["content-type"], headers["cache-control"]) == (200, "application/x-ndjson", "no-store")
    assert "content-length" not in headers
    assert [json.loads(line)["seq"] for line in (await wire.rest()).splitlines()] == [1, 2]


async def test_events_carry_the_sequence_as_their_id(app: RestApp, world: World) -> None:
    world.streams = [pin(1.0), pin(2.5)]
    wire = Wire(app, WATCH, accept=f"{EVENTS}, */*")
    assert (await wire.start())[1]["content-type"] == EVENTS
    first = await wire.chunk()
    assert first.startswith(b'id: 1\ndata: {"boardId":"b1","pinIndex":1')
    assert first.endswith(b'"seq":1}\n\n')
    assert (await wire.rest()).startswith(b"id: 2.5\ndata: ")


async def test_a_browser_that_comes_back_resumes_after_its_last_event(app: RestApp, world: World) -> None:
    await Wire(app, f"{WATCH}?since=3", accept=EVENTS, last_event_id="41").rest()
    assert world.request.since == 41
    await Wire(app, f"{WATCH}?since=3", accept=EVENTS).rest()
    assert world.request.since == 3


@pytest.mark.parametrize("accept", ["*/*", EVENTS])
async def test_a_refusal_before_the_first_message_has_its_status(app: RestApp, world: World, accept: str) -> None:
    world.fail = NotFound("board b1 not found")
    wire = Wire(app, WATCH, accept=accept)
    status, headers = await wire.start()
    assert (status, headers["content-type"]) == (404, "application/json")
    assert json.loads(await wire.rest()) == {"error": "board b1 not found"}


async def test_a_request_that_is_wrong_never_becomes_a_stream(app: RestApp, world: World) -> None:
    assert (await Wire(app, f"{WATCH}?since=x").start())[0] == 400
    assert (await Wire(app, f"{WATCH}?since=-1").start())[0] == 400
    assert world.calls == []


@pytest.mark.parametrize(
    ("accept", "last"),
    [
        ("*/*", b'{"error":"the reader fell behind"}\n'),
        (EVENTS, b'event: error\ndata: {"error":"the reader fell behind"}\n\n'),
    ],
)
async def test_a_failure_on_the_way_is_the_last_frame(app: RestApp, world: World, accept: str, last: bytes) -> None:
    world.streams = [pin(1.0), ResourceExhausted("the reader fell behind")]
    wire = Wire(app, WATCH, accept=accept)
    assert (await wire.start())[0] == 200
    await wire.chunk()
    assert await wire.chunk() == last
    assert await wire.rest() == b""


async def test_a_defect_on_the_way_tells_nothing(app: RestApp, world: World) -> None:
    world.streams = [pin(1.0), RuntimeError("secret")]
    wire = Wire(app, WATCH)
    await wire.start()
    assert (await wire.rest()).splitlines()[-1] == b'{"error":"internal error"}'


async def test_a_silent_stream_opens_before_its_first_message(app: RestApp, world: World) -> None:
    world.streams = [None, pin(1.0)]
    wire = Wire(app, WATCH)
    assert (await wire.start())[0] == 200
    world.go.set()
    assert json.loads(await wire.rest())["seq"] == 1


async def test_silent_events_are_kept_alive_by_comments(app: RestApp, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "GRACE_SECONDS", 0.01)
    monkeypatch.setattr(streams, "KEEP_ALIVE_SECONDS", 0.01)
    world.streams = [None]
    wire = Wire(app, WATCH, accept=EVENTS)
    await wire.start()
    assert await wire.chunk() == b": keep-alive\n\n"
    world.go.set()
    assert (await wire.rest()).replace(b": keep-alive\n\n", b"") == b""


async def test_a_client_that_leaves_ends_the_service_at_once(app: RestApp, world: World) -> None:
    world.streams = [pin(1.0), None]
    wire = Wire(app, WATCH)
    await wire.start()
    await wire.chunk()
    wire.leave()
    await asyncio.wait_for(world.ended.wait(), PATIENCE)
    await asyncio.wait_for(wire.task, PATIENCE)


async def test_a_client_that_leaves_while_it_is_behind_ends_the_service_too(app: RestApp, world: World) -> None:
    world.streams = [pin(float(n)) for n in range(1, 100)]
    wire = Wire(app, WATCH, room=1)
    await wire.start()
    wire.leave()
    await asyncio.wait_for(world.ended.wait(), PATIENCE)
    assert world.yielded < 10


async def test_a_slow_reader_makes_the_service_wait(app: RestApp, world: World) -> None:
    world.streams = [pin(float(n)) for n in range(1, 1001)]
    wire = Wire(app, WATCH, room=1)
    await wire.start()
    for _ in range(100):
        await asyncio.sleep(0)
    assert world.yielded <= 4
    assert len((await wire.rest()).splitlines()) == 1000


async def test_the_service_has_ended_when_the_answer_has(app: RestApp, world: World) -> None:
    world.streams = [pin(1.0)]
    await Wire(app, WATCH).rest()
    assert world.ended.is_set()


async def test_head_does_not_start_a_stream(app: RestApp, world: World) -> None:
    world.streams = [None]
    wire = Wire(app, WATCH, method="HEAD", accept=EVENTS)
    status, headers = await wire.start()
    assert (status, headers["content-type"]) == (200, EVENTS)
    assert await wire.rest() == b""
    assert world.calls == []
