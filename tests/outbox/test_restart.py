"""A worker that is killed in the middle of its work loses nothing."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections import Counter
from collections.abc import AsyncGenerator
from pathlib import Path

from core.outbox.outbox import Outbox
from core.outbox.tables import DELIVERED
from core.storage.database import Database
from tests.kernel.receiver import OK, Received, receiving
from tests.outbox.conftest import open_database

ROOT = Path(__file__).parents[2]
ROWS = 20


@contextlib.asynccontextmanager
async def worker_process(database: Database, url: str) -> AsyncGenerator[asyncio.subprocess.Process]:
    """Run a worker in a process of its own, and kill it without warning."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.outbox.worker_process", database.url, url, cwd=ROOT
    )
    try:
        yield process
    finally:
        process.kill()
        await asyncio.wait_for(process.wait(), 10)


async def test_every_row_arrives_though_the_worker_is_killed_on_the_way(tmp_path: Path) -> None:
    database = await open_database(f"sqlite:///{tmp_path / 'busbar.db'}")
    outbox = Outbox()
    async with database.unit_of_work() as session:
        ids = [await outbox.enqueue(session, "webhook", {"row": row}, "org-1") for row in range(ROWS)]
    holding, killed = asyncio.Event(), asyncio.Event()

    async with receiving() as receiver:

        async def answer(_: Received) -> bytes:
            # The first few are answered; the others hang with their requests received, until the worker is dead.
            if len(receiver.requests) > 5:
                holding.set()
                await killed.wait()
            return OK

        receiver.answer = answer
        async with asyncio.timeout(60):
            async with worker_process(database, receiver.url):
                await holding.wait()
            killed.set()
            before = Counter(request.headers["x-delivery-id"] for request in receiver.requests)
            async with worker_process(database, receiver.url):
                await until_delivered(database, outbox)

    after = Counter(request.headers["x-delivery-id"] for request in receiver.requests)
    assert set(after) == set(ids)
    assert len(before) < ROWS
    # What hung was sent again under its old id, so that the receiver can tell; nothing else was.
    assert {row for row, times in after.items() if times > 1} <= set(before)
    await database.stop()


async def until_delivered(database: Database, outbox: Outbox) -> None:
    delivered = 0
    while delivered < ROWS:
        await asyncio.sleep(0.05)
        async with database.read() as session:
            delivered = await outbox.count(session, "org-1", states=(DELIVERED,))
