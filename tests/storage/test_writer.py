"""Group commit: neighbours share a commit and nothing else."""

from __future__ import annotations

import asyncio
import sqlite3

import pytest

from core.kernel.errors import NotFound, Unavailable
from core.storage.database import Database
from core.storage.tx import Job, Tx
from core.storage.writer import MOST_WAITING, Entry, Writer


def insert(name: str, *, fail: bool = False) -> Job[str]:
    """Return a job that adds a tag set and may fail afterwards."""

    async def job(tx: Tx) -> str:
        await tx.execute("INSERT INTO tagset (hash, body) VALUES ($1, $2)", name, name)
        if fail:
            raise NotFound(f"{name} failed")
        return name

    return job


async def names(tx: Tx) -> list[str]:
    """Read what was added."""
    return [row[0] for row in await tx.fetch("SELECT hash FROM tagset ORDER BY hash")]


async def test_a_job_answers_with_its_result(database: Database) -> None:
    assert await database.submit(insert("a")) == "a"
    assert await database.query(names) == ["a"]


async def test_a_failing_job_fails_alone(database: Database) -> None:
    jobs = [insert("a"), insert("bad", fail=True), insert("c"), insert("worse", fail=True), insert("e")]
    answers = await asyncio.gather(*map(database.submit, jobs), return_exceptions=True)
    assert [answers[0], answers[2], answers[4]] == ["a", "c", "e"]
    assert [str(answers[1]), str(answers[3])] == ["bad failed", "worse failed"]
    assert await database.query(names) == ["a", "c", "e"]


async def test_a_statement_that_breaks_a_rule_does_not_harm_the_neighbours(database: Database) -> None:
    answers = await asyncio.gather(*map(database.submit, [insert("a"), insert("a"), insert("b")]), return_exceptions=True)
    assert answers[0] == "a"
    assert isinstance(answers[1], Exception)
    assert answers[2] == "b"
    assert await database.query(names) == ["a", "b"]


async def test_when_the_answer_comes_another_connection_sees_the_write(sqlite: Database) -> None:
    async def write(number: int) -> bool:
        await sqlite.submit(insert(f"n{number}"))
        with sqlite3.connect(sqlite.path) as other:
            return other.execute("SELECT count(*) FROM tagset WHERE hash = ?", (f"n{number}",)).fetchone() == (1,)

    assert all(await asyncio.gather(*map(write, range(30))))


async def test_callbacks_run_in_commit_order_before_the_answers(database: Database) -> None:
    seen: list[str] = []

    async def caller(name: str) -> None:
        await database.submit(insert(name), committed=lambda result: seen.append(f"committed {result}"))
        seen.append(f"answered {name}")

    await asyncio.gather(*map(caller, ["a", "b", "c"]))
    assert [entry for entry in seen if entry.startswith("committed")] == ["committed a", "committed b", "committed c"]
    assert all(seen.index(f"committed {name}") < seen.index(f"answered {name}") for name in "abc")


async def test_a_callback_runs_although_its_caller_has_gone(database: Database) -> None:
    started, committed = asyncio.Event(), asyncio.Event()

    async def caller() -> None:
        started.set()
        await database.submit(insert("a"), committed=lambda _result: committed.set())

    task = asyncio.create_task(caller())
    await started.wait()
    # The writer takes the job in this turn of the loop; the caller leaves while it commits.
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await database.submit(insert("b"))
    assert committed.is_set() == ("a" in await database.query(names))


async def test_a_failed_job_has_no_callback(database: Database) -> None:
    seen: list[str] = []
    with pytest.raises(NotFound):
        await database.submit(insert("a", fail=True), committed=seen.append)
    assert seen == []


async def test_a_reading_job_cannot_write(database: Database) -> None:
    with pytest.raises(Unavailable):
        await database.query(insert("a"))
    assert await database.query(names) == []


async def test_a_stopped_database_has_committed_what_was_waiting(sqlite: Database) -> None:
    waiting = [asyncio.ensure_future(sqlite.submit(insert(f"n{number}"))) for number in range(20)]
    await asyncio.sleep(0)
    await sqlite.stop()
    assert [await answer for answer in waiting] == [f"n{number}" for number in range(20)]


async def test_a_stopping_writer_takes_no_more() -> None:
    writer = Writer(_Still())
    writer.start()
    await writer.stop()
    with pytest.raises(Unavailable):
        await writer.submit(insert("late"))


async def test_a_full_queue_refuses_instead_of_growing() -> None:
    lane = _Still()
    writer = Writer(lane)
    writer.start()
    waiting = [asyncio.ensure_future(writer.submit(insert("a"))) for _ in range(MOST_WAITING + 600)]
    answers = [asyncio.ensure_future(writer.submit(insert("one too many")))]
    done, _ = await asyncio.wait([*waiting, *answers], timeout=10, return_when=asyncio.FIRST_COMPLETED)
    refusals = [answer.exception() for answer in done]
    assert refusals
    assert all(isinstance(refusal, Unavailable) and refusal.retry_after for refusal in refusals)
    lane.go.set()
    await asyncio.wait_for(asyncio.gather(*waiting, return_exceptions=True), 10)
    await writer.stop()


async def test_a_few_very_large_jobs_fill_the_queue_too() -> None:
    lane = _Still()
    writer = Writer(lane)
    writer.start()
    waiting = [asyncio.ensure_future(writer.submit(insert("a"), rows=400_000)) for _ in range(6)]
    done, _ = await asyncio.wait(waiting, timeout=10, return_when=asyncio.FIRST_COMPLETED)
    assert done
    assert all(isinstance(answer.exception(), Unavailable) for answer in done)
    lane.go.set()
    await asyncio.wait_for(asyncio.gather(*waiting, return_exceptions=True), 10)
    await writer.stop()


async def test_a_refusal_does_not_stand_when_what_it_saw_was_not_committed() -> None:
    writer = Writer(_Broken())
    writer.start()
    answers = await asyncio.gather(*(writer.submit(insert(name)) for name in "ab"), return_exceptions=True)
    assert [type(answer) for answer in answers] == [Unavailable, Unavailable]
    await writer.stop()


class _Broken:
    """A lane whose second job refuses because of what the first one did, and whose commit fails."""

    async def commit(self, entries: list[Entry]) -> None:
        entries[-1].error = NotFound("the first one deleted it")
        raise ConnectionError("the server went away")

    async def close(self) -> None:
        pass


class _Still:
    """A lane that commits when it is told to."""

    def __init__(self) -> None:
        self.go = asyncio.Event()

    async def commit(self, entries: list[Entry]) -> None:
        await self.go.wait()

    async def close(self) -> None:
        pass
