"""Units of work: all or nothing, with one owner."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Iterator

import pytest
from sqlmodel import col, select

from core.kernel.settings import Storage
from core.signals.tables import TagSetRow
from core.storage.database import Database
from core.storage.errors import is_unique_violation
from core.storage.tx import Tx


async def bodies(database: Database) -> list[str]:
    async with database.read() as session:
        return list((await session.exec(select(TagSetRow.body).order_by(col(TagSetRow.id)))).all())


async def test_a_clean_exit_commits(database: Database) -> None:
    async with database.unit_of_work() as session:
        session.add(TagSetRow(hash="1", body="one"))
    assert await bodies(database) == ["one"]


async def test_an_error_rolls_everything_back(database: Database) -> None:
    with pytest.raises(LookupError):  # noqa: PT012 - leaving the unit of work is what is tested
        async with database.unit_of_work() as session:
            session.add(TagSetRow(hash="1", body="one"))
            await session.flush()
            raise LookupError
    assert await bodies(database) == []


async def test_what_a_reading_session_changes_is_not_kept(database: Database) -> None:
    async with database.read() as session:
        session.add(TagSetRow(hash="1", body="one"))
    assert await bodies(database) == []


async def test_a_taken_unique_value_is_recognised_in_both_ways_in(database: Database) -> None:
    async with database.unit_of_work() as session:
        session.add(TagSetRow(hash="1", body="one"))
    with pytest.raises(Exception) as by_session:  # noqa: PT011 - the class differs by driver, which is the point
        async with database.unit_of_work() as session:
            session.add(TagSetRow(hash="1", body="again"))

    async def again(tx: Tx) -> None:
        await tx.execute("INSERT INTO tagset (hash, body) VALUES ($1, $2)", "1", "again")

    with pytest.raises(Exception) as by_job:  # noqa: PT011
        await database.submit(again)
    assert is_unique_violation(by_session.value)
    assert is_unique_violation(by_job.value)
    assert not is_unique_violation(ValueError())


async def test_units_of_work_and_jobs_of_one_process_take_turns(database: Database) -> None:
    async def unit(number: int) -> None:
        async with database.unit_of_work() as session:
            session.add(TagSetRow(hash=f"u{number}", body="unit"))

    async def job(tx: Tx, number: int) -> None:
        await tx.execute("INSERT INTO tagset (hash, body) VALUES ($1, $2)", f"j{number}", "job")

    units = [unit(number) for number in range(10)]
    jobs = [database.submit(lambda tx, number=number: job(tx, number)) for number in range(10)]
    await asyncio.wait_for(asyncio.gather(*units, *jobs), 20)
    assert sorted(await bodies(database)) == ["job"] * 10 + ["unit"] * 10


@pytest.fixture
def no_garbage_collection() -> Iterator[None]:
    """Keep alive what only a cycle of references holds, such as the tracebacks of what is cancelled."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("no_garbage_collection")
async def test_a_unit_of_work_that_is_cancelled_keeps_nobody_waiting(sqlite: Database) -> None:
    async def unit(number: int) -> None:
        async with sqlite.unit_of_work() as session:
            session.add(TagSetRow(hash=f"u{number}", body="unit"))
            await session.flush()
            await session.exec(select(TagSetRow.body))

    async def job(tx: Tx, number: int) -> None:
        await tx.execute("INSERT INTO tagset (hash, body) VALUES ($1, $2)", f"j{number}", "job")

    for number in range(150):
        task = asyncio.create_task(unit(number))
        # At another moment each time: while it begins, reads, commits or gives its connection back.
        await asyncio.sleep(number % 20 * 0.0003)
        task.cancel()
        await asyncio.wait([task])
        await asyncio.wait_for(sqlite.submit(lambda tx, number=number: job(tx, number)), 4)


async def test_a_foreign_key_is_enforced(database: Database) -> None:
    async def orphan(tx: Tx) -> None:
        await tx.execute("INSERT INTO channel (device_id, name, kind, created_us) VALUES (404, 'a', 'metric', 0)")

    with pytest.raises(Exception, match=r"(?i)foreign key"):
        await database.submit(orphan)


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///:memory:", "mysql://host/db", "busbar.db"])
def test_an_address_of_another_kind_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match=r"(?i)sqlite"):
        Database(url, Storage())


async def test_a_started_database_answers_a_ping(database: Database) -> None:
    await database.ping()
