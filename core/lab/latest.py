"""The newest datapoint of each event, from memory.

Signals keep the latest value of a channel and its time, but neither its place within the instant nor its recording. Datapoints
of the lab tell both when they are written; of others they are looked up once.
"""

from __future__ import annotations

from collections.abc import Sequence

from core.lab.datapoint_messages import Presenter
from core.lab.event_directory import EventDirectory
from core.signals.model import Event, PointsWritten
from core.signals.numbers import Number
from core.signals.service import Signals
from gen.busbar.lab.v1.datapoints_pb import Datapoint


class LatestDatapoints:
    """Knows the newest number of each event."""

    def __init__(self, signals: Signals, events: EventDirectory, presenter: Presenter) -> None:
        self._signals = signals
        self._events = events
        self._presenter = presenter
        self._known: dict[int, tuple[int, Number | None]] = {}
        signals.on_written(self.observe)

    async def of_org(self, org_id: str) -> list[Datapoint]:
        """Return the newest datapoint of each event that has any."""
        events = [event for event in self._events.of_org(org_id) if self._signals.latest_of(event.channel_id) is not None]
        await self._look_up([event.channel_id for event in events if not self._is_known(event.channel_id)])
        found: list[Datapoint] = []
        for event in events:
            _, number = self._known.get(event.channel_id, (0, None))
            if number is not None:
                found.append(self._presenter.datapoint(event, number))
        return found

    def forget(self, channel_id: int) -> None:
        """Forget a channel of which points were deleted."""
        self._known.pop(channel_id, None)

    def observe(self, events: Sequence[Event]) -> None:
        """Learn from what was written; called after each commit of points."""
        for event in events:
            for column in event.columns if isinstance(event, PointsWritten) else ():
                if column.ns is None:
                    continue
                device = self._signals.find_device(event.org_id, column.device)
                channel = None if device is None else self._signals.find_channel(device.id, column.channel)
                if channel is not None:
                    at_us, value = column.times_us[-1], column.values[-1]
                    if isinstance(value, int | float):
                        number = Number(channel.id, at_us, column.ns[-1], float(value), column.recording_id)
                        self._known[channel.id] = at_us, number

    def _is_known(self, channel_id: int) -> bool:
        known, latest = self._known.get(channel_id), self._signals.latest_of(channel_id)
        return known is not None and latest is not None and known[0] == latest.at_us

    async def _look_up(self, channel_ids: Sequence[int]) -> None:
        """Look for the newest numbers of some channels, and remember them for as long as the latest values stay the same."""
        if not channel_ids:
            return
        before = {channel_id: self._signals.latest_of(channel_id) for channel_id in channel_ids}
        found = await self._signals.numbers.last(channel_ids)
        for channel_id, latest in before.items():
            if latest is not None and not self._is_known(channel_id):
                self._known[channel_id] = latest.at_us, found.get(channel_id)
