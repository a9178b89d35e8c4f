"""What one dashboard wants to see, and may."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from core.kernel.call import Principal
from core.kernel.errors import InvalidArgument, ResourceExhausted
from core.telemetry.access import may_see
from gen.busbar.telemetry.v1.stream_pb import Subscribe

ANY_SOURCE = ""
MOST_SOURCES = 1000
"""Sources that one dashboard may name."""
STREAMS = ("", "metrics", "logs")


@dataclass(frozen=True, slots=True)
class Choice:
    """Which metrics are shown. Dashboards of equal choices are shown the same.

    Attributes:
        everything: Whether all are.
        chosen: Sources that were named, with their metrics; none stands for all of a source.
        only: Sources that may be seen at all; None for all.
    """

    everything: bool
    chosen: frozenset[tuple[str, frozenset[str]]]
    only: frozenset[str] | None
    _by_source: dict[str, frozenset[str]] = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        """Make looking up a source quick."""
        object.__setattr__(self, "_by_source", dict(self.chosen))

    @property
    def sources(self) -> frozenset[str] | None:
        """Sources of which anything may be shown; None when that can be any."""
        if self.everything or ANY_SOURCE in self._by_source:
            return self.only
        named = frozenset(self._by_source)
        return named if self.only is None else named & self.only

    def admits(self, source_id: str, metric: str) -> bool:
        """Whether a metric of one of the `sources` is shown."""
        if self.everything:
            return True
        for source in (source_id, ANY_SOURCE):
            metrics = self._by_source.get(source)
            if metrics is not None and (not metrics or metric in metrics):
                return True
        return False


class Interests:
    """What was chosen so far.

    Args:
        caller: Who wants to see it.
        everything: Whether all metrics are shown before any are chosen.
    """

    def __init__(self, caller: Principal, *, everything: bool) -> None:
        self._caller = caller
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

    @property
    def choice(self) -> Choice:
        """Which metrics are wanted."""
        caller = self._caller
        only = caller.board_ids if caller.bound_to is None else frozenset({caller.bound_to})
        return Choice(self._everything and not self._metrics, frozenset(self._metrics.items()), only)

    def sees(self, source_id: str) -> bool:
        """Whether anything of a source may be seen."""
        return may_see(self._caller, source_id)

    def event(self, source_id: str) -> bool:
        """Whether events of a source are wanted."""
        return self._events_of in (ANY_SOURCE, source_id) and self.sees(source_id)

    def picture(self, source_id: str, camera_id: str) -> bool:
        """Whether a picture is wanted now; one that is counts as shown."""
        if self._cameras_of not in (ANY_SOURCE, source_id) or (self._cameras and camera_id not in self._cameras):
            return False
        if not self.sees(source_id):
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
