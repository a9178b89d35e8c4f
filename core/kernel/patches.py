"""Partial updates: which fields a request names, and to what it sets them."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from protobuf import Message
from protobuf.wkt import FieldMask

from core.kernel.errors import FieldViolation, InvalidArgument


def named_values(request: Message[Any], *fields: str, nullable: Collection[str] = ()) -> dict[str, Any]:
    """Return the new values of the fields to change: those of `update_mask`, or without one those that are present.

    A field that the mask names and the request does not hold is null, which only `nullable` fields may be.

    Raises:
        InvalidArgument: A field is null that must have a value.
    """
    mask: FieldMask | None = getattr(request, "update_mask", None)
    named = fields if mask is None else [name for name in fields if name in mask.paths]
    values: dict[str, Any] = {}
    for name in named:
        if request.has_field(name):
            values[name] = getattr(request, name)
        elif mask is not None:
            if name not in nullable:
                fault = FieldViolation((name,), "must not be null", "null")
                raise InvalidArgument(f"{name}: {fault.description}", violations=(fault,), field=name)
            values[name] = None
    return values
