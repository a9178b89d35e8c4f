"""The time, in one place, so that tests can move it."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import overload

from protobuf.wkt import Timestamp

MICROSECONDS = 1_000_000


class Clock:
    """Wall clock. Storage keeps time as integer microseconds since the Unix epoch, UTC."""

    def now_us(self) -> int:
        """Return microseconds since the Unix epoch."""
        return time.time_ns() // 1000


def to_datetime(at_us: int) -> datetime:
    """Return the UTC datetime of a stored time."""
    seconds, micros = divmod(at_us, MICROSECONDS)
    return datetime.fromtimestamp(seconds, UTC).replace(microsecond=micros)


def to_timestamp(at_us: int | None) -> Timestamp | None:
    """Return the message of a stored time, cut to milliseconds, which is what the contracts print."""
    if at_us is None:
        return None
    seconds, micros = divmod(at_us, MICROSECONDS)
    return Timestamp(seconds=seconds, nanos=micros // 1000 * 1_000_000)


@overload
def to_exact_timestamp(at_us: int) -> Timestamp: ...
@overload
def to_exact_timestamp(at_us: None) -> None: ...
@overload
def to_exact_timestamp(at_us: int | None) -> Timestamp | None: ...
def to_exact_timestamp(at_us: int | None) -> Timestamp | None:
    """Return the message of a stored time, with all of its microseconds."""
    if at_us is None:
        return None
    seconds, micros = divmod(at_us, MICROSECONDS)
    return Timestamp(seconds=seconds, nanos=micros * 1000)


def from_timestamp(value: Timestamp | None) -> int | None:
    """Return the stored form of a message's time."""
    return None if value is None else value.seconds * MICROSECONDS + value.nanos // 1000
