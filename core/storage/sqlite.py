"""SQLite by its plain driver, on threads of its own."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any, TypeVar, cast

import aiosqlite

from core.storage.errors import is_broken, is_transient, storage_errors
from core.storage.tx import Job, SqliteTx, run_now
from core.storage.writer import Entry, run_together

T = TypeVar("T")

READERS = 2
"""Threads that read. Reading holds Python's lock for most of its time, so more would not be faster."""
_READ_CACHE_KIB = 8192
"""A thinned series touches one page for each of its points; SQLite's 2 MiB would not hold those of two series."""
_WAL_TRIES = 50


def open_connection(path: str, busy_timeout_s: float) -> sqlite3.Connection:
    """Open a connection that commits only when told, and whose commits are on the disk when they return."""
    connection = sqlite3.connect(
        path, timeout=busy_timeout_s, isolation_level=None, check_same_thread=False, cached_statements=512
    )
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("PRAGMA foreign_keys=ON")
    return connection


async def use_wal(path: str, busy_timeout_s: float) -> None:
    """Make the file a write-ahead-log database.

    Two processes that start at once both try; SQLite does not wait its busy timeout for this switch, hence the tries.
    """
    for left in range(_WAL_TRIES, 0, -1):
        try:
            await asyncio.to_thread(_use_wal, path, busy_timeout_s)
        except sqlite3.OperationalError as error:
            if left == 1 or not is_transient(error):
                raise
            await asyncio.sleep(0.02)
        else:
            return


def _use_wal(path: str, busy_timeout_s: float) -> None:
    connection = open_connection(path, busy_timeout_s)
    try:
        connection.execute("PRAGMA journal_mode=WAL")
    finally:
        connection.close()


class _RollingBack(sqlite3.Connection):
    """A connection that gives up its transaction when it is closed.

    SQLite itself keeps one open, and with it the lock of every writer, for as long as anything holds an unfinished statement of
    it: the traceback of a call that was cancelled does so until the garbage collector comes by.
    """

    def close(self) -> None:
        """Roll back what is open, and close."""
        try:
            self.rollback()
        finally:
            super().close()


class _OrmConnection(aiosqlite.Connection):
    """A connection of the ORM whose closing ends even when it is cancelled.

    Cancelled while it closes, SQLAlchemy stops it; the closing stops it once more and waits for a thread that has ended.
    """

    def stop(self) -> asyncio.Future[Any] | None:
        """Stop the thread once; what stops it again has nothing to wait for."""
        stop = cast("Callable[[], asyncio.Future[Any] | None]", super().stop)
        return stop() if self._running else None


def orm_connection(path: str, busy_timeout_s: float) -> aiosqlite.Connection:
    """Return a connection for the ORM, to be awaited; it does not keep the process from ending."""
    connection = _OrmConnection(
        lambda: sqlite3.connect(
            path, timeout=busy_timeout_s, isolation_level=None, check_same_thread=False, factory=_RollingBack
        ),
        iter_chunk_size=64,
    )
    connection._thread.daemon = True  # noqa: SLF001  # pyright: ignore[reportPrivateUsage] - as SQLAlchemy does
    return connection


class SqliteLane:
    """The one writing connection of the process, on its own thread.

    The lock is shared with the control plane's units of work, so that writers of this process queue in memory instead of
    spinning on SQLite's lock. Other processes are waited for by the busy timeout.
    """

    def __init__(self, path: str, busy_timeout_s: float, lock: asyncio.Lock) -> None:
        self._path = path
        self._busy_timeout_s = busy_timeout_s
        self._lock = lock
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="storage-writer")
        self._connection: sqlite3.Connection | None = None

    async def commit(self, entries: list[Entry]) -> None:
        """Run the jobs in one transaction and commit."""
        async with self._lock:
            await asyncio.get_running_loop().run_in_executor(self._thread, self._commit, entries)

    async def close(self) -> None:
        """Close the connection and end the thread."""
        await asyncio.get_running_loop().run_in_executor(self._thread, self._drop)
        self._thread.shutdown()

    def _commit(self, entries: list[Entry]) -> None:
        try:
            if self._connection is None:
                self._connection = open_connection(self._path, self._busy_timeout_s)
            _commit(self._connection, entries)
        except Exception as error:
            if is_broken(error):
                self._drop()
            raise

    def _drop(self) -> None:
        if self._connection is not None:
            with suppress(sqlite3.Error):
                self._connection.close()
            self._connection = None


def _commit(connection: sqlite3.Connection, entries: list[Entry]) -> None:
    tx = SqliteTx(connection)
    try:
        for apart in (False, True):
            connection.execute("BEGIN IMMEDIATE")
            if run_now(run_together(tx, entries, apart=apart)):
                connection.execute("COMMIT")
                return
            connection.execute("ROLLBACK")
    except BaseException:
        # A full disk makes SQLite roll back by itself.
        if connection.in_transaction:
            with suppress(sqlite3.Error):
                connection.execute("ROLLBACK")
        raise


class SqliteReaders:
    """Reading connections, one on each of a few threads."""

    def __init__(self, path: str, busy_timeout_s: float) -> None:
        self._path = path
        self._busy_timeout_s = busy_timeout_s
        self._threads = ThreadPoolExecutor(READERS, thread_name_prefix="storage-reader")
        self._local = threading.local()
        self._opened: list[sqlite3.Connection] = []

    async def query(self, job: Job[T]) -> T:
        """Run a job on one snapshot; it cannot write.

        Raises:
            Unavailable: Storage failed.
        """
        with storage_errors():
            return await asyncio.get_running_loop().run_in_executor(self._threads, self._query, job)

    async def close(self) -> None:
        """End the threads and close their connections."""
        await asyncio.to_thread(self._threads.shutdown)
        for connection in self._opened:
            connection.close()

    def _query(self, job: Job[T]) -> T:
        connection = self._connection()
        connection.execute("BEGIN")
        try:
            return run_now(job(SqliteTx(connection)))
        except sqlite3.Error as error:
            if is_broken(error):
                self._local.connection = None
            raise
        finally:
            if connection.in_transaction:
                connection.execute("ROLLBACK")

    def _connection(self) -> sqlite3.Connection:
        connection: sqlite3.Connection | None = getattr(self._local, "connection", None)
        if connection is None:
            connection = open_connection(self._path, self._busy_timeout_s)
            connection.execute("PRAGMA query_only=ON")
            connection.execute(f"PRAGMA cache_size=-{_READ_CACHE_KIB}")
            self._local.connection = connection
            self._opened.append(connection)
        return connection
