"""JSON Schema 2020-12 of arguments and answers, from messages, the rules beside their fields, and their comments.

Every schema names its type, also where any JSON goes, since tools that check schemas for portability refuse empty ones.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from protobuf import (
    DescEnum,
    DescField,
    DescFieldValueEnum,
    DescFieldValueList,
    DescFieldValueMap,
    DescFieldValueMessage,
    DescMessage,
    DescOneof,
    ScalarType,
)

from adapters.mcp.rules import constraints, items_rules, rules_of
from adapters.rest.codec import json_kind, omits_empty, unwrapped
from adapters.rest.descriptors import comment
from gen.buf.validate.validate_pb import FieldRules
from gen.busbar.api.v1.options_pb import JsonKind, ext_prefix
from gen.google.api.field_behavior_pb import FieldBehavior, ext_field_behavior

Schema = dict[str, Any]

Paths = Mapping[str, Any]
"""Members of an answer to show, as a tree of JSON names; an empty tree shows everything below."""

LONG = frozenset({ScalarType.INT64, ScalarType.UINT64, ScalarType.SINT64, ScalarType.FIXED64, ScalarType.SFIXED64})

SCALARS: dict[ScalarType, Schema] = {
    ScalarType.DOUBLE: {"type": "number"},
    ScalarType.FLOAT: {"type": "number"},
    ScalarType.BOOL: {"type": "boolean"},
    ScalarType.STRING: {"type": "string"},
    ScalarType.BYTES: {"type": "string", "contentEncoding": "base64"},
}

WELL_KNOWN: dict[str, Schema] = {
    "google.protobuf.Timestamp": {"type": "string", "format": "date-time"},
    "google.protobuf.Duration": {"type": "string", "pattern": "^-?[0-9]+([.][0-9]{1,9})?s$"},
    "google.protobuf.FieldMask": {"type": "string"},
    "google.protobuf.Struct": {"type": "object"},
    "google.protobuf.ListValue": {"type": "array"},
    "google.protobuf.Empty": {"type": "object", "additionalProperties": False},
    "google.protobuf.Any": {"type": "object"},
}

VALUE = "google.protobuf.Value"
VALUE_ARGUMENT: Schema = {"type": ["string", "number", "boolean"]}
VALUE_ANSWER: Schema = {"type": ["string", "number", "boolean", "object", "array", "null"]}


JSON_TEXTS: dict[JsonKind, Schema] = {JsonKind.OBJECT: {"type": "object"}, JsonKind.ARRAY: {"type": "array"}}


class SchemaWriter:
    """Writes the schemas of one direction."""

    def __init__(self, *, answers: bool) -> None:
        self._answers = answers
        self._open: list[str] = []

    def object(self, message: DescMessage, names: Mapping[str, DescField], paths: Paths) -> Schema:
        """Return the schema of a message.

        Args:
            message: The message.
            names: Members to offer, by the name they have in JSON.
            paths: Members of members to show.
        """
        if message.type_name in self._open:
            # A message within itself has no end; whoever reads the schema may expect any object there.
            return {"type": "object"}
        self._open.append(message.type_name)
        properties = {name: self._property(field, paths.get(name, {})) for name, field in names.items()}
        self._open.pop()
        required = [name for name, field in names.items() if self._is_required(field)]
        schema: Schema = {"type": "object", "properties": properties, "additionalProperties": False}
        return schema | {"required": required} if required else schema

    def _is_required(self, field: DescField) -> bool:
        if self._answers:
            # Every member is printed, absent ones as null, but of a oneof only the chosen one.
            return oneof_of(field) is None and not omits_empty(field)
        rules = rules_of(field)
        return has_behavior(field, FieldBehavior.REQUIRED) or (rules is not None and rules.required)

    def _property(self, field: DescField, paths: Paths) -> Schema:
        schema = self._field(field, paths)
        if self._answers and is_nullable(field) and not omits_empty(field):
            schema = _or_null(schema)
        text = comment(f"{field.parent.type_name}.{field.name}")
        return schema | {"description": text} if text else schema

    def _field(self, field: DescField, paths: Paths) -> Schema:
        value, rules = field.value, rules_of(field)
        if isinstance(value, DescFieldValueList):
            items = self._single(value.element, items_rules(rules), paths)
            return {"type": "array", "items": items, **self._bounds(rules)}
        if isinstance(value, DescFieldValueMap):
            return {"type": "object", "additionalProperties": self._single(value.value, None, paths), **self._bounds(rules)}
        prefix = prefix_of(field)
        if prefix and not self._answers:
            return {"type": ["integer", "string"], "pattern": prefix_pattern(prefix), **self._bounds(rules)}
        if isinstance(value, DescFieldValueMessage):
            return self._single(value.message, rules, paths)
        if kind := json_kind(field):
            return JSON_TEXTS.get(kind) or (VALUE_ANSWER if self._answers else VALUE_ARGUMENT)
        return self._single(value.enum if isinstance(value, DescFieldValueEnum) else value.scalar, rules, paths)

    def _single(self, kind: DescMessage | DescEnum | ScalarType, rules: FieldRules | None, paths: Paths) -> Schema:
        if isinstance(kind, DescMessage):
            return self._message(kind, paths)
        if isinstance(kind, DescEnum):
            return {"type": "string", "enum": [v.json_name or v.name for v in kind.values if self._answers or v.number]}
        return self._scalar(kind) | self._bounds(rules)

    def _scalar(self, scalar: ScalarType) -> Schema:
        if scalar in LONG:
            # Numbers that a double cannot hold are strings in JSON.
            return {"type": "string" if self._answers else ["integer", "string"], "pattern": "^-?[0-9]+$"}
        return SCALARS.get(scalar, {"type": "integer"})

    def _message(self, message: DescMessage, paths: Paths) -> Schema:
        name = message.type_name
        if name == VALUE:
            return VALUE_ANSWER if self._answers else VALUE_ARGUMENT
        if name in WELL_KNOWN:
            return WELL_KNOWN[name]
        if name.startswith("google.protobuf.") and name.endswith("Value"):
            return self._field(message.fields[0], {})
        if self._answers and (inner := unwrapped(message)) is not None:
            return self._field(inner, paths)
        return self.object(message, members(message, paths, answers=self._answers), paths)

    def _bounds(self, rules: FieldRules | None) -> Schema:
        if rules is None:
            return {}
        found = constraints(rules)
        if not self._answers:
            return found
        # Callers check answers against the schema, and old rows may be out of bounds that came later: closed sets only.
        return {"enum": found["enum"]} if "enum" in found else {}


def members(message: DescMessage, paths: Paths, *, answers: bool) -> dict[str, DescField]:
    """Return the members of a message by JSON name: those of the paths, or all that this direction has."""
    skipped = FieldBehavior.INPUT_ONLY if answers else FieldBehavior.OUTPUT_ONLY
    fields = [field for field in message.fields if not has_behavior(field, skipped)]
    return {field.json_name: field for field in fields if not paths or field.json_name in paths}


def message_of(field: DescField) -> DescMessage | None:
    """Return the message that a field holds, or of which it is a list."""
    value = field.value
    kind = value.element if isinstance(value, DescFieldValueList) else getattr(value, "message", None)
    return kind if isinstance(kind, DescMessage) else None


def has_behavior(field: DescField, behavior: FieldBehavior) -> bool:
    """Whether a field is annotated with a behaviour."""
    options = field.proto.options
    return options is not None and behavior in options[ext_field_behavior]


def prefix_of(field: DescField) -> str:
    """Return the letter that callers may write before an integer; empty for none."""
    options = field.proto.options
    return options[ext_prefix] if options is not None else ""


def prefix_pattern(prefix: str) -> str:
    """Return the pattern of an integer that may have a letter before it."""
    return f"^[{prefix.upper()}{prefix.lower()}]?[0-9]{{1,3}}$"


def oneof_of(field: DescField) -> DescOneof | None:
    """Return the group of which one member is set, if the field belongs to any."""
    value = field.value
    return None if isinstance(value, DescFieldValueList | DescFieldValueMap) else value.oneof


def is_nullable(field: DescField) -> bool:
    """Whether a member of an answer is null when it is absent."""
    value = field.value
    if isinstance(value, DescFieldValueList | DescFieldValueMap) or oneof_of(field) is not None:
        return False
    return isinstance(value, DescFieldValueMessage) or field.proto.proto3_optional


def _or_null(schema: Schema) -> Schema:
    kind: Any = schema["type"]
    types: list[str] = [kind] if isinstance(kind, str) else kind
    enum = {"enum": [*schema["enum"], None]} if "enum" in schema else {}
    return schema | {"type": types if "null" in types else [*types, "null"]} | enum
