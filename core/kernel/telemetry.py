"""What is seen of calls from outside: metrics, and a line in the log for each. Spans are in `tracing.py`.

Both watch the end of a call, so neither costs anything while it runs. The event loop calls them, one at a time: no locks.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import accumulate

import structlog
from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    GCCollector,
    PlatformCollector,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.metrics_core import CounterMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from core.kernel.call import Call, Door
from core.kernel.pipeline import Observer
from core.kernel.rpc import Rpc
from core.kernel.settings import Settings

BUCKETS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Upper bounds of the duration buckets, in seconds."""

METRICS_TYPE = CONTENT_TYPE_LATEST
"""Content-Type of rendered metrics."""

log = structlog.get_logger("busbar.access")


@dataclass(slots=True)
class _Series:
    """Calls of one rpc by one door."""

    codes: dict[str, int] = field(default_factory=dict[str, int])
    seconds: float = 0.0
    buckets: list[int] = field(default_factory=lambda: [0] * (len(BUCKETS) + 1))


class CallMetrics(Collector):
    """Counts calls and their durations. Other parts may register collectors of their own with `registry`."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._series: dict[tuple[str, Door], _Series] = {}
        for collector in (self, ProcessCollector(registry=None), PlatformCollector(registry=None)):
            self.registry.register(collector)
        GCCollector(registry=self.registry)

    def ended(self, rpc: Rpc, call: Call, code: str, seconds: float) -> None:
        """Count a call."""
        series = self._series.get((rpc.name, call.door))
        if series is None:
            series = self._series[rpc.name, call.door] = _Series()
        series.codes[code] = series.codes.get(code, 0) + 1
        series.seconds += seconds
        series.buckets[bisect_left(BUCKETS, seconds)] += 1

    def collect(self) -> Iterable[Metric]:
        """Return the counts in the form of the Prometheus client."""
        calls = CounterMetricFamily("busbar_calls", "Calls that ended.", labels=("rpc", "door", "code"))
        durations = HistogramMetricFamily("busbar_call_seconds", "Time from admission to answer.", labels=("rpc", "door"))
        for (name, door), series in self._series.items():
            for code, count in series.codes.items():
                calls.add_metric((name, door, code), count)
            durations.add_metric((name, door), list(_cumulative(series.buckets)), series.seconds)
        return calls, durations


METRICS = CallMetrics()
"""Counts of this process, as a scrape sees it, however many servers run in it."""


def render_metrics(metrics: CallMetrics = METRICS) -> bytes:
    """Return everything counted, as text that Prometheus scrapes; its type is `METRICS_TYPE`."""
    return generate_latest(metrics.registry)


def _cumulative(buckets: list[int]) -> Iterator[tuple[str, float]]:
    bounds = [*map(str, BUCKETS), "+Inf"]
    return zip(bounds, map(float, accumulate(buckets)), strict=True)


class AccessLog:
    """Logs one line for each call. Neither the request nor the path is in it, since both may hold secrets."""

    def ended(self, rpc: Rpc, call: Call, code: str, seconds: float) -> None:
        """Log a call."""
        caller = call.principal
        log.info(
            "call",
            rpc=rpc.name,
            door=call.door,
            code=code,
            milliseconds=round(seconds * 1000, 3),
            address=call.address,
            request_id=call.request_id,
            org=caller.org_id if caller else None,
            user=caller.user_id if caller else None,
            credential_id=caller.credential_id if caller else None,
        )


def observers(settings: Settings, metrics: CallMetrics = METRICS) -> tuple[Observer, ...]:
    """Return what watches the calls of a server with these settings."""
    chosen: list[Observer] = [metrics]
    if settings.access_log:
        chosen.append(AccessLog())
    return tuple(chosen)
