"""Times as people type them into queries."""

from __future__ import annotations

from datetime import UTC, datetime

from core.kernel.clock import MICROSECONDS, to_datetime
from core.kernel.errors import InvalidArgument


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
    except ValueError:
        raise InvalidArgument.field(field, "must be an ISO 8601 time, such as 2026-04-01T12:00:00Z") from None
    value = value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
    whole = value.replace(microsecond=0)
    return int(whole.timestamp()) * MICROSECONDS + value.microsecond


def format_time(at_us: int) -> str:
    """Return a stored time as ISO 8601, UTC."""
    return to_datetime(at_us).isoformat().replace("+00:00", "Z")
