"""PostgreSQL by its plain driver."""

from __future__ import annotations

from contextlib import suppress
from typing import Any, TypeVar

import asyncpg

from core.storage.errors import is_broken, storage_errors
from core.storage.tx import Job, PostgresTx
from core.storage.writer import Entry, run_together

T = TypeVar("T")

_driver: Any = asyncpg  # the driver has no types

LOCK_TIMEOUT_MS = 10_000
"""Longest wait for a lock that another session holds."""


async def connect(dsn: str) -> Any:  # noqa: ANN401
    """Open a connection whose waits for locks are bounded and whose commits are on the disk when they return."""
    return await _driver.connect(dsn, server_settings={"lock_timeout": str(LOCK_TIMEOUT_MS), "synchronous_commit": "on"})


class PostgresLane:
    """The one connection on which this process commits groups."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self._connection: Any = None

    async def commit(self, entries: list[Entry]) -> None:
        """Run the jobs in one transaction and commit."""
        try:
            if self._connection is None or self._connection.is_closed():
                self._connection = await connect(self._dsn)
            await _commit(self._connection, entries)
        except Exception as error:
            if is_broken(error):
                self._drop()
            raise

    async def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            with suppress(OSError, asyncpg.PostgresError, asyncpg.InterfaceError, TimeoutError):
                await self._connection.close(timeout=5)

    def _drop(self) -> None:
        if self._connection is not None:
            self._connection.terminate()
            self._connection = None


async def _commit(connection: Any, entries: list[Entry]) -> None:  # noqa: ANN401
    tx = PostgresTx(connection)
    for apart in (False, True):
        transaction = connection.transaction()
        await transaction.start()
        try:
            done = await run_together(tx, entries, apart=apart)
        except BaseException:
            with suppress(OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
                await transaction.rollback()
            raise
        if done:
            await transaction.commit()
            return
        await transaction.rollback()


class PostgresReaders:
    """A pool of reading connections."""

    def __init__(self, dsn: str, size: int) -> None:
        self._dsn = dsn
        self._size = size
        self._pool: Any = None

    async def start(self) -> None:
        """Open the pool."""
        self._pool = await _driver.create_pool(
            self._dsn, min_size=1, max_size=self._size, server_settings={"lock_timeout": str(LOCK_TIMEOUT_MS)}
        )

    async def query(self, job: Job[T]) -> T:
        """Run a job on one snapshot; it cannot write.

        Raises:
            Unavailable: Storage failed.
        """
        if self._pool is None:
            raise RuntimeError("the database was not started")
        with storage_errors():
            async with (
                self._pool.acquire() as connection,
                connection.transaction(isolation="repeatable_read", readonly=True),
            ):
                return await job(PostgresTx(connection))

    async def close(self) -> None:
        """Close the pool."""
        if self._pool is not None:
            await self._pool.close()
