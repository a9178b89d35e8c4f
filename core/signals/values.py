"""Values as they are stored: numbers as doubles, all else as JSON text with sorted keys, so that equal values are equal."""

from __future__ import annotations

import json
from typing import Any

import orjson

from core.kernel.errors import InvalidArgument
from core.signals.model import Value

Stored = tuple[float | None, str | None]
"""Number and text; one of them is None. Both are None for a cleared latest value."""

_NUMBERS = frozenset({int, float})


def all_numbers(values: object) -> bool:
    """Whether a sequence holds numbers only; booleans are none."""
    return set(map(type, values)) <= _NUMBERS  # pyright: ignore[reportArgumentType, reportCallIssue, reportUnknownArgumentType]


def encode(value: Value | None) -> Stored:
    """Return the stored form of a value.

    Raises:
        InvalidArgument: A number does not fit a double.
    """
    if value is None:
        return None, None
    if type(value) in _NUMBERS:
        return to_double(value), None
    return None, to_json(value)


def to_double(value: Any) -> float:  # noqa: ANN401 - callers have checked that it is a number
    """Return a number as it is stored."""
    try:
        return float(value)
    except OverflowError as error:
        raise InvalidArgument.field("value", "must fit a double") from error


def to_json(value: object) -> str:
    """Return JSON text with sorted keys."""
    try:
        return orjson.dumps(value, option=orjson.OPT_SORT_KEYS).decode()
    except TypeError:
        # Integers beyond 64 bits inside arrays and objects.
        return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def decode(num: float | None, text: str | None) -> Any:  # noqa: ANN401 - any JSON value
    """Return the value of a stored form."""
    if text is not None:
        return json.loads(text)
    return num
