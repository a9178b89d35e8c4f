"""Which points a caller may see, and how points look to clients: the same wherever they are read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from protobuf.wkt import Value

from core.kernel.call import Principal
from core.signals import model
from core.signals.service import Signals
from core.signals.values import to_json
from gen.busbar.telemetry.v1.query_pb import StoredPoint

MESSAGE_BYTES = 1_048_576
"""About how large a message of points may be; readers of gRPC take 4 MiB."""
_POINT_BYTES = 100


def sources_of(source: str, caller: Principal) -> list[str] | None:
    """Return the sources to read when a caller asks for one, or with an empty text for all; None means every source.

    A credential that is bound to a source, or to some boards, sees no other.
    """
    allowed = caller.board_ids if caller.bound_to is None else frozenset({caller.bound_to})
    if allowed is None:
        return [source] if source else None
    return [name for name in sorted(allowed) if source in ("", name)]


def metrics_of(text: str) -> list[str]:
    """Return the metrics of a list with commas between them; none means every metric."""
    return [name for name in text.split(",") if name]


def milliseconds(at_us: int) -> float:
    """Return a stored time as clients see it; a whole number where it is one."""
    return at_us / 1000 if at_us % 1000 else at_us // 1000


def fitting(values: Iterable[model.Value], room: int) -> tuple[int, int]:
    """Return how many of some values fit into so many bytes of a message, and about how many bytes they take."""
    count = used = 0
    for value in values:
        size = _POINT_BYTES + (
            0 if isinstance(value, int | float) else len(value if isinstance(value, str) else to_json(value))
        )
        if used + size > room:
            break
        count, used = count + 1, used + size
    return count, used


class Presenter:
    """Writes points of one organisation as messages."""

    def __init__(self, signals: Signals, org_id: str) -> None:
        self._signals = signals
        self._org_id = org_id

    def is_event(self, source: str, metric: str) -> bool:
        """Whether numbers of a series are events too, as those of a source that sends them as such."""
        device = self._signals.find_device(self._org_id, source)
        channel = None if device is None else self._signals.find_channel(device.id, metric)
        return channel is not None and channel.kind == "event"

    def class_of(self, source: str, metric: str, value: object) -> str:
        """Return the class of a point."""
        number = isinstance(value, int | float) and not isinstance(value, bool)
        return "metric" if number and not self.is_event(source, metric) else "event"

    def stored(self, row: model.StoredPoint) -> StoredPoint:
        """Return the message of a stored point."""
        return StoredPoint(
            source_id=row.device,
            metric=row.channel,
            value=Value.from_python(row.value),
            timestamp=milliseconds(row.at_us),
            class_=self.class_of(row.device, row.channel, row.value),
            tags=row.tags or {},
            session_id=row.recording,
        )

    def arrived(self, column: model.Column, start: int, stop: int) -> list[StoredPoint]:
        """Return the messages of some points of a column that arrived."""
        event = column.kind == "event" or self.is_event(column.device, column.channel)
        tags: Sequence[Mapping[str, str] | None] | None = column.tags
        return [
            StoredPoint(
                source_id=column.device,
                metric=column.channel,
                value=Value.from_python(column.values[index]),
                timestamp=milliseconds(column.times_us[index]),
                class_="event" if event or not _is_number(column.values[index]) else "metric",
                tags=dict((tags[index] if tags else None) or {}),
                session_id=column.recording,
            )
            for index in range(start, stop)
        ]


def _is_number(value: Any) -> bool:  # noqa: ANN401 - any value of a point
    return isinstance(value, int | float) and not isinstance(value, bool)
