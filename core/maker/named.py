"""Fields that a PATCH names, for every service whose rows are changed field by field."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from protobuf import Message
from protobuf.wkt import FieldMask

from core.kernel.errors import InvalidArgument


def named_values(
    request: Message[Any], mask: FieldMask | None, fields: Collection[str], *, clears: Collection[str] = ()
) -> dict[str, Any]:
    """Return the new values of the fields that a request names: those of its mask, or without one those that are present.

    A field that is named without a value is None, if it is one of those that may be cleared.

    Raises:
        InvalidArgument: A field that must have a value is null.
    """
    named = fields if mask is None else [name for name in fields if name in mask.paths]
    values: dict[str, Any] = {}
    for name in named:
        if request.has_field(name):
            values[name] = getattr(request, name)
        elif mask is not None:
            if name not in clears:
                raise InvalidArgument.field(name, "must not be null")
            values[name] = None
    return values


def required_text(name: str, text: str, most: int) -> str:
    """Return a text that must not be blank.

    Raises:
        InvalidArgument: It is.
    """
    if not text.strip():
        raise InvalidArgument.field(name, f"must be 1-{most} characters and not blank")
    return text
