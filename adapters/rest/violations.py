"""Says what is wrong with a JSON value for a message, field by field.

The codec stops at the first fault and names only the innermost message. This walk runs after it has failed, so it may take
its time: it finds every fault, with its path, in words that fit behind a field's name.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator

from protobuf import (
    DescEnum,
    DescField,
    DescFieldValueEnum,
    DescFieldValueList,
    DescFieldValueMap,
    DescFieldValueMessage,
    DescMessage,
    ScalarType,
    message_from_json_value,
)

from adapters.rest.codec import FLOATS, LONG, WRAPPERS, as_list, as_object
from adapters.rest.descriptors import field_by_name
from core.kernel.errors import FieldViolation

Path = tuple[str | int, ...]
Element = DescMessage | DescEnum | ScalarType

DEEPEST = 100
"""Messages and values inside each other that the codec reads."""

_INTEGER = re.compile(r"-?[0-9]+")
_UNSIGNED = {ScalarType.UINT32: 32, ScalarType.FIXED32: 32, ScalarType.UINT64: 64, ScalarType.FIXED64: 64}
_LARGEST_FLOAT = 3.4028234663852886e38
_WORDS = {
    "google.protobuf.Timestamp": "must be a time such as 2026-01-31T12:00:00Z",
    "google.protobuf.Duration": "must be a duration such as 1.5s",
    "google.protobuf.FieldMask": "must be a list of field names with commas between them",
    "google.protobuf.Struct": "must be an object",
    "google.protobuf.ListValue": "must be a list",
}


def find(message: DescMessage, value: object, path: Path = ()) -> Iterator[FieldViolation]:
    """Yield what keeps a JSON value from being a message of a type."""
    if len(path) > DEEPEST:
        yield FieldViolation((), "must not be nested so deeply", "json")
    elif message.type_name.startswith("google.protobuf.") and message.type_name != "google.protobuf.Empty":
        yield from _well_known(message, value, path)
    elif (members := as_object(value)) is None:
        yield _wrong(path, "must be an object", value)
    else:
        for name, member in members.items():
            field = field_by_name(message, name)
            if field is not None and member is not None:
                yield from _field(field, member, (*path, field.name))


def integer(value: object, scalar: ScalarType = ScalarType.INT32) -> bool:
    """Tell whether a JSON value or a text is a whole number that fits a type."""
    if isinstance(value, str):
        if not _INTEGER.fullmatch(value) or len(value) > 20:  # noqa: PLR2004 - digits of the longest
            return False
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int | float) or value != value // 1:
        return False
    if scalar in _UNSIGNED:
        return 0 <= value < 2 ** _UNSIGNED[scalar]
    bits = 63 if scalar in LONG else 31
    return -(2**bits) <= value < 2**bits


def _field(field: DescField, value: object, path: Path) -> Iterator[FieldViolation]:
    kind = field.value
    if isinstance(kind, DescFieldValueList):
        items = as_list(value)
        if items is None:
            yield _wrong(path, "must be a list", value)
            return
        for index, item in enumerate(items):
            yield from _element(kind.element, item, (*path, index))
    elif isinstance(kind, DescFieldValueMap):
        entries = as_object(value)
        if entries is None:
            yield _wrong(path, "must be an object", value)
            return
        for key, item in entries.items():
            yield from _element(kind.value, item, (*path, key))
    elif isinstance(kind, DescFieldValueMessage):
        yield from find(kind.message, value, path)
    else:
        yield from _element(kind.enum if isinstance(kind, DescFieldValueEnum) else kind.scalar, value, path)


def _element(element: Element, value: object, path: Path) -> Iterator[FieldViolation]:
    if isinstance(element, DescMessage):
        if value is None and element.type_name != "google.protobuf.Value":
            yield _wrong(path, "must not be null", value)
        else:
            yield from find(element, value, path)
    elif isinstance(element, DescEnum):
        if not _is_enum(element, value):
            yield _wrong(path, "must be one of " + ", ".join(v.name for v in element.values), value)
    elif (words := scalar_fault(element, value)) is not None:
        yield _wrong(path, words, value)


def _is_enum(enum: DescEnum, value: object) -> bool:
    if isinstance(value, str):
        return any(value in (v.name, v.json_name) for v in enum.values)
    return isinstance(value, int) and not isinstance(value, bool) and any(value == v.number for v in enum.values)


def scalar_fault(scalar: ScalarType, value: object) -> str | None:
    """Return what a JSON value must be to fit a scalar; None when it does."""
    if scalar == ScalarType.BOOL:
        return None if isinstance(value, bool) else "must be true or false"
    if scalar == ScalarType.STRING:
        return None if isinstance(value, str) else "must be a string"
    if scalar == ScalarType.BYTES:
        return None if isinstance(value, str) and re.fullmatch(r"[A-Za-z0-9+/_-]*=*", value) else "must be base64 text"
    if scalar in FLOATS:
        return None if _is_number(value, scalar) else "must be a number"
    return None if integer(value, scalar) else "must be an integer"


def _is_number(value: object, scalar: ScalarType) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return False
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return False
    return scalar == ScalarType.DOUBLE or not math.isfinite(number) or abs(number) <= _LARGEST_FLOAT


def _well_known(message: DescMessage, value: object, path: Path) -> Iterator[FieldViolation]:
    if message.type_name in WRAPPERS:
        yield from _field(message.fields[0], value, path)
        return
    try:
        message_from_json_value(message.type, value)  # pyright: ignore[reportArgumentType] - whatever JSON may hold
    except RecursionError:
        yield FieldViolation((), "must not be nested so deeply", "json")
    except (TypeError, ValueError, OverflowError):
        yield _wrong(path, _WORDS.get(message.type_name, "is not valid"), value)


def _wrong(path: Path, words: str, value: object) -> FieldViolation:
    return FieldViolation(path, words, "type", None, value)
