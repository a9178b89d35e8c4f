"""Reading points back."""

from __future__ import annotations

from protobuf.wkt import Value

from core.kernel.call import Call
from core.kernel.clock import MICROSECONDS, Clock
from core.kernel.errors import InvalidArgument, NotFound
from core.kernel.pages import decode_cursor, encode_cursor
from core.signals.model import Channel, Device, Latest
from core.signals.service import Signals
from core.telemetry.points import Presenter, metrics_of, milliseconds, sources_of
from core.telemetry.times import format_time, parse_time
from gen.busbar.telemetry.v1.query_pb import (
    LatestPoint,
    QueryLatestRequest,
    QueryLatestResponse,
    QuerySeriesRequest,
    QuerySeriesResponse,
    QueryTelemetryRequest,
    QueryTelemetryResponse,
    TelemetryQuery,
)

HOUR_US = 3600 * MICROSECONDS
DEFAULT_POINTS = 10_000
DEFAULT_SERIES_POINTS = 500
DEFAULT_LATEST = 1000
AGGREGATES = frozenset({"avg", "min", "max", "last", "count"})


class QueryService:
    """Reads stored points of the caller's organisation."""

    def __init__(self, signals: Signals, clock: Clock) -> None:
        self._signals = signals
        self._clock = clock

    async def query_telemetry(self, request: QueryTelemetryRequest, call: Call) -> QueryTelemetryResponse:
        """Read points in a range of time, oldest first."""
        end = parse_time("to", request.to)
        end = self._clock.now_us() if end is None else end
        start = parse_time("from", request.from_)
        start = end - HOUR_US if start is None else start
        if start > end:
            raise InvalidArgument.field("from", "must not be after to")
        metrics = metrics_of(request.metric)
        limit = request.limit if request.has_field("limit") else DEFAULT_POINTS
        caller = call.caller
        sources = sources_of(request.source, caller)
        rows = await self._signals.points(
            caller.org_id, slugs=sources, channels=metrics or None, start_us=start, end_us=end, limit=limit
        )
        query = TelemetryQuery(
            source=request.source or None, metric=metrics, from_=format_time(start), to=format_time(end), limit=limit
        )
        presenter = Presenter(self._signals, caller.org_id)
        return QueryTelemetryResponse(data=[presenter.stored(row) for row in rows], count=len(rows), query=query)

    async def query_series(self, request: QuerySeriesRequest, call: Call) -> QuerySeriesResponse:
        """Read one series, thinned."""
        channel = self._channel(request, call)
        points = request.points if request.has_field("points") else DEFAULT_SERIES_POINTS
        start, end = parse_time("from", request.from_), parse_time("to", request.to)
        answer = QuerySeriesResponse(source=request.source, metric=request.metric, unit=channel.unit)
        if request.has_field("bucket_ms") and request.method not in AGGREGATES:
            raise InvalidArgument.field("bucket_ms", f"goes with the methods {', '.join(sorted(AGGREGATES))}")
        if request.method == "envelope":
            for span in await self._signals.envelope(channel.id, start, end, points):
                answer.timestamps.append(span.at_us / 1000)
                answer.min.append(span.low)
                answer.max.append(span.high)
            return answer
        if request.method in AGGREGATES:
            width = round(request.bucket_ms * 1000) if request.has_field("bucket_ms") else None
            samples = await self._signals.aggregate(channel.id, start, end, request.method, buckets=points, width_us=width)
        else:
            samples = await self._signals.uniform(channel.id, start, end, points)
        for sample in samples:
            if isinstance(sample.value, float):
                answer.timestamps.append(sample.at_us / 1000)
                answer.values.append(sample.value)
        return answer

    def _channel(self, request: QuerySeriesRequest, call: Call) -> Channel:
        if sources_of(request.source, call.caller) == []:
            raise NotFound(f"source {request.source} not found", source=request.source)
        device = self._signals.find_device(call.caller.org_id, request.source)
        channel = None if device is None else self._signals.find_channel(device.id, request.metric)
        if channel is None:
            raise NotFound(f"metric {request.metric} of source {request.source} not found", source=request.source)
        return channel

    async def query_latest(self, request: QueryLatestRequest, call: Call) -> QueryLatestResponse:
        """Read latest values, by source and metric."""
        limit = request.limit if request.has_field("limit") else DEFAULT_LATEST
        after = decode_cursor(request.cursor, str, str) or ("", "")
        presenter = Presenter(self._signals, call.caller.org_id)
        found: list[LatestPoint] = []
        for device in self._devices(request.source, call):
            if device.slug < str(after[0]):
                continue
            for channel, latest in self._latest(device, metrics_of(request.metric)):
                if (device.slug, channel.name) <= after:
                    continue
                if len(found) == limit:
                    more = encode_cursor(found[-1].source_id, found[-1].metric)
                    return QueryLatestResponse(data=found, count=limit, next_cursor=more)
                found.append(_latest_point(presenter, device, channel, latest))
        return QueryLatestResponse(data=found, count=len(found))

    def _devices(self, source: str, call: Call) -> list[Device]:
        org_id, sources = call.caller.org_id, sources_of(source, call.caller)
        if sources is None:
            return self._signals.devices(org_id)
        found = [self._signals.find_device(org_id, slug) for slug in sources]
        return [device for device in found if device is not None]

    def _latest(self, device: Device, metrics: list[str]) -> list[tuple[Channel, Latest]]:
        values = self._signals.latest_all(device.id)
        return [
            (channel, values[channel.name])
            for channel in self._signals.channels(device.id)
            if channel.name in values and (not metrics or channel.name in metrics)
        ]


def _latest_point(presenter: Presenter, device: Device, channel: Channel, latest: Latest) -> LatestPoint:
    return LatestPoint(
        source_id=device.slug,
        metric=channel.name,
        value=Value.from_python(latest.value),
        timestamp=milliseconds(latest.at_us),
        class_=presenter.class_of(device.slug, channel.name, latest.value),
        unit=channel.unit,
    )
