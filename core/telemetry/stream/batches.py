"""Points that wait for one dashboard: all of them while it keeps up, the newest of each metric when it does not."""

from __future__ import annotations

from collections.abc import Sequence

from protobuf import Oneof
from protobuf.wkt import Value

from core.signals import model
from core.signals.model import Column
from core.telemetry.stream.frames import Frame, error_frame
from gen.busbar.telemetry.v1.stream_pb import LivePoint, TelemetryBatch

MOST_POINTS = 10_000
"""Points that may wait; beyond that only the newest of each metric is kept, and beyond that again the oldest are dropped."""
POINTS_PER_FRAME = 2000
VERSION = 1


class PointBuffer:
    """Collects points of metrics."""

    def __init__(self, org_id: str) -> None:
        self._org_id = org_id
        self._columns: list[Column] = []
        self._count = 0
        self._dropped = 0

    def __bool__(self) -> bool:
        """Whether anything waits."""
        return bool(self._columns)

    def add(self, column: Column) -> None:
        """Add points."""
        self._columns.append(column)
        self._count += len(column.times_us)
        if self._count > MOST_POINTS:
            self._conflate()

    def take(self) -> list[Frame]:
        """Return what waits as frames, one or more for each session, and a note when something was dropped."""
        columns, dropped = self._columns, self._dropped
        self._columns, self._count, self._dropped = [], 0, 0
        groups: dict[str | None, list[LivePoint]] = {}
        for column in columns:
            groups.setdefault(column.recording, []).extend(live_points(self._org_id, column))
        frames: list[Frame] = []
        for session, points in groups.items():
            for start in range(0, len(points), POINTS_PER_FRAME):
                batch = TelemetryBatch(points=points[start : start + POINTS_PER_FRAME], session_id=session)
                frames.append(Oneof(field="telemetry", value=batch))
        if dropped:
            frames.append(error_frame("LAGGED", f"the dashboard is too slow: values of {dropped} metrics were dropped"))
        return frames

    def _conflate(self) -> None:
        newest: dict[tuple[str, str, str | None], Column] = {}
        for column in self._columns:
            key = (column.device, column.channel, column.recording)
            last = _newest(column)
            before = newest.pop(key, None)
            newest[key] = last if before is None or last.times_us[0] >= before.times_us[0] else before
        kept = list(newest.values())
        # Half of the room is left free, so that this work is not done again with each point.
        self._dropped += max(len(kept) - MOST_POINTS // 2, 0)
        self._columns = kept[-MOST_POINTS // 2 :]
        self._count = len(self._columns)


def _newest(column: Column) -> Column:
    times = column.times_us
    if len(times) == 1:
        return column
    index = max(range(len(times)), key=times.__getitem__)
    tags = None if column.tags is None else [column.tags[index]]
    return column._replace(times_us=[times[index]], values=[column.values[index]], tags=tags)


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
