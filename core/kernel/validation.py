"""Rules of the proto, checked on messages."""

from __future__ import annotations

from typing import Any

import protovalidate
from protobuf import Message

from core.kernel.errors import FieldViolation, InvalidArgument

_validator = protovalidate.Validator()


def validate(message: Message[Any]) -> None:
    """Check a message against the rules beside its fields.

    Raises:
        InvalidArgument: Some rules are broken; every violation is named, the first one in the message too.
    """
    found = _validator.collect_violations(message)
    if found:
        raise invalid(tuple(_violation(v) for v in found))


def violations(message: Message[Any]) -> tuple[FieldViolation, ...]:
    """Return the rules beside its fields that a message breaks."""
    return tuple(_violation(v) for v in _validator.collect_violations(message))


def invalid(violations: tuple[FieldViolation, ...]) -> InvalidArgument:
    """Return the refusal for some violations."""
    first = violations[0]
    name = field_name(first.path)
    message = f"{name}: {first.description}" if name else first.description
    return InvalidArgument(message, violations=violations, field=name)


def field_name(path: tuple[str | int, ...]) -> str:
    """Return a path as text: `pins[3].value`."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def _violation(violation: protovalidate.Violation) -> FieldViolation:
    path: list[str | int] = []
    if violation.proto.field is not None:
        for element in violation.proto.field.elements:
            path.append(element.field_name)
            if element.subscript is not None:
                key = element.subscript.value
                path.append(key)
    rule = violation.proto.rule_id
    description = violation.proto.message
    if rule == "required":
        description = "required"
    return FieldViolation(tuple(path), description, rule, violation.rule_value, violation.field_value)
