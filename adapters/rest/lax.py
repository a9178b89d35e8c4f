"""Reads JSON leniently, for clients that were made for a server which does.

`"1.5"` and `true` are numbers, `"yes"` is true, a time may lack its offset and is UTC then. What is missing or cannot be read
is a violation; what remains is JSON that the strict codec takes. Limits are not looked at: they stand beside the fields.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import UTC, datetime
from functools import cache
from typing import Any

from protobuf import (
    DescEnum,
    DescField,
    DescFieldValueEnum,
    DescFieldValueList,
    DescFieldValueMap,
    DescFieldValueMessage,
    DescMessage,
    ScalarType,
)

from adapters.rest.codec import as_list, as_object
from core.kernel.errors import FieldViolation
from gen.buf.validate.validate_pb import ext_field
from gen.google.api.field_behavior_pb import FieldBehavior, ext_field_behavior

Path = tuple[str | int, ...]
Convert = Callable[[Any], Any]
"""Makes the JSON value that the strict codec takes. Raises Unreadable."""

TRUE = frozenset({True, "1", "true", "t", "on", "y", "yes"})
FALSE = frozenset({False, "0", "false", "f", "off", "n", "no"})
LARGEST = 2**31 - 1
MILLISECONDS_FROM = 20_000_000_000
"""A number above this counts milliseconds since 1970, not seconds."""

DEFAULTED = frozenset({ScalarType.BOOL, ScalarType.INT32})
"""Switches and counts are never null: leaving one out is how its default is taken."""


class Unreadable(ValueError):
    """A value has the wrong type or form."""


class NotFinite(Unreadable):
    """A number is infinite, or none at all."""


class OutOfRange(Unreadable):
    """A whole number is larger than any that fits."""

    def __init__(self, rule: str, limit: int) -> None:
        super().__init__()
        self.rule = rule
        self.limit = limit


def members(
    message: DescMessage,
    value: dict[str, Any],
    path: Path,
    faults: list[FieldViolation],
    *,
    without: frozenset[str] = frozenset(),
    masked: bool = False,
) -> dict[str, Any]:
    """Return the members of an object that the strict codec takes, and add what is wrong with the others to `faults`.

    `without` are fields that come from elsewhere. With `masked`, null is for the service to judge: it may clear a field.
    """
    out: dict[str, Any] = {}
    for field in message.fields:
        if field.name in without:
            continue
        name = field.name if field.name in value else field.json_name
        here = (*path, field.name)
        if name not in value:
            if is_required(field):
                faults.append(FieldViolation(here, "required", "required"))
        elif value[name] is None:
            if not masked and not _nullable(field):
                faults.append(FieldViolation(here, "must not be null", "null"))
        elif value[name] == "" and _closed(field):
            # The rules of the field may let an empty text pass as one that was left out.
            faults.append(FieldViolation(here, "must not be empty", "string.in", None, ""))
        else:
            _read(field, value[name], here, faults, out)
    return out


def text(kind: ScalarType) -> Convert:
    """Return what reads the text of a path or a query as a scalar."""
    return _SCALARS.get(kind, _string)


def fault(error: ValueError, path: Path, value: object) -> FieldViolation:
    """Return what is wrong with a value that could not be read."""
    if isinstance(error, NotFinite):
        return FieldViolation(path, "must be finite", "double.finite", None, value)
    if isinstance(error, OutOfRange):
        return FieldViolation(path, "is out of range", error.rule, error.limit, value)
    return FieldViolation(path, str(error) or "has the wrong type", "type", None, value)


def time(value: Any) -> str:  # noqa: ANN401 - any JSON
    """Return a time as the strict codec takes it; one without an offset is UTC. Raises Unreadable."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise Unreadable
    try:
        number = float(value)
    except (ValueError, OverflowError):
        found = _from_iso(str(value).strip())
    else:
        try:
            found = datetime.fromtimestamp(number / 1000 if abs(number) > MILLISECONDS_FROM else number, UTC)
        except (OverflowError, OSError) as error:
            raise Unreadable from error
    if found.tzinfo is None:
        found = found.replace(tzinfo=UTC)
    try:
        return found.astimezone(UTC).isoformat().replace("+00:00", "Z")
    except OverflowError as error:
        raise Unreadable from error


def _from_iso(value: str) -> datetime:
    try:
        return datetime.fromisoformat(value)
    except ValueError as error:
        raise Unreadable from error


@cache
def is_required(field: DescField) -> bool:
    """Tell whether a request must hold a field."""
    options = field.proto.options
    return options is not None and FieldBehavior.REQUIRED in options[ext_field_behavior]


@cache
def _nullable(field: DescField) -> bool:
    if isinstance(field.value, DescFieldValueMessage):
        return not is_required(field)
    if isinstance(field.value, DescFieldValueList | DescFieldValueMap | DescFieldValueEnum):
        return False
    return field.proto.proto3_optional and not is_required(field) and field.value.scalar not in DEFAULTED


@cache
def _closed(field: DescField) -> bool:
    """Whether a text is one of a closed set that has no empty member."""
    options = field.proto.options
    rules = options[ext_field].type if options is not None and ext_field in options else None
    return rules is not None and rules.field == "string" and bool(rules.value.in_) and "" not in rules.value.in_


def _read(field: DescField, value: Any, path: Path, faults: list[FieldViolation], out: dict[str, Any]) -> None:  # noqa: ANN401
    """Read one member that is not null into `out`."""
    kind = field.value
    before = len(faults)
    if isinstance(kind, DescFieldValueList):
        read = _list(kind.element, value, path, faults)
    elif isinstance(kind, DescFieldValueMap):
        read = _map(kind.value, value, path, faults)
    elif isinstance(kind, DescFieldValueMessage):
        read = _element(kind.message, value, path, faults)
    else:
        read = _element(kind.enum if isinstance(kind, DescFieldValueEnum) else kind.scalar, value, path, faults)
    if len(faults) == before:
        out[field.json_name] = read


def _list(element: Any, value: Any, path: Path, faults: list[FieldViolation]) -> Any:  # noqa: ANN401
    items = as_list(value)
    if items is None:
        faults.append(FieldViolation(path, "must be a list", "type", None, value))
        return None
    return [_element(element, item, (*path, index), faults) for index, item in enumerate(items)]


def _map(element: Any, value: Any, path: Path, faults: list[FieldViolation]) -> Any:  # noqa: ANN401
    entries = as_object(value)
    if entries is None:
        faults.append(FieldViolation(path, "must be an object", "type", None, value))
        return None
    return {key: _element(element, item, (*path, key), faults) for key, item in entries.items()}


def _element(
    element: DescMessage | DescEnum | ScalarType,
    value: Any,  # noqa: ANN401
    path: Path,
    faults: list[FieldViolation],
) -> Any:  # noqa: ANN401
    if isinstance(element, DescMessage) and not element.type_name.startswith("google.protobuf."):
        inner = as_object(value)
        if inner is None:
            faults.append(FieldViolation(path, "must be an object", "type", None, value))
            return None
        return members(element, inner, path, faults)
    try:
        return _converter(element)(value)
    except ValueError as error:
        faults.append(fault(error, path, value))
    return None


def _converter(element: DescMessage | DescEnum | ScalarType) -> Convert:
    if isinstance(element, DescMessage):
        return _WELL_KNOWN.get(element.type_name, _same)
    return _same if isinstance(element, DescEnum) else _SCALARS.get(element, _string)


def _same(value: Any) -> Any:  # noqa: ANN401
    return value


def _object(value: Any) -> Any:  # noqa: ANN401
    if not isinstance(value, dict):
        raise Unreadable
    return value  # pyright: ignore[reportUnknownVariableType]


def _string(value: Any) -> str:  # noqa: ANN401
    if not isinstance(value, str):
        raise Unreadable
    return value


def _boolean(value: Any) -> bool:  # noqa: ANN401
    known = value.strip().lower() if isinstance(value, str) else value
    if not isinstance(known, str | int | float):
        raise Unreadable
    if known in TRUE:
        return True
    if known in FALSE:
        return False
    raise Unreadable


def _float(value: Any) -> float:  # noqa: ANN401
    if not isinstance(value, str | int | float):
        raise Unreadable
    try:
        number = float(value)
    except OverflowError:
        raise NotFinite from None
    except ValueError:
        raise Unreadable from None
    if not math.isfinite(number):
        raise NotFinite
    return number


def _integer(value: Any) -> int:  # noqa: ANN401
    if not isinstance(value, str | int | float):
        raise Unreadable
    if isinstance(value, str) and value.strip().removeprefix("-").removeprefix("+").isdecimal():
        # Past this many digits the number is out of range, and reading it would only take time.
        number = int(value) if len(value) < 20 else LARGEST + 1  # noqa: PLR2004
        if value.strip().startswith("-") and number > 0:
            number = -number - 1
    else:
        number = _whole(value)
    if number > LARGEST:
        raise OutOfRange("int32.lte", LARGEST)
    if number < -LARGEST - 1:
        raise OutOfRange("int32.gte", -LARGEST - 1)
    return number


def _whole(value: str | float) -> int:
    if isinstance(value, int):
        return int(value)
    found = _float(value)
    if found != math.floor(found):
        raise Unreadable
    return int(found)


_SCALARS: dict[ScalarType, Convert] = {
    ScalarType.BOOL: _boolean,
    ScalarType.INT32: _integer,
    ScalarType.DOUBLE: _float,
    ScalarType.FLOAT: _float,
}
_WELL_KNOWN: dict[str, Convert] = {
    "google.protobuf.Timestamp": time,
    "google.protobuf.Struct": _object,
    "google.protobuf.FieldMask": _string,
}
