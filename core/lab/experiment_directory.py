"""Experiments in memory: which one takes a datapoint that comes now, and to which one a datapoint belongs."""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass

from sqlmodel import col, select

from core.kernel.clock import MICROSECONDS
from core.lab.event_directory import KnownEvent
from core.signals.stretches import Stretch, Which
from core.signals.tables import RecordingRow
from core.storage.database import Database

KIND = "experiment"
"""Kind of the recordings that are experiments."""
FOREVER_US = 2**62
LATE_US = 60 * MICROSECONDS
"""How long after its end a batch may be stored that began before it."""


@dataclass(frozen=True, slots=True)
class KnownExperiment:
    """An experiment; it runs while `ended_us` is None."""

    id: int
    public_id: str
    org_id: str
    name: str
    started_us: int
    ended_us: int | None
    user_id: str | None

    @classmethod
    def of(cls, row: RecordingRow) -> KnownExperiment:
        """Return the experiment of a row."""
        user_id: str | None = json.loads(row.attributes).get("user_id")
        return cls(row.id or 0, row.public_id, row.org_id, row.name, row.started_us, row.ended_us, user_id)

    @property
    def end_us(self) -> int:
        """When it ended; far away while it runs."""
        return FOREVER_US if self.ended_us is None else self.ended_us


class ExperimentDirectory:
    """Experiments of all organisations. Holds only what is committed."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._by_id: dict[int, KnownExperiment] = {}
        self._by_org: dict[str, list[KnownExperiment]] = {}

    async def start(self) -> None:
        """Learn about all experiments."""
        async with self._database.read() as session:
            rows = (await session.exec(select(RecordingRow).where(col(RecordingRow.kind) == KIND))).all()
        for row in rows:
            self.put(row)

    def put(self, row: RecordingRow) -> KnownExperiment:
        """Add an experiment, or change one that is known."""
        experiment = KnownExperiment.of(row)
        self.remove(experiment)
        self._by_id[experiment.id] = experiment
        known = self._by_org.setdefault(experiment.org_id, [])
        known.append(experiment)
        known.sort(key=_start)
        return experiment

    def remove(self, experiment: KnownExperiment) -> None:
        """Drop an experiment that is gone."""
        if self._by_id.pop(experiment.id, None) is not None:
            known = self._by_org[experiment.org_id]
            known[:] = [other for other in known if other.id != experiment.id]

    def by_id(self, recording_id: int | None) -> KnownExperiment | None:
        """Return an experiment by the id of its recording."""
        return None if recording_id is None else self._by_id.get(recording_id)

    def of_user(self, org_id: str, user_id: str) -> list[KnownExperiment]:
        """Return the experiments of a user."""
        return [experiment for experiment in self._by_org.get(org_id, ()) if experiment.user_id == user_id]

    def running(self, org_id: str) -> KnownExperiment | None:
        """Return the experiment that was started last of those that run."""
        known = self._by_org.get(org_id, ())
        return next((experiment for experiment in reversed(known) if experiment.ended_us is None), None)

    def at(self, org_id: str, at_us: int) -> KnownExperiment | None:
        """Return the experiment that was started last of those that ran at a time."""
        known = self._by_org.get(org_id, [])
        begun = bisect_right(known, at_us, key=lambda experiment: experiment.started_us)
        return next((known[index] for index in range(begun - 1, -1, -1) if at_us < known[index].end_us), None)

    def own_times(self, experiment: KnownExperiment) -> list[tuple[int, int]]:
        """Return the ranges in which an experiment was the one that was started last of those that ran."""
        ranges: list[tuple[int, int]] = []
        at_us = experiment.started_us
        for other in self._by_org.get(experiment.org_id, ()):
            if _start(other) > _start(experiment) and other.end_us > at_us:
                if other.started_us > at_us:
                    ranges.append((at_us, min(other.started_us, experiment.end_us)))
                at_us = other.end_us
            if at_us >= experiment.end_us:
                return ranges
        return [*ranges, (at_us, experiment.end_us)]

    def stretches(self, row: RecordingRow, events: Iterable[KnownEvent], now_us: int) -> list[Stretch]:
        """Return where an experiment's points of some events are: by its name, and for linked ones in its own times too."""
        experiment = KnownExperiment.of(row)
        found: list[Stretch] = []
        end = now_us + 1 if experiment.ended_us is None else experiment.ended_us + LATE_US
        for event in events:
            found.append(Stretch(event.channel_id, experiment.started_us, end, Which(experiment.id)))
            if event.linked:
                times = self.own_times(experiment)
                which = Which(unassigned=True)
                found += [Stretch(event.channel_id, start, min(last, now_us + 1), which) for start, last in times]
        return found


def _start(experiment: KnownExperiment) -> tuple[int, int]:
    return experiment.started_us, experiment.id
