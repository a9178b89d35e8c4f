"""Points as files: page after page, so that no export is too long."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import AsyncIterator, Callable, Sequence

import orjson

from core.kernel.call import Call
from core.kernel.clock import Clock
from core.kernel.errors import InvalidArgument, NotFound
from core.signals.model import StoredPoint
from core.signals.series import Place, Selection
from core.signals.service import Signals
from core.telemetry.points import Presenter, metrics_of, milliseconds, sources_of
from core.telemetry.times import parse_time
from gen.busbar.telemetry.v1.export_pb import ExportTelemetryRequest
from gen.google.api.httpbody_pb import HttpBody

PAGE = 2000
"""Points read, written and sent at a time: a few milliseconds of work, between which others have their turn."""
CSV = "text/csv; charset=utf-8"
LINES = "application/x-ndjson"
HEADER = ("source_id", "metric", "timestamp", "value", "class", "session_id", "tags")
_UNSAFE = re.compile(r"[^A-Za-z0-9_-]+")
_LONGEST_NAME = 80
_EXACT = 2**53

Write = Callable[[Sequence[StoredPoint], Presenter], bytes]


class ExportService:
    """Streams stored points of the caller's organisation as text."""

    def __init__(self, signals: Signals, clock: Clock) -> None:
        self._signals = signals
        self._clock = clock

    async def export_telemetry(self, request: ExportTelemetryRequest, call: Call) -> AsyncIterator[HttpBody]:
        """Stream the points of a range or of a recording."""
        chosen = await self._selection(request, call)
        lines = request.format == "ndjson"
        name = _file_name(request.recording or request.source, "ndjson" if lines else "csv")
        call.headers.append(("Content-Disposition", f'attachment; filename="{name}"'))
        kind, write = (LINES, _as_lines) if lines else (CSV, _as_csv)
        # Names the Content-Type also of an export without points.
        yield HttpBody(content_type=kind, data=b"" if lines else _csv([HEADER]))
        presenter = Presenter(self._signals, call.caller.org_id)
        after: Place | None = None
        while page := await self._signals.page(chosen, after, PAGE):
            after = page[-1].place
            yield HttpBody(content_type=kind, data=write([placed.point for placed in page], presenter))

    async def _selection(self, request: ExportTelemetryRequest, call: Call) -> Selection:
        start, end = parse_time("from", request.from_), parse_time("to", request.to)
        if start is not None and end is not None and start > end:
            raise InvalidArgument.field("from", "must not be after to")
        org_id = call.caller.org_id
        sources, metrics = sources_of(request.source, call.caller), metrics_of(request.metric) or None
        if not request.recording:
            return self._signals.select(org_id, sources, metrics, start, end)
        recording = await self._signals.recordings.find(org_id, request.recording)
        if recording is None:
            raise NotFound(f"recording {request.recording} not found", recording=request.recording)
        return await self._signals.select_recording(recording, sources, metrics, start, end)


def _as_csv(points: Sequence[StoredPoint], presenter: Presenter) -> bytes:
    return _csv(
        [
            (
                point.device,
                point.channel,
                milliseconds(point.at_us),
                _text(point.value),
                presenter.class_of(point.device, point.channel, point.value),
                point.recording or "",
                _json(point.tags).decode() if point.tags else "",
            )
            for point in points
        ]
    )


def _csv(rows: Sequence[Sequence[object]]) -> bytes:
    out = io.StringIO()
    csv.writer(out).writerows(rows)
    return out.getvalue().encode()


def _as_lines(points: Sequence[StoredPoint], presenter: Presenter) -> bytes:
    return b"".join(_line(point, presenter) for point in points)


def _line(point: StoredPoint, presenter: Presenter) -> bytes:
    """Return a point as QueryTelemetry answers it."""
    members: dict[str, object] = {
        "source_id": point.device,
        "metric": point.channel,
        "value": _number(point.value) if isinstance(point.value, float) else point.value,
        "timestamp": milliseconds(point.at_us),
        "class": presenter.class_of(point.device, point.channel, point.value),
        "tags": point.tags or {},
    }
    if point.recording is not None:
        members["session_id"] = point.recording
    return _json(members) + b"\n"


def _text(value: object) -> str:
    if isinstance(value, str):
        return value
    return repr(_number(value)) if isinstance(value, float) else _json(value).decode()


def _json(value: object) -> bytes:
    try:
        return orjson.dumps(value)
    except TypeError:
        # Integers beyond 64 bits inside arrays and objects.
        return json.dumps(value, separators=(",", ":")).encode()


def _number(value: float) -> float:
    """Return a number as people wrote it: whole ones, which are stored as doubles too, without a fraction."""
    return int(value) if value.is_integer() and abs(value) < _EXACT else value


def _file_name(subject: str, ending: str) -> str:
    """Return a name that is safe in a header and on every disk."""
    part = _UNSAFE.sub("-", subject).strip("-")[:_LONGEST_NAME]
    return f"telemetry-{part}.{ending}" if part else f"telemetry.{ending}"
