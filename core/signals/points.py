"""Rows of points: insert or ignore at n = 0, then look again only where a conflict was met."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import chain, count, repeat
from operator import sub
from typing import Any

from core.signals.partitions import Partitions
from core.storage.bulk import BulkInsert
from core.storage.tx import Row, Tx

_KEEP_FIRST = "ON CONFLICT (channel_id, at_us, n) DO NOTHING"
_KEY = {"channel_id": "integer", "at_us": "bigint", "num": "double precision"}
# Most points are numbers without labels, and time goes with the columns that are bound.
_INSERT_NUMBERS = BulkInsert("point", {**_KEY, "recording_id": "integer", "lag_us": "bigint"}, _KEEP_FIRST, mostly_new=True)
_OTHERS = {**_KEY, "text": "text", "recording_id": "integer", "tagset_id": "integer", "lag_us": "bigint"}
_INSERT_PLACED = BulkInsert(
    "point",
    {
        "channel_id": "integer",
        "at_us": "bigint",
        "n": "integer",
        "num": "double precision",
        "recording_id": "integer",
        "lag_us": "bigint",
    },
    _KEEP_FIRST,
    mostly_new=True,
)
_INSERT_OTHERS = BulkInsert("point", _OTHERS, _KEEP_FIRST, mostly_new=True)
_AGAIN = (
    "INSERT INTO point (channel_id, at_us, n, num, text, recording_id, tagset_id, lag_us)"
    " VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT (channel_id, at_us, n) DO NOTHING"
)
_DIFFERING = (
    "SELECT g.i FROM unnest($1::integer[], $2::bigint[], $3::double precision[], $4::text[]) WITH ORDINALITY"
    " AS g(channel_id, at_us, num, text, i) JOIN point p ON p.channel_id = g.channel_id AND p.at_us = g.at_us AND p.n = 0"
    " WHERE p.num IS DISTINCT FROM g.num OR p.text IS DISTINCT FROM g.text ORDER BY g.i"
)


class InstantTakenError(Exception):
    """A place within an instant that a sender believed to be free is taken."""


class Rows:
    """Points on their way into the table, laid flat."""

    def __init__(self) -> None:
        self.numbers: list[Any] = []
        self.placed: list[Any] = []
        self.others: list[Any] = []

    def add(
        self,
        channel_id: int,
        times_us: Sequence[int],
        numbers: Iterable[float | None],
        texts: Iterable[str | None] | None,
        recording_id: int | None,
        tagset_ids: Iterable[int | None] | None,
        *,
        arrived: int,
    ) -> None:
        """Add points of one channel; texts and tag sets are None when no point has any. `arrived` is the first one's number."""
        channel, recording, lags = repeat(channel_id), repeat(recording_id), map(sub, count(arrived), times_us)
        if texts is None and tagset_ids is None:
            self.numbers.extend(chain.from_iterable(zip(channel, times_us, numbers, recording, lags)))  # noqa: B905 - endless repeats
            return
        columns = channel, times_us, numbers, texts or repeat(None), recording, tagset_ids or repeat(None), lags
        self.others.extend(chain.from_iterable(zip(*columns)))  # noqa: B905 - endless repeats

    def add_placed(
        self,
        channel_id: int,
        times_us: Sequence[int],
        ns: Iterable[int],
        numbers: Iterable[float | None],
        recording_id: int | None,
        *,
        arrived: int,
    ) -> None:
        """Add numbers of one channel whose places within their instants are known."""
        columns = repeat(channel_id), times_us, ns, numbers, repeat(recording_id), map(sub, count(arrived), times_us)
        self.placed.extend(chain.from_iterable(zip(*columns)))  # noqa: B905 - endless repeats

    def __len__(self) -> int:
        placed = len(self.placed) // _INSERT_PLACED.width
        return len(self.numbers) // _INSERT_NUMBERS.width + placed + len(self.others) // _INSERT_OTHERS.width


class Points:
    """The table of points."""

    def __init__(self) -> None:
        self.partitions = Partitions()

    async def insert(self, tx: Tx, rows: Rows) -> int:
        """Insert points; return how many were new.

        An exact repeat of channel, time and value is not stored again. A further value of one instant gets the next n.

        Raises:
            InstantTakenError: A point that came with its place met another one there.
        """
        new = await self._insert_placed(tx, rows.placed)
        for statement, flat in ((_INSERT_NUMBERS, rows.numbers), (_INSERT_OTHERS, rows.others)):
            if tx.dialect == "postgresql":
                await self.partitions.ensure(tx, flat[1 :: statement.width])
            for part, inserted in await statement.execute(tx, flat):
                new += inserted
                if inserted * statement.width < len(part):
                    new += await _settle(tx, _rows(part, statement.width))
        return new

    async def _insert_placed(self, tx: Tx, flat: Sequence[Any]) -> int:
        if tx.dialect == "postgresql":
            await self.partitions.ensure(tx, flat[1 :: _INSERT_PLACED.width])
        for part, inserted in await _INSERT_PLACED.execute(tx, flat):
            if inserted * _INSERT_PLACED.width < len(part):
                raise InstantTakenError
        return len(flat) // _INSERT_PLACED.width


def _rows(flat: Sequence[Any], width: int) -> list[Row]:
    """Return rows of channel, time, number, text, recording, tag set and lag."""
    rows = [flat[start : start + width] for start in range(0, len(flat), width)]
    if width == _INSERT_NUMBERS.width:
        return [(channel_id, at_us, num, None, recording_id, None, lag) for channel_id, at_us, num, recording_id, lag in rows]
    return rows


async def _settle(tx: Tx, rows: Sequence[Row]) -> int:
    """Store those of some rows that are neither at n = 0 already nor repeats; return how many."""
    if tx.dialect == "postgresql":
        columns = list(zip(*rows, strict=True))[:4]
        rows = [rows[found[0] - 1] for found in await tx.fetch(_DIFFERING, *columns)]
    return sum([await _settle_one(tx, row) for row in rows])


async def _settle_one(tx: Tx, row: Row) -> bool:
    channel_id, at_us, num, text, recording_id, tagset_id, lag_us = row
    while True:
        kept = await tx.fetch(
            "SELECT num, text, n FROM point WHERE channel_id = $1 AND at_us = $2 ORDER BY n", channel_id, at_us
        )
        if any(other[0] == num and other[1] == text for other in kept):
            return False
        n = kept[-1][2] + 1 if kept else 0
        # Another server on the same PostgreSQL may take this n first; its row is seen in the next round.
        if await tx.execute(_AGAIN, channel_id, at_us, n, num, text, recording_id, tagset_id, lag_us):
            return True
