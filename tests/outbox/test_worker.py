"""How side effects are carried out, tried again, and given up."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from core.outbox.delivery import AttemptFailed, Backoff, Delivery, Handler, PermanentFailure
from core.outbox.outbox import Outbox
from core.outbox.tables import DEAD_LETTER, DELIVERED, LEASED, PENDING, OutboxRow
from core.outbox.worker import OutboxWorker
from core.storage.database import Database
from tests.outbox.conftest import StillClock

EXACT = Backoff(first=2, factor=2, jitter=0)


class Recorder:
    """A handler that does what a test tells it to, and keeps what it was given."""

    def __init__(self, *outcomes: Exception | int | None) -> None:
        self.seen: list[Delivery] = []
        self._outcomes = list(outcomes)

    async def __call__(self, delivery: Delivery) -> int | None:
        self.seen.append(delivery)
        outcome = self._outcomes.pop(0) if self._outcomes else 200
        if isinstance(outcome, Exception):
            raise outcome
        return outcome


class Bench:
    """An outbox with what a test does to it."""

    def __init__(self, database: Database, outbox: Outbox, clock: StillClock) -> None:
        self.database = database
        self.outbox = outbox
        self.clock = clock

    def worker(
        self,
        run: Callable[[Delivery], Awaitable[int | None]],
        seconds: float = 5,
        backoff: Backoff = EXACT,
        most_at_once: int = 10,
    ) -> OutboxWorker:
        handlers = {"webhook": Handler(run, seconds, backoff)}
        return OutboxWorker(self.database, self.outbox, handlers, clock=self.clock, most_at_once=most_at_once, poll_seconds=60)

    async def enqueue(self, count: int = 1, kind: str = "webhook", max_attempts: int = 3) -> list[str]:
        async with self.database.unit_of_work() as session:
            return [
                await self.outbox.enqueue(session, kind, number, "org-1", max_attempts=max_attempts) for number in range(count)
            ]

    async def row(self, row_id: str) -> OutboxRow:
        async with self.database.read() as session:
            return await self.outbox.get(session, "org-1", row_id)

    async def until(self, row_id: str, condition: Callable[[OutboxRow], bool]) -> OutboxRow:
        async with asyncio.timeout(20):
            while not condition(row := await self.row(row_id)):  # noqa: ASYNC110 - a row raises no event
                await asyncio.sleep(0.005)
        return row

    async def until_state(self, row_id: str, state: str) -> OutboxRow:
        return await self.until(row_id, lambda row: row.state == state)

    async def until_attempted(self, row_id: str, attempts: int) -> OutboxRow:
        return await self.until(row_id, lambda row: row.attempts == attempts)

    def later(self, seconds: float) -> None:
        self.clock.forward(seconds)
        self.outbox.notify()


@pytest.fixture
def bench(database: Database, outbox: Outbox, clock: StillClock) -> Bench:
    return Bench(database, outbox, clock)


async def test_what_is_enqueued_is_carried_out_at_once(bench: Bench) -> None:
    recorder = Recorder(204)
    async with bench.worker(recorder):
        (row_id,) = await bench.enqueue()
        row = await bench.until_state(row_id, DELIVERED)
    assert (row.attempts, row.response_code, row.delivered_us, row.last_error) == (1, 204, bench.clock.at_us, None)
    (delivery,) = recorder.seen
    assert (delivery.id, delivery.org_id, delivery.json(), delivery.attempt) == (row_id, "org-1", 0, 1)


async def test_what_waited_before_the_start_is_carried_out(bench: Bench) -> None:
    ids = await bench.enqueue(25)
    recorder = Recorder()
    async with bench.worker(recorder):
        for row_id in ids:
            await bench.until_state(row_id, DELIVERED)
    assert sorted(delivery.id for delivery in recorder.seen) == sorted(ids)


async def test_a_failed_attempt_is_followed_by_others_after_growing_waits(bench: Bench) -> None:
    recorder = Recorder(AttemptFailed("HTTP 503", 503), AttemptFailed("Timeout"))
    async with bench.worker(recorder) as worker:
        (row_id,) = await bench.enqueue()
        first = await bench.until_attempted(row_id, 1)
        assert (first.state, first.last_error, first.response_code) == (PENDING, "HTTP 503", 503)
        assert first.next_attempt_us == bench.clock.at_us + 2_000_000
        bench.later(2)
        second = await bench.until_attempted(row_id, 2)
        assert (second.last_error, second.response_code) == ("Timeout", None)
        assert second.next_attempt_us == bench.clock.at_us + 4_000_000
        bench.later(4)
        assert (await bench.until_state(row_id, DELIVERED)).attempts == 3
    assert [delivery.id for delivery in recorder.seen] == [row_id] * 3
    assert (worker.counters.retried, worker.counters.delivered) == (2, 1)


async def test_a_row_is_not_tried_before_its_time(bench: Bench) -> None:
    recorder = Recorder(AttemptFailed("HTTP 500", 500))
    async with bench.worker(recorder):
        (failing,) = await bench.enqueue()
        await bench.until_attempted(failing, 1)
        bench.later(1.9)
        (other,) = await bench.enqueue()
        await bench.until_state(other, DELIVERED)
    assert [delivery.id for delivery in recorder.seen] == [failing, other]


async def test_the_last_failed_attempt_makes_a_dead_letter(bench: Bench) -> None:
    recorder = Recorder(*[AttemptFailed("HTTP 500", 500)] * 2)
    async with bench.worker(recorder) as worker:
        (row_id,) = await bench.enqueue(max_attempts=2)
        await bench.until_attempted(row_id, 1)
        bench.later(2)
        row = await bench.until_state(row_id, DEAD_LETTER)
        assert (row.attempts, row.last_error, row.delivered_us) == (2, "HTTP 500", None)
        assert worker.counters.dead == 1


async def test_a_permanent_failure_makes_a_dead_letter_at_once(bench: Bench) -> None:
    async with bench.worker(Recorder(PermanentFailure("address refused"))):
        (row_id,) = await bench.enqueue()
        row = await bench.until_state(row_id, DEAD_LETTER)
    assert (row.attempts, row.last_error) == (1, "address refused")


async def test_a_dead_letter_sent_again_is_carried_out(bench: Bench) -> None:
    recorder = Recorder(PermanentFailure("gone"))
    async with bench.worker(recorder):
        (row_id,) = await bench.enqueue()
        await bench.until_state(row_id, DEAD_LETTER)
        async with bench.database.unit_of_work() as session:
            await bench.outbox.redeliver(session, "org-1", row_id)
        row = await bench.until_state(row_id, DELIVERED)
    assert (row.attempts, row.last_error) == (1, None)


async def test_a_defect_of_a_handler_is_tried_again_and_its_text_is_not_shown(bench: Bench) -> None:
    async with bench.worker(Recorder(RuntimeError("password=hunter2"))):
        (row_id,) = await bench.enqueue()
        row = await bench.until_attempted(row_id, 1)
    assert (row.state, row.last_error) == (PENDING, "internal error")


async def test_a_handler_that_takes_too_long_is_cut_off(bench: Bench) -> None:
    async def hang(_: Delivery) -> int | None:
        await asyncio.Event().wait()
        return None

    async with bench.worker(hang, seconds=0.01):
        (row_id,) = await bench.enqueue()
        assert (await bench.until_attempted(row_id, 1)).last_error == "Timeout"


async def test_no_more_attempts_run_at_once_than_may(bench: Bench) -> None:
    running, most = 0, 0

    async def count(_: Delivery) -> int | None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0)
        running -= 1
        return None

    async with bench.worker(count, most_at_once=3):
        for row_id in await bench.enqueue(12):
            await bench.until_state(row_id, DELIVERED)
    assert 1 <= most <= 3


async def test_two_workers_carry_out_each_row_once(bench: Bench) -> None:
    one, two = Recorder(), Recorder()
    ids = await bench.enqueue(60)
    async with bench.worker(one, most_at_once=4), bench.worker(two, most_at_once=4):
        for row_id in ids:
            await bench.until_state(row_id, DELIVERED)
    assert sorted(delivery.id for delivery in one.seen + two.seen) == sorted(ids)


async def test_rows_of_kinds_without_a_handler_are_left_alone(bench: Bench) -> None:
    (mail,) = await bench.enqueue(kind="mail")
    async with bench.worker(Recorder()):
        (row_id,) = await bench.enqueue()
        await bench.until_state(row_id, DELIVERED)
    assert (await bench.row(mail)).state == PENDING


async def test_a_row_whose_worker_vanished_is_taken_by_another_once_the_lease_ends(bench: Bench) -> None:
    (row_id,) = await bench.enqueue()
    vanished = bench.worker(Recorder())
    await vanished._take(1)
    assert (await bench.row(row_id)).state == LEASED
    recorder = Recorder()
    async with bench.worker(recorder):
        (other,) = await bench.enqueue()
        await bench.until_state(other, DELIVERED)
        assert [delivery.id for delivery in recorder.seen] == [other]
        bench.later(10.001)
        row = await bench.until_state(row_id, DELIVERED)
    assert row.attempts == 1


async def test_a_row_waits_for_the_lease_of_its_own_kind_and_for_no_slower_one(bench: Bench) -> None:
    (row_id,), (slow_id,) = await bench.enqueue(), await bench.enqueue(kind="mail")
    handlers = {"webhook": Handler(Recorder(), 5), "mail": Handler(Recorder(), 600)}
    vanished = OutboxWorker(bench.database, bench.outbox, handlers, clock=bench.clock)
    assert len(await vanished._take(2)) == 2
    bench.later(10.001)
    again = await vanished._take(2)
    assert [delivery.id for delivery, _ in again] == [row_id]
    bench.later(600)
    assert {delivery.id for delivery, _ in await vanished._take(2)} == {row_id, slow_id}


async def test_an_outcome_that_comes_after_the_lease_changes_nothing(bench: Bench) -> None:
    (row_id,) = await bench.enqueue()
    late, quick = bench.worker(Recorder(AttemptFailed("late"))), bench.worker(Recorder())
    ((delivery, lease),) = await late._take(1)
    bench.clock.forward(11)
    async with quick:
        await bench.until_state(row_id, DELIVERED)
    await late._attempt(delivery, lease)
    assert (await bench.row(row_id)).state == DELIVERED
    assert late.counters.lost == 1


async def test_stopping_waits_for_attempts_under_way(bench: Bench) -> None:
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def wait(_: Delivery) -> int | None:
        begun.set()
        await go_on.wait()
        return None

    worker = bench.worker(wait)
    worker.start()
    (row_id,) = await bench.enqueue()
    async with asyncio.timeout(20):
        await begun.wait()
        stopping = asyncio.create_task(worker.stop(grace_seconds=20))
        await asyncio.sleep(0)
        go_on.set()
        await stopping
    assert (await bench.row(row_id)).state == DELIVERED


async def test_stopping_hands_back_what_does_not_end_in_time(bench: Bench) -> None:
    begun = asyncio.Event()

    async def hang(_: Delivery) -> int | None:
        begun.set()
        await asyncio.Event().wait()
        return None

    worker = bench.worker(hang, seconds=60)
    worker.start()
    (row_id,) = await bench.enqueue()
    async with asyncio.timeout(20):
        await begun.wait()
        await worker.stop(grace_seconds=0)
    row = await bench.row(row_id)
    assert (row.state, row.attempts, row.next_attempt_us) == (PENDING, 0, bench.clock.at_us)
    assert worker.running == 0


async def test_what_ended_long_ago_is_deleted(bench: Bench) -> None:
    async with bench.worker(Recorder(200, PermanentFailure("gone"))):
        done, dead = (await bench.enqueue())[0], (await bench.enqueue())[0]
        await bench.until_state(done, DELIVERED)
        await bench.until_state(dead, DEAD_LETTER)
        (waiting,) = await bench.enqueue(kind="mail")
        bench.later(31 * 86_400)
        (fresh,) = await bench.enqueue()
        await bench.until_state(fresh, DELIVERED)
    async with bench.database.read() as session:
        assert {row.id for row in await bench.outbox.list(session, "org-1")} == {fresh, waiting}


async def test_a_worker_outlives_a_round_that_fails(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    worker = bench.worker(Recorder())
    take, failed = worker._take, asyncio.Event()

    async def failing(most: int) -> list[tuple[Delivery, str]]:
        if not failed.is_set():
            failed.set()
            raise RuntimeError("defect")
        return await take(most)

    monkeypatch.setattr(worker, "_take", failing)
    async with worker:
        await asyncio.wait_for(failed.wait(), 20)
        (row_id,) = await bench.enqueue()
        await bench.until_state(row_id, DELIVERED)


def test_waits_grow_up_to_a_limit_and_are_spread() -> None:
    exact = Backoff(first=2, factor=2, most=10, jitter=0)
    assert [exact.delay_us(attempt) // 1_000_000 for attempt in (1, 2, 3, 4, 1000)] == [2, 4, 8, 10, 10]
    spread = {Backoff(first=2, jitter=0.5).delay_us(1) for _ in range(50)}
    assert len(spread) > 1
    assert all(2_000_000 <= wait <= 3_000_000 for wait in spread)
