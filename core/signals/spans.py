"""Where the points of recordings are: from when to when, for each recording and channel. And where points lie that came late.

A recording is read and judged by looking at these stretches only, however long its channels are. They are kept in whole minutes
and only ever widen, so a batch writes one of them about once a minute.
"""

from __future__ import annotations

from collections.abc import Sequence

from core.kernel.clock import MICROSECONDS
from core.storage.bulk import BulkInsert
from core.storage.tx import Tx

GRAIN_US = 60 * MICROSECONDS
MOST_REMEMBERED = 100_000

Key = tuple[int, int]
"""Recording, or time of arrival; channel."""
Stretch = tuple[int, int]
"""From when, and before when."""
Stretches = dict[Key, Stretch]


class Spans:
    """A table of stretches, with those that were written lately in memory."""

    def __init__(self, table: str = "recording_span", key: str = "recording_id", kind: str = "integer") -> None:
        self._known: Stretches = {}
        self._upsert = BulkInsert(
            table,
            {key: kind, "channel_id": "integer", "start_us": "bigint", "end_us": "bigint"},
            f"ON CONFLICT ({key}, channel_id) DO UPDATE SET"
            f" start_us = CASE WHEN excluded.start_us < {table}.start_us THEN excluded.start_us ELSE {table}.start_us END,"
            f" end_us = CASE WHEN excluded.end_us > {table}.end_us THEN excluded.end_us ELSE {table}.end_us END",
        )

    async def widen(self, tx: Tx, stretches: Stretches) -> None:
        """Write what goes beyond the rows that are known to be stored."""
        flat: list[int] = []
        for key, stretch in sorted(stretches.items()):
            known = self._known.get(key)
            if known is None or stretch[0] < known[0] or known[1] < stretch[1]:
                flat += (*key, *stretch)
        await self._upsert.execute(tx, flat)

    def remember(self, stretches: Stretches) -> None:
        """Note what is committed."""
        if len(self._known) + len(stretches) > MOST_REMEMBERED:
            self._known.clear()
        for key, stretch in stretches.items():
            self._known[key] = _joined(self._known.get(key), stretch)


def add(stretches: Stretches, key_id: int, channel_id: int, times_us: Sequence[int]) -> None:
    """Add the points of a column to what is gathered of a batch."""
    start, end = min(times_us) // GRAIN_US * GRAIN_US, (max(times_us) // GRAIN_US + 1) * GRAIN_US
    key = key_id, channel_id
    stretches[key] = _joined(stretches.get(key), (start, end))


async def of_recording(tx: Tx, recording_id: int) -> dict[int, Stretch]:
    """Return the stretches of a recording by channel."""
    rows = await tx.fetch("SELECT channel_id, start_us, end_us FROM recording_span WHERE recording_id = $1", recording_id)
    return {row[0]: (row[1], row[2]) for row in rows}


def _joined(known: Stretch | None, more: Stretch) -> Stretch:
    return more if known is None else (min(known[0], more[0]), max(known[1], more[1]))
