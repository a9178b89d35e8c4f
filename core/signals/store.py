"""What every write needs at hand."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from core.signals.arrivals import Arrivals
from core.signals.directory import Directory
from core.signals.model import PointsWritten
from core.signals.points import Points
from core.signals.rollups import Rollups
from core.signals.spans import Spans
from core.storage.tx import Tx

Beside = Callable[[Tx, PointsWritten], Awaitable[Sequence[object]]]
"""Writes rows of its own into the transaction that stores points, and returns notes of them. It is part of a job: it awaits
nothing else, may run twice, and changes nothing but the database."""


@dataclass(frozen=True, slots=True)
class Store:
    """The memory of what is known, and the tables of what was measured."""

    arrivals: Arrivals
    directory: Directory = field(default_factory=Directory)
    points: Points = field(default_factory=Points)
    rollups: Rollups = field(default_factory=Rollups)
    spans: Spans = field(default_factory=Spans)
    late: Spans = field(default_factory=lambda: Spans("late_span", "bucket_us", "bigint"))
    besides: list[Beside] = field(default_factory=list[Beside])

    async def write_beside(self, tx: Tx, written: PointsWritten) -> tuple[object, ...]:
        """Let others write beside points; return their notes."""
        if not self.besides:
            return ()
        return tuple([note for beside in self.besides for note in await beside(tx, written)])
