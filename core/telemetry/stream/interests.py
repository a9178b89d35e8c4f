"""What one dashboard wants to see."""

from __future__ import annotations

import time

from core.kernel.errors import InvalidArgument, ResourceExhausted
from gen.busbar.telemetry.v1.stream_pb import Subscribe

ANY_SOURCE = ""
MOST_SOURCES = 1000
"""Sources that one dashboard may name."""
STREAMS = ("", "metrics", "logs")


class Interests:
    """What was chosen so far.

    Args:
        everything: Whether all metrics are shown before any are chosen.
    """

    def __init__(self, *, everything: bool) -> None:
        self._everything = everything
        self._metrics: dict[str, frozenset[str]] = {}
        self._events_of = ANY_SOURCE
        self._cameras: frozenset[str] = frozenset()
        self._cameras_of = ANY_SOURCE
        self._picture_seconds = 0.0
        self._shown: dict[tuple[str, str], float] = {}

    def choose(self, wish: Subscribe) -> None:
        """Follow a `subscribe` frame.

        Raises:
            InvalidArgument: There is no such stream.
            ResourceExhausted: Too many sources are named.
        """
        if wish.stream not in STREAMS:
            raise InvalidArgument.field("stream", "must be metrics or logs")
        if wish.stream == "logs":
            self._events_of = wish.source_id
        elif wish.stream == "metrics" or (wish.metrics and not wish.cameras):
            self._choose_metrics(wish)
        else:
            self._cameras = frozenset(wish.cameras)
            self._cameras_of = wish.source_id
            self._picture_seconds = 1 / wish.max_fps if wish.max_fps > 0 else 0.0
            self._shown.clear()

    def _choose_metrics(self, wish: Subscribe) -> None:
        if len(self._metrics) >= MOST_SOURCES and wish.source_id not in self._metrics:
            raise ResourceExhausted(f"too many sources (max {MOST_SOURCES})")
        self._metrics[wish.source_id] = frozenset(wish.metrics)

    def metric(self, source_id: str, metric: str) -> bool:
        """Whether a metric is wanted."""
        if not self._metrics:
            return self._everything
        for source in (source_id, ANY_SOURCE):
            chosen = self._metrics.get(source)
            if chosen is not None and (not chosen or metric in chosen):
                return True
        return False

    def event(self, source_id: str) -> bool:
        """Whether events of a source are wanted."""
        return self._events_of in (ANY_SOURCE, source_id)

    def picture(self, source_id: str, camera_id: str) -> bool:
        """Whether a picture is wanted now; one that is counts as shown."""
        if self._cameras_of not in (ANY_SOURCE, source_id) or (self._cameras and camera_id not in self._cameras):
            return False
        if not self._picture_seconds:
            return True
        now = time.monotonic()
        if now - self._shown.get((source_id, camera_id), -self._picture_seconds) < self._picture_seconds:
            return False
        if len(self._shown) >= MOST_SOURCES:
            self._shown.clear()
        self._shown[source_id, camera_id] = now
        return True
