"""Many rows in few statements.

SQLite takes several hundred rows in one INSERT about twice as fast as `executemany` does, and lets other threads run meanwhile.
PostgreSQL takes binary COPY, two to three times as fast as anything else, as long as no row is there already; where one is, it
takes one array for each column, which is as fast as a COPY into a table between.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from core.storage.tx import PostgresTx, Row, Tx

_SIZES = (250, 50, 10, 1)
"""Rows in one SQLite statement; a few fixed sizes, so that the prepared statements are used again."""
_COPY_ROWS = 200
"""Rows from which COPY and the savepoint that it needs pay."""


class BulkInsert:
    """An INSERT of many rows into one table."""

    def __init__(self, table: str, columns: Mapping[str, str], tail: str, *, mostly_new: bool = False) -> None:
        """Take the columns with their PostgreSQL types, and what follows the rows, such as ON CONFLICT.

        Say `mostly_new` where conflicts are the exception: COPY is tried first then.
        """
        self._mostly_new = mostly_new
        self.width = len(columns)
        self._table = table
        self._columns = tuple(columns)
        names = ", ".join(columns)
        row = "(" + ", ".join("?" * len(columns)) + ")"
        head = f"INSERT INTO {table} ({names})"
        self._sqlite = {size: f"{head} VALUES {', '.join([row] * size)} {tail}" for size in _SIZES}
        arrays = ", ".join(f"${number}::{kind}[]" for number, kind in enumerate(columns.values(), 1))
        self._postgres = f"{head} SELECT * FROM unnest({arrays}) {tail}"  # noqa: S608 - made of constants of the code

    async def execute(self, tx: Tx, flat: Sequence[object]) -> list[tuple[Sequence[object], int]]:
        """Insert rows; return them in parts, each with the number of rows that the database touched.

        Rows are given one after the other in one flat list: tuples by the ten thousand would cost as much as the insert.
        """
        if isinstance(tx, PostgresTx) and self._mostly_new and len(flat) >= _COPY_ROWS * self.width:
            rows = zip(*self._arrays(flat), strict=True)
            if await tx.copy(self._table, self._columns, rows):
                return [(flat, len(flat) // self.width)]
        if tx.dialect == "postgresql":
            return [(flat, await tx.execute(self._postgres, *self._arrays(flat)))] if flat else []
        return [(part, await tx.execute(sql, *part)) for sql, part in self._parts(flat)]

    async def fetch(self, tx: Tx, flat: Sequence[object]) -> list[Row]:
        """Insert rows; return what RETURNING gives, in any order."""
        if tx.dialect == "postgresql":
            return list(await tx.fetch(self._postgres, *self._arrays(flat))) if flat else []
        found: list[Row] = []
        for sql, part in self._parts(flat):
            found += await tx.fetch(sql, *part)
        return found

    def _arrays(self, flat: Sequence[object]) -> list[Sequence[object]]:
        return [flat[offset :: self.width] for offset in range(self.width)]

    def _parts(self, flat: Sequence[object]) -> Iterator[tuple[str, Sequence[object]]]:
        start = 0
        for size, sql in self._sqlite.items():
            length = size * self.width
            while len(flat) - start >= length:
                yield sql, flat[start : start + length]
                start += length
