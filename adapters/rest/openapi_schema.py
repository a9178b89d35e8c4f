"""JSON Schemas of messages, in the style of their surface and with the rules that stand beside their fields."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from protobuf import (
    DescEnum,
    DescField,
    DescFieldValueEnum,
    DescFieldValueList,
    DescFieldValueMap,
    DescFieldValueMessage,
    DescFieldValueScalar,
    DescMessage,
    Message,
    ScalarType,
)

from adapters.rest.binding import HTTP_BODY, UPDATE_MASK
from adapters.rest.codec import LONG, WRAPPERS, Style, json_kind, omits_empty, others_of, unwrapped
from adapters.rest.descriptors import comment, json_name
from gen.buf.validate.validate_pb import FieldRules, Ignore, ext_field
from gen.busbar.api.v1.options_pb import JsonKind, Others, ext_prefix
from gen.google.api.field_behavior_pb import FieldBehavior, ext_field_behavior

Schema = dict[str, Any]

FORMATS = {
    "email": "email",
    "hostname": "hostname",
    "ipv4": "ipv4",
    "ipv6": "ipv6",
    "uri": "uri",
    "uri_ref": "uri-reference",
    "uuid": "uuid",
}
WELL_KNOWN: dict[str, Schema] = {
    "google.protobuf.Timestamp": {"type": "string", "format": "date-time", "examples": ["2026-01-31T12:00:00.000Z"]},
    "google.protobuf.Duration": {"type": "string", "pattern": r"^-?[0-9]+(\.[0-9]+)?s$", "examples": ["1.5s"]},
    "google.protobuf.FieldMask": {"type": "string"},
    "google.protobuf.Struct": {"type": "object", "additionalProperties": True},
    "google.protobuf.ListValue": {"type": "array", "items": {}},
    "google.protobuf.Value": {},
    "google.protobuf.Empty": {"type": "object"},
    "google.protobuf.Any": {"type": "object", "additionalProperties": True},
    HTTP_BODY: {"type": "string", "format": "binary"},
}
JSON_TEXTS: dict[JsonKind, Schema] = {
    JsonKind.ANY: {},
    JsonKind.OBJECT: {"type": "object", "additionalProperties": True},
    JsonKind.ARRAY: {"type": "array", "items": {}},
}
SCALARS: dict[ScalarType, Schema] = {
    ScalarType.BOOL: {"type": "boolean"},
    ScalarType.STRING: {"type": "string"},
    ScalarType.BYTES: {"type": "string", "contentEncoding": "base64"},
    ScalarType.DOUBLE: {"type": "number", "format": "double"},
    ScalarType.FLOAT: {"type": "number", "format": "float"},
    ScalarType.UINT32: {"type": "integer", "format": "int64", "minimum": 0},
    ScalarType.FIXED32: {"type": "integer", "format": "int64", "minimum": 0},
}
INT32: Schema = {"type": "integer", "format": "int32"}
BOUNDS = {"gte": "minimum", "gt": "exclusiveMinimum", "lte": "maximum", "lt": "exclusiveMaximum"}


class Schemas:
    """The named schemas of one document, made as operations ask for them."""

    def __init__(self) -> None:
        self.components: dict[str, Schema] = {}
        self._names: dict[tuple[str, Style, bool, frozenset[str], frozenset[str]], str] = {}

    def output(self, message: DescMessage, style: Style) -> Schema:
        """Return the schema of an answer."""
        return self._message(message, style, frozenset(), reading=False)

    def input(
        self, message: DescMessage, style: Style, without: frozenset[str] = frozenset(), *, changes: DescMessage | None = None
    ) -> Schema:
        """Return the schema of a request, without some top-level fields.

        `changes` is what a partial update changes: null empties a list, and else clears a field where the thing may lack it.
        """
        fields = () if changes is None else changes.fields
        solid = frozenset(field.name for field in fields if _is_one(field) and not _may_be_absent(field))
        return self._message(message, style, without, reading=True, solid=solid)

    def field(self, field: DescField, style: Style, *, reading: bool) -> Schema:
        """Return the schema of a field, with its rules and its comment; not yet nullable."""
        schema = _constrained(field, self._value(field, style, reading=reading))
        if reading and (letter := prefix(field)):
            most = schema.get("maximum")
            number = "[0-9]{1,10}" if most is None else f"0*({numbers_up_to(most)})"
            pattern = f"^[{letter.lower()}{letter.upper()}]?{number}$"
            schema = {"anyOf": [schema, {"type": "string", "pattern": pattern, "examples": [f"{letter}7"]}]}
        text = comment(f"{field.parent.type_name}.{field.name}")
        return {**schema, "description": text} if text else schema

    def _message(
        self,
        message: DescMessage,
        style: Style,
        without: frozenset[str],
        *,
        reading: bool,
        solid: frozenset[str] = frozenset(),
    ) -> Schema:
        name = message.type_name
        if name in WELL_KNOWN:
            return dict(WELL_KNOWN[name])
        if name in WRAPPERS:
            return self._value(message.fields[0], style, reading=reading)
        if not reading and (inner := unwrapped(message)) is not None:
            return self._value(inner, style, reading=reading)
        key = (name, style, reading, without, solid)
        if key not in self._names:
            # Named before its members are looked at, since a message may hold itself.
            self._names[key] = self._free_name(message, reading=reading)
            self.components[self._names[key]] = {}
            self.components[self._names[key]] = self._object(message, style, without, reading=reading, solid=solid)
        return {"$ref": f"#/components/schemas/{self._names[key]}"}

    def _free_name(self, message: DescMessage, *, reading: bool) -> str:
        area = message.type_name.split(".")[1].title()
        short = message.type_name.split(".", 3)[-1].replace(".", "")
        names = [short, f"{short}Input"] if reading else [short]
        names += [f"{area}{name}" for name in names] + [f"{area}{short}{number}" for number in range(2, 50)]
        return next(name for name in names if name not in self.components)

    def _object(
        self, message: DescMessage, style: Style, without: frozenset[str], *, reading: bool, solid: frozenset[str]
    ) -> Schema:
        properties: dict[str, Schema] = {}
        required: list[str] = []
        for field in message.fields:
            if field.name in without or (reading and (field.name == UPDATE_MASK or behaves(field, FieldBehavior.OUTPUT_ONLY))):
                continue
            if others_of(field) == Others.BESIDE:
                continue
            name = json_name(field, declared=style.declared_names)
            schema = self.field(field, style, reading=reading)
            needed = behaves(field, FieldBehavior.REQUIRED) if reading else _always_printed(field, style)
            lacking = not needed and field.name not in solid
            absent = lacking if reading else style.nulls and _may_be_absent(field) and not omits_empty(field)
            properties[name] = nullable(schema) if absent else schema
            if not reading and behaves(field, FieldBehavior.OUTPUT_ONLY):
                properties[name] = {**properties[name], "readOnly": True}
            if needed:
                required.append(name)
        schema: Schema = {"type": "object", "properties": properties}
        if required:
            schema["required"] = required
        if any(others_of(field) for field in message.fields):
            schema["additionalProperties"] = True
        text = comment(message.type_name)
        return {**schema, "description": text} if text else schema

    def _value(self, field: DescField, style: Style, *, reading: bool) -> Schema:
        value = field.value
        if isinstance(value, DescFieldValueList):
            return {"type": "array", "items": self._element(value.element, style, reading=reading)}
        if isinstance(value, DescFieldValueMap):
            return {"type": "object", "additionalProperties": self._element(value.value, style, reading=reading)}
        if isinstance(value, DescFieldValueMessage):
            return self._element(value.message, style, reading=reading)
        if kind := json_kind(field):
            return dict(JSON_TEXTS[kind])
        return self._element(value.enum if isinstance(value, DescFieldValueEnum) else value.scalar, style, reading=reading)

    def _element(self, element: DescMessage | DescEnum | ScalarType, style: Style, *, reading: bool) -> Schema:
        if isinstance(element, DescMessage):
            return self._message(element, style, frozenset(), reading=reading)
        if isinstance(element, DescEnum):
            return {"type": "string", "enum": [value.json_name or value.name for value in element.values]}
        if element in LONG:
            return {"type": "string", "pattern": "^-?[0-9]+$"}
        return dict(SCALARS.get(element, INT32))


def behaves(field: DescField, behavior: FieldBehavior) -> bool:
    """Tell whether a field is marked with a behaviour."""
    options = field.proto.options
    return options is not None and behavior in options[ext_field_behavior]


def prefix(field: DescField) -> str:
    """Return the letter that clients may write before an integer."""
    options = field.proto.options
    return options[ext_prefix] if options is not None else ""


def numbers_up_to(most: int) -> str:
    """Return a pattern for the whole numbers from 0 to a number, without leading zeros."""
    digits = str(most)
    patterns = [f"[0-9]{{1,{len(digits) - 1}}}"] if len(digits) > 1 else []
    for place, digit in enumerate(digits):
        least = 1 if place == 0 and len(digits) > 1 else 0
        if int(digit) > least:
            patterns.append(f"{digits[:place]}[{least}-{int(digit) - 1}]" + "[0-9]" * (len(digits) - place - 1))
    return "|".join([*patterns, digits])


def nullable(schema: Schema) -> Schema:
    """Return a schema that also takes null."""
    if "$ref" in schema or "anyOf" in schema:
        inner = {key: value for key, value in schema.items() if key != "description"}
        text = {"description": schema["description"]} if "description" in schema else {}
        return {"anyOf": [inner, {"type": "null"}], **text}
    if "type" not in schema:
        return schema
    wider = {**schema, "type": [schema["type"], "null"]}
    if "enum" in schema:
        wider["enum"] = [*schema["enum"], None]
    return wider


def _is_one(field: DescField) -> bool:
    return not isinstance(field.value, DescFieldValueList | DescFieldValueMap)


def _may_be_absent(field: DescField) -> bool:
    return field.proto.proto3_optional or isinstance(field.value, DescFieldValueMessage)


def _always_printed(field: DescField, style: Style) -> bool:
    if getattr(field.value, "oneof", None) is not None or omits_empty(field):
        return False
    return style.nulls or not _may_be_absent(field)


def _constrained(field: DescField, schema: Schema) -> Schema:
    options = field.proto.options
    rules = options[ext_field] if options is not None and ext_field in options else None
    if rules is None or rules.ignore == Ignore.ALWAYS or "$ref" in schema:
        return schema
    found = _rules(rules, schema)
    if rules.ignore == Ignore.IF_ZERO_VALUE and "pattern" in found:
        # An empty text stands for none here, and no rule looks at it.
        found["pattern"] = f"^$|{found['pattern']}"
    return {**schema, **found}


def _rules(rules: FieldRules, schema: Schema) -> Schema:
    chosen = rules.type
    if chosen is None:
        return {}
    kinds: dict[str, Callable[[Any, Schema], Schema]] = {"string": _string, "repeated": _repeated, "map": _map}
    return kinds.get(chosen.field, _number)(chosen.value, schema)


def _given(rules: Message[Any], **names: str) -> Schema:
    """Return the rules that are set, under their names in JSON Schema."""
    return {names[name]: getattr(rules, name) for name in names if rules.has_field(name)}


def _string(rules: Any, _schema: Schema) -> Schema:  # noqa: ANN401 - StringRules
    out = _given(rules, min_len="minLength", max_len="maxLength", pattern="pattern", const="const")
    if rules.has_field("len"):
        out |= {"minLength": rules.len, "maxLength": rules.len}
    if rules.in_:
        out["enum"] = list(rules.in_)
    if rules.well_known is not None and rules.well_known.field in FORMATS:
        out["format"] = FORMATS[rules.well_known.field]
    return out


def _number(rules: Any, schema: Schema) -> Schema:  # noqa: ANN401 - Int32Rules, DoubleRules and their like
    out: Schema = {}
    for side in ("less_than", "greater_than"):
        bound = getattr(rules, side, None)
        if bound is not None and isinstance(bound.value, int | float):
            value = bound.value
            out[BOUNDS[bound.field]] = int(value) if isinstance(value, float) and value.is_integer() else value
    if getattr(rules, "in_", None) and schema.get("type") in ("integer", "number"):
        out["enum"] = list(rules.in_)
    return out


def _repeated(rules: Any, schema: Schema) -> Schema:  # noqa: ANN401 - RepeatedRules
    out = _given(rules, min_items="minItems", max_items="maxItems", unique="uniqueItems")
    if rules.items is not None and "$ref" not in schema["items"]:
        out["items"] = {**schema["items"], **_rules(rules.items, schema["items"])}
    return out


def _map(rules: Any, _schema: Schema) -> Schema:  # noqa: ANN401 - MapRules
    return _given(rules, min_pairs="minProperties", max_pairs="maxProperties")


def scalar_like(field: DescField) -> bool:
    """Tell whether a field can be a query parameter of its own."""
    value = field.value
    if isinstance(value, DescFieldValueList):
        return not isinstance(value.element, DescMessage)
    if isinstance(value, DescFieldValueMessage):
        known = value.message.type_name
        return known in WRAPPERS or known in {f"google.protobuf.{n}" for n in ("Timestamp", "Duration", "FieldMask", "Value")}
    return isinstance(value, DescFieldValueScalar | DescFieldValueEnum)
