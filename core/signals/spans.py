"""Where the points of recordings are: from when to when, for each recording and channel.

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
"""Recording, channel."""
Stretch = tuple[int, int]
"""From when, and before when."""
Stretches = dict[Key, Stretch]

_UPSERT = BulkInsert(
    "recording_span",
    {"recording_id": "integer", "channel_id": "integer", "start_us": "bigint", "end_us": "bigint"},
    "ON CONFLICT (recording_id, channel_id) DO UPDATE SET"
    " start_us = CASE WHEN excluded.start_us < recording_span.start_us THEN excluded.start_us ELSE recording_span.start_us END,"
    " end_us = CASE WHEN excluded.end_us > recording_span.end_us THEN excluded.end_us ELSE recording_span.end_us END",
)


class Spans:
    """The table of stretches, with those that were written lately in memory."""

    def __init__(self) -> None:
        self._known: Stretches = {}

    async def widen(self, tx: Tx, stretches: Stretches) -> None:
        """Write what goes beyond the rows that are known to be stored."""
        flat: list[int] = []
        for key, stretch in sorted(stretches.items()):
            known = self._known.get(key)
            if known is None or stretch[0] < known[0] or known[1] < stretch[1]:
                flat += (*key, *stretch)
        await _UPSERT.execute(tx, flat)

    def remember(self, stretches: Stretches) -> None:
        """Note what is committed."""
        if len(self._known) + len(stretches) > MOST_REMEMBERED:
            self._known.clear()
        for key, stretch in stretches.items():
            self._known[key] = _joined(self._known.get(key), stretch)


def add(stretches: Stretches, recording_id: int, channel_id: int, times_us: Sequence[int]) -> None:
    """Add the points of a column to what is gathered of a batch."""
    start, end = min(times_us) // GRAIN_US * GRAIN_US, (max(times_us) // GRAIN_US + 1) * GRAIN_US
    key = recording_id, channel_id
    stretches[key] = _joined(stretches.get(key), (start, end))


async def of_recording(tx: Tx, recording_id: int) -> dict[int, Stretch]:
    """Return the stretches of a recording by channel."""
    rows = await tx.fetch("SELECT channel_id, start_us, end_us FROM recording_span WHERE recording_id = $1", recording_id)
    return {row[0]: (row[1], row[2]) for row in rows}


def _joined(known: Stretch | None, more: Stretch) -> Stretch:
    return more if known is None else (min(known[0], more[0]), max(known[1], more[1]))
