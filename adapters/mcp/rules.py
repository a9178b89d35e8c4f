"""The rules beside a field, in the words of JSON Schema. What they cannot say there is checked by the pipeline alone."""

from __future__ import annotations

import re
from typing import Any

from protobuf import DescField, Oneof

from gen.buf.validate.validate_pb import FieldRules, StringRules, ext_field

LENGTHS: dict[str, dict[str, str]] = {
    "string": {"min_len": "minLength", "max_len": "maxLength"},
    "repeated": {"min_items": "minItems", "max_items": "maxItems"},
    "map": {"min_pairs": "minProperties", "max_pairs": "maxProperties"},
}
COMPARISONS = {"gte": "minimum", "gt": "exclusiveMinimum", "lte": "maximum", "lt": "exclusiveMaximum"}
FORMATS = {"email": "email", "hostname": "hostname", "ipv4": "ipv4", "ipv6": "ipv6", "uri": "uri", "uuid": "uuid"}
NUMBERS = ("double", "float", "int32", "uint32", "sint32", "fixed32", "sfixed32")


def rules_of(field: DescField) -> FieldRules | None:
    """Return the rules of a field."""
    options = field.proto.options
    return options[ext_field] if options is not None and ext_field in options else None


def items_rules(rules: FieldRules | None) -> FieldRules | None:
    """Return the rules of each entry of a list."""
    kind = rules.type if rules is not None else None
    return kind.value.items if kind is not None and kind.field == "repeated" else None


def constraints(rules: FieldRules) -> dict[str, Any]:
    """Return the keywords of JSON Schema that say the same as the rules."""
    kind = rules.type
    if kind is None:
        return {}
    # The rules of each kind of field are a class of their own, alike only in the names that are read here.
    value: Any = kind.value
    found: dict[str, Any] = {}
    if kind.field in NUMBERS:
        found |= _range(value.greater_than) | _range(value.less_than)
    if kind.field in (*NUMBERS, "string") and value.in_:
        found["enum"] = list(value.in_)
    for name, keyword in LENGTHS.get(kind.field, {}).items():
        if value.has_field(name):
            found[keyword] = getattr(value, name)
    if kind.field == "string":
        found |= _text(value)
    if kind.field == "repeated" and value.unique:
        found["uniqueItems"] = True
    return found


def _range(bound: Oneof[str, Any] | None) -> dict[str, Any]:
    return {} if bound is None else {COMPARISONS[bound.field]: bound.value}


def _text(rules: StringRules) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if rules.has_field("len"):
        found |= {"minLength": rules.len, "maxLength": rules.len}
    if rules.has_field("pattern") and _is_portable(rules.pattern):
        found["pattern"] = rules.pattern
    if rules.well_known is not None and rules.well_known.field in FORMATS:
        found["format"] = FORMATS[rules.well_known.field]
    return found


def _is_portable(pattern: str) -> bool:
    """Whether a pattern of RE2 is one for readers of JSON Schema too, as far as the engine at hand can tell."""
    try:
        re.compile(pattern)
    except re.error:
        return False
    return "(?" not in pattern
