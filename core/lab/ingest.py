"""The way in for datapoints of the lab, shared by REST, sockets and plugins."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Protocol

from core.kernel.clock import Clock
from core.lab.event_directory import EventDirectory, KnownEvent
from core.lab.experiment_directory import ExperimentDirectory
from core.lab.points_watch import BY
from core.signals.model import Column, Written
from core.signals.points import InstantTakenError
from core.signals.service import Signals

_TRIES = 5


class Effects(Protocol):
    """Carries out what follows from values."""

    async def settled(self, notes: Iterable[object]) -> None:
        """Wait until what was written beside values has been tried. Never raises."""
        ...


class LabIngest:
    """Stores datapoints, and waits for what follows from them."""

    def __init__(
        self,
        signals: Signals,
        events: EventDirectory,
        experiments: ExperimentDirectory,
        clock: Clock,
        effects: Effects,
    ) -> None:
        self._signals = signals
        self._events = events
        self._experiments = experiments
        self._clock = clock
        self._effects = effects
        self._last_us = 0

    async def store(self, org_id: str, values: Iterable[tuple[str, float]], *, client_id: str | None = None) -> int:
        """Store finite values of events, given by their public ids, in one commit at one time of the server.

        Those of events that are unknown or whose datapoints do not count are left out. Returns how many were stored.
        `client_id` names whoever stores them to those who are told after the commit.

        Raises:
            Unavailable: Storage failed; nothing was stored.
        """
        kept: list[tuple[KnownEvent, float]] = []
        for public_id, value in values:
            event = self._events.by_public_id(org_id, public_id)
            if event is not None and self._events.mapped(event):
                kept.append((event, value))
        if not kept:
            return 0
        written = await self._write(org_id, kept, client_id)
        await self._effects.settled(written.notes)
        return len(kept)

    async def _write(self, org_id: str, kept: Sequence[tuple[KnownEvent, float]], client_id: str | None) -> Written:
        by_event: defaultdict[KnownEvent, list[float]] = defaultdict(list)
        for event, value in kept:
            by_event[event].append(value)
        for left in range(_TRIES, 0, -1):
            at_us = self._instant()
            running = self._experiments.running(org_id)
            columns = [self._column(event, found, at_us, running and running.id) for event, found in by_event.items()]
            try:
                present = [column for column in columns if column is not None]
                return await self._signals.write(org_id, present, by=BY, client_id=client_id)
            except InstantTakenError:
                # Somebody else wrote to a linked channel at this very microsecond; the next one is free.
                if left == 1:
                    raise
        raise AssertionError

    def _instant(self) -> int:
        """Return the time of a batch, which no other batch has: datapoints of one time are those of one batch."""
        self._last_us = max(self._clock.now_us(), self._last_us + 1)
        return self._last_us

    def _column(self, event: KnownEvent, values: list[float], at_us: int, recording_id: int | None) -> Column | None:
        device, channel = self._signals.get_device(event.device_id), self._signals.get_channel(event.channel_id)
        if device is None or channel is None:
            return None
        count = len(values)
        return Column(device.slug, channel.name, [at_us] * count, values, ns=range(count), recording_id=recording_id)
