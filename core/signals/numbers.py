"""Numbers of channels as one list over all of them: by pages from the newest, thinned, one by one, and taken away.

Switches count as 1 and 0; texts and objects are left out. Points of one instant stand in the order of n, then of the channel.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import NamedTuple

from core.kernel.clock import Clock
from core.signals import repair, series
from core.signals.counts import FIRST_US, Counts, count_between
from core.signals.model import Latest
from core.signals.point_ids import PointKey
from core.signals.series import IS_NUMBER
from core.signals.store import Store
from core.signals.stretches import Stretch
from core.signals.sweep import Sweep
from core.storage.database import Database
from core.storage.tx import Row, Tx

LAST_US = 2**62
"""After every point."""
SCANNED = 200_000
"""Points of a series that are counted out; a longer one is thinned by time, which costs one seek for each point."""
SHALLOW = 2_000
"""Rows before a page that are read and thrown away; the place of a page further down is found by counting."""

_FIELDS = "channel_id, at_us, n, num, text, recording_id"
_NEWEST = (
    f"SELECT {_FIELDS} FROM point WHERE channel_id = $1 AND at_us >= $2 AND at_us < $3 AND {IS_NUMBER}"  # noqa: S608
    " ORDER BY at_us DESC, n DESC LIMIT $4"
)
_ONE = f"SELECT {_FIELDS} FROM point WHERE channel_id = $1 AND at_us = $2 AND n = $3 AND {IS_NUMBER}"  # noqa: S608
_OLDEST = f"SELECT {_FIELDS} FROM point WHERE channel_id = $1 AND at_us >= $2 AND {IS_NUMBER} ORDER BY at_us, n LIMIT $3"  # noqa: S608
_FEW = "SELECT count(*) FROM (SELECT 1 FROM point WHERE channel_id = $1 AND at_us >= $2 AND {} LIMIT $3) AS few"
_NTH = (
    f"SELECT {_FIELDS} FROM point WHERE channel_id = $1 AND at_us >= $2 AND (at_us, n) > ($2, $3) AND {IS_NUMBER}"  # noqa: S608
    " ORDER BY at_us, n LIMIT 1 OFFSET $4"
)
_CHOSEN = f"""
SELECT {_FIELDS} FROM (
  SELECT {_FIELDS}, row_number() OVER (ORDER BY at_us, n) - 1 AS i FROM point
  WHERE channel_id = $1 AND at_us >= $2 AND {IS_NUMBER}
) AS numbered WHERE i = ANY($3::bigint[]) ORDER BY i
"""  # noqa: S608


class Number(NamedTuple):
    """A stored number."""

    channel_id: int
    at_us: int
    n: int
    value: float
    recording_id: int | None


@dataclass(frozen=True, slots=True)
class Deleted:
    """What is left after points of a channel were deleted.

    Attributes:
        points: How many went.
        latest: The channel's latest value now; None when it has none.
        changed: Whether that is another one than before.
    """

    points: int
    latest: Latest | None = None
    changed: bool = False


class Numbers:
    """Reads and deletes numbers."""

    def __init__(self, database: Database, store: Store, clock: Clock) -> None:
        self._database = database
        self._store = store
        self.counts = Counts(database, clock)

    async def count(self, channel_ids: Sequence[int]) -> int:
        """Return how many numbers some channels hold."""
        return await self.counts.of(channel_ids)

    async def newest(self, channel_ids: Sequence[int], offset: int, limit: int) -> list[Number]:
        """Return numbers of some channels, the newest first, after leaving out the first `offset`."""
        return await self._database.query(lambda tx: _newest(tx, channel_ids, offset, limit))

    async def get(self, key: PointKey) -> Number | None:
        """Return one number."""
        rows = await self._database.query(lambda tx: tx.fetch(_ONE, *key))
        return _number(rows[0]) if rows else None

    async def last(self, channel_ids: Sequence[int]) -> dict[int, Number]:
        """Return the newest number of each channel that has any; one seek for each."""

        async def job(tx: Tx) -> list[Row]:
            return [row for channel_id in channel_ids for row in await tx.fetch(_NEWEST, channel_id, FIRST_US, LAST_US, 1)]

        return {row[0]: _number(row) for row in await self._database.query(job)}

    async def thinned(self, channel_id: int, start_us: int, most: int) -> list[Number]:
        """Return the numbers of a channel from a time on, oldest first; `most` of them where there are more.

        Of n points it returns those at floor(i * n / most), and in place of the last of these the very last one. Of a series
        that is too long to be counted out, they are evenly spread over time instead, and may be fewer.
        """
        return await self._database.query(lambda tx: _thinned(tx, channel_id, start_us, most))

    def sweep(self, stretches: Sequence[Stretch], most: int) -> Sweep:
        """Return a reader of stretches of channels in the order of time, about `most` points at a time."""
        return Sweep(self._database, stretches, most)

    async def delete(self, key: PointKey) -> bool:
        """Delete one point; return whether it was there. What is derived of it follows: rollups and the latest value."""

        async def job(tx: Tx) -> Deleted:
            sql = "DELETE FROM point WHERE channel_id = $1 AND at_us = $2 AND n = $3"
            if not await tx.execute(sql, *key):
                return Deleted(0)
            await repair.rollups(tx, key.channel_id, key.at_us, key.at_us)
            return Deleted(1, *await self._latest(tx, key.channel_id))

        return bool(await self._take_away(key.channel_id, job))

    async def delete_recorded(self, channel_id: int, recording_id: int, start_us: int) -> int:
        """Delete the points of a recording in one channel from a time on, in steps that each are a commit.

        Returns how many went.
        """
        total, more = 0, True
        while more:
            step = partial(self._delete_step, channel_id, recording_id, start_us)
            deleted = await self._take_away(channel_id, step)
            total += deleted
            more = deleted > 0
        return total

    async def _delete_step(self, channel_id: int, recording_id: int, start_us: int, tx: Tx) -> Deleted:
        first, last, gone = await repair.recorded_step(tx, channel_id, recording_id, start_us)
        if not gone:
            return Deleted(0)
        await repair.rollups(tx, channel_id, first, last)
        return Deleted(gone, *await self._latest(tx, channel_id))

    async def _latest(self, tx: Tx, channel_id: int) -> tuple[Latest | None, bool]:
        return await repair.latest(tx, channel_id, self._store.directory)

    async def _take_away(self, channel_id: int, job: repair.Job[Deleted]) -> int:
        """Run a deletion and bring memory up to date after its commit."""
        rollups = self._store.rollups

        def committed(deleted: Deleted) -> None:
            rollups.forget_channel(channel_id)
            self.counts.forget(channel_id)
            if deleted.changed:
                self._store.directory.set_latest(channel_id, deleted.latest)

        # Jobs of the same commit must not believe what memory says of this channel's rollups.
        rollups.distrust(channel_id)
        try:
            return (await self._database.submit(job, committed=committed)).points
        finally:
            rollups.trust(channel_id)


def _number(row: Row) -> Number:
    channel_id, at_us, n, num, text, recording_id = row
    return Number(channel_id, at_us, n, float(text == "true") if num is None else num, recording_id)


def _rank(number: Number) -> tuple[int, int, int]:
    return -number.at_us, -number.n, -number.channel_id


async def _newest(tx: Tx, channel_ids: Sequence[int], offset: int, limit: int) -> list[Number]:
    end_us = LAST_US
    if offset > SHALLOW:
        end_us, above = await _descend(tx, channel_ids, offset)
        offset -= above
    wanted, floor_us = offset + limit, FIRST_US
    found: list[Number] = []
    for channel_id in channel_ids:
        found += map(_number, await tx.fetch(_NEWEST, channel_id, floor_us, end_us, wanted))
        if len(found) >= wanted:
            # What is older than these is on no page that counts.
            found = sorted(found, key=_rank)[:wanted]
            floor_us = found[-1].at_us
    return sorted(found, key=_rank)[offset : offset + limit]


async def _descend(tx: Tx, channel_ids: Sequence[int], offset: int) -> tuple[int, int]:
    """Return a time shortly above a row of the list, and how many rows are not older than it.

    Halves the range in which the row must be, by counting. Each count goes over what is left, so all of them together cost
    about as much as two over everything.
    """
    low, high, above = FIRST_US, LAST_US, 0
    count = await count_between(tx, channel_ids, low, high)
    while count > SHALLOW and (bounds := await _bounds(tx, channel_ids, low, high)) is not None:
        # Right at the points that are left, so that one stray clock does not make a hundred rounds.
        low, high = bounds
        if high - low <= 1:
            break
        middle = (low + high) // 2
        newer = await count_between(tx, channel_ids, middle, high)
        if above + newer > offset:
            low, count = middle, newer
        else:
            high, count, above = middle, count - newer, above + newer
    return high, above


async def _bounds(tx: Tx, channel_ids: Sequence[int], low: int, high: int) -> tuple[int, int] | None:
    sql = "SELECT min(at_us) FROM point WHERE channel_id = $1 AND at_us >= $2 AND at_us < $3"
    firsts = [(await tx.fetch(sql, channel_id, low, high))[0][0] for channel_id in channel_ids]
    lasts = [(await tx.fetch(sql.replace("min", "max"), channel_id, low, high))[0][0] for channel_id in channel_ids]
    first = min((at for at in firsts if at is not None), default=None)
    last = max((at for at in lasts if at is not None), default=None)
    return None if first is None or last is None else (first, last + 1)


async def _thinned(tx: Tx, channel_id: int, start_us: int, most: int) -> list[Number]:
    rows = await tx.fetch(_OLDEST, channel_id, start_us, most + 1)
    if len(rows) <= most:
        return list(map(_number, rows))
    count = (await tx.fetch(_FEW.format(IS_NUMBER), channel_id, start_us, SCANNED + 1))[0][0]
    if count > SCANNED:
        return await _spread(tx, channel_id, start_us, most)
    step = count / most
    places = [int(i * step) for i in range(most - 1)] + [count - 1]
    if tx.dialect == "postgresql":
        return list(map(_number, await tx.fetch(_CHOSEN, channel_id, start_us, places)))
    found = [rows[0]]
    for before, place in pairwise(places):
        _, at_us, n, *_ = found[-1]
        found += await tx.fetch(_NTH, channel_id, at_us, n, place - before - 1)
    return list(map(_number, found))


async def _spread(tx: Tx, channel_id: int, start_us: int, most: int) -> list[Number]:
    """Return points that are evenly spread over time, the first and the last among them."""
    last = (await tx.fetch(_NEWEST, channel_id, start_us, LAST_US, 1))[0]
    samples = await series.uniform(tx, channel_id, start_us, last[1], most - 1)
    rows = [row for sample in samples for row in await tx.fetch(_ONE, channel_id, sample.at_us, 0)]
    return list(map(_number, [*rows, last]))
