"""Rules of the proto, checked on messages."""

from __future__ import annotations

from typing import Any

import protovalidate
from protobuf import DescField, DescFieldValueList, DescMessage, Message

from core.kernel.errors import FieldViolation, InvalidArgument
from gen.buf.validate.validate_pb import StringRules, ext_field

_violations = protovalidate.Validator().collect_violations


def validate(message: Message[Any]) -> None:
    """Check a message against the rules beside its fields.

    Raises:
        InvalidArgument: Some rules are broken; every violation is named, the first one in the message too.
    """
    found = violations(message)
    if found:
        raise invalid(found)


def violations(message: Message[Any]) -> tuple[FieldViolation, ...]:
    """Return the rules beside its fields that a message breaks."""
    return tuple(_violation(v, message.desc()) for v in _violations(message))


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


def _violation(violation: protovalidate.Violation, message: DescMessage) -> FieldViolation:
    path: list[str | int] = []
    if violation.proto.field is not None:
        for element in violation.proto.field.elements:
            path.append(element.field_name)
            if element.subscript is not None:
                key = element.subscript.value
                path.append(key)
    rule, limit = violation.proto.rule_id, violation.rule_value
    description = violation.proto.message
    if rule == "required":
        description = "required"
    elif rule == "string.in":
        description = f"must be one of {', '.join(limit)}"
    elif rule == "string.pattern":
        description = f"must match {limit}"
    elif rule in ("string.min_len", "string.max_len"):
        description = _length(_strings(message, path), rule, limit)
    return FieldViolation(tuple(path), description, rule, limit, violation.field_value)


def _length(rules: StringRules | None, rule: str, limit: int) -> str:
    if rules is not None and rules.min_len and rules.has_field("max_len"):
        return f"must be {rules.min_len}-{rules.max_len} characters"
    bound = "least" if rule == "string.min_len" else "most"
    return f"must be at {bound} {limit} character{'' if limit == 1 else 's'}"


def _strings(message: DescMessage, path: list[str | int]) -> StringRules | None:
    """Return the rules of the text that a path leads to, or of each text of a list; None for keys and values of maps."""
    inner: DescMessage | None = message
    field: DescField | None = None
    for name in path:
        if isinstance(name, int) or inner is None:
            continue
        field = next((f for f in inner.fields if f.name == name), None)
        value = None if field is None else field.value
        kind = value.element if isinstance(value, DescFieldValueList) else getattr(value, "message", None)
        inner = kind if isinstance(kind, DescMessage) else None
    options = None if field is None else field.proto.options
    kind = options[ext_field].type if options is not None and ext_field in options else None
    if kind is not None and kind.field == "repeated" and kind.value.items is not None:
        kind = kind.value.items.type
    return kind.value if kind is not None and kind.field == "string" else None
