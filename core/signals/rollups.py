"""Smallest and largest number of each stretch of time, kept at ingest, so that an envelope of years reads few rows.

Both only ever widen, so a repeated or late point needs no special care, and a batch that stays inside what is stored already
writes nothing.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Sequence
from operator import le

from core.kernel.clock import MICROSECONDS
from core.storage.bulk import BulkInsert
from core.storage.tx import Tx

WIDTHS_US = (10 * MICROSECONDS, 600 * MICROSECONDS, 43_200 * MICROSECONDS)
"""10 s, 10 min, 12 h; each divides the next. Steps shorter than the first are read from points."""

Key = tuple[int, int, int]
"""Channel, width, beginning of the stretch."""
Extremes = dict[Key, tuple[float, float]]
Span = tuple[int, float, float]
"""Beginning, smallest, largest."""

_UPSERT = BulkInsert(
    "rollup",
    {
        "channel_id": "integer",
        "width_us": "bigint",
        "bucket_us": "bigint",
        "low": "double precision",
        "high": "double precision",
    },
    "ON CONFLICT (channel_id, width_us, bucket_us) DO UPDATE SET"
    " low = CASE WHEN excluded.low < rollup.low THEN excluded.low ELSE rollup.low END,"
    " high = CASE WHEN excluded.high > rollup.high THEN excluded.high ELSE rollup.high END"
    " WHERE excluded.low < rollup.low OR excluded.high > rollup.high",
)


class Rollups:
    """The table of rollups, with the newest stretch of each channel and width in memory."""

    def __init__(self) -> None:
        self._newest: dict[tuple[int, int], tuple[int, float, float]] = {}
        self._distrusted: Counter[int] = Counter()

    async def widen(self, tx: Tx, extremes: Extremes) -> None:
        """Write what goes beyond the rows that are known to be stored."""
        flat: list[float] = []
        for key, (low, high) in extremes.items():
            if not self._covers(key, low, high):
                flat += (*key, low, high)
        await _UPSERT.execute(tx, flat)

    def remember(self, extremes: Extremes) -> None:
        """Note what is committed."""
        newest = self._newest
        for (channel_id, width, bucket), (low, high) in extremes.items():
            known = newest.get((channel_id, width))
            if known is None or bucket > known[0]:
                newest[channel_id, width] = bucket, low, high
            elif bucket == known[0]:
                newest[channel_id, width] = bucket, min(low, known[1]), max(high, known[2])

    def forget(self) -> None:
        """Forget what is stored, after rows were deleted."""
        self._newest.clear()

    def distrust(self, channel_id: int) -> None:
        """Believe nothing of a channel while rows of it are being deleted."""
        self._distrusted[channel_id] += 1

    def trust(self, channel_id: int) -> None:
        """Believe a channel again, once for each time that it was distrusted."""
        self._distrusted[channel_id] -= 1
        if not self._distrusted[channel_id]:
            del self._distrusted[channel_id]

    def forget_channel(self, channel_id: int) -> None:
        """Forget what is stored of a channel, after rows were deleted."""
        for width in WIDTHS_US:
            self._newest.pop((channel_id, width), None)

    def _covers(self, key: Key, low: float, high: float) -> bool:
        known = None if key[0] in self._distrusted else self._newest.get(key[:2])
        return known is not None and known[0] == key[2] and known[1] <= low and high <= known[2]


def gather(extremes: Extremes, channel_id: int, times_us: Sequence[int], numbers: Sequence[float]) -> None:
    """Add the numbers of a channel to what is gathered of a batch."""
    if not times_us:
        return
    if not all(map(le, times_us, times_us[1:])):
        pairs = sorted(zip(times_us, numbers, strict=True))
        times_us, numbers = [at for at, _ in pairs], [number for _, number in pairs]
    spans = _finest(times_us, numbers)
    for width in WIDTHS_US:
        spans = _coarser(spans, width)
        for bucket, low, high in spans:
            key = channel_id, width, bucket
            known = extremes.get(key)
            extremes[key] = (low, high) if known is None else (min(low, known[0]), max(high, known[1]))


def _coarser(spans: list[Span], width: int) -> list[Span]:
    """Join spans that lie in one stretch of a width; times grow."""
    joined: list[Span] = []
    end = None
    for at_us, low, high in spans:
        if end is None or at_us >= end:
            bucket = at_us // width * width
            end = bucket + width
            joined.append((bucket, low, high))
        else:
            bucket, least, most = joined[-1]
            joined[-1] = (bucket, min(low, least), max(high, most))
    return joined


def _finest(times_us: Sequence[int], numbers: Sequence[float]) -> list[Span]:
    """Return beginning, smallest and largest of each finest stretch; times grow."""
    width = WIDTHS_US[0]
    spans: list[Span] = []
    start, count = 0, len(times_us)
    while start < count:
        bucket = times_us[start] // width * width
        # Most batches are short in time: the last point tells whether there is anything to search.
        end = count if times_us[-1] < bucket + width else bisect_left(times_us, bucket + width, start)
        part = numbers[start:end]
        spans.append((bucket, min(part), max(part)))
        start = end
    return spans
