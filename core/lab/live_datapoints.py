"""Datapoints for those who watch: thinned for each event, made into one frame for all watchers of an organisation."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from core.kernel.clock import MICROSECONDS, Clock, to_datetime
from core.lab.datapoint_messages import Presenter
from core.lab.event_directory import EventDirectory
from core.live.events import EventBus, Policy, Reader, Topic
from core.signals.model import Column, Event, PointsWritten
from core.signals.service import Signals
from gen.busbar.lab.v1.stream_pb import DatapointBatch, LiveDatapoint

EVERY_US = MICROSECONDS // 5
"""Shortest time between two batches of an event."""
WAITING = 64
"""Batches that may wait for a slow watcher; then all that wait are dropped."""


class LiveDatapoints:
    """Tells datapoints of events after each commit, whichever way they came in."""

    def __init__(self, signals: Signals, events: EventDirectory, presenter: Presenter, bus: EventBus, clock: Clock) -> None:
        self._signals = signals
        self._events = events
        self._presenter = presenter
        self._bus = bus
        self._clock = clock
        self._told_us: dict[str, int] = {}
        signals.on_written(self.observe)

    def watch(self, org_id: str) -> Reader:
        """Return a reader of the batches of an organisation from now on."""
        return self._bus.subscribe(_topic(org_id), policy=Policy.LAGGED, size=WAITING)

    def observe(self, events: Sequence[Event]) -> None:
        """Tell what is due; called after each commit of points."""
        for event in events:
            if isinstance(event, PointsWritten):
                points = [point for column in event.columns for point in self._due(event.org_id, column)]
                if points:
                    self._bus.publish(_topic(event.org_id), DatapointBatch(datapoints=points), remember=False)

    def _due(self, org_id: str, column: Column) -> Iterator[LiveDatapoint]:
        device = self._signals.find_device(org_id, column.device)
        channel = None if device is None else self._signals.find_channel(device.id, column.channel)
        for event in () if channel is None else self._events.by_channel(channel.id):
            now, told = self._clock.now_us(), self._told_us.get(event.public_id)
            if told is not None and now - told < EVERY_US:
                continue
            self._told_us[event.public_id] = now
            for at_us, value in zip(column.times_us, column.values, strict=True):
                if isinstance(value, int | float):
                    yield LiveDatapoint(
                        value=float(value),
                        event_public_id=event.public_id,
                        timestamp=to_datetime(at_us).isoformat(),
                        experiment_public_id=self._presenter.experiment_id(event, at_us, column.recording_id),
                    )


def _topic(org_id: str) -> Topic:
    return org_id, "lab:datapoints"
