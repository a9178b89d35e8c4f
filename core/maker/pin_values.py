"""Values of pins: any scalar, with one canonical text."""

from __future__ import annotations

from protobuf.wkt import Value

from core.kernel.errors import InvalidArgument

MOST_TEXT = 1024
"""Characters of a text value."""
EXACT = 1e15
"""Below this an integral double is printed as an integer without losing anything."""

Scalar = str | float | bool | None


def scalar(value: Value | None) -> Scalar:
    """Return what a checked message holds: the rules let only scalars through."""
    held = None if value is None else value.to_python()
    if isinstance(held, dict | list):
        raise InvalidArgument.field("value", "must be a scalar")
    return held


def plain(value: object) -> Scalar:
    """Return a stored value as a scalar: integral doubles as integers, objects and arrays as their JSON text."""
    if isinstance(value, float) and value.is_integer() and abs(value) < EXACT:
        return int(value)
    if value is None or isinstance(value, bool | int | float | str):
        return value
    return Value.from_python(value).to_json()  # pyright: ignore[reportArgumentType]


def canonical_text(value: Scalar) -> str:
    """Return the text form of a value: empty for none, 1 or 0 for booleans, the shortest decimal for numbers."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "1" if value else "0"
    return value if isinstance(value, str) else repr(value)


def type_of(value: Scalar) -> str:
    """Return `none`, `bool`, `number` or `string`."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "bool"
    return "string" if isinstance(value, str) else "number"
