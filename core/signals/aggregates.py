"""Averages and the like of the numbers in each step of time, exactly, computed by the database.

`last` costs one seek for each step; the others read every number of the range once, in the order of its index. Rollups cannot
serve here: they only ever widen, and know neither sums nor counts.
"""

from __future__ import annotations

from core.kernel.errors import InvalidArgument
from core.signals.model import Sample
from core.signals.series import bounds_of
from core.storage.tx import Row, Tx

MOST_BUCKETS = 5000

# A sum of huge doubles overflows, which is infinity in one database and an error in the other: they are added up scaled.
_HUGE = 1e290
_SCALE = 1e18
_COLUMNS = {
    "avg": (
        f"sum(CASE WHEN abs(num) < {_HUGE} THEN num END), sum(CASE WHEN abs(num) >= {_HUGE} THEN num / {_SCALE} END),"
        " count(num)"
    ),
    "min": "min(num)",
    "max": "max(num)",
    "count": "count(num)",
}
_GROUPS = (
    "SELECT (at_us - $4) / $5, {columns} FROM point"
    " WHERE channel_id = $1 AND at_us >= $2 AND at_us < $3 AND num IS NOT NULL GROUP BY 1 ORDER BY 1"
)
# One seek finds the last number of a step, and the next seek looks before the beginning of that step.
_LAST = """
WITH RECURSIVE walk(at_us) AS (
  SELECT (
    SELECT p.at_us FROM point p WHERE p.channel_id = $1 AND p.at_us >= $2 AND p.at_us < $3 AND p.num IS NOT NULL
    ORDER BY p.at_us DESC LIMIT 1
  )
  UNION ALL
  SELECT (
    SELECT p.at_us FROM point p
    WHERE p.channel_id = $1 AND p.at_us >= $2 AND p.at_us < $4 + (walk.at_us - $4) / $5 * $5 AND p.num IS NOT NULL
    ORDER BY p.at_us DESC LIMIT 1
  )
  FROM walk WHERE walk.at_us IS NOT NULL
)
SELECT (w.at_us - $4) / $5, p.num FROM walk w CROSS JOIN point p
WHERE p.channel_id = $1 AND p.at_us = w.at_us AND p.num IS NOT NULL AND NOT EXISTS (
  SELECT 1 FROM point q WHERE q.channel_id = $1 AND q.at_us = w.at_us AND q.n > p.n AND q.num IS NOT NULL
) ORDER BY 1
"""


async def aggregate(
    tx: Tx,
    channel_id: int,
    start_us: int | None,
    end_us: int | None,
    method: str,
    *,
    buckets: int,
    width_us: int | None = None,
) -> list[Sample]:
    """Return one sample for each step that has a number, at the beginning of the step.

    Args:
        tx: Transaction to read in.
        channel_id: Channel to read.
        start_us: First time; None for the first point.
        end_us: Time after the last; None for the last point.
        method: `avg`, `min`, `max`, `last` or `count`; `last` is the one stored last where several are equally late.
        buckets: Into how many equal steps the range is cut at most when there is no width.
        width_us: Length of the steps, which then begin at its multiples.

    Raises:
        InvalidArgument: The width cuts the range into more than MOST_BUCKETS steps.
    """
    bounds = await bounds_of(tx, channel_id, start_us, end_us)
    if bounds is None:
        return []
    start, end = bounds
    width = width_us or -(-(end - start) // buckets)
    origin = start // width * width if width_us else start
    if -(-(end - origin) // width) > MOST_BUCKETS:
        raise InvalidArgument.field("bucket_ms", f"must cut the range into at most {MOST_BUCKETS} steps")
    sql = _LAST if method == "last" else _GROUPS.format(columns=_COLUMNS[method])
    rows = await tx.fetch(sql, channel_id, start, end, origin, width)
    return [Sample(origin + row[0] * width, _average(row) if method == "avg" else float(row[1])) for row in rows]


def _average(row: Row) -> float:
    _, small, huge, count = row
    return (small or 0.0) / count + (huge or 0.0) / count * _SCALE
