"""Reading points back, and thinning long series without reading all of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from core.signals.model import Sample, Span, StoredPoint
from core.signals.rollups import WIDTHS_US
from core.signals.values import decode
from core.storage.tx import Row, Tx

_READ = (
    "SELECT at_us, channel_id, n, num, text, recording_id, tagset_id FROM point"
    " WHERE channel_id = $1 AND at_us >= $2 AND at_us < $3 ORDER BY at_us, n LIMIT $4"
)
_FEW = "SELECT at_us, num, text FROM point WHERE channel_id = $1 AND at_us >= $2 AND at_us < $3 ORDER BY at_us, n LIMIT $4"
# One seek finds the first point of a step, and the next seek starts at the step after it, so empty steps cost nothing.
# CROSS JOIN keeps SQLite from walking the whole series and looking for each point among the steps.
_WALK = """
WITH RECURSIVE walk(at_us) AS (
  SELECT (SELECT p.at_us FROM point p WHERE p.channel_id = $1 AND p.at_us >= $2 AND p.at_us < $3 ORDER BY p.at_us LIMIT 1)
  UNION ALL
  SELECT (
    SELECT p.at_us FROM point p
    WHERE p.channel_id = $1 AND p.at_us >= $2 + ((walk.at_us - $2) / $4 + 1) * $4 AND p.at_us < $3
    ORDER BY p.at_us LIMIT 1
  )
  FROM walk WHERE walk.at_us IS NOT NULL
)
SELECT p.at_us, p.num, p.text FROM walk CROSS JOIN point p
WHERE p.channel_id = $1 AND p.at_us = walk.at_us AND p.n = 0 ORDER BY p.at_us
"""
_EXTREMES_OF_POINTS = (
    "SELECT (at_us - $4) / $5, min(num), max(num) FROM point"
    " WHERE channel_id = $1 AND at_us >= $2 AND at_us < $3 AND num IS NOT NULL GROUP BY 1"
)
_EXTREMES_OF_ROLLUPS = (
    "SELECT (bucket_us - $4) / $5, min(low), max(high) FROM rollup"
    " WHERE channel_id = $1 AND width_us = $6 AND bucket_us >= $2 AND bucket_us < $3 GROUP BY 1"
)

Piece = tuple[int, int, int]
"""Rollup width, or 0 for points; start; end."""


async def read_points(
    tx: Tx, channels: Mapping[int, tuple[str, str]], start_us: int, end_us: int, limit: int
) -> list[StoredPoint]:
    """Return at most `limit` points of some channels, oldest first; channels map to slug and name.

    Each channel is read in the order of its index. Once there are enough points, later channels are read only up to the newest
    of them, so the work is about `limit` rows for the first channels and little for the rest.
    """
    rows: list[Row] = []
    for channel_id in sorted(channels):
        rows += await tx.fetch(_READ, channel_id, start_us, end_us, limit)
        if len(rows) > limit:
            rows = sorted(rows, key=lambda row: (row[0], row[1], row[2]))[:limit]
            end_us = min(end_us, rows[-1][0] + 1)
    rows.sort(key=lambda row: (row[0], row[1], row[2]))
    recordings = await _bodies(tx, "SELECT external_id FROM recording WHERE id = $1", {row[5] for row in rows})
    tags = await _bodies(tx, "SELECT body FROM tagset WHERE id = $1", {row[6] for row in rows})
    return [
        StoredPoint(*channels[row[1]], row[0], decode(row[3], row[4]), decode(None, tags.get(row[6])), recordings.get(row[5]))
        for row in rows
    ]


async def _bodies(tx: Tx, sql: str, ids: set[int | None]) -> dict[int | None, str]:
    found: dict[int | None, str] = {}
    for identity in ids - {None}:
        rows = await tx.fetch(sql, identity)
        if rows:
            found[identity] = rows[0][0]
    return found


async def uniform(tx: Tx, channel_id: int, start_us: int | None, end_us: int | None, points: int) -> list[Sample]:
    """Return at most `points` points spread evenly over a range; all when they are that few."""
    bounds = await _bounds(tx, channel_id, start_us, end_us)
    if bounds is None:
        return []
    start, end = bounds
    rows = await tx.fetch(_FEW, channel_id, start, end, points + 1)
    if len(rows) > points:
        rows = await tx.fetch(_WALK, channel_id, start, end, -(-(end - start) // points))
    return [Sample(at_us, decode(num, text)) for at_us, num, text in rows]


async def envelope(tx: Tx, channel_id: int, start_us: int | None, end_us: int | None, buckets: int) -> list[Span]:
    """Return smallest and largest number of at most `buckets` equal steps; empty steps are left out."""
    bounds = await _bounds(tx, channel_id, start_us, end_us)
    if bounds is None:
        return []
    start, end = bounds
    grain = max((width for width in WIDTHS_US if width * buckets <= end - start), default=1)
    origin = start // grain * grain
    step = -(-(end - origin) // (buckets * grain)) * grain
    merged: dict[int, tuple[float, float]] = {}
    for width, first, last in _cover(start, end, [width for width in WIDTHS_US if width <= grain]):
        sql, more = (_EXTREMES_OF_ROLLUPS, (width,)) if width else (_EXTREMES_OF_POINTS, ())
        for bucket, low, high in await tx.fetch(sql, channel_id, first, last, origin, step, *more):
            known = merged.get(bucket, (low, high))
            merged[bucket] = min(low, known[0]), max(high, known[1])
    return [Span(max(start, origin + bucket * step), *merged[bucket]) for bucket in sorted(merged)]


def _cover(start: int, end: int, widths: list[int]) -> Iterator[Piece]:
    """Cut a range into pieces that whole rollups fill, the widest in the middle and ever finer ones towards both ends.

    The work at the ends is bounded by the ratio of neighbouring widths; only the last few seconds are read from points.
    """
    if start >= end:
        return
    if not widths:
        yield 0, start, end
        return
    width = widths[-1]
    first, last = -(-start // width) * width, end // width * width
    if first >= last:
        yield from _cover(start, end, widths[:-1])
        return
    yield from _cover(start, first, widths[:-1])
    yield width, first, last
    yield from _cover(last, end, widths[:-1])


async def _bounds(tx: Tx, channel_id: int, start_us: int | None, end_us: int | None) -> tuple[int, int] | None:
    """Return the range to read; None when it is empty."""
    if start_us is None:
        rows = await tx.fetch("SELECT at_us FROM point WHERE channel_id = $1 ORDER BY at_us LIMIT 1", channel_id)
        start_us = rows[0][0] if rows else None
    if end_us is None:
        rows = await tx.fetch("SELECT at_us FROM point WHERE channel_id = $1 ORDER BY at_us DESC LIMIT 1", channel_id)
        end_us = rows[0][0] + 1 if rows else None
    if start_us is None or end_us is None or start_us >= end_us:
        return None
    return start_us, end_us
