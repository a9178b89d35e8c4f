"""Reading points back, and thinning long series without reading all of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from core.signals.model import Sample, Span, StoredPoint
from core.signals.rollups import WIDTHS_US
from core.signals.stretches import EVERY, Stretch, Which
from core.signals.values import decode
from core.storage.tx import Row, Tx

IS_NUMBER = "(num IS NOT NULL OR text IN ('true', 'false'))"
"""Tells numbers and switches, which count as 1 and 0, from texts and objects."""
_FIELDS = "at_us, channel_id, n, num, text, recording_id, tagset_id"
_READ = (
    f"SELECT {_FIELDS} FROM point WHERE channel_id = $1 AND at_us >= $2 AND (at_us, n) > ($2, $3) AND at_us < $4{{0}}"  # noqa: S608
    " ORDER BY at_us, n LIMIT $5"
)
# The same for several series in one round trip, which is what counts on PostgreSQL.
_READ_TOGETHER = f"""
SELECT p.* FROM unnest($1::integer[], $2::bigint[], $3::integer[], $4::bigint[]) AS c(channel_id, at_us, n, end_us)
CROSS JOIN LATERAL (
  SELECT {_FIELDS} FROM point
  WHERE channel_id = c.channel_id AND at_us >= c.at_us AND (at_us, n) > (c.at_us, c.n) AND at_us < c.end_us{{0}}
  ORDER BY at_us, n LIMIT $5
) AS p ORDER BY p.at_us, p.channel_id, p.n LIMIT $5
"""  # noqa: S608 - constants
_MOST_TOGETHER = 256
_BEFORE = -1
"""Below every n."""
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


class Place(NamedTuple):
    """A point's place in the order of points over all series: by time, then by series, then by n."""

    at_us: int
    channel_id: int
    n: int


class Placed(NamedTuple):
    """A stored point and its place."""

    place: Place
    point: StoredPoint


class Selection(NamedTuple):
    """Points to read.

    Attributes:
        channels: Slug and name by channel id.
        stretches: What to read of them. No point is in two.
    """

    channels: Mapping[int, tuple[str, str]]
    stretches: Sequence[Stretch]

    @classmethod
    def between(cls, channels: Mapping[int, tuple[str, str]], start_us: int, end_us: int, which: Which = EVERY) -> Selection:
        """Choose the same range of all channels."""
        return cls(channels, [Stretch(channel_id, start_us, end_us, which) for channel_id in sorted(channels)])


class _Begin(NamedTuple):
    """A stretch, and the time and n after which its next points come."""

    channel_id: int
    at_us: int
    n: int
    stretch: Stretch


async def read_page(tx: Tx, chosen: Selection, after: Place | None, limit: int) -> list[Placed]:
    """Return at most `limit` points, in their order, that come after a place.

    Once there are enough points, further stretches are read only up to the newest of them, so the work is about `limit` rows
    for the first stretches and little for the rest.
    """
    rows: list[Row] = []
    end_us: int | None = None
    begins = [_begin(stretch, after) for stretch in chosen.stretches]
    for part in _parts(begins, together=tx.dialect == "postgresql"):
        rows += await _read(tx, part, end_us, limit)
        if len(rows) > limit:
            rows = sorted(rows, key=_place)[:limit]
            end_us = rows[-1][0] + 1
    rows.sort(key=_place)
    recordings = await _bodies(tx, "SELECT external_id FROM recording WHERE id = $1", {row[5] for row in rows})
    tags = await _bodies(tx, "SELECT body FROM tagset WHERE id = $1", {row[6] for row in rows})
    return [
        Placed(
            Place(*row[:3]),
            StoredPoint(
                *chosen.channels[row[1]],
                row[0],
                decode(row[3], row[4]),
                decode(None, tags.get(row[6])),
                recordings.get(row[5]),
            ),
        )
        for row in rows
    ]


def _place(row: Row) -> tuple[int, int, int]:
    return row[0], row[1], row[2]


def _parts(begins: list[_Begin], *, together: bool) -> Iterator[list[_Begin]]:
    """Cut stretches into parts to read at once: ever larger ones, since the first ones show how far the others matter."""
    size, start = 1, 0
    while start < len(begins):
        which = begins[start].stretch.which
        stop = start + 1
        while stop < min(len(begins), start + size) and begins[stop].stretch.which == which:
            stop += 1
        yield begins[start:stop]
        start = stop
        size = min(size * 2, _MOST_TOGETHER) if together else 1


def _begin(stretch: Stretch, after: Place | None) -> _Begin:
    """Return after what the points of a stretch come that come after a place."""
    channel_id, start_us = stretch.channel_id, stretch.start_us
    if after is None or after.at_us < start_us:
        return _Begin(channel_id, start_us, _BEFORE, stretch)
    if channel_id < after.channel_id:
        return _Begin(channel_id, after.at_us + 1, _BEFORE, stretch)
    return _Begin(channel_id, after.at_us, after.n if channel_id == after.channel_id else _BEFORE, stretch)


async def _read(tx: Tx, begins: Sequence[_Begin], end_us: int | None, limit: int) -> Sequence[Row]:
    """Return the next points of stretches that are alike but for channel and range, up to a time."""
    which = begins[0].stretch.which
    sql, more = which.sql(6), which.arguments
    if tx.dialect == "postgresql":
        channels, times, ns, stretches = zip(*begins, strict=True)
        ends = [_end(stretch, end_us) for stretch in stretches]
        sql = _READ_TOGETHER.format(sql)
        return await tx.fetch(sql, list(channels), list(times), list(ns), ends, limit, *more)
    channel_id, at_us, n, stretch = begins[0]
    end = _end(stretch, end_us)
    return await tx.fetch(_READ.format(sql), channel_id, at_us, n, end, limit, *more) if at_us < end else []


def _end(stretch: Stretch, end_us: int | None) -> int:
    return stretch.end_us if end_us is None else min(stretch.end_us, end_us)


async def _bodies(tx: Tx, sql: str, ids: set[int | None]) -> dict[int | None, str]:
    found: dict[int | None, str] = {}
    for identity in ids - {None}:
        rows = await tx.fetch(sql, identity)
        if rows:
            found[identity] = rows[0][0]
    return found


async def uniform(tx: Tx, channel_id: int, start_us: int | None, end_us: int | None, points: int) -> list[Sample]:
    """Return at most `points` points spread evenly over a range; all when they are that few."""
    bounds = await bounds_of(tx, channel_id, start_us, end_us)
    if bounds is None:
        return []
    start, end = bounds
    rows = await tx.fetch(_FEW, channel_id, start, end, points + 1)
    if len(rows) > points:
        rows = await tx.fetch(_WALK, channel_id, start, end, -(-(end - start) // points))
    return [Sample(at_us, decode(num, text)) for at_us, num, text in rows]


async def envelope(tx: Tx, channel_id: int, start_us: int | None, end_us: int | None, buckets: int) -> list[Span]:
    """Return smallest and largest number of at most `buckets` equal steps; empty steps are left out."""
    bounds = await bounds_of(tx, channel_id, start_us, end_us)
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


async def bounds_of(tx: Tx, channel_id: int, start_us: int | None, end_us: int | None) -> tuple[int, int] | None:
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
