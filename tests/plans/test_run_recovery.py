"""Runs whose process died: they are ended honestly, with what they had written, and nothing of them is told twice."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import grpc
import pytest
from protobuf import Message

from core.app import App
from core.kernel.errors import Aborted, AlreadyExists, FailedPrecondition, NotFound
from core.kernel.settings import Settings
from core.plans.active_runs import STOPPED_SERVER
from core.plans.run_activity import require_idle
from core.plans.run_log import Event
from core.plans.stream_messages import reply
from gen.busbar.plans.v1.branches_pb import ListBranchesRequest, ListBranchesResponse
from gen.busbar.plans.v1.conversation_pb import ListMessagesRequest, ListMessagesResponse
from gen.busbar.plans.v1.plans_pb import DeletePlanRequest
from gen.busbar.plans.v1.runs_pb import ConnectRunRequest, GetRunRequest, Run, StreamMessage, StreamTellRequest, TellRequest
from tests.faults.process import prepare, serving
from tests.plans.desk import Desk
from tests.plans.running import Bench, bench, bench_anywhere, code, collected, error_of, flat, kinds, plan, text, until
from tests.provider import KEY, MODEL
from tests.provider import serving as providing

__all__ = ["bench", "bench_anywhere"]

M = TypeVar("M", bound=Message[Any])


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


async def test_a_run_of_a_dead_process_ends_with_what_it_had_written(bench_anywhere: Bench) -> None:
    bench = bench_anywhere
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


async def test_a_run_ends_with_its_plan(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("core.plans.active_runs.BEAT_SECONDS", 0.02)
    await bench.runs.start()
    bench.script.says["planner"] = [["On it.\n", asyncio.Event()]]
    stream = bench.tell()
    await until(stream, "reply")
    run = await bench.active()
    await bench.desk.plans.delete_plan(DeletePlanRequest(plan_id=bench.plan_id), bench.call)
    # Its model says nothing more, and whoever follows is told at once.
    assert kinds(await collected(stream)) == ["aborted"]
    assert run.task is not None
    await asyncio.wait_for(run.task, 10)
    assert bench.runs.of_branch(run.held.branch_id) is None


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


async def test_old_runs_are_forgotten_and_what_they_did_stays(bench: Bench) -> None:
    await collected(bench.tell())
    bench.desk.clock.forward(seconds=29 * 86_400)
    await bench.runs._purge()
    assert (await bench.status()).status == "finished"
    bench.desk.clock.forward(seconds=2 * 86_400)
    await bench.runs._purge()
    with pytest.raises(NotFound):
        await bench.status()
    assert len((await bench.state()).messages) == 3


async def prepared(data: Path) -> str:
    """Put a plan into a data directory that no server has opened; return the session of its owner."""
    account = await prepare(data)
    app = await App.create(Settings(data=data))
    try:
        owner = await app.credentials.authenticate(account.session)
        assert owner is not None
        desk = Desk(app.database, data / "plans", alice=owner)
        await desk.plan()
        async with desk.store.change(owner, "plan-1", "main") as change:
            change.state.settings.model_pack_name = "server"
            change.message = "Updated model settings"
    finally:
        await app.close()
    return account.session


class RunClient:
    """Calls a server's runs over gRPC."""

    def __init__(self, address: str, session: str) -> None:
        self.channel = grpc.aio.insecure_channel(address)
        self._metadata = (("authorization", f"Bearer {session}"),)

    def stream(self, method: str, request: Message[Any]) -> AsyncIterator[StreamMessage]:
        call: Any = self.channel.unary_stream(
            f"/busbar.plans.v1.RunService/{method}",
            request_serializer=type(request).to_binary,
            response_deserializer=StreamMessage.from_binary,
        )
        return call(request, metadata=self._metadata, timeout=30)

    async def call(self, method: str, request: Message[Any], response: type[M]) -> M:
        call: Any = self.channel.unary_unary(
            f"/busbar.plans.v1.{method}",
            request_serializer=type(request).to_binary,
            response_deserializer=response.from_binary,
        )
        return await call(request, metadata=self._metadata, timeout=20)


async def test_a_server_that_is_killed_in_the_middle_tells_the_truth_when_it_is_back(tmp_path: Path) -> None:
    session = await prepared(tmp_path / "data")
    async with providing() as provider:
        provider.pieces = ["I will ", "write a file.\n", "never said"]
        provider.hangs_after = 2
        model = {"ai_base_url": provider.url, "ai_key": KEY, "ai_model": MODEL, "plans": {"pace_ms": 0}}
        async with serving(tmp_path / "data", **model) as server:
            client = RunClient(server.grpc, session)
            tell = TellRequest(plan_id="plan-1", branch="main", prompt="write a file", auto_continue=True)
            stream = client.stream("StreamTell", StreamTellRequest(tell=tell))
            seen: list[StreamMessage] = []
            while "write a file." not in text(seen):
                seen += await until(stream, "reply")
            await server.kill()
            with pytest.raises(grpc.aio.AioRpcError):
                await collected(stream)
            await client.channel.close()
        provider.release.set()
        async with serving(tmp_path / "data", **model) as server:
            client = RunClient(server.grpc, session)
            request = ConnectRunRequest(plan_id="plan-1", branch="main", position=0)
            replayed = await collected(client.stream("ConnectRun", request), 40)
            latest = GetRunRequest(plan_id="plan-1", branch="main", run_id="latest")
            run = await client.call("RunService/GetRun", latest, Run)
            convo = ListMessagesRequest(plan_id="plan-1", branch="main")
            said = await client.call("ConversationService/ListMessages", convo, ListMessagesResponse)
            listed = await client.call(
                "BranchService/ListBranches", ListBranchesRequest(plan_id="plan-1"), ListBranchesResponse
            )
            await client.channel.close()
    assert replayed[: len(seen)] == seen
    assert error_of(replayed[-1]).msg == STOPPED_SERVER
    assert [message.position for message in replayed] == list(range(1, len(replayed) + 1))
    assert (run.status, run.error) == ("error", STOPPED_SERVER)
    assert run.text == "I will write a file.\n"
    assert [(message.message, message.stopped) for message in said.messages] == [
        ("write a file", False),
        ("I will write a file.\n", True),
    ]
    assert [branch.status for branch in listed.branches] == ["error"]
