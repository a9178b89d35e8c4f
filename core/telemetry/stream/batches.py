"""Points on their way to dashboards: what several that chose the same are shown is made once for all of them."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from protobuf import Oneof
from protobuf.wkt import Value

from core.live.shared import share
from core.signals import model
from core.signals.model import Column
from core.telemetry.stream.frames import Frame, error_frame
from core.telemetry.stream.interests import Choice
from gen.busbar.telemetry.v1.stream_pb import LivePoint, TelemetryBatch

MOST_POINTS = 10_000
"""Points that may wait; of those before them only the newest of each metric is kept, and of so many metrics at most."""
POINTS_PER_FRAME = 2000
VERSION = 1

_Key = tuple[str, str, str | None]


class Tick(NamedTuple):
    """Points that arrived within a moment."""

    number: int
    columns: list[Column]
    points: int


class Lane:
    """What waits for the dashboards of one choice: each is a position in it, and those at the same one share their frames.

    A dashboard that keeps up gets every point. What a slow one has not taken when too much waits shrinks to the newest value of
    each metric, and costs no more memory however slow it is.

    Attributes:
        newest: Position behind everything.
        positions: How far each dashboard is, by what wakes it.
    """

    def __init__(self, org_id: str, choice: Choice) -> None:
        self.newest = 0
        self.positions: dict[asyncio.Event, int] = {}
        self._org_id = org_id
        self._choice = choice
        self._ticks: deque[Tick] = deque()
        self._waiting = 0
        self._shrunk: dict[_Key, tuple[int, Column]] = {}
        self._shrunk_to = 0
        self._dropped = 0
        self._made: dict[int, list[Frame]] = {}

    def join(self, wake: asyncio.Event) -> None:
        """Add a dashboard, which sees what comes from now on."""
        self.positions[wake] = self.newest

    def leave(self, wake: asyncio.Event) -> None:
        """Take a dashboard away."""
        del self.positions[wake]

    def add(self, by_source: dict[str, list[Column]]) -> None:
        """Add the points of a moment that were chosen, and wake who waits for them."""
        sources = self._choice.sources
        chosen = by_source if sources is None else {name: by_source[name] for name in sources if name in by_source}
        admits = self._choice.admits
        columns = [column for found in chosen.values() for column in found if admits(column.device, column.channel)]
        if not columns:
            return
        self.newest += 1
        self._made.clear()
        points = sum(len(column.times_us) for column in columns)
        self._ticks.append(Tick(self.newest, columns, points))
        self._waiting += points
        self._trim()
        for wake in self.positions:
            wake.set()

    def take(self, wake: asyncio.Event) -> list[Frame]:
        """Return what waits for a dashboard as frames, which it then has."""
        position = self.positions[wake]
        self.positions[wake] = self.newest
        if position == self.newest:
            return []
        frames = self._made.get(position)
        if frames is None:
            frames = self._made[position] = self._make(position)
        return frames

    def _make(self, position: int) -> list[Frame]:
        """Make frames of everything after a position, and a note when something was dropped."""
        columns = [column for tick in self._ticks if tick.number > position for column in tick.columns]
        if position >= self._shrunk_to:
            return batches(self._org_id, columns)
        kept: dict[_Key, tuple[int, Column]] = {}
        _shrink(kept, 0, (column for number, column in self._shrunk.values() if number > position))
        _shrink(kept, 0, columns)
        frames = batches(self._org_id, [column for _, column in kept.values()])
        if self._dropped:
            note = f"the dashboard is too slow: values of {self._dropped} metrics were dropped"
            frames.append(error_frame("LAGGED", note))
        return frames

    def _trim(self) -> None:
        """Forget what every dashboard has, and shrink what is too much."""
        slowest = min(self.positions.values(), default=self.newest)
        while self._ticks and self._ticks[0].number <= slowest:
            self._waiting -= self._ticks.popleft().points
        if self._shrunk_to <= slowest:
            self._shrunk.clear()
            self._dropped = 0
        while self._waiting > MOST_POINTS:
            tick = self._ticks.popleft()
            self._waiting -= tick.points
            self._shrunk_to = tick.number
            _shrink(self._shrunk, tick.number, tick.columns)
        while len(self._shrunk) > MOST_POINTS:
            del self._shrunk[next(iter(self._shrunk))]
            self._dropped += 1


def _shrink(into: dict[_Key, tuple[int, Column]], number: int, columns: Iterable[Column]) -> None:
    """Keep the newest point of each metric, in the order in which they came."""
    for column in columns:
        key = (column.device, column.channel, column.recording)
        last = _newest(column)
        before = into.pop(key, None)
        older = before is not None and last.times_us[0] < before[1].times_us[0]
        into[key] = (number, before[1] if before is not None and older else last)


def _newest(column: Column) -> Column:
    times = column.times_us
    if len(times) == 1:
        return column
    index = max(range(len(times)), key=times.__getitem__)
    tags = None if column.tags is None else [column.tags[index]]
    return column._replace(times_us=[times[index]], values=[column.values[index]], tags=tags)


def batches(org_id: str, columns: Iterable[Column]) -> list[Frame]:
    """Return metrics as frames, one or more for each session."""
    groups: dict[str | None, list[LivePoint]] = {}
    for column in columns:
        groups.setdefault(column.recording, []).extend(live_points(org_id, column))
    frames: list[Frame] = []
    for session, points in groups.items():
        for start in range(0, len(points), POINTS_PER_FRAME):
            batch = TelemetryBatch(points=points[start : start + POINTS_PER_FRAME], session_id=session)
            frames.append(Oneof(field="telemetry", value=share(batch)))
    return frames


def events(org_id: str, column: Column) -> list[Frame]:
    """Return events as frames, one for each."""
    return [Oneof(field="event", value=share(point)) for point in live_points(org_id, column, event=True)]


def is_event(column: Column) -> bool:
    """Whether the points of a column are events."""
    if column.kind is not None:
        return column.kind == "event"
    values: Sequence[model.Value] = column.values
    return any(isinstance(value, bool) or not isinstance(value, float | int) for value in values)


def live_points(org_id: str, column: Column, *, event: bool = False) -> list[LivePoint]:
    """Return the points of a column as dashboards see them."""
    kind = "event" if event else "metric"
    tags = column.tags
    return [
        LivePoint(
            v=VERSION,
            org_id=org_id,
            source_id=column.device,
            class_=kind,
            metric=column.channel,
            value=Value.from_python(value),
            timestamp=at_us / 1000,
            tags=dict((tags[index] if tags is not None else None) or {}),
            session_id=column.recording if event else None,
        )
        for index, (at_us, value) in enumerate(zip(column.times_us, column.values, strict=True))
    ]
