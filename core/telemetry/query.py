"""Reading points back."""

from __future__ import annotations

from protobuf.wkt import Value

from core.kernel.call import Call
from core.kernel.clock import MICROSECONDS, Clock
from core.kernel.errors import InvalidArgument, NotFound
from core.signals import model
from core.signals.service import Signals
from core.telemetry.times import format_time, parse_time
from gen.busbar.telemetry.v1.query_pb import (
    QuerySeriesRequest,
    QuerySeriesResponse,
    QueryTelemetryRequest,
    QueryTelemetryResponse,
    StoredPoint,
    TelemetryQuery,
)

HOUR_US = 3600 * MICROSECONDS
DEFAULT_POINTS = 10_000
DEFAULT_SERIES_POINTS = 500


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
        metrics = [name for name in request.metric.split(",") if name]
        limit = request.limit if request.has_field("limit") else DEFAULT_POINTS
        sources = self._sources(request.source, call)
        rows = await self._signals.points(
            call.caller.org_id, slugs=sources, channels=metrics or None, start_us=start, end_us=end, limit=limit
        )
        query = TelemetryQuery(
            source=request.source or None, metric=metrics, from_=format_time(start), to=format_time(end), limit=limit
        )
        return QueryTelemetryResponse(data=[self._stored(row, call) for row in rows], count=len(rows), query=query)

    def _sources(self, source: str, call: Call) -> list[str] | None:
        """Return the sources to read; a credential that is bound to one sees no other."""
        bound = call.caller.bound_to
        if bound is None:
            return [source] if source else None
        return [bound] if source in ("", bound) else []

    def _stored(self, row: model.StoredPoint, call: Call) -> StoredPoint:
        number = isinstance(row.value, float)
        if number:
            device = self._signals.find_device(call.caller.org_id, row.device)
            channel = None if device is None else self._signals.find_channel(device.id, row.channel)
            number = channel is None or channel.kind != "event"
        return StoredPoint(
            source_id=row.device,
            metric=row.channel,
            value=Value.from_python(row.value),
            timestamp=row.at_us / 1000 if row.at_us % 1000 else row.at_us // 1000,
            class_="metric" if number else "event",
            tags=row.tags or {},
            session_id=row.recording,
        )

    async def query_series(self, request: QuerySeriesRequest, call: Call) -> QuerySeriesResponse:
        """Read one series, thinned."""
        bound = call.caller.bound_to
        if bound is not None and request.source != bound:
            raise NotFound(f"source {request.source} not found", source=request.source)
        device = self._signals.find_device(call.caller.org_id, request.source)
        channel = None if device is None else self._signals.find_channel(device.id, request.metric)
        if channel is None:
            raise NotFound(f"metric {request.metric} of source {request.source} not found", source=request.source)
        points = request.points if request.has_field("points") else DEFAULT_SERIES_POINTS
        start, end = parse_time("from", request.from_), parse_time("to", request.to)
        answer = QuerySeriesResponse(source=request.source, metric=request.metric, unit=channel.unit)
        if request.method == "envelope":
            for span in await self._signals.envelope(channel.id, start, end, points):
                answer.timestamps.append(span.at_us / 1000)
                answer.min.append(span.low)
                answer.max.append(span.high)
            return answer
        for sample in await self._signals.uniform(channel.id, start, end, points):
            if isinstance(sample.value, float):
                answer.timestamps.append(sample.at_us / 1000)
                answer.values.append(sample.value)
        return answer
