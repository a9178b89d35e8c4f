"""Messages to JSON, in the style of a surface.

ProtoJSON leaves absent fields out, cuts times to the digits they need and prints `5.0` where a client wrote `5`; the
contracts want nulls, fixed digits and what was written. A function for each message type, made once, writes exactly that.
"""

from __future__ import annotations

import math
from base64 import b64encode
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache, lru_cache, partial
from typing import Any, cast

import orjson
from protobuf import (
    DescEnum,
    DescField,
    DescFieldValueEnum,
    DescFieldValueList,
    DescFieldValueMap,
    DescFieldValueMessage,
    DescFieldValueScalar,
    DescMessage,
    DescOneof,
    ScalarType,
    message_to_json_value,
)

from adapters.rest.descriptors import json_name
from gen.busbar.api.v1.options_pb import JsonKind, Others, ext_json, ext_omit_empty, ext_others, ext_unwrap

Json = Any
Encode = Callable[[Any], Json]

EXACT = 2.0**53
"""Whole numbers up to here are exact as doubles, and as numbers of every JSON client."""

LONG = frozenset({ScalarType.INT64, ScalarType.UINT64, ScalarType.SINT64, ScalarType.FIXED64, ScalarType.SFIXED64})
FLOATS = frozenset({ScalarType.DOUBLE, ScalarType.FLOAT})
WRAPPERS = frozenset(f"google.protobuf.{kind}Value" for kind in (
    "Bool", "Bytes", "Double", "Float", "Int32", "Int64", "String", "UInt32", "UInt64",
))  # fmt: skip


@dataclass(frozen=True, slots=True)
class Style:
    """How a surface writes JSON.

    Attributes:
        declared_names: Names as the proto declares them instead of lowerCamelCase.
        nulls: Absent fields are null instead of left out.
        whole_numbers: Numbers without a fraction are written without one.
        milliseconds: Times have exactly three digits instead of six where they are not zero.
    """

    declared_names: bool = False
    nulls: bool = True
    whole_numbers: bool = True
    milliseconds: bool = True


_plans: dict[tuple[DescMessage, Style], Encode] = {}


def encoder(message: DescMessage, style: Style) -> Encode:
    """Return what turns messages of a type into JSON values."""
    known = _well_known(message, style)
    if known is not None:
        return known
    if (inner := unwrapped(message)) is not None:
        return _inner_encoder(inner, style)
    key = (message, style)
    plan = _plans.get(key)
    if plan is None:
        # A message may hold itself; until its plan exists, plans of its fields find it here.
        _plans[key] = partial(_planned, key)
        plan = _plans[key] = _compile(message, style)
    return plan


def _inner_encoder(field: DescField, style: Style) -> Encode:
    """Return what writes the only field of a message in the place of the message."""
    name, encode = field.local_name, field_encoder(field, style)
    return lambda message: getattr(message, name) if encode is None else encode(getattr(message, name))


def _planned(key: tuple[DescMessage, Style], message: Any) -> Json:  # noqa: ANN401 - a message of that type
    return _plans[key](message)


def _compile(message: DescMessage, style: Style) -> Encode:
    """Return a function that writes messages of a type, with a line for each field: a loop over them takes twice the time."""
    known: dict[str, Any] = {}
    lines = ["def plan(message):", "    out = {}"]
    after: list[str] = []
    for at, member in enumerate(message.members):
        if isinstance(member, DescOneof):
            lines += _choice_lines(member, style, at, known)
        elif others_of(member) == Others.BESIDE:
            after += _beside_lines(member, known)
        else:
            lines += _field_lines(member, style, at, known)
    lines += [*after, "    return out"]
    exec("\n".join(lines), known)  # noqa: S102 - made of the names in our own protos
    return known["plan"]


def _field_lines(field: DescField, style: Style, at: int, known: dict[str, Any]) -> list[str]:
    """Return the lines that write a field; what they name is put among the `known`."""
    name = repr(json_name(field, declared=style.declared_names))
    encode = known[f"encode{at}"] = field_encoder(field, style)
    form = "value" if encode is None else f"encode{at}(value)"
    fetch = f"    value = message.{field.local_name}"
    if omits_empty(field):
        holds = "value is not None" if isinstance(field.value, DescFieldValueMessage) else "value"
        if field.proto.proto3_optional:
            # What may be absent is left out where it is, and not where it is zero.
            known[f"field{at}"], holds = field, f"field{at} in message"
        return [fetch, f"    if {holds}:", f"        out[{name}] = {form}"]
    optional = field.proto.proto3_optional and isinstance(field.value, DescFieldValueScalar | DescFieldValueEnum)
    if not optional and not isinstance(field.value, DescFieldValueMessage):
        return [fetch, f"    out[{name}] = {form}"]
    known[f"field{at}"] = field
    # Presence is asked only of values that could be mere defaults; asking costs as much as all the rest.
    present = f"value or (value is not None and field{at} in message)" if optional else "value is not None"
    absent = ["    else:", f"        out[{name}] = None"] if style.nulls else []
    return [fetch, f"    if {present}:", f"        out[{name}] = {form}", *absent]


def _choice_lines(oneof: DescOneof, style: Style, at: int, known: dict[str, Any]) -> list[str]:
    """Return the lines that write the member of a oneof that was chosen."""
    fields = {f.name: (json_name(f, declared=style.declared_names), field_encoder(f, style) or _same) for f in oneof.fields}
    known[f"members{at}"] = fields
    return [
        f"    value = message.{oneof.local_name}",
        "    if value is not None:",
        f"        name, encode = members{at}[value.field]",
        "        out[name] = encode(value.value)",
    ]


def _beside_lines(field: DescField, known: dict[str, Any]) -> list[str]:
    """Return the lines that put the members of a field's JSON text beside those of the other fields."""
    known["loads"] = orjson.loads
    return [f"    text = message.{field.local_name}", "    if text:", "        out = {**loads(text), **out}"]


def _same(value: Json) -> Json:
    return value


def field_encoder(field: DescField, style: Style) -> Encode | None:
    """Return what turns values of a field into JSON values; None for those that are JSON already."""
    value = field.value
    if isinstance(value, DescFieldValueList):
        return _list(_element(value.element, style))
    if isinstance(value, DescFieldValueMap):
        return _map(_element(value.value, style))
    if isinstance(value, DescFieldValueMessage):
        return encoder(value.message, style)
    if isinstance(value, DescFieldValueEnum):
        return _enum(value.enum)
    if json_kind(field):
        return _json_text
    return _scalar(value.scalar, style)


def json_kind(field: DescField) -> JsonKind:
    """Return what the JSON text of a field is; UNSPECIFIED for a field that holds none."""
    options = field.proto.options
    return options[ext_json] if options is not None else JsonKind.UNSPECIFIED


def others_of(field: DescField) -> Others:
    """Return how JSON shows a field that takes the members of no other field; UNSPECIFIED for one that takes none."""
    options = field.proto.options
    return options[ext_others] if options is not None else Others.UNSPECIFIED


def omits_empty(field: DescField) -> bool:
    """Tell whether JSON leaves a field out where it holds nothing."""
    options = field.proto.options
    return options is not None and options[ext_omit_empty]


@cache
def unwrapped(message: DescMessage) -> DescField | None:
    """Return the field that JSON shows in the place of a message; None for a message that is shown as an object."""
    options = message.proto.options
    return message.fields[0] if options is not None and options[ext_unwrap] else None


def as_object(value: object) -> dict[str, Json] | None:
    """Return a JSON value that is an object; None for any other."""
    return cast("dict[str, Json]", value) if isinstance(value, dict) else None


def as_list(value: object) -> list[Json] | None:
    """Return a JSON value that is a list; None for any other."""
    return cast("list[Json]", value) if isinstance(value, list) else None


def dumps(value: Json) -> bytes:
    """Return a JSON value as bytes."""
    return orjson.dumps(value)


def _element(element: DescMessage | DescEnum | ScalarType, style: Style) -> Encode | None:
    if isinstance(element, DescMessage):
        return encoder(element, style)
    if isinstance(element, DescEnum):
        return _enum(element)
    return _scalar(element, style)


def _list(encode: Encode | None) -> Encode | None:
    if encode is None:
        return None
    return lambda values: [encode(value) for value in values]


def _map(encode: Encode | None) -> Encode:
    def entries(values: dict[Any, Any]) -> Json:
        return {_key(key): value if encode is None else encode(value) for key, value in values.items()}

    return entries


def _key(key: object) -> str:
    if isinstance(key, str):
        return key
    return str(key).lower() if isinstance(key, bool) else str(key)


def _enum(enum: DescEnum) -> Encode:
    names = {value.number: value.json_name or value.name for value in enum.values}
    return lambda number: names.get(number, int(number))


def _scalar(scalar: ScalarType, style: Style) -> Encode | None:
    if scalar in FLOATS:
        return _whole if style.whole_numbers else _float
    if scalar in LONG:
        return str
    if scalar == ScalarType.BYTES:
        return lambda value: b64encode(value).decode()
    return None


def _json_text(text: str) -> Json:
    """Return what is written as the value that a text holds, without reading it."""
    return orjson.Fragment(text) if text else None


def _float(value: float) -> Json:
    if math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def _whole(value: float) -> Json:
    if -EXACT <= value <= EXACT and value == (whole := int(value)):
        return whole
    return _float(value)


def _well_known(message: DescMessage, style: Style) -> Encode | None:
    name = message.type_name
    if not name.startswith("google.protobuf."):
        return None
    if name == "google.protobuf.Timestamp":
        return _milliseconds if style.milliseconds else _microseconds
    number = _whole if style.whole_numbers else _float
    value = _value(number)
    known: dict[str, Encode] = {
        "google.protobuf.Value": value,
        "google.protobuf.Struct": lambda struct: {key: value(item) for key, item in struct.fields.items()},
        "google.protobuf.ListValue": lambda items: [value(item) for item in items.values],
    }
    if name in WRAPPERS:
        inner = field_encoder(message.fields[0], style)
        return lambda wrapper: wrapper.value if inner is None else inner(wrapper.value)
    return known.get(name, message_to_json_value)


@lru_cache(maxsize=8)
def _value(number: Encode) -> Encode:
    def value(item: Any) -> Json:  # noqa: ANN401 - a google.protobuf.Value, or None for an empty one
        kind = item.kind
        if kind is None:
            return None
        field, content = kind.field, kind.value
        if field == "number_value":
            return number(content)
        if field == "struct_value":
            return {key: value(member) for key, member in content.fields.items()}
        if field == "list_value":
            return [value(member) for member in content.values]
        return None if field == "null_value" else content

    return value


@lru_cache(maxsize=8192)
def _second(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat()[:19]


def _milliseconds(at: Any) -> str:  # noqa: ANN401 - a Timestamp
    return f"{_second(at.seconds)}.{at.nanos // 1_000_000:03d}Z"


def _microseconds(at: Any) -> str:  # noqa: ANN401 - a Timestamp
    micros = at.nanos // 1000
    return f"{_second(at.seconds)}.{micros:06d}Z" if micros else f"{_second(at.seconds)}Z"
