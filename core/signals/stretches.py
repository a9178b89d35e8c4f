"""What is read of a channel: a range of time, and which points of it."""

from __future__ import annotations

from typing import NamedTuple


class Which(NamedTuple):
    """Which points of a range count; all of them when nothing is said.

    Attributes:
        recording_id: Recording to which they belong.
        unassigned: Leaves out those that belong to an experiment.
        arrived: The first number of their arrival, and the one after the last.
    """

    recording_id: int | None = None
    unassigned: bool = False
    arrived: tuple[int, int] | None = None

    def sql(self, number: int) -> str:
        """Return what a statement says further; its arguments begin with this number."""
        parts: list[str] = []
        if self.unassigned:
            parts.append(_UNASSIGNED)
        if self.recording_id is not None:
            parts.append(f" AND recording_id = ${number}")
            number += 1
        if self.arrived is not None:
            parts.append(f" AND at_us + lag_us >= ${number} AND at_us + lag_us < ${number + 1}")
        return "".join(parts)

    @property
    def arguments(self) -> tuple[int, ...]:
        """Return the arguments of `sql`."""
        return (*(() if self.recording_id is None else (self.recording_id,)), *(self.arrived or ()))


EVERY = Which()
_UNASSIGNED = " AND (recording_id IS NULL OR recording_id NOT IN (SELECT id FROM recording WHERE kind = 'experiment'))"


class Stretch(NamedTuple):
    """Points of a channel in a range, which holds its start and not its end."""

    channel_id: int
    start_us: int
    end_us: int
    which: Which = EVERY

    def within(self, start_us: int, end_us: int) -> Stretch:
        """Return the part that lies in a range."""
        return self._replace(start_us=max(self.start_us, start_us), end_us=min(self.end_us, end_us))
