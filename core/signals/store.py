"""What every write needs at hand."""

from __future__ import annotations

from dataclasses import dataclass, field

from core.signals.directory import Directory
from core.signals.points import Points
from core.signals.rollups import Rollups
from core.signals.spans import Spans


@dataclass(frozen=True, slots=True)
class Store:
    """The memory of what is known, and the tables of what was measured."""

    directory: Directory = field(default_factory=Directory)
    points: Points = field(default_factory=Points)
    rollups: Rollups = field(default_factory=Rollups)
    spans: Spans = field(default_factory=Spans)
