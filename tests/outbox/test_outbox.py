"""Side effects are written with their cause, and each organisation sees its own."""

from __future__ import annotations

import pytest

from core.kernel.errors import FailedPrecondition, NotFound
from core.outbox.outbox import Outbox
from core.outbox.tables import DEAD_LETTER, DELIVERED, PENDING, OutboxRow
from core.storage.database import Database
from core.storage.tx import Tx
from tests.outbox.conftest import StillClock


async def enqueue(database: Database, outbox: Outbox, payload: object = None, org_id: str = "org-1", **options: object) -> str:
    async with database.unit_of_work() as session:
        return await outbox.enqueue(session, "webhook", payload, org_id, **options)  # pyright: ignore[reportArgumentType]


async def listed(database: Database, outbox: Outbox, org_id: str = "org-1", **narrow: object) -> list[str]:
    async with database.read() as session:
        rows = await outbox.list(session, org_id, **narrow)  # pyright: ignore[reportArgumentType]
        return [row.id for row in rows]


async def put_state(database: Database, row_id: str, state: str) -> None:
    async with database.unit_of_work() as session:
        row = await session.get_one(OutboxRow, row_id)
        row.state, row.attempts, row.last_error = state, 3, "HTTP 500"
        session.add(row)


async def test_a_side_effect_waits_after_the_commit(database: Database, outbox: Outbox, clock: StillClock) -> None:
    row_id = await enqueue(database, outbox, {"type": "sensor.reading", "name": "Wärme"}, subject="hook-1", delay_us=5)
    async with database.read() as session:
        row = await outbox.get(session, "org-1", row_id)
    assert (row.state, row.attempts, row.subject) == (PENDING, 0, "hook-1")
    assert row.payload == '{"type":"sensor.reading","name":"Wärme"}'
    assert (row.created_us, row.next_attempt_us) == (clock.at_us, clock.at_us + 5)


async def test_a_cause_that_fails_leaves_no_side_effect(database: Database, outbox: Outbox) -> None:
    told: list[bool] = []
    outbox.on_enqueue(lambda: told.append(True))

    async def cause() -> None:
        async with database.unit_of_work() as session:
            await outbox.enqueue(session, "webhook", {}, "org-1")
            raise RuntimeError("the cause failed")

    with pytest.raises(RuntimeError):
        await cause()
    assert await listed(database, outbox) == []
    assert told == []


async def test_workers_are_told_once_and_only_after_the_commit(database: Database, outbox: Outbox) -> None:
    told: list[bool] = []
    stop = outbox.on_enqueue(lambda: told.append(True))
    async with database.unit_of_work() as session:
        await outbox.enqueue(session, "webhook", {}, "org-1")
        await outbox.enqueue(session, "webhook", {}, "org-1")
        assert told == []
    assert told == [True]
    stop()
    await enqueue(database, outbox)
    assert told == [True]


async def test_a_payload_that_is_no_json_is_refused(database: Database, outbox: Outbox) -> None:
    with pytest.raises(ValueError, match="JSON"):
        await enqueue(database, outbox, float("nan"))


async def test_a_hot_path_enqueues_within_its_own_job(database: Database, outbox: Outbox) -> None:
    async def job(tx: Tx) -> str:
        return await outbox.enqueue_job(tx, "webhook", [1], "org-1", subject="hook-1")

    row_id = await database.submit(job)
    assert await listed(database, outbox, subject="hook-1") == [row_id]


async def test_one_dedupe_key_makes_one_side_effect(database: Database, outbox: Outbox) -> None:
    first = await enqueue(database, outbox, dedupe_key="evt-1")
    assert await enqueue(database, outbox, dedupe_key="evt-1") == first

    async def job(tx: Tx) -> str:
        return await outbox.enqueue_job(tx, "webhook", None, "org-1", dedupe_key="evt-1")

    assert await database.submit(job) == first
    assert await listed(database, outbox) == [first]


async def test_dedupe_keys_of_two_organisations_do_not_meet(database: Database, outbox: Outbox) -> None:
    mine = await enqueue(database, outbox, dedupe_key="evt-1")
    assert await enqueue(database, outbox, dedupe_key="evt-1", org_id="org-2") != mine


async def test_side_effects_without_a_key_are_all_kept(database: Database, outbox: Outbox) -> None:
    assert await enqueue(database, outbox) != await enqueue(database, outbox)


async def test_lists_are_newest_first_and_can_be_narrowed(database: Database, outbox: Outbox, clock: StillClock) -> None:
    ids: list[str] = []
    for number in range(4):
        ids.append(await enqueue(database, outbox, subject=f"hook-{number % 2}"))
        clock.forward(1)
    await put_state(database, ids[3], DELIVERED)
    assert await listed(database, outbox) == ids[::-1]
    assert await listed(database, outbox, subject="hook-1") == [ids[3], ids[1]]
    assert await listed(database, outbox, states=(DELIVERED,)) == [ids[3]]
    assert await listed(database, outbox, offset=1, limit=2) == [ids[2], ids[1]]
    assert await listed(database, outbox, kind="mail") == []
    async with database.read() as session:
        assert await outbox.count(session, "org-1", subject="hook-1") == 2


async def test_an_organisation_learns_nothing_of_another_one(database: Database, outbox: Outbox) -> None:
    row_id = await enqueue(database, outbox)
    await put_state(database, row_id, DEAD_LETTER)
    assert await listed(database, outbox, "org-2") == []
    async with database.unit_of_work() as session:
        assert await outbox.count(session, "org-2") == 0
        await outbox.forget(session, "org-2", "")
        with pytest.raises(NotFound):
            await outbox.get(session, "org-2", row_id)
        with pytest.raises(NotFound):
            await outbox.redeliver(session, "org-2", row_id)
    assert await listed(database, outbox) == [row_id]


async def test_a_dead_letter_sent_again_starts_from_the_first_attempt(
    database: Database, outbox: Outbox, clock: StillClock
) -> None:
    row_id = await enqueue(database, outbox)
    await put_state(database, row_id, DEAD_LETTER)
    clock.forward(3600)
    told: list[bool] = []
    outbox.on_enqueue(lambda: told.append(True))
    async with database.unit_of_work() as session:
        await outbox.redeliver(session, "org-1", row_id)
    async with database.read() as session:
        row = await outbox.get(session, "org-1", row_id)
    assert (row.state, row.attempts, row.next_attempt_us) == (PENDING, 0, clock.at_us)
    assert told == [True]


async def test_only_a_dead_letter_can_be_sent_again(database: Database, outbox: Outbox) -> None:
    row_id = await enqueue(database, outbox)
    async with database.unit_of_work() as session:
        with pytest.raises(FailedPrecondition, match="pending"):
            await outbox.redeliver(session, "org-1", row_id)


async def test_what_belongs_to_a_deleted_subject_is_deleted_with_it(database: Database, outbox: Outbox) -> None:
    await enqueue(database, outbox, subject="hook-1")
    kept = await enqueue(database, outbox, subject="hook-2")
    async with database.unit_of_work() as session:
        await outbox.forget(session, "org-1", "hook-1")
    assert await listed(database, outbox) == [kept]
