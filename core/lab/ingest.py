"""The way in for datapoints of the lab, shared by REST, sockets and plugins."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

import structlog
from sqlmodel.ext.asyncio.session import AsyncSession

from core.kernel.clock import Clock
from core.kernel.errors import Unavailable
from core.lab.event_directory import EventDirectory, KnownEvent
from core.lab.experiment_directory import ExperimentDirectory
from core.lab.hooks import SENSOR_READING
from core.lab.readings import Readings
from core.signals.model import Column
from core.signals.points import InstantTakenError
from core.signals.service import Signals
from core.storage.database import Database

BY = "lab"
"""Writer of the points that come in here."""
_TRIES = 5

log = structlog.get_logger("busbar.lab")


class Hooks(Protocol):
    """Tells the outer world what happened."""

    def wanted(self, org_id: str, event_type: str) -> bool:
        """Whether anybody in an organisation wants to know of a kind."""
        ...

    async def dispatch(
        self, session: AsyncSession, org_id: str, event_type: str, payload: Mapping[str, object], at_us: int | None = None
    ) -> None:
        """Tell those who want to know, as part of the caller's unit of work."""
        ...


class Rules(Protocol):
    """Looks at values."""

    async def evaluate(self, org_id: str, event: KnownEvent, value: float, at_us: int) -> None:
        """Look at the last value of an event that a commit stored. Never raises."""
        ...


class LabIngest:
    """Stores datapoints, and lets rules and webhooks know after the commit."""

    def __init__(
        self,
        database: Database,
        signals: Signals,
        events: EventDirectory,
        experiments: ExperimentDirectory,
        clock: Clock,
        *,
        readings: Readings | None = None,
        hooks: Hooks | None = None,
        rules: Rules | None = None,
    ) -> None:
        self._database = database
        self._signals = signals
        self._events = events
        self._experiments = experiments
        self._clock = clock
        self._hooks = hooks
        self._rules = rules
        self._last_us = 0
        self._readings = Readings() if readings is None else readings

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
        at_us = await self._write(org_id, kept, client_id)
        await self._tell(org_id, kept, at_us)
        last = {event.public_id: (event, value) for event, value in kept}
        if self._rules is not None:
            for event, value in last.values():
                await self._rules.evaluate(org_id, event, value, at_us)
        return len(kept)

    async def _write(self, org_id: str, kept: Sequence[tuple[KnownEvent, float]], client_id: str | None) -> int:
        by_event: defaultdict[KnownEvent, list[float]] = defaultdict(list)
        for event, value in kept:
            by_event[event].append(value)
        for left in range(_TRIES, 0, -1):
            at_us = self._instant()
            running = self._experiments.running(org_id)
            columns = [self._column(event, found, at_us, running and running.id) for event, found in by_event.items()]
            try:
                present = [column for column in columns if column is not None]
                await self._signals.write(org_id, present, by=BY, client_id=client_id)
            except InstantTakenError:
                # Somebody else wrote to a linked channel at this very microsecond; the next one is free.
                if left == 1:
                    raise
            else:
                return at_us
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

    async def _tell(self, org_id: str, kept: Sequence[tuple[KnownEvent, float]], at_us: int) -> None:
        """Send reading webhooks: of each event the first value of a burst."""
        if self._hooks is None or not self._hooks.wanted(org_id, SENSOR_READING):
            return
        due = [(event, value) for event, value in kept if self._readings.due(event.public_id, at_us)]
        if not due:
            return
        try:
            async with self._database.unit_of_work() as session:
                for event, value in due:
                    payload = {"sensor": event.public_id, "value": value}
                    await self._hooks.dispatch(session, org_id, SENSOR_READING, payload, at_us)
        except Unavailable as error:
            # The datapoints are stored, and their sender must not send them again.
            log.warning("webhooks were not told", kind=SENSOR_READING, error=error.message)
