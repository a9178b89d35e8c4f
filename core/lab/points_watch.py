"""Watches points that come by other ways than the lab's own: those of pins and metrics that are linked to an event.

It is called after each commit of points and must not wait, so what follows from them goes into a bounded queue.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import structlog

from core.kernel.clock import Clock
from core.lab.conditions import number_of
from core.lab.event_directory import EventDirectory, KnownEvent
from core.lab.hooks import SENSOR_READING, Webhooks
from core.lab.ingest import BY
from core.lab.readings import Readings
from core.lab.rule_engine import Firing, RuleEngine
from core.signals.model import Column, Event, PointsWritten
from core.signals.service import Signals

MOST_WAITING = 10_000
"""What may wait; more is dropped and counted in the log."""
MOST_TOGETHER = 256
"""Firings in one transaction."""

log = structlog.get_logger("busbar.lab")


@dataclass(frozen=True, slots=True)
class Reading:
    """A value to tell webhooks of."""

    event: KnownEvent
    value: float
    at_us: int


class PointsWatch:
    """Lets rules and webhooks know of points of linked events."""

    def __init__(
        self,
        signals: Signals,
        events: EventDirectory,
        engine: RuleEngine,
        webhooks: Webhooks,
        readings: Readings,
        clock: Clock,
    ) -> None:
        self._signals = signals
        self._events = events
        self._engine = engine
        self._webhooks = webhooks
        self._readings = readings
        self._clock = clock
        self._waiting: deque[Firing | Reading] = deque()
        self._dropped = 0
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._stopping = False
        signals.on_written(self.observe)

    async def start(self) -> None:
        """Begin to tell."""
        self._task = asyncio.create_task(self._run(), name="lab-points-watch")

    async def stop(self) -> None:
        """Tell what waits, and end."""
        self._stopping = True
        self._wake.set()
        if self._task is not None:
            await self._task

    def observe(self, events: Sequence[Event]) -> None:
        """Look at the points of a commit."""
        for event in events:
            if isinstance(event, PointsWritten) and event.by != BY and self._matters(event.org_id):
                for item in self._found(event):
                    if len(self._waiting) < MOST_WAITING:
                        self._waiting.append(item)
                    else:
                        self._dropped += 1
                    self._wake.set()

    def _matters(self, org_id: str) -> bool:
        return self._engine.has_rules(org_id) or self._webhooks.wanted(org_id, SENSOR_READING)

    def _found(self, written: PointsWritten) -> Iterator[Firing | Reading]:
        """Yield what follows from the last values of a batch. Devices' clocks say anything; what happens, happens now."""
        wanted = self._webhooks.wanted(written.org_id, SENSOR_READING)
        for event, value in self._last_values(written):
            now = self._clock.now_us()
            if wanted and self._readings.due(event.public_id, now):
                yield Reading(event, value, now)
            yield from self._engine.due(written.org_id, event, value, now)

    def _last_values(self, written: PointsWritten) -> Iterator[tuple[KnownEvent, float]]:
        """Yield the events of the channels in a batch, each with its newest value where that is a number."""
        newest: dict[int, tuple[int, object]] = {}
        for column in written.columns:
            channel_id = self._channel(written.org_id, column)
            if channel_id is not None and column.times_us and self._events.by_channel(channel_id):
                at_us, value = _newest(column)
                if channel_id not in newest or at_us >= newest[channel_id][0]:
                    newest[channel_id] = at_us, value
        for channel_id, (_, value) in newest.items():
            number = number_of(value)
            if number is not None:
                yield from ((event, number) for event in self._events.by_channel(channel_id))

    def _channel(self, org_id: str, column: Column) -> int | None:
        device = self._signals.find_device(org_id, column.device)
        channel = None if device is None else self._signals.find_channel(device.id, column.channel)
        return None if channel is None else channel.id

    async def _run(self) -> None:
        while not self._stopping or self._waiting:
            self._wake.clear()
            if self._dropped:
                log.warning("more happened than can be told", dropped=self._dropped)
                self._dropped = 0
            if self._waiting:
                await self._tell([self._waiting.popleft() for _ in range(min(MOST_TOGETHER, len(self._waiting)))])
            else:
                await self._wake.wait()

    async def _tell(self, items: Sequence[Firing | Reading]) -> None:
        for item in items:
            if isinstance(item, Reading):
                payload = {"sensor": item.event.public_id, "value": item.value}
                await self._webhooks.dispatch_later(item.event.org_id, SENSOR_READING, payload, item.at_us)
        firings = [item for item in items if isinstance(item, Firing)]
        if firings:
            await self._engine.fire(firings)


def _newest(column: Column) -> tuple[int, object]:
    """Return time and value of the newest point, of the last one where several are equally new."""
    times = column.times_us
    at_us = max(times)
    return at_us, next(column.values[index] for index in range(len(times) - 1, -1, -1) if times[index] == at_us)
