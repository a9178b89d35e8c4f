"""The small language in which hot paths talk to either database.

A job is a coroutine function that takes a `Tx` and awaits nothing else. It is written once: placeholders are `$1`, `$2`, ...,
and the SQL is what SQLite and PostgreSQL share (`ON CONFLICT`, `RETURNING`). On SQLite no `Tx` method ever suspends, so a job
runs to its end in one step on the thread that owns the connection, with the speed of the plain driver.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable, Coroutine, Iterable, Sequence
from functools import lru_cache
from typing import Any, Literal, Protocol, TypeVar

from core.storage.errors import is_transient, is_unique_violation

Dialect = Literal["sqlite", "postgresql"]
T = TypeVar("T")
Row = Sequence[Any]

_PLACEHOLDER = re.compile(r"\$(\d+)")
_SAVEPOINT = "busbar_job"


class Tx(Protocol):
    """One open transaction."""

    @property
    def dialect(self) -> Dialect:
        """Which database this is, for the few statements that differ."""
        ...

    async def execute(self, sql: str, *arguments: object) -> int:
        """Run a statement and return the number of rows it touched."""
        ...

    async def executemany(self, sql: str, rows: Iterable[Sequence[object]]) -> None:
        """Run a statement once for each row."""
        ...

    async def fetch(self, sql: str, *arguments: object) -> Sequence[Row]:
        """Run a statement and return all of its rows."""
        ...


Job = Callable[[Tx], Coroutine[Any, Any, T]]
"""Work inside a transaction. It may run twice when a neighbour fails, so it changes nothing but the database."""


async def fetch_one(tx: Tx, sql: str, *arguments: object) -> Row | None:
    """Run a statement and return its first row."""
    rows = await tx.fetch(sql, *arguments)
    return rows[0] if rows else None


class SqliteTx:
    """A transaction on a plain sqlite3 connection; its methods never suspend."""

    dialect: Dialect = "sqlite"

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    async def execute(self, sql: str, *arguments: object) -> int:
        """Run a statement and return the number of rows it touched."""
        return self._connection.execute(_sqlite_sql(sql), arguments).rowcount

    async def executemany(self, sql: str, rows: Iterable[Sequence[object]]) -> None:
        """Run a statement once for each row."""
        self._connection.executemany(_sqlite_sql(sql), rows)

    async def fetch(self, sql: str, *arguments: object) -> Sequence[Row]:
        """Run a statement and return all of its rows."""
        return self._connection.execute(_sqlite_sql(sql), arguments).fetchall()


class PostgresTx:
    """A transaction on an asyncpg connection."""

    dialect: Dialect = "postgresql"

    def __init__(self, connection: Any) -> None:  # noqa: ANN401 - the driver has no types
        self._connection = connection

    async def execute(self, sql: str, *arguments: object) -> int:
        """Run a statement and return the number of rows it touched."""
        status = await self._connection.execute(sql, *arguments)
        count = status.rpartition(" ")[2]
        return int(count) if count.isdigit() else 0

    async def executemany(self, sql: str, rows: Iterable[Sequence[object]]) -> None:
        """Run a statement once for each row."""
        await self._connection.executemany(sql, rows)

    async def fetch(self, sql: str, *arguments: object) -> Sequence[Row]:
        """Run a statement and return all of its rows."""
        return await self._connection.fetch(sql, *arguments)

    async def copy(self, table: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> bool:
        """Add rows by binary COPY; False, with nothing added, when one of them is there already."""
        try:
            async with self._connection.transaction():
                await self._connection.copy_records_to_table(table, columns=columns, records=rows)
        except Exception as error:
            if is_unique_violation(error):
                return False
            raise
        return True


@lru_cache(maxsize=1024)
def _sqlite_sql(sql: str) -> str:
    return _PLACEHOLDER.sub(r"?\1", sql)


def run_now(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine that never suspends, without an event loop.

    Raises:
        RuntimeError: It did suspend: a job awaited something other than its transaction.
    """
    try:
        work.send(None)
    except StopIteration as end:
        return end.value
    work.close()
    raise RuntimeError("a job awaited something other than its transaction")


async def isolated(tx: Tx, job: Job[T]) -> T:
    """Run a job inside a savepoint, so that its failure leaves the transaction as it was."""
    await tx.execute(f"SAVEPOINT {_SAVEPOINT}")
    try:
        result = await job(tx)
    except Exception as error:
        # When storage itself fails, the database may have rolled everything back and the savepoint is gone.
        if not is_transient(error):
            await tx.execute(f"ROLLBACK TO SAVEPOINT {_SAVEPOINT}")
            await tx.execute(f"RELEASE SAVEPOINT {_SAVEPOINT}")
        raise
    await tx.execute(f"RELEASE SAVEPOINT {_SAVEPOINT}")
    return result
