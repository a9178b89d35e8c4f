"""What the stream of a run looks like: order, pace, collecting, replay."""

from __future__ import annotations

import asyncio
import time

import pytest

from core.kernel.errors import NotFound
from core.plans.run_feed import REMEMBERED
from core.plans.stream_messages import ALONE, LAST
from gen.busbar.plans.v1.runs_pb import StreamMessage, StreamTellRequest
from tests.plans.running import Bench, bench, code, collected, flat, kinds, plan, text, until

__all__ = ["bench"]


async def test_the_end_of_a_stream_is_never_collected(bench: Bench) -> None:
    messages = await collected(bench.tell())
    assert messages[0].type == "start"
    assert messages[-1].type == "finished"
    inside = {part.type for message in messages if message.type == "multi" for part in message.stream_messages}
    assert not inside & ALONE
    assert not inside & LAST


async def test_what_is_told_in_one_breath_is_one_message(bench: Bench) -> None:
    bench.script.says["planner"] = [["One ", "two ", "three.\n", plan()]]
    messages = await collected(bench.tell(auto_continue=False))
    first = next(message for message in messages if message.type == "multi")
    assert [part.type for part in first.stream_messages][:3] == ["reply"] * 3
    assert "One two three." in text(messages)


async def test_a_new_reply_begins_after_describing(bench: Bench) -> None:
    messages = await collected(bench.tell())
    assert [kind for kind in kinds(messages) if kind != "buildInfo"] == [
        "start",
        "reply",
        "describing",
        "reply",
        "describing",
        *(["repliesFinished"] if "repliesFinished" in kinds(messages) else []),
        "finished",
    ]


async def test_builds_are_told_per_file_before_the_end(bench: Bench) -> None:
    bench.script.says["coder"] = [code("a.txt").replace(code("a.txt")[:12], code("b.txt")[:12], 1)]
    messages = await collected(bench.tell())
    builds = [message.build_info for message in flat(messages) if message.build_info is not None]
    assert [(build.path, build.finished) for build in builds][-1] == ("a.txt", True)
    assert not builds[0].finished


async def test_raw_marks_never_reach_the_client_however_the_text_is_cut(bench: Bench) -> None:
    whole = code()
    bench.script.says["coder"] = [list(whole)]
    shown = text(await collected(bench.tell()))
    assert "Plandex" not in shown
    assert "```text\nhello\n```" in shown
    assert (await bench.state()).messages[-1].message == whole


async def test_a_client_gets_the_time_to_draw(bench: Bench) -> None:
    bench.pace_ms = 300
    bench.boot()
    begun = time.monotonic()
    arrived = [(message, time.monotonic() - begun) async for message in bench.tell(auto_continue=False)]
    assert kinds([message for message, _ in arrived])[-1] == "finished"
    others = [after for message, after in arrived if not {part.type for part in flat([message])} <= {"start", "reply"}]
    assert min(others) >= 0.3
    await bench.runs.stop()


async def test_an_error_waits_for_nobody(bench: Bench) -> None:
    bench.pace_ms = 60_000
    bench.boot()
    last = (await collected(bench.tell("", is_user_continue=True)))[-1]
    assert last.type == "error"


async def test_positions_have_no_hole_and_no_duplicate(bench: Bench) -> None:
    messages = await collected(bench.tell())
    assert [message.position for message in messages] == list(range(1, len(messages) + 1))


async def test_rest_clients_see_no_positions_they_did_not_ask_for(bench: Bench) -> None:
    call = bench.call
    call.door = "rest"
    messages = await collected(bench.service.stream_tell(StreamTellRequest(tell=bench.request()), call))
    assert {message.position for message in messages} == {0}


async def test_a_replay_from_each_position_is_the_rest_of_the_stream(bench: Bench) -> None:
    whole = await collected(bench.tell())
    for position in range(len(whole) + 1):
        assert await collected(bench.connect(position)) == whole[position:]


async def test_a_replay_goes_over_to_live_without_a_hole(bench: Bench) -> None:
    gate, more = asyncio.Event(), asyncio.Event()
    bench.script.says["planner"] = [["One.\n", gate, "Two.\n", more, plan()]]
    stream = bench.tell()
    seen = await until(stream, "reply")
    late = asyncio.create_task(collected(bench.connect(seen[-1].position)))
    await asyncio.sleep(0)
    gate.set()
    seen += await until(stream, "reply")
    later = asyncio.create_task(collected(bench.connect(0)))
    more.set()
    whole = seen + await collected(stream)
    assert await late == [message for message in whole if message.position > seen[0].position + 1]
    assert await later == whole


async def test_many_readers_at_any_speed_see_the_same(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    # So little is shared from memory that slow readers have to read the log.
    monkeypatch.setattr("core.plans.run_feed.REMEMBERED", 2)
    monkeypatch.setattr("core.plans.run_feed.COLLECT_SECONDS", 0.0)
    bench.script.says["coder"] = [[piece for line in code().splitlines(keepends=True) for piece in (line, _soon())]]

    async def slow(every: int) -> list[StreamMessage]:
        found: list[StreamMessage] = []
        async for message in bench.connect(0):
            found.append(message)
            if len(found) % every == 0:
                await asyncio.sleep(0.02)
        return found

    started = await bench.service.tell(bench.request(), bench.call)
    readers = await asyncio.gather(*(slow(every) for every in (1, 2, 3, 100)))
    assert all(reader == readers[0] for reader in readers)
    assert [message.position for message in readers[0]] == list(range(1, len(readers[0]) + 1))
    assert (await bench.status(started.id)).position == len(readers[0])
    assert REMEMBERED > 2


def _soon() -> asyncio.Event:
    event = asyncio.Event()
    asyncio.get_running_loop().call_later(0.01, event.set)
    return event


async def test_who_connects_learns_how_the_run_stands_and_goes_on_live(bench: Bench) -> None:
    gate = asyncio.Event()
    halves = code().split("hello")
    bench.script.says["coder"] = [[halves[0], gate, "hello" + halves[1]]]
    stream = bench.tell("please write")
    await until(stream, "describing")
    await until(stream, "reply")
    joined = bench.connect()
    start, active = [await anext(joined), await anext(joined)]
    assert (start.type, active.type) == ("start", "connectActive")
    assert active.init_prompt == "please write"
    first, second = active.init_replies
    assert first == plan()
    assert second
    assert "<PlandexBlock" in second
    assert code().startswith(second)
    assert not active.init_build_only
    gate.set()
    rest = await collected(joined)
    assert kinds(rest)[-1] == "finished"
    assert "hello" in text(rest)
    await collected(stream)


async def test_nobody_connects_to_nothing(bench: Bench) -> None:
    with pytest.raises(NotFound, match=r"^No active plan for plan$"):
        await collected(bench.connect())
    with pytest.raises(NotFound, match=r"^No active plan for plan$"):
        await collected(bench.connect(0))
    await collected(bench.tell())
    with pytest.raises(NotFound, match=r"^No active plan for plan$"):
        await collected(bench.connect())
    with pytest.raises(NotFound, match=r"^No active plan for plan$"):
        await collected(bench.connect(0, "no-such-run"))
