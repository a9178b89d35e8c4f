"""What signals hand out and take in. Times are microseconds since the Unix epoch, UTC."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

Value = float | int | str | bool | list[Any] | dict[str, Any]
"""A value of a point: number, string, boolean, array or object."""


@dataclass(slots=True, eq=False)
class Device:
    """A thing that has channels. The object is shared and kept current; treat it as read-only.

    Attributes:
        slug: Name by which clients know it, unique in the organisation; a board's id, a source's id.
        kind: `board`, `source`, ...
        seq: Number of the last write among all writes to latest values, from 1.
        recording: Whether its points are stored.
        last_seen_us: When it last sent something.
    """

    id: int
    org_id: str
    slug: str
    name: str
    kind: str
    seq: int
    recording: bool
    last_seen_us: int | None
    created_us: int


@dataclass(slots=True, eq=False)
class Channel:
    """A named series of a device; kind is `metric`, `event` or `pin`. Shared and kept current; treat it as read-only."""

    id: int
    device_id: int
    name: str
    kind: str
    unit: str | None
    label: str | None
    created_us: int


class Latest(NamedTuple):
    """The latest value of a channel; `value` is None after it was cleared.

    Attributes:
        seq: Number of the write among all writes to the device; 0 for devices that are not boards.
        updated_by: What wrote it: `device`, `user`, `mcp`, `ha`, `automation`.
        written_us: When the server took it, which is not `at_us` for points that come late.
    """

    at_us: int
    value: Value | None
    seq: int
    updated_by: str | None
    written_us: int


class Column(NamedTuple):
    """Points of one channel, in any order. A batch may hold several columns of one channel.

    Attributes:
        device: Slug of the device.
        channel: Name of the channel.
        times_us: One time for each value.
        values: Finite numbers, strings, booleans, arrays or objects; never None.
        recording: External id of the recording to which all of them belong.
        tags: Labels, one mapping or None for each value; None when no value has any. Equal labels may be the same object.
        kind: Kind of the channel if it is new; by the first value when None.
        ns: Places of the values within their instants, from 0, for a sender that has the instants for itself: each value is a
            point then, also one that repeats another, and all must be numbers without tags. None finds places by itself.
        recording_id: The recording by its own id, for a sender that knows it.
    """

    device: str
    channel: str
    times_us: Sequence[int]
    values: Sequence[Value]
    recording: str | None = None
    tags: Sequence[Mapping[str, str] | None] | None = None
    kind: str | None = None
    ns: Sequence[int] | None = None
    recording_id: int | None = None


class Written(NamedTuple):
    """What became of a batch.

    Attributes:
        received: Points in the batch.
        stored: Points that are stored, exact repeats included; points of devices that do not record are not.
        new: Rows that this batch added.
        notes: What was written beside the points; see `Signals.on_writing`.
    """

    received: int
    stored: int
    new: int
    notes: tuple[object, ...] = ()


class StoredPoint(NamedTuple):
    """A point as it is stored."""

    device: str
    channel: str
    at_us: int
    value: Value
    tags: dict[str, str] | None
    recording: str | None


class Sample(NamedTuple):
    """A point of a thinned series."""

    at_us: int
    value: Value


class Span(NamedTuple):
    """Smallest and largest number of a stretch of time that begins at `at_us`."""

    at_us: int
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class LatestChanged:
    """A latest value changed and the change is committed. Events of one device come in the order of `seq`, without a gap."""

    org_id: str
    device: Device
    channel: Channel
    latest: Latest
    by: str
    client_id: str | None

    @property
    def seq(self) -> int:
        """Number of the write among all writes to the device."""
        return self.latest.seq


@dataclass(frozen=True, slots=True)
class PointsWritten:
    """Points arrived; those of recording devices are committed. Every point comes in exactly one such event.

    Attributes:
        notes: What was written beside the points; see `Signals.on_writing`.
        arrived: Number of the first point, see `core.signals.arrivals`; the others follow in their order. None for points that
            are only told.
    """

    org_id: str
    columns: Sequence[Column]
    by: str
    client_id: str | None
    notes: tuple[object, ...] = ()
    arrived: int | None = None


Event = LatestChanged | PointsWritten
Publish = Callable[[Sequence[Event]], None]
"""Takes events right after their commit, in commit order. It must neither wait nor raise."""
