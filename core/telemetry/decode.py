"""Reads an ingest body in one pass: 10,000 points in about as many microseconds.

Generic JSON decoding and rules per message cost several times that, so the shape is decoded by typed structs, and what types
cannot say is checked here once, with the index of the first bad point in the message.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any, cast

import msgspec

from core.kernel.errors import FieldViolation, InvalidArgument
from core.kernel.json_members import is_whole, require_unique
from core.kernel.validation import invalid
from core.signals.model import Column, Value
from gen.busbar.api.v1.error_reason_pb import ErrorReason
from gen.busbar.telemetry.v1.ingest_pb import Point

SOURCE_ID = re.compile(r"[a-z0-9][a-z0-9._-]{0,255}")
SECONDS_BELOW = 1e12
"""Timestamps below this are seconds, from here on milliseconds."""
MOST_MS = 9.2e15
"""Largest timestamp that still fits 64 bits of microseconds."""
_SOURCE_RULE = "must be lower case letters, digits, '.', '_' and '-', at most 256"
MOST_EXACT = 2.0**53
"""Largest whole number below which a double misses none."""
MOST_METRIC = 256
"""Characters of a metric."""
MOST_DEPTH = 64
"""Levels of objects and arrays in one value; every door can read that back."""


class _Point(msgspec.Struct, omit_defaults=True):
    metric: str
    value: Any = msgspec.UNSET
    timestamp: float | None = None
    source_id: str | None = None
    device_id: str | None = None
    tags: dict[str, Any] | None = None
    session_id: str | None = None
    run_id: str | None = None
    class_: str | None = msgspec.field(default=None, name="class")


class _Series:
    """Points of one channel while a body is read."""

    __slots__ = ("tagged", "tags", "times", "values")

    def __init__(self) -> None:
        self.times: list[int] = []
        self.values: list[Value] = []
        self.tags: list[dict[str, str] | None] = []
        self.tagged = False


class _Body(msgspec.Struct, omit_defaults=True):
    points: list[_Point]
    source_id: str | None = None
    device_id: str | None = None


_decoder = msgspec.json.Decoder(_Body)
_encode = msgspec.json.Encoder().encode
_WHERE = re.compile(r"^(?P<what>.*?)(?: - at `(?P<where>[^`]*)`)?$", re.DOTALL)
_WORDS = {" | null": "", "str": "string", "float": "number", "int": "number", "bool": "boolean"}
"""JSON's names of what the decoder calls by Python's."""


def decode_points(raw: bytes, now_us: int, most: int, default_source: str | None = None) -> list[Column]:
    """Return the points of a body as columns, one for each source, metric, recording and class.

    Args:
        raw: JSON text, inflated.
        now_us: Time of points that bring none.
        most: Points that one request may hold.
        default_source: Source of points when neither they nor the body name one.

    Raises:
        InvalidArgument: The text is not JSON, or a point is wrong; the first wrong one is named by its index.
    """
    try:
        body = _decoder.decode(raw)
    except msgspec.ValidationError as error:
        raise _wrong_type(error) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        message = "body is nested too deeply" if isinstance(error, RecursionError) else "body is not valid JSON"
        raise InvalidArgument(message, reason=ErrorReason.MALFORMED_BODY) from None
    if not _lost_nothing(raw, body):
        require_unique(raw)
    if len(body.points) > most:
        raise InvalidArgument(f"too many points: {len(body.points)} (max {most})", field="points")
    default = body.source_id or body.device_id or default_source
    if default is not None and not SOURCE_ID.fullmatch(default):
        raise _bad(_SOURCE_RULE, "source_id")
    return _columns(body.points, now_us, default)


def _lost_nothing(raw: bytes, body: _Body) -> bool:
    """Whether a text cannot name a member twice, of which the decoder keeps the last; costs a few hundredths of an ingest.

    Members that no field takes are missing from the body as well, so the text is then read a second time, whatever it holds.
    """
    if is_whole(raw, _encode(body)):
        return True
    try:
        return is_whole(raw, _encode(msgspec.json.decode(raw)))
    except msgspec.DecodeError:
        # A member that no field takes may hold a number that nothing could.
        return False


def decode_frame(points: Sequence[Point], source: str, session: str, now_us: int, most: int) -> list[Column]:
    """Return the points of a message as columns of one source, whatever source they name.

    Args:
        points: Points, unchecked.
        source: Source of all of them.
        session: Recording of points that name none, neither themselves nor in the tag `session_id`.
        now_us: Time of points that bring none.
        most: Points that one frame may hold.

    Raises:
        InvalidArgument: A point is wrong; the first wrong one is named by its index.
    """
    if len(points) > most:
        raise InvalidArgument(f"too many points: {len(points)} (max {most})", field="points")
    return _columns([_of_message(point, source, session) for point in points], now_us, source)


def _of_message(point: Point, source: str, session: str) -> _Point:
    kind = None if point.value is None else point.value.kind
    if kind is None:
        value: Any = msgspec.UNSET
    else:
        value = kind.value if kind.field in ("number_value", "string_value", "bool_value") else as_json(point.value)
    tags: dict[str, Any] | None = None if point.tags is None else as_json(point.tags)
    recording = point.session_id or point.run_id
    if not recording:
        tagged = tags.get("session_id") if tags else None
        recording = tagged if isinstance(tagged, str) and tagged else session
    return _Point(point.metric, value, point.timestamp, source, None, tags, recording, None, point.class_)


def as_json(message: Any) -> Any:  # noqa: ANN401 - a Value or a Struct, and any JSON
    """Return a free-form message as JSON, with whole numbers as the integers that they were when they came."""
    return _whole(message.to_python())


def _whole(value: Any) -> Any:  # noqa: ANN401 - any JSON
    if isinstance(value, float):
        return int(value) if value.is_integer() and abs(value) <= MOST_EXACT else value
    if isinstance(value, dict):
        members = cast("dict[str, Any]", value)
        return {key: _whole(item) for key, item in members.items()}
    return [_whole(item) for item in cast("list[Any]", value)] if isinstance(value, list) else value


def _columns(points: Sequence[_Point], now_us: int, default: str | None) -> list[Column]:
    series: dict[tuple[str, str, str | None, str], _Series] = {}
    for index, point in enumerate(points):
        value = _value(point, index)
        kind = "event" if point.class_ == "event" or not isinstance(value, float) else "metric"
        recording = point.session_id or point.run_id or None
        key = (point.source_id or point.device_id or default or "", point.metric, recording, kind)
        into = series.get(key)
        if into is None:
            _check_names(key[0], point.metric, index)
            into = series[key] = _Series()
        into.times.append(now_us if point.timestamp is None else _microseconds(point.timestamp, index))
        into.values.append(value)
        tags = _tags(point.tags) if point.tags else None
        into.tagged = into.tagged or tags is not None
        into.tags.append(tags)
    return [
        Column(source, metric, s.times, s.values, recording, s.tags if s.tagged else None, kind)
        for (source, metric, recording, kind), s in series.items()
    ]


def _check_names(source: str, metric: str, index: int) -> None:
    if not source:
        raise _bad("required, at the top level or in the point", "points", index, "source_id")
    if not SOURCE_ID.fullmatch(source):
        raise _bad(_SOURCE_RULE, "points", index, "source_id")
    if not 0 < len(metric) <= MOST_METRIC:
        raise _bad(f"must be 1 to {MOST_METRIC} characters", "points", index, "metric")


def _value(point: _Point, index: int) -> Value:
    """Return a value; every number is a float."""
    value = point.value
    if point.class_ and point.class_ not in ("metric", "event"):
        raise _bad("must be metric or event", "points", index, "class")
    if isinstance(value, float | int) and not isinstance(value, bool):
        if not _finite(value):
            raise _bad("must be finite", "points", index, "value")
        return float(value)
    if value is msgspec.UNSET or value is None:
        raise _bad("required; null is no value", "points", index, "value")
    if isinstance(value, dict | list) and _deeper(value, MOST_DEPTH):  # pyright: ignore[reportUnknownArgumentType]
        raise _bad(f"nested too deeply (max {MOST_DEPTH})", "points", index, "value")
    return cast("Value", value)


def _deeper(value: Any, depth: int) -> bool:  # noqa: ANN401 - any JSON
    """Whether a value holds more than `depth` levels of objects and arrays."""
    if not isinstance(value, dict | list):
        return False
    inner: Any = value.values() if isinstance(value, dict) else value  # pyright: ignore[reportUnknownVariableType]
    return depth == 0 or any(_deeper(item, depth - 1) for item in inner)


def _finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:
        return False


def _microseconds(timestamp: float, index: int) -> int:
    milliseconds = timestamp * 1000 if 0 < timestamp < SECONDS_BELOW else timestamp
    if not -MOST_MS < milliseconds < MOST_MS:
        raise _bad("out of range", "points", index, "timestamp")
    return round(milliseconds * 1000)


def _tags(tags: dict[str, Any]) -> dict[str, str] | None:
    """Return tags with text values; what is no text becomes its JSON text, and null is left out."""
    kept = {
        key: value if isinstance(value, str) else msgspec.json.encode(value).decode()
        for key, value in tags.items()
        if value is not None
    }
    return kept or None


def _wrong_type(error: msgspec.ValidationError) -> InvalidArgument:
    """Say in the words of the API what the decoder found: `points[3].metric: expected str, got int`."""
    match = _WHERE.match(str(error))
    what = (match["what"] if match else str(error)).replace("`", "")
    where = (match["where"] if match else None) or "$"
    if missing := re.match(r"Object missing required field (\w+)", what):
        where, what = f"{where}.{missing[1]}", "required"
    for name, word in _WORDS.items():
        what = what.replace(name, word)
    path: list[str | int] = [int(part) if part.isdigit() else part for part in re.findall(r"\w+", where.removeprefix("$"))]
    if not path:
        return InvalidArgument("body must be a JSON object", reason=ErrorReason.MALFORMED_BODY)
    return invalid((FieldViolation(tuple(path), what[:1].lower() + what[1:], "type"),))


def _bad(description: str, *path: str | int) -> InvalidArgument:
    return invalid((FieldViolation(path, description),))
