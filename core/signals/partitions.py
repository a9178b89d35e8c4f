"""Partitions of the table of points on PostgreSQL: one for each stretch of 30 days, made when its first point comes.

Times that only a wrong clock gives (1970, the far future) share the default partition, so that a device without a clock cannot
make partitions without end.
"""

from __future__ import annotations

import time
from collections.abc import Iterable

from core.kernel.clock import MICROSECONDS
from core.storage.tx import Tx

WIDTH_US = 30 * 86_400 * MICROSECONDS
_FIRST = 1_420_070_400 * MICROSECONDS // WIDTH_US
"""Stretch that holds the beginning of 2015."""
_AHEAD = 3
"""Stretches after the present one that may have a partition."""
_LOCK = 7_262_827_228
_NAMES = (
    "SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid"
    " WHERE i.inhparent = 'point'::regclass AND c.relname <> 'point_default'"
)


class Partitions:
    """Knows which partitions there are."""

    def __init__(self) -> None:
        # A stretch in here without a partition does no harm: its points go to the default partition.
        self._known: set[int] = set()

    async def ensure(self, tx: Tx, times_us: Iterable[int]) -> None:
        """Make the partitions that some times need."""
        wanted = {at_us // WIDTH_US for at_us in times_us} - self._known
        if not wanted:
            return
        self._known |= wanted
        last = time.time_ns() // 1000 // WIDTH_US + _AHEAD
        for stretch in sorted(wanted):
            if _FIRST <= stretch <= last:
                await _make(tx, stretch)
            elif stretch > last:
                self._known.discard(stretch)

    async def drop_before(self, tx: Tx, cutoff_us: int) -> int:
        """Drop partitions that hold nothing from `cutoff_us` on; return how many points went."""
        dropped = 0
        for (name,) in await tx.fetch(_NAMES):
            stretch = int(name.removeprefix("point_"))
            if (stretch + 1) * WIDTH_US <= cutoff_us:
                dropped += (await tx.fetch(f"SELECT count(*) FROM {name}"))[0][0]  # noqa: S608 - name comes from the catalogue
                await tx.execute(f"DROP TABLE {name}")
                self._known.discard(stretch)
        return dropped


async def _make(tx: Tx, stretch: int) -> None:
    """Make a partition, moving to it what the default partition holds of its time."""
    name, start, end = f"point_{stretch}", stretch * WIDTH_US, (stretch + 1) * WIDTH_US
    await tx.fetch("SELECT pg_advisory_xact_lock($1)", _LOCK)
    if (await tx.fetch("SELECT to_regclass($1)::text", name))[0][0] is not None:
        return
    await tx.execute(f"CREATE TABLE {name} (LIKE point INCLUDING ALL)")
    await tx.execute(
        f"WITH moved AS (DELETE FROM point_default WHERE at_us >= {start} AND at_us < {end} RETURNING *)"  # noqa: S608 - numbers
        f" INSERT INTO {name} SELECT * FROM moved"
    )
    await tx.execute(f"ALTER TABLE point ATTACH PARTITION {name} FOR VALUES FROM ({start}) TO ({end})")
