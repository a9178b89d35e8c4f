"""The order in which points arrive, kept with every point.

Each point has a number: the time of its arrival in microseconds, put forward where that is needed to give every point a number
of its own. Numbers grow in the order in which points are committed and told. A point keeps the distance from its own time to
its number, a few bytes for one that comes at once. An index would be as large as the points; instead it is kept, in whole
minutes, at which times points lie that came late, so that what arrived since a moment is found near that moment or there.

The order is that of one server, whose clock must not go back over a restart.
"""

from __future__ import annotations

from collections.abc import Sequence
from threading import Lock

from core.kernel.clock import MICROSECONDS, Clock
from core.signals.spans import Stretches, add
from core.signals.stretches import Stretch, Which
from core.storage.tx import Tx

LATE_US = 60 * MICROSECONDS
"""Points that are older than this when they arrive are late."""
BUCKET_US = 600 * MICROSECONDS
"""Arrivals that share one note of where late points lie."""
KEPT_US = 8 * 86_400 * MICROSECONDS
"""How long these notes are kept, which bounds how far back arrivals are found."""
_LAST_US = 2**62


class Arrivals:
    """Gives numbers to points, and knows which of them are told."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = Lock()
        self._told = clock.now_us()
        self._last = self._told - 1

    def take(self, points: int) -> int:
        """Return the first of so many numbers; called by the jobs of one writer, each time that one runs."""
        with self._lock:
            first = max(self._last + 1, self._clock.now_us())
            if points:
                self._last = first + points - 1
            return first

    def tell(self, until: int) -> None:
        """Note that all points with lower numbers are told, or will never be."""
        self._told = until

    @property
    def told(self) -> int:
        """A number: all points with lower ones are told, and all others are not yet."""
        with self._lock:
            if self._told > self._last:
                # Nothing is on its way, so the next number is of this moment or later.
                self._told = max(self._told, self._clock.now_us())
                self._last = self._told - 1
            return self._told


def note_late(stretches: Stretches, channel_id: int, arrived: int, times_us: Sequence[int]) -> None:
    """Add to what is gathered of a batch the times of points that came late."""
    first, bound = min(times_us), arrived - LATE_US
    if first < bound:
        add(stretches, arrived // BUCKET_US * BUCKET_US, channel_id, [first, min(max(times_us), bound)])


async def since(tx: Tx, channel_ids: list[int], first: int, until: int) -> list[Stretch]:
    """Return where the points of some channels are that have numbers from `first` on and below `until`."""
    which = Which(arrived=(first, until))
    # Twice, since the numbers of one batch may be spread over a moment.
    near = first - 2 * LATE_US
    found: dict[int, list[tuple[int, int]]] = {channel_id: [] for channel_id in channel_ids}
    sql = "SELECT channel_id, start_us, end_us FROM late_span WHERE bucket_us >= $1 ORDER BY channel_id, start_us"
    for channel_id, start_us, end_us in await tx.fetch(sql, (first - LATE_US) // BUCKET_US * BUCKET_US):
        ranges = found.get(channel_id)
        if ranges is None or start_us >= near:
            continue
        if ranges and start_us <= ranges[-1][1]:
            ranges[-1] = ranges[-1][0], max(ranges[-1][1], min(end_us, near))
        else:
            ranges.append((start_us, min(end_us, near)))
    return [
        Stretch(channel_id, start_us, end_us, which)
        for channel_id, ranges in found.items()
        for start_us, end_us in [*ranges, (near, _LAST_US)]
    ]


async def forget_before(tx: Tx, before_us: int) -> int:
    """Delete notes of late points that arrived before a time."""
    return await tx.execute("DELETE FROM late_span WHERE bucket_us < $1", before_us - BUCKET_US)
