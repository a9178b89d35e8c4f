"""When storage itself fails, callers are told to come back, nothing is half done, and it heals without a restart."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from core.kernel.errors import Unavailable
from core.kernel.settings import Storage
from core.signals.tables import TagSetRow
from core.storage.database import Database
from core.storage.tx import Tx
from gen.busbar.api.v1.error_reason_pb import ErrorReason
from tests.databases import Postgres

BULKY = "x" * 100_000
_driver: Any = asyncpg


async def add(tx: Tx) -> None:
    """Add something that needs new pages."""
    await tx.execute("INSERT INTO tagset (hash, body) VALUES ($1 || (SELECT count(*) FROM tagset), $2)", "h", BULKY)


async def size(tx: Tx) -> int:
    """Count what was added."""
    return (await tx.fetch("SELECT count(*) FROM tagset"))[0][0]


async def limit_pages(database: Database, pages: int) -> None:
    """Let the database file grow to some pages only, as a full disk would."""

    async def limit(tx: Tx) -> None:
        await tx.fetch(f"PRAGMA max_page_count={pages}")

    await database.submit(limit)


@contextmanager
def locked(path: str) -> Generator[None]:
    """Hold the file's lock, as another process may."""
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    try:
        yield
    finally:
        other.execute("ROLLBACK")
        other.close()


async def test_a_full_disk_refuses_all_waiting_writes_and_heals(sqlite: Database) -> None:
    await limit_pages(sqlite, 1)
    answers = await asyncio.gather(*[sqlite.submit(add) for _ in range(5)], return_exceptions=True)
    assert all(isinstance(answer, Unavailable) for answer in answers)
    assert await sqlite.query(size) == 0
    await limit_pages(sqlite, 1_000_000)
    await sqlite.submit(add)
    assert await sqlite.query(size) == 1


async def test_a_lock_of_another_process_refuses_jobs_and_units_of_work_and_heals(sqlite: Database) -> None:
    with locked(sqlite.path):
        with pytest.raises(Unavailable) as refused:
            await sqlite.submit(add)
        with pytest.raises(Unavailable):
            async with sqlite.unit_of_work() as session:
                session.add(TagSetRow(hash="1", body="one"))
        await sqlite.query(size)
    assert refused.value.reason == ErrorReason.STORAGE_UNAVAILABLE
    assert refused.value.retry_after
    assert "lock" not in refused.value.message
    await sqlite.submit(add)
    async with sqlite.unit_of_work() as session:
        session.add(TagSetRow(hash="1", body="one"))
    assert await sqlite.query(size) == 2


async def test_a_short_lock_of_another_process_is_waited_for(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'busbar.db'}", Storage(busy_timeout_s=10))
    await database.start()
    await database.migrate()
    with locked(database.path):
        write = asyncio.ensure_future(database.submit(add))
        await asyncio.wait([write], timeout=0.2)
        assert not write.done()
    await asyncio.wait_for(write, 10)
    await database.stop()


async def test_a_write_to_a_read_only_database_is_refused_for_now(sqlite: Database) -> None:
    async def shut(tx: Tx) -> None:
        await tx.fetch("PRAGMA query_only=ON")

    await sqlite.submit(shut)
    with pytest.raises(Unavailable):
        await sqlite.submit(add)


async def test_lost_connections_are_opened_again(postgres: Postgres) -> None:
    url = await postgres.migrated()
    database = Database(url, Storage())
    await database.start()
    await database.submit(add)
    async with database.read() as session:
        await session.get(TagSetRow, 1)
    killer = await _driver.connect(url)
    await killer.fetch(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )
    await killer.close()
    answers = [await _outcome(database) for _ in range(3)]
    assert answers[-1] == "stored"
    assert set(answers) <= {"stored", "refused"}
    await database.query(size)
    async with database.unit_of_work() as session:
        session.add(TagSetRow(hash="1", body="one"))
    await database.stop()


async def test_a_server_that_cannot_be_reached_is_unavailable() -> None:
    with pytest.raises(Unavailable):
        await Database("postgresql://postgres@127.0.0.1:1/none", Storage()).start()


async def _outcome(database: Database) -> str:
    try:
        await database.submit(add)
    except Unavailable:
        return "refused"
    return "stored"
