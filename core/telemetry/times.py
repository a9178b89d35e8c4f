"""Times as people type them into queries."""

from __future__ import annotations

from datetime import UTC, datetime

from core.kernel.clock import MICROSECONDS, to_datetime
from core.kernel.errors import InvalidArgument
from core.telemetry.decode import SECONDS_BELOW

_FIRST_US, _LAST_US = -62_135_596_800_000_000, 253_402_300_799_999_999


def parse_time(field: str, text: str) -> int | None:
    """Return an ISO 8601 time in microseconds since the epoch; None for an empty text. Without an offset it is UTC.

    Raises:
        InvalidArgument: It is no such time.
    """
    if not text:
        return None
    try:
        # A plus sign that was not escaped in a query arrives as a blank.
        value = datetime.fromisoformat(text.strip().replace(" 00:00", "+00:00"))
        value = value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
    except (ValueError, OverflowError):
        raise InvalidArgument.field(field, "must be an ISO 8601 time, such as 2026-04-01T12:00:00Z") from None
    whole = value.replace(microsecond=0)
    return int(whole.timestamp()) * MICROSECONDS + value.microsecond


def format_time(at_us: int) -> str:
    """Return a stored time as ISO 8601, UTC. Points may be of any time; calendars end in the year 9999, and so does this."""
    return to_datetime(max(_FIRST_US, min(at_us, _LAST_US))).isoformat().replace("+00:00", "Z")


def from_epoch(field: str, timestamp: float) -> int:
    """Return a time that a client sent as seconds since the epoch; from 1e12 on they are milliseconds, as in points.

    Raises:
        InvalidArgument: No calendar has such a time.
    """
    at_us = round(timestamp * (MICROSECONDS if timestamp < SECONDS_BELOW else 1000))
    if not _FIRST_US <= at_us <= _LAST_US:
        raise InvalidArgument.field(field, "out of range")
    return at_us
