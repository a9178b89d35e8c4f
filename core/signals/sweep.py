"""Reading stretches of many channels in the order of time, however long they are, and holding only what is read at a time.

All channels are read for one window of time after the other. The window grows and shrinks so that it holds about as many points
as are wanted, whatever their rate; where there is nothing, the next point is looked for.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from core.kernel.clock import MICROSECONDS
from core.signals.series import IS_NUMBER
from core.signals.stretches import Stretch
from core.storage.database import Database
from core.storage.tx import Row, Tx

_WHERE = f"FROM point WHERE channel_id = $1 AND at_us >= $2 AND at_us < $3 AND {IS_NUMBER}"
_WINDOW = f"SELECT at_us, n, channel_id, num, text {_WHERE}{{0}} ORDER BY at_us, n LIMIT $4"
_FIRST = f"SELECT at_us {_WHERE}{{0}} ORDER BY at_us LIMIT $4"
_MOST_AT_ONCE = 2**62

SweptPoint = tuple[int, int, int, float]
"""Time, n, channel and value."""


class Sweep:
    """Goes over stretches once."""

    def __init__(self, database: Database, stretches: Sequence[Stretch], most: int) -> None:
        self._database = database
        self._stretches = stretches
        self._most = most
        self._width = MICROSECONDS
        self._at = min((stretch.start_us for stretch in stretches), default=0)
        self._end = max((stretch.end_us for stretch in stretches), default=0)

    async def read(self) -> list[SweptPoint]:
        """Return the next points, in order; none only at the end."""
        return await self._database.query(self._read)

    async def _read(self, tx: Tx) -> list[SweptPoint]:
        while self._at < self._end:
            until = min(self._at + self._width, self._end)
            rows = await self._window(tx, until)
            if rows is None:
                self._width = max(1, (until - self._at) // 2)
                continue
            if len(rows) < self._most // 2:
                self._width = (until - self._at) * 2
            self._at = until if rows else await self._next(tx, until)
            if rows:
                return [(at, n, channel, float(text == "true") if num is None else num) for at, n, channel, num, text in rows]
        return []

    async def _window(self, tx: Tx, until: int) -> list[Row] | None:
        """Return the points of a window; None when they are more than wanted, and the window can be made smaller."""
        most = self._most if until - self._at > 1 else _MOST_AT_ONCE
        rows: list[Row] = []
        for stretch in self._within(self._at, until):
            rows += await _fetch(tx, stretch, _WINDOW, self._at, until, most + 1 - len(rows))
            if len(rows) > most:
                return None
        rows.sort(key=_place)
        return rows

    async def _next(self, tx: Tx, after: int) -> int:
        """Return the time of the first point that is not before a time."""
        found = self._end
        for stretch in self._within(after, self._end):
            rows = await _fetch(tx, stretch, _FIRST, after, found, 1)
            found = rows[0][0] if rows else found
        return found

    def _within(self, start: int, end: int) -> Iterator[Stretch]:
        return (stretch for stretch in self._stretches if stretch.start_us < end and stretch.end_us > start)


async def _fetch(tx: Tx, stretch: Stretch, sql: str, start_us: int, end_us: int, limit: int) -> Sequence[Row]:
    """Run a statement over the part of a stretch that lies in a range."""
    channel_id, start, end, which = stretch.within(start_us, end_us)
    return await tx.fetch(sql.format(which.sql(5)), channel_id, start, end, limit, *which.arguments)


def _place(row: Row) -> tuple[int, int, int]:
    return row[0], row[1], row[2]
