"""Members whose shape no message knows: fields that hold JSON text, and fields that take the members which no other field has.

The options `json` and `others` of a field say which they are. On the way in, a JSON value is folded: what such a field takes
becomes its text. On the way out, the text is put into the answer as the value that it is.
"""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

import orjson
from protobuf import DescField, DescFieldValueList, DescFieldValueMessage, DescMessage

from adapters.rest.codec import as_list, as_object, json_kind, others_of
from core.kernel.errors import FieldViolation
from gen.busbar.api.v1.options_pb import JsonKind, Others

Path = tuple[str | int, ...]
Members = dict[str, Any]

NOTHING: frozenset[str] = frozenset()
WORDS = {JsonKind.OBJECT: (dict, "must be an object"), JsonKind.ARRAY: (list, "must be a list")}


class _Fields(NamedTuple):
    """What of a message is to be folded.

    Attributes:
        texts: Fields that hold JSON text.
        rest: Field that takes the members of no other field.
        inner: Fields of messages that have such fields themselves.
        known: Names of the fields, without that of one whose members stand beside the others.
    """

    texts: tuple[DescField, ...]
    rest: DescField | None
    inner: tuple[tuple[DescField, DescMessage], ...]
    known: dict[str, str]


def concerns(message: DescMessage) -> bool:
    """Tell whether a message holds such a field, however deep."""
    return _concerns(message, NOTHING)


def fold(
    message: DescMessage, value: Members, path: Path, faults: list[FieldViolation], *, bound: frozenset[str] = NOTHING
) -> Members:
    """Return the members of a message with JSON text where the message holds it; what is wrong goes to `faults`.

    `bound` are fields that do not come from these members, so that members of their names are others.
    """
    fields = _fields(message)
    out = _gathered(fields, value, bound)
    for field in fields.texts:
        name = field.json_name if field.json_name in out else field.name
        if out.get(name) is not None:
            out[name] = _text(field, out[name], (*path, field.name), faults)
    for field, inner in fields.inner:
        for name in {field.json_name, field.name}:
            if name in out:
                out[name] = _below(inner, out[name], (*path, field.name), faults)
    return out


def _text(field: DescField, value: object, path: Path, faults: list[FieldViolation]) -> str:
    wanted = WORDS.get(json_kind(field))
    if wanted is not None and not isinstance(value, wanted[0]):
        faults.append(FieldViolation(path, wanted[1], "type", None, value))
    try:
        return orjson.dumps(value).decode()
    except orjson.JSONEncodeError:
        faults.append(FieldViolation(path, "must not be nested so deeply", "json"))
        return ""


def _gathered(fields: _Fields, value: Members, bound: frozenset[str]) -> Members:
    """Return the members with those of no field under the name of the field that takes them."""
    rest = fields.rest
    if rest is None:
        return dict(value)
    known = {name for name, field in fields.known.items() if field not in bound}
    unnamed = others_of(rest) == Others.UNNAMED
    if unnamed and any(value.get(name) is not None for name in (rest.name, rest.json_name)):
        return dict(value)
    own = {rest.name, rest.json_name} if unnamed else set[str]()
    others = {name: member for name, member in value.items() if name not in known | own}
    return {**{name: member for name, member in value.items() if name in known - own}, rest.json_name: others}


def _below(message: DescMessage, value: object, path: Path, faults: list[FieldViolation]) -> object:
    items = as_list(value)
    if items is not None:
        return [_below(message, item, (*path, index), faults) for index, item in enumerate(items)]
    members = as_object(value)
    return value if members is None else fold(message, members, path, faults)


@cache
def _fields(message: DescMessage) -> _Fields:
    rest = next((field for field in message.fields if others_of(field)), None)
    beside = rest is not None and others_of(rest) == Others.BESIDE
    known = {
        name: field.name for field in message.fields for name in (field.name, field.json_name) if not (beside and field is rest)
    }
    inner = tuple((field, found) for field in message.fields if (found := _inner(field)) is not None and concerns(found))
    texts = tuple(field for field in message.fields if json_kind(field))
    return _Fields(texts, rest, inner, known)


@cache
def _concerns(message: DescMessage, above: frozenset[str]) -> bool:
    if message.type_name in above:
        return False
    above |= {message.type_name}
    return any(
        json_kind(field) or ((inner := _inner(field)) is not None and _concerns(inner, above)) for field in message.fields
    )


def _inner(field: DescField) -> DescMessage | None:
    value = field.value
    if isinstance(value, DescFieldValueMessage):
        return value.message
    return value.element if isinstance(value, DescFieldValueList) and isinstance(value.element, DescMessage) else None
