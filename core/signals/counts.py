"""How many numbers channels hold, without counting all of them each time.

Of each channel it is remembered how many lie before a time; only later ones are counted anew. What changes the past, late
points and deletions, makes a channel be counted from its beginning once more.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from core.kernel.clock import MICROSECONDS, Clock
from core.signals.series import IS_NUMBER
from core.storage.database import Database
from core.storage.tx import Tx

SETTLED_US = 60 * MICROSECONDS
"""Age from which points are expected to come no more."""
FIRST_US = -(2**62)
"""Before every point."""

_COUNT = f"SELECT count(*) FROM point WHERE channel_id = $1 AND at_us >= $2 AND at_us < $3 AND {IS_NUMBER}"  # noqa: S608


async def count_between(tx: Tx, channel_ids: Collection[int], start_us: int, end_us: int) -> int:
    """Return how many numbers some channels hold in a range."""
    return sum([(await tx.fetch(_COUNT, channel_id, start_us, end_us))[0][0] for channel_id in channel_ids])


@dataclass(slots=True, eq=False)
class _Counting:
    """A count under way. Channels whose past changed meanwhile are not remembered."""

    until_us: int
    changed: set[int] = field(default_factory=set[int])
    all_changed: bool = False


class Counts:
    """Numbers by channel."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._before: dict[int, tuple[int, int]] = {}
        self._under_way: list[_Counting] = []

    async def of(self, channel_ids: Sequence[int]) -> int:
        """Return how many numbers some channels hold."""
        counting = _Counting(self._clock.now_us() - SETTLED_US)
        self._under_way.append(counting)
        try:
            known = {channel_id: self._before.get(channel_id, (FIRST_US, 0)) for channel_id in channel_ids}
            settled, recent = await self._database.query(lambda tx: _count(tx, known, counting.until_us))
        finally:
            self._under_way.remove(counting)
        total = sum(recent.values())
        for channel_id, (since, before) in known.items():
            total += before + settled[channel_id]
            if not counting.all_changed and channel_id not in counting.changed:
                self._before[channel_id] = max(since, counting.until_us), before + settled[channel_id]
        return total

    def note(self, channel_id: int, times_us: Sequence[int]) -> None:
        """Note that points came, at least one; called after their commit."""
        known = self._before.get(channel_id)
        if known is None and not self._under_way:
            return
        oldest_us = min(times_us)
        if known is not None and oldest_us < known[0]:
            del self._before[channel_id]
        for counting in self._under_way:
            if oldest_us < counting.until_us:
                counting.changed.add(channel_id)

    def forget(self, channel_id: int) -> None:
        """Forget a channel of which points were deleted."""
        self.note(channel_id, (FIRST_US,))

    def forget_all(self) -> None:
        """Forget all channels."""
        self._before.clear()
        for counting in self._under_way:
            counting.all_changed = True


async def _count(
    tx: Tx, known: dict[int, tuple[int, int]], until_us: int
) -> tuple[defaultdict[int, int], defaultdict[int, int]]:
    """Return how many came before a time since each channel was counted last, and how many after it; on one snapshot."""
    settled, recent = defaultdict[int, int](int), defaultdict[int, int](int)
    for channel_id, (since, _) in known.items():
        until = max(since, until_us)
        settled[channel_id] = await count_between(tx, [channel_id], since, until)
        recent[channel_id] = await count_between(tx, [channel_id], until, 2**62)
    return settled, recent
