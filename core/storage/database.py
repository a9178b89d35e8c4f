"""The database of the server.

Two ways lead in. The control plane uses `unit_of_work()` and `read()`: an ORM session with one owner. Hot paths use
`submit(job)` and `query(job)`: plain statements by the plain driver, writes committed in groups (see `writer.py` and `tx.py`).

    async with database.unit_of_work() as session:     # commits on a clean exit, rolls back otherwise
        session.add(row)

    async def job(tx: Tx) -> int:                      # the same SQL for SQLite and PostgreSQL
        return await tx.execute("UPDATE device SET name = $2 WHERE id = $1", 7, "rig")
    touched = await database.submit(job)               # returns after the commit

Failures of storage itself (locked, full, read-only, unreachable) are Unavailable everywhere, and pass by themselves.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from sqlalchemy import Connection, event
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlmodel.ext.asyncio.session import AsyncSession

from core.kernel.settings import Storage
from core.storage import schema
from core.storage.errors import storage_errors
from core.storage.revisions import current_revision, head_revision
from core.storage.sqlite import SqliteLane, SqliteReaders, orm_connection, use_wal
from core.storage.tx import Dialect, Job, Tx
from core.storage.writer import Writer

if TYPE_CHECKING:
    from core.storage.postgres import PostgresReaders

T = TypeVar("T")

_SQLITE_PREFIXES = ("sqlite+aiosqlite:///", "sqlite:///")
_POSTGRES_PREFIXES = ("postgresql+asyncpg://", "postgresql://", "postgres://")
_WRITES = "busbar_writes"


class Database:
    """One SQLite file or one PostgreSQL database."""

    def __init__(self, url: str, settings: Storage) -> None:
        """Take `sqlite:///FILE`, `sqlite+aiosqlite:///FILE`, `postgresql://...` or `postgresql+asyncpg://...`.

        Raises:
            ValueError: The URL names another kind of database, or no file.
        """
        self.url = url
        self.settings = settings
        self.path, self.dsn = _parse(url)
        self.dialect: Dialect = "sqlite" if self.path else "postgresql"
        self._write_lock = asyncio.Lock()
        self._engine: AsyncEngine | None = None
        self._writer: Writer | None = None
        self._readers: SqliteReaders | PostgresReaders | None = None

    @property
    def writer(self) -> Writer:
        """The group-commit writer."""
        return _started(self._writer)

    @property
    def engine(self) -> AsyncEngine:
        """The ORM's engine; for migrations and tools."""
        return _started(self._engine)

    async def start(self) -> None:
        """Open the database. Does not migrate it.

        Raises:
            Unavailable: It cannot be opened now.
        """
        with storage_errors():
            if self.path:
                await self._start_sqlite(self.path)
            else:
                await self._start_postgres()
        self.writer.start()

    async def stop(self) -> None:
        """Commit what waits and close every connection."""
        if self._writer is not None:
            await self._writer.stop()
        if self._readers is not None:
            await self._readers.close()
        if self._engine is not None:
            await self._engine.dispose()
        self._writer = self._readers = self._engine = None

    async def ping(self) -> None:
        """Prove that the database answers.

        Raises:
            Unavailable: It does not.
        """
        await self.query(_ping)

    async def submit(self, job: Job[T], *, committed: Callable[[T], None] | None = None, rows: int = 1) -> T:
        """Run a job in the next group commit; see `Writer.submit`."""
        return await self.writer.submit(job, committed=committed, rows=rows)

    async def query(self, job: Job[T]) -> T:
        """Run a reading job on one snapshot.

        Raises:
            Unavailable: Storage failed.
        """
        return await _started(self._readers).query(job)

    @asynccontextmanager
    async def unit_of_work(self) -> AsyncGenerator[AsyncSession]:
        """Open a session that commits on a clean exit and rolls back otherwise.

        On SQLite other writers wait meanwhile: do slow things, such as hashing a password, before, and only storage within.

        Raises:
            Unavailable: Storage failed; nothing was changed.
        """
        async with self._exclusive():
            with storage_errors():
                async with self._session(writes=True) as session, session.begin():
                    yield session

    @asynccontextmanager
    async def read(self) -> AsyncGenerator[AsyncSession]:
        """Open a session that only reads; whatever it changes is rolled back.

        Raises:
            Unavailable: Storage failed.
        """
        with storage_errors():
            async with self._session(writes=False) as session:
                yield session

    async def migrate(self) -> None:
        """Bring the schema to the newest revision. Safe when several processes start at once.

        Raises:
            Unavailable: Storage failed; the schema is as it was.
        """
        revision = await self.current_revision()
        if revision is None and self.path:
            await self._change_schema(schema.create)
            revision = await self.current_revision()
        if revision == self.head_revision():
            return
        from core.storage import migrate  # noqa: PLC0415 - loading Alembic takes a third of the start

        await self._change_schema(migrate.upgrade)

    async def current_revision(self) -> str | None:
        """Return the revision of the schema; None when it was never migrated."""
        with storage_errors():
            async with self.engine.connect() as connection:
                return await connection.run_sync(current_revision)

    def head_revision(self) -> str:
        """Return the newest revision that this program knows."""
        return head_revision()

    async def _change_schema(self, change: Callable[[Connection], None]) -> None:
        async with self._exclusive():
            with storage_errors():
                async with self._writing_engine().begin() as connection:
                    await connection.run_sync(change)

    def _exclusive(self) -> AbstractAsyncContextManager[Any]:
        return self._write_lock if self.path else nullcontext()

    def _session(self, *, writes: bool) -> AsyncSession:
        engine = self._writing_engine() if writes else self.engine
        return AsyncSession(engine, expire_on_commit=False)

    def _writing_engine(self) -> AsyncEngine:
        return self.engine.execution_options(**{_WRITES: True})

    async def _start_sqlite(self, path: str) -> None:
        wait = self.settings.busy_timeout_s
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        await use_wal(path, wait)
        self._engine = create_async_engine(
            f"sqlite+aiosqlite:///{path}",
            async_creator=lambda: orm_connection(path, wait),
            pool_size=self.settings.pool_size,
        )
        event.listen(self._engine.sync_engine, "connect", _prepare_sqlite)
        event.listen(self._engine.sync_engine, "begin", _begin_sqlite)
        self._readers = SqliteReaders(path, wait)
        self._writer = Writer(SqliteLane(path, wait, self._write_lock), wait_seconds=self.settings.group_commit_ms / 1000)

    async def _start_postgres(self) -> None:
        from core.storage.postgres import PostgresLane, PostgresReaders, connect  # noqa: PLC0415 - SQLite needs no such driver

        self._engine = create_async_engine(
            "postgresql+asyncpg://",
            async_creator=lambda: connect(self.dsn),
            pool_size=self.settings.pool_size,
            pool_pre_ping=True,
        )
        self._readers = readers = PostgresReaders(self.dsn, self.settings.pool_size)
        await readers.start()
        self._writer = Writer(PostgresLane(self.dsn), wait_seconds=self.settings.group_commit_ms / 1000)


def _parse(url: str) -> tuple[str, str]:
    """Return the path of a SQLite file, or the address of a PostgreSQL database; the other one is empty."""
    for prefix in _SQLITE_PREFIXES:
        if url.startswith(prefix):
            path = url.removeprefix(prefix)
            if not path or path == ":memory:":
                raise ValueError("a SQLite database must be a file")
            return path, ""
    for prefix in _POSTGRES_PREFIXES:
        if url.startswith(prefix):
            return "", "postgresql://" + url.removeprefix(prefix)
    raise ValueError("the database must be sqlite:///FILE or postgresql://...")


def _started(value: T | None) -> T:
    if value is None:
        raise RuntimeError("the database was not started")
    return value


async def _ping(tx: Tx) -> None:
    await tx.fetch("SELECT 1")


def _prepare_sqlite(connection: Any, _record: object) -> None:  # noqa: ANN401 - the adapted connection has no public type
    cursor = connection.cursor()
    cursor.execute("PRAGMA synchronous=FULL")
    cursor.execute("PRAGMA foreign_keys=ON")
    cursor.close()


def _begin_sqlite(connection: Connection) -> None:
    """Begin explicitly: one that means to write takes SQLite's lock at once, while waiting for it is still possible."""
    writes = connection.get_execution_options().get(_WRITES, False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
