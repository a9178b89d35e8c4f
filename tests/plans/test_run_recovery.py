"""Runs whose process died: they are ended honestly, with what they had written, and nothing of them is told twice."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest

from core.kernel.errors import Aborted, AlreadyExists, FailedPrecondition
from core.plans.active_runs import STOPPED_SERVER
from core.plans.run_activity import require_idle
from core.plans.run_log import Event
from core.plans.stream_messages import reply
from tests.plans.running import Bench, bench, code, collected, error_of, flat, kinds, plan, text, until

__all__ = ["bench"]


async def die(bench: Bench) -> None:
    """Let the process of the bench vanish: nothing of it runs any more, and a new one takes its place."""
    run = await bench.active()
    tasks = [run.task, bench.runs._beating, *run.later]
    bench.runs._finish = _never  # pyright: ignore[reportAttributeAccessIssue]
    for store_method in ("change",):
        setattr(bench.parts.store, store_method, _gone)
    for task in tasks:
        if task is not None:
            task.cancel()
            with suppress(asyncio.CancelledError, RuntimeError):
                await task
    bench.desk.restart()
    bench.boot()


async def _never(*_arguments: object) -> None:
    """Do nothing."""


def _gone(*_arguments: object, **_more: object) -> None:
    raise RuntimeError("the process is gone")


async def test_a_run_of_a_dead_process_ends_with_what_it_had_written(bench: Bench) -> None:
    bench.script.says["planner"] = [["I will write", asyncio.Event()]]
    stream = bench.tell()
    seen = await until(stream, "reply")
    run_id = (await bench.active()).held.run_id
    await die(bench)
    bench.desk.clock.forward(seconds=6)
    await bench.runs.start()
    state = await bench.state()
    assert [(message.role, message.message, message.stopped) for message in state.messages] == [
        ("user", "write a.txt", False),
        ("assistant", "I will write", True),
    ]
    run = await bench.status(run_id)
    assert (run.status, run.error) == ("error", STOPPED_SERVER)
    assert run.finished_at is not None
    assert await bench.branch_status() == "error"
    replayed = await collected(bench.connect(0))
    assert replayed[: len(seen)] == seen
    assert replayed[-1].type == "error"
    assert error_of(replayed[-1]).msg == STOPPED_SERVER
    assert [message.position for message in replayed] == list(range(1, len(replayed) + 1))


async def test_replies_that_were_kept_are_not_kept_again(bench: Bench) -> None:
    bench.script.says["coder"] = [["Here", asyncio.Event()]]
    stream = bench.tell()
    await until(stream, "describing")
    await until(stream, "reply")
    await die(bench)
    bench.desk.clock.forward(seconds=6)
    await bench.runs.start()
    assert [message.message for message in (await bench.state()).messages] == ["write a.txt", plan(), "Here"]


async def test_a_dead_run_is_noticed_by_whoever_comes_first(bench: Bench) -> None:
    bench.script.says["planner"] = [["I will write", asyncio.Event()], plan()]
    await until(bench.tell(), "reply")
    await die(bench)
    with pytest.raises(AlreadyExists):
        await bench.service.tell(bench.request("again"), bench.call)
    bench.desk.clock.forward(seconds=6)
    assert kinds(await collected(bench.tell("again")))[-1] == "finished"
    assert [message.stopped for message in (await bench.state()).messages] == [False, True, False, False, False]


async def test_a_client_that_comes_back_waits_for_the_truth(bench: Bench) -> None:
    bench.script.says["planner"] = [["I will write", asyncio.Event()]]
    seen = await until(bench.tell(), "reply")
    await die(bench)
    waiting = asyncio.create_task(collected(bench.connect(seen[-1].position)))
    await asyncio.sleep(0.05)
    assert not waiting.done()
    bench.desk.clock.forward(seconds=6)
    await bench.runs.start()
    rest = await waiting
    assert kinds(rest)[-1] == "error"
    assert rest[0].position == seen[-1].position + 1


async def test_a_process_that_was_taken_for_dead_adds_nothing(bench: Bench) -> None:
    gate = asyncio.Event()
    bench.script.says["planner"] = [["I will write", gate, plan()]]
    stream = bench.tell()
    await until(stream, "reply")
    run = await bench.active()
    other = Bench(bench.desk, bench.script)
    bench.desk.clock.forward(seconds=6)
    await other.runs.start()
    gate.set()
    rest = await collected(stream)
    assert rest[-1].type == "error"
    assert error_of(rest[-1]).msg == STOPPED_SERVER
    assert run.task is not None
    await asyncio.wait_for(run.task, 10)
    assert [message.message for message in (await bench.state()).messages] == ["write a.txt", "I will write"]
    with pytest.raises(Aborted):
        await bench.log.append(run.held, [Event(99, reply("late"))], lambda _: None)
    await other.runs.stop()


async def test_a_server_that_stops_ends_its_runs_at_once(bench: Bench) -> None:
    bench.script.says["planner"] = [["I will write", asyncio.Event()]]
    stream = bench.tell()
    await until(stream, "reply")
    await bench.runs.stop()
    last = (await collected(stream))[-1]
    assert (last.type, error_of(last).msg) == ("error", STOPPED_SERVER)
    assert (await bench.state()).messages[-1].stopped
    assert await bench.branch_status() == "error"


async def test_a_live_run_gives_signs_of_life(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("core.plans.active_runs.BEAT_SECONDS", 0.02)
    await bench.runs.start()
    gate = asyncio.Event()
    bench.script.says["planner"] = [["On it.\n", gate, plan()]]
    stream = bench.tell()
    await until(stream, "reply")
    bench.desk.clock.forward(seconds=6)
    await asyncio.sleep(0.2)
    branch_id = (await bench.active()).held.branch_id
    async with bench.desk.database.read() as session:
        with pytest.raises(FailedPrecondition):
            await require_idle(session, branch_id, bench.desk.clock.now_us())
    gate.set()
    assert kinds(await collected(stream))[-1] == "finished"


async def test_what_was_cut_out_of_a_reply_does_not_come_back(bench: Bench) -> None:
    bench.script.says["coder"] = [[*code().splitlines(keepends=True), "And then\n", asyncio.Event()]]
    stream = bench.tell(project_paths={"a.txt": True})
    await until(stream, "promptMissingFile")
    await bench.respond("skip", "a.txt")
    seen = await until(stream, "reply")
    while "And then" not in text(seen):
        seen += await until(stream, "reply")
    await die(bench)
    bench.desk.clock.forward(seconds=6)
    await bench.runs.start()
    kept = (await bench.state()).messages[-1]
    assert kept.stopped
    assert "PlandexBlock" not in kept.message
    assert kept.message.startswith("Here it is.\n\n")
    assert "And then" in kept.message
    assert flat(seen)
