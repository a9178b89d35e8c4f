"""How many frames a connection may send."""

from __future__ import annotations

import time
from collections import OrderedDict

from core.kernel.errors import ResourceExhausted
from gen.busbar.api.v1.error_reason_pb import ErrorReason

DATA = (500.0, 2000.0)
"""Frames of telemetry, video and output: in a second, and at once."""
CONTROL = (20.0, 60.0)
"""All other frames."""
SOURCE = (2000.0, 2000.0)
"""Frames of one source, however often it connects."""
MOST_SOURCES = 100_000
"""Sources remembered at once; the one heard of longest ago is forgotten first."""


class Bucket:
    """A token bucket: full at first, refilled steadily."""

    __slots__ = ("_at", "_burst", "_rate", "_tokens")

    def __init__(self, rate: float, burst: float) -> None:
        self._rate, self._burst = rate, burst
        self._tokens = burst
        self._at = time.monotonic()

    def take(self) -> None:
        """Take a token.

        Raises:
            ResourceExhausted: There is none.
        """
        now = time.monotonic()
        tokens = min(self._burst, self._tokens + (now - self._at) * self._rate)
        self._at = now
        if tokens < 1:
            self._tokens = tokens
            raise ResourceExhausted(
                f"too many frames (max {self._rate:.0f} per second)",
                reason=ErrorReason.RATE_LIMITED,
                retry_after=(1 - tokens) / self._rate,
            )
        self._tokens = tokens - 1


class SourceBuckets:
    """One bucket for each source, which reconnecting does not fill."""

    def __init__(self) -> None:
        self._buckets: OrderedDict[tuple[str, str], Bucket] = OrderedDict()

    def of(self, org_id: str, source_id: str) -> Bucket:
        """Return the bucket of a source."""
        key = (org_id, source_id)
        bucket = self._buckets.get(key)
        if bucket is None:
            bucket = self._buckets[key] = Bucket(*SOURCE)
            if len(self._buckets) > MOST_SOURCES:
                self._buckets.popitem(last=False)
        self._buckets.move_to_end(key)
        return bucket
