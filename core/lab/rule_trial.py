"""Trying a rule out on stored points: reads them page by page in the order of time and changes nothing."""

from __future__ import annotations

from dataclasses import dataclass, field

from core.lab.conditions import Condition
from core.signals.sweep import Sweep

MOST_FIRINGS = 1000
"""Firings that are kept; further ones are counted."""
PAGE = 5000
"""Points read at once."""


@dataclass(slots=True)
class Trial:
    """A rule that looks at points as they come, as it would have done when they arrived.

    Points of one instant arrived together, and of those a rule sees the last one only. The cooldown runs by the times of the
    points.

    Attributes:
        firings: Time and value of the first firings.
        total: How many firings there are.
        examined: How many points came.
    """

    condition: Condition
    cooldown_us: int
    firings: list[tuple[int, float]] = field(default_factory=list[tuple[int, float]])
    total: int = 0
    examined: int = 0
    _last_us: int | None = None
    _open: tuple[int, float] | None = None

    def look(self, at_us: int, value: float) -> None:
        """Take the next point; times never go back."""
        self.examined += 1
        if self._open is not None and self._open[0] != at_us:
            self.close()
        self._open = at_us, value

    def close(self) -> None:
        """Decide about the last instant."""
        if self._open is None:
            return
        at_us, value = self._open
        self._open = None
        rested = self._last_us is None or at_us - self._last_us >= self.cooldown_us
        if not rested or not self.condition.met_by(value):
            return
        self._last_us = at_us
        self.total += 1
        if len(self.firings) < MOST_FIRINGS:
            self.firings.append((at_us, value))


async def run(sweep: Sweep, trial: Trial) -> Trial:
    """Show a trial all points that a sweep reads."""
    while page := await sweep.read():
        for at_us, _, _, value in page:
            trial.look(at_us, value)
    trial.close()
    return trial
