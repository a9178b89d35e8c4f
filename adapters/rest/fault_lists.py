"""Refusals as lists of what is wrong and where, in the words that clients of Pydantic know.

Rules of the proto, wrong JSON types and what a service found all arrive as violations. Here each gets the type, the sentence
and the context by which those clients tell them apart, and what came instead, with secrets masked.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson
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

from adapters.rest.codec import FLOATS, as_list, as_object
from adapters.rest.descriptors import field_by_name
from core.kernel.errors import FieldViolation
from gen.buf.validate.validate_pb import ext_field
from gen.busbar.api.v1.options_pb import ext_secret

Named = tuple[str, str, dict[str, object] | None]
"""Type, sentence and context of a fault."""

MASKED = "**********"
BODY, QUERY, PATH = "body", "query", "path"

NOT_FINITE: Named = ("finite_number", "Input should be a finite number", None)
MISSING: Named = ("missing", "Field required", None)
NO_OBJECT: Named = ("model_attributes_type", "Input should be a valid dictionary or object to extract fields from", None)
BOUNDS = {
    "gte": ("greater_than_equal", "greater than or equal to", "ge"),
    "gt": ("greater_than", "greater than", "gt"),
    "lte": ("less_than_equal", "less than or equal to", "le"),
    "lt": ("less_than", "less than", "lt"),
}
WRONG_TYPES: dict[str, Named] = {
    "string": ("string_type", "Input should be a valid string", None),
    "float": ("float_type", "Input should be a valid number", None),
    "int": ("int_type", "Input should be a valid integer", None),
    "bool": ("bool_type", "Input should be a valid boolean", None),
    "list": ("list_type", "Input should be a valid list", None),
    "dict": ("dict_type", "Input should be a valid dictionary", None),
    "datetime": ("datetime_type", "Input should be a valid datetime", None),
    "model": NO_OBJECT,
}
UNREADABLE_TEXTS: dict[str, Named] = {
    "float": ("float_parsing", "Input should be a valid number, unable to parse string as a number", None),
    "int": ("int_parsing", "Input should be a valid integer, unable to parse string as an integer", None),
    "bool": ("bool_parsing", "Input should be a valid boolean, unable to interpret input", None),
    "datetime": (
        "datetime_from_date_parsing",
        "Input should be a valid datetime or date, it is not in ISO 8601",
        {"error": "it is not in ISO 8601"},
    ),
}


@dataclass(frozen=True, slots=True)
class Given:
    """What a request held, as it came.

    Attributes:
        body: JSON of the body.
        texts: Texts of path and query by field.
        has_body: Whether a body came.
    """

    body: object = None
    texts: Mapping[str, str] = field(default_factory=dict[str, str])
    has_body: bool = False

    def at(self, where: str, path: tuple[str | int, ...], desc: DescMessage | None) -> tuple[bool, object]:
        """Return whether a field came, and its value."""
        if where != BODY:
            name = str(path[0]) if path else ""
            return name in self.texts, self.texts.get(name)
        value = self.body
        for part in path:
            found = field_by_name(desc, part) if desc is not None and isinstance(part, str) else None
            came, value = _member(value, (part,) if found is None else (found.name, found.json_name))
            if not came:
                return False, None
            desc = _message_of(found) if found is not None else desc
        return True, value


@dataclass(frozen=True, slots=True)
class Lister:
    """Writes the faults of one request.

    Attributes:
        request: Type of the message it was read as.
        locate: Tells where a top-level field comes from: `path`, `query` or `body`.
        given: What it held.
    """

    request: DescMessage | None
    locate: Callable[[str], str] | None
    given: Given

    def faults(self, violations: tuple[FieldViolation, ...]) -> list[dict[str, object]]:
        """Return the list. What concerns several fields at once counts only where each by itself is right."""
        single = [violation for violation in violations if violation.path]
        return [self._fault(violation) for violation in single or violations]

    def _fault(self, violation: FieldViolation) -> dict[str, object]:
        path = violation.path
        if violation.rule == "json":
            return _entry(("json_invalid", "JSON decode error", {"error": violation.value}), [BODY, violation.limit], {})
        where = self.locate(str(path[0])) if self.locate is not None and path else BODY
        came, value = self.given.at(where, path, self.request)
        name = self._named(violation, value, came=came)
        if name is MISSING:
            outer = self.given.at(where, path[:-1], self.request)[1] if where == BODY and path else None
            return _entry(name, [where, *path], _masked(outer, self._message_at(path[:-1])))
        return _entry(name, [where, *path], self._shown(path, value if came else violation.value))

    def _named(self, violation: FieldViolation, value: object, *, came: bool) -> Named:
        found, inside = self._field_at(violation.path)
        rule = violation.rule
        kind = "model" if found is None else _kind(found, inside=inside)
        rules = None if found is None else _rules(found, inside=inside)
        if rule == "required":
            if not came or not violation.path:
                return MISSING
            return _wrong_type(kind, value, rules) if value is None else _empty(kind, rules)
        if rule in ("type", "null"):
            return _wrong_type(kind, value if came else violation.value, rules)
        return _broken_rule(violation, value if came else violation.value, rules)

    def _field_at(self, path: tuple[str | int, ...]) -> tuple[DescField | None, bool]:
        """Return the field of a path, and whether the path goes on to one of its elements."""
        desc, found, inside = self.request, None, False
        for part in path:
            inside = found is not None and isinstance(found.value, DescFieldValueList | DescFieldValueMap) and not inside
            if not inside:
                found = field_by_name(desc, str(part)) if desc is not None else None
                desc = None if found is None else _message_of(found)
        return found, inside

    def _message_at(self, path: tuple[str | int, ...]) -> DescMessage | None:
        found, _ = self._field_at(path)
        return _message_of(found) if found is not None else None if path else self.request

    def _shown(self, path: tuple[str | int, ...], value: object) -> object:
        found, _ = self._field_at(path)
        if found is not None and _secret(found):
            return MASKED
        return _masked(value, self._message_at(path))


def _entry(name: Named, loc: list[Any], value: object) -> dict[str, object]:
    kind, message, context = name
    entry: dict[str, object] = {"type": kind, "loc": loc, "msg": message, "input": value}
    return entry if context is None else {**entry, "ctx": context}


def _empty(kind: str, rules: Any) -> Named:  # noqa: ANN401 - StringRules, RepeatedRules and their like
    """Name the fault of a required field that came empty: by the rule that an empty value breaks."""
    if kind == "list":
        return _too_short(getattr(rules, "min_items", 0) or 1, 0)
    if getattr(rules, "in_", None):
        return _enum(rules)
    if _is_email(rules):
        return _email("")
    return _string_length("short", "least", getattr(rules, "min_len", 0) or 1, "min_length")


def _wrong_type(kind: str, value: object, rules: Any) -> Named:  # noqa: ANN401
    if kind == "string" and getattr(rules, "in_", None):
        return _enum(rules)
    if isinstance(value, str) and kind in UNREADABLE_TEXTS:
        return UNREADABLE_TEXTS[kind]
    if kind == "int" and isinstance(value, float):
        return "int_from_float", "Input should be a valid integer, got a number with a fractional part", None
    if kind == "bool" and isinstance(value, int | float):
        return UNREADABLE_TEXTS[kind]
    return WRONG_TYPES[kind]


def _broken_rule(violation: FieldViolation, value: object, rules: Any) -> Named:  # noqa: ANN401
    rule, limit = violation.rule, violation.limit
    group, _, name = rule.partition(".")
    if name == "finite":
        return NOT_FINITE
    if group == "string":
        return _string_rule(violation, name, value, rules)
    if group == "repeated" and name in ("min_items", "max_items"):
        actual = len(as_list(value) or ())
        return _too_short(limit, actual) if name == "min_items" else _too_long(limit, actual)
    parts = [part for part in name.split("_") if part in BOUNDS]
    if parts:
        return _bound(parts, limit, violation.value, rules)
    return _other(violation.description)


def _string_rule(violation: FieldViolation, name: str, value: object, rules: Any) -> Named:  # noqa: ANN401
    limit = violation.limit
    if name == "min_len":
        return _string_length("short", "least", limit, "min_length")
    if name == "max_len":
        return _string_length("long", "most", limit, "max_length")
    if name == "in":
        return _enum(rules)
    if name.startswith("email"):
        return _email(str(value))
    if name == "pattern":
        return "string_pattern_mismatch", f"String should match pattern '{limit}'", {"pattern": limit}
    return _other(violation.description)


def _other(description: str) -> Named:
    return "value_error", f"Value error, {description}", {"error": {}}


def _string_length(kind: str, side: str, limit: object, name: str) -> Named:
    plural = "" if limit == 1 else "s"
    return f"string_too_{kind}", f"String should have at {side} {limit} character{plural}", {name: limit}


def _too_short(limit: object, actual: int) -> Named:
    message = f"List should have at least {limit} item{'' if limit == 1 else 's'} after validation, not {actual}"
    return "too_short", message, {"field_type": "List", "min_length": limit, "actual_length": actual}


def _too_long(limit: object, actual: int) -> Named:
    message = f"List should have at most {limit} item{'' if limit == 1 else 's'} after validation, not {actual}"
    return "too_long", message, {"field_type": "List", "max_length": limit, "actual_length": actual}


def _enum(rules: Any) -> Named:  # noqa: ANN401
    *first, last = [f"'{value}'" for value in rules.in_]
    expected = f"{', '.join(first)} or {last}" if first else last
    return "enum", f"Input should be {expected}", {"expected": expected}


def _email(value: str) -> Named:
    if "@" not in value:
        reason = "An email address must have an @-sign."
    elif value.startswith("@"):
        reason = "There must be something before the @-sign."
    elif value.endswith("@"):
        reason = "There must be something after the @-sign."
    else:
        reason = "The email address contains parts that are not allowed."
    return "value_error", f"value is not a valid email address: {reason}", {"reason": reason}


def _bound(parts: list[str], limit: object, value: object, rules: Any) -> Named:  # noqa: ANN401
    """Name the bound that a number breaks: a rule with two of them does not say which."""
    part = parts[0]
    if len(parts) > 1 and rules is not None and isinstance(value, int | float):
        lower, upper = rules.greater_than, rules.less_than
        low = value < lower.value or (lower.field == "gt" and value == lower.value)
        side = lower if low else upper
        part, limit = side.field, side.value
    kind, words, name = BOUNDS[part]
    return kind, f"Input should be {words} {limit}", {name: limit}


def _kind(found: DescField, *, inside: bool) -> str:
    value = found.value
    if isinstance(value, DescFieldValueList):
        return _element_kind(value.element) if inside else "list"
    if isinstance(value, DescFieldValueMap):
        return _element_kind(value.value) if inside else "dict"
    if isinstance(value, DescFieldValueMessage):
        return _element_kind(value.message)
    return "string" if isinstance(value, DescFieldValueEnum) else _element_kind(value.scalar)


def _element_kind(element: DescMessage | DescEnum | ScalarType) -> str:
    if isinstance(element, DescMessage):
        known = {"google.protobuf.Timestamp": "datetime", "google.protobuf.Struct": "dict", "google.protobuf.ListValue": "list"}
        return known.get(element.type_name, "model")
    if element in FLOATS:
        return "float"
    if element == ScalarType.BOOL:
        return "bool"
    return "string" if element in (ScalarType.STRING, ScalarType.BYTES) else "int"


def _rules(found: DescField, *, inside: bool) -> Any:  # noqa: ANN401
    options = found.proto.options
    rules = options[ext_field] if options is not None and ext_field in options else None
    chosen = None if rules is None else rules.type
    if chosen is not None and chosen.field == "repeated" and inside:
        items = chosen.value.items
        chosen = None if items is None else items.type
    return None if chosen is None else chosen.value


def _is_email(rules: Any) -> bool:  # noqa: ANN401
    known = getattr(rules, "well_known", None)
    return known is not None and known.field == "email"


def _message_of(found: DescField) -> DescMessage | None:
    value = found.value
    if isinstance(value, DescFieldValueMessage):
        return value.message
    element = value.element if isinstance(value, DescFieldValueList) else None
    return element if isinstance(element, DescMessage) else None


def _secret(found: DescField) -> bool:
    options = found.proto.options
    return options is not None and bool(options[ext_secret])


def _member(value: object, keys: tuple[str | int, ...]) -> tuple[bool, object]:
    """Return whether an object or a list holds something under one of some keys, and what."""
    entries, items = as_object(value), as_list(value)
    for key in keys:
        if entries is not None and key in entries:
            return True, entries[str(key)]
        if items is not None and isinstance(key, int) and key < len(items):
            return True, items[key]
    return False, None


def _masked(value: object, desc: DescMessage | None) -> object:
    """Return a JSON value fit to be repeated: secrets are masked, and what is no JSON is its text."""
    entries, items = as_object(value), as_list(value)
    if entries is not None:
        return {name: _masked_member(member, desc, name) for name, member in entries.items()}
    if items is not None:
        return [_masked(item, desc) for item in items]
    try:
        orjson.dumps(value)
    except TypeError:
        return str(value)
    return value


def _masked_member(member: object, desc: DescMessage | None, name: str) -> object:
    found = field_by_name(desc, name) if desc is not None else None
    if found is not None and _secret(found):
        return MASKED
    return _masked(member, None if found is None else _message_of(found))
