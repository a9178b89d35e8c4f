"""What follows from values as they are stored, whichever way they come: of the lab, of a pin or of a metric."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from core.kernel.clock import Clock
from core.lab.conditions import number_of
from core.lab.event_directory import EventDirectory, KnownEvent
from core.lab.hooks import SENSOR_READING, Webhooks
from core.lab.readings import Readings
from core.lab.rule_engine import RuleEngine
from core.signals.model import Column, PointsWritten
from core.signals.service import Signals

BY = "lab"
"""Writer of the points that come in through the lab's own ingest."""
RULE, READING = "rule", "reading"


class Finding(NamedTuple):
    """Something that follows from a value.

    Attributes:
        kind: RULE for a rule that is met, READING for a value to tell webhooks of.
        subject: Public id of the rule, or of the event.
        at_us: When it happened.
    """

    kind: str
    subject: str
    value: float
    at_us: int


class PointsWatch:
    """Compares values with rules, and looks whether webhooks want to know of them. Asks memory only and changes nothing."""

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

    def look(self, written: PointsWritten) -> Iterator[Finding]:
        """Yield what follows from a batch: of each event the first value of the lab is read, or the last one of others.

        Rules see the last value. Devices' clocks say anything: what they sent happens now.
        """
        org_id, lab = written.org_id, written.by == BY
        wanted = self._webhooks.wanted(org_id, SENSOR_READING)
        if not wanted and not self._engine.has_rules(org_id):
            return
        now = self._clock.now_us()
        for event, column, last in self._last_values(written):
            at_us = column.times_us[0] if lab else now
            if wanted and self._readings.due(event.public_id, at_us):
                first = number_of(column.values[0]) if lab else last
                yield Finding(READING, event.public_id, last if first is None else first, at_us)
            for rule in self._engine.due(org_id, event.public_id, last):
                yield Finding(RULE, rule.public_id, last, at_us)

    def _last_values(self, written: PointsWritten) -> Iterator[tuple[KnownEvent, Column, float]]:
        """Yield the events of the channels in a batch, each with its newest value where that is a number."""
        newest: dict[int, tuple[int, object, Column]] = {}
        for column in written.columns:
            channel_id = self._channel(written.org_id, column)
            if channel_id is not None and column.times_us and self._events.by_channel(channel_id):
                at_us, value = _newest(column)
                if channel_id not in newest or at_us >= newest[channel_id][0]:
                    newest[channel_id] = at_us, value, column
        for channel_id, (_, value, column) in newest.items():
            number = number_of(value)
            if number is not None:
                yield from ((event, column, number) for event in self._events.by_channel(channel_id))

    def _channel(self, org_id: str, column: Column) -> int | None:
        device = self._signals.find_device(org_id, column.device)
        channel = None if device is None else self._signals.find_channel(device.id, column.channel)
        return None if channel is None else channel.id


def _newest(column: Column) -> tuple[int, object]:
    """Return time and value of the newest point, of the last one where several are equally new."""
    times = column.times_us
    at_us = max(times)
    return at_us, next(column.values[index] for index in range(len(times) - 1, -1, -1) if times[index] == at_us)
