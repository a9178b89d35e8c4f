"""From a request to its message: the meaning of google.api.http.

Path variables, query parameters and body are put together as one JSON value, which the codec turns into the message in one
go. So all three have one set of rules for names, types and errors.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple, cast
from urllib.parse import parse_qsl

import orjson
from protobuf import (
    DescEnum,
    DescField,
    DescFieldValueEnum,
    DescFieldValueList,
    DescFieldValueMap,
    DescFieldValueMessage,
    DescMessage,
    Message,
    ScalarType,
    merge_from_json,
    message_from_json_value,
)
from protobuf.wkt import FieldMask

from adapters.rest import lax, opaque
from adapters.rest.body import malformed
from adapters.rest.codec import FLOATS, WRAPPERS, as_list, as_object
from adapters.rest.descriptors import field_by_name
from adapters.rest.fault_lists import Given
from adapters.rest.json_text import loads
from adapters.rest.routing import Template
from adapters.rest.violations import find, integer, scalar_fault
from core.kernel.errors import FieldViolation, InvalidArgument
from core.kernel.rpc import Rpc, verb_and_path
from core.kernel.validation import invalid, violations
from gen.busbar.api.v1.error_reason_pb import ErrorReason
from gen.busbar.api.v1.options_pb import ext_header, ext_prefix
from gen.google.api.http_pb import HttpRule
from gen.google.api.httpbody_pb import HttpBody

HTTP_BODY = "google.api.HttpBody"
MOST_PARAMETERS = 1000
UPDATE_MASK = "update_mask"
RESUME_FIELDS = ("since", "after", "cursor")
"""Fields of a stream's request that `Last-Event-ID` fills, so that browsers resume where they were cut off."""

_SCALAR_NAME = re.compile(r" for field (?P<field>[\w.]+)$")
_PREFIXED = "{0}?[0-9]{{1,10}}"


@dataclass(frozen=True, slots=True)
class Parameter:
    """A field that path or query may fill.

    Attributes:
        path: Proto names from the request inwards.
        names: JSON names from the request inwards.
        convert: Makes the JSON value of a text; raises ValueError with what it must be.
        repeated: Whether further values are appended.
    """

    path: tuple[str, ...]
    names: tuple[str, ...]
    convert: Callable[[str], Any]
    repeated: bool


class Payload(NamedTuple):
    """A body that has arrived.

    Attributes:
        data: Its bytes, inflated.
        content_type: Its Content-Type as it came; empty when it has none.
        binary: Whether it is a message in wire format.
    """

    data: bytes = b""
    content_type: str = ""
    binary: bool = False


class Binding:
    """Makes the messages of one HTTP rule; a lenient one takes what `lax` does, and finds all faults of a request at once."""

    def __init__(self, rpc: Rpc, rule: HttpRule, *, lenient: bool = False) -> None:
        self.request = rpc.request
        self.lenient = lenient
        self.raw = rpc.rest.raw_body
        self.body = rule.body
        desc = self._desc = rpc.request.desc()
        names = [variable.name for variable in Template.parse(verb_and_path(rule)[1]).variables]
        self.variables = tuple(_required(_parameter(desc, name, lenient=lenient), name) for name in names)
        self.body_field = field_by_name(desc, rule.body) if rule.body not in ("", "*") else None
        self.opaque = desc.type_name == HTTP_BODY or _is_http_body(self.body_field)
        self._form = rpc.rest.multipart is not None and self.body_field is not None
        self.bare = _required_field(desc, rpc.rest.bare) if rule.body == "*" and rpc.rest.bare else None
        self.masked = any(f.name == UPDATE_MASK and _is_message(f, "google.protobuf.FieldMask") for f in desc.fields)
        self.resume = next((n for n in RESUME_FIELDS if field_by_name(desc, n)), None) if rpc.server_streams else None
        self._headers = {header.encode(): f for f in desc.fields if (header := header_of(f))}
        self._prefixed = prefixed(desc)
        self._folded = opaque.concerns(desc)
        self._bound = frozenset(p.path[0] for p in self.variables if len(p.path) == 1)
        self.reads_json = lenient and rule.body == "*" and not (self.raw or self.opaque)
        self._needs_body = self.reads_json and (
            self.masked or any(lax.is_required(f) for f in desc.fields if f.name not in self._bound)
        )
        self._parameters: dict[str, Parameter] = {}

    def locate(self, name: str) -> str:
        """Tell whether a top-level field comes from `path`, `header`, `query` or `body`."""
        if any(p.path[0] == name for p in self.variables):
            return "path"
        if any(f.name == name for f in self._headers.values()):
            return "header"
        in_body = self.body == "*" or (self.body_field is not None and self.body_field.name == name)
        return "body" if in_body else "query"

    def place(self, name: str) -> str:
        """Tell where a caller would look for a top-level field: as `locate`, but the texts of a form are in its body."""
        return "body" if self._form and self.locate(name) == "query" else self.locate(name)

    def message(self, values: tuple[str, ...], query: bytes, payload: Payload | None) -> Message[Any]:
        """Make the message of a request.

        Raises:
            InvalidArgument: Something in it is not what it must be; all such fields are named.
        """
        faults: list[FieldViolation] = []
        value: dict[str, Any] = {} if payload is None else self._body_value(payload, faults)
        mask = self._mask(value) if self.masked and payload is not None and payload.data else None
        if self.reads_json and payload is not None and not payload.binary:
            value = self._read_members(value, payload, faults)
        if value and self._prefixed:
            _unprefix(self._desc, value, (), faults)
        if values:
            for parameter, text in zip(self.variables, values, strict=True):
                self._put(value, parameter, text, faults)
        if query and (self.body != "*" or self.raw):
            self._bind_query(value, query, faults)
        if faults:
            raise invalid(self._all(faults, value) if self.lenient else tuple(faults))
        if payload is not None and payload.binary and not self.opaque and not self.raw:
            return self._from_binary(payload.data, value)
        message = _decode(self.request, value)
        if mask is not None:
            message.update_mask = mask  # pyright: ignore[reportAttributeAccessIssue] - `masked` says that it has one
        if self.opaque and payload is not None:
            self._fill_opaque(message, payload)
        return message

    def given(self, values: tuple[str, ...], query: bytes, payload: Payload | None) -> Given:
        """Return what a request held, for a refusal that repeats it."""
        texts = dict(parse_qsl(query.decode("utf-8", "replace"), keep_blank_values=True))
        texts |= {parameter.path[0]: text for parameter, text in zip(self.variables, values, strict=True)}
        if payload is None or not payload.data or payload.binary or self.opaque:
            return Given(None, texts)
        try:
            return Given(loads(payload.data), texts, has_body=True)
        except InvalidArgument:
            return Given(None, texts)

    def _read_members(self, value: dict[str, Any], payload: Payload, faults: list[FieldViolation]) -> dict[str, Any]:
        if not payload.data or payload.data == b"null":
            if self._needs_body:
                raise invalid((FieldViolation((), "a request body is needed", "required"),))
            return {}
        return lax.members(self._desc, value, (), faults, without=self._bound | {UPDATE_MASK}, masked=self.masked)

    def _all(self, faults: list[FieldViolation], value: dict[str, Any]) -> tuple[FieldViolation, ...]:
        """Return the faults with those that the rules find in the rest of a request, in the order of the fields."""
        known = {fault.path[:1] for fault in faults}
        rest = violations(_decode(self.request, value))
        faults = [*faults, *(v for v in rest if v.path and v.path[:1] not in known and v.rule != "required")]
        order = [field.name for field in self._desc.fields]
        return tuple(sorted(faults, key=lambda fault: order.index(str(fault.path[0])) if fault.path else -1))

    def _body_value(self, payload: Payload, faults: list[FieldViolation]) -> dict[str, Any]:
        """Return the members that a body of JSON names; none of a body that is something else."""
        is_json = payload.data and not (self.opaque or payload.binary or self.raw)
        value = self._from_json(payload.data) if is_json else {}
        return opaque.fold(self._desc, value, (), faults, bound=self._bound) if self._folded else value

    def _from_json(self, data: bytes) -> dict[str, Any]:
        value = loads(data)
        if value is None and self.reads_json:
            return {}
        if self.body_field is not None:
            return {self.body_field.json_name: value}
        members = as_object(value)
        if members is not None:
            return members
        if self.bare is not None and isinstance(value, list) == isinstance(self.bare.value, DescFieldValueList):
            return {self.bare.json_name: value}
        fault = FieldViolation((), "request body must be a JSON object", "type", value=cast("object", value))
        raise InvalidArgument(fault.description, reason=ErrorReason.MALFORMED_BODY, violations=(fault,))

    def _from_binary(self, data: bytes, value: dict[str, Any]) -> Message[Any]:
        try:
            if self.body_field is None:
                message = self.request.from_binary(data)
            else:
                message = self.request()
                inner = self.body_field.value
                if not isinstance(inner, DescFieldValueMessage):
                    raise malformed("this request body has no binary form")
                message[self.body_field] = inner.message.type.from_binary(data)
            merge_from_json(message, orjson.dumps(value))
        except (ValueError, TypeError, OverflowError, RecursionError) as error:
            raise malformed("request body is not a valid message") from error
        return message

    def take_headers(self, message: Message[Any], headers: Mapping[bytes, bytes]) -> None:
        """Fill the fields that name a header; they are empty where it is absent."""
        for name, field in self._headers.items():
            message[field] = headers.get(name, b"").decode("latin-1")

    def _fill_opaque(self, message: Message[Any], payload: Payload) -> None:
        content = HttpBody(content_type=payload.content_type, data=payload.data)
        if self.body_field is not None:
            message[self.body_field] = content
        else:
            message.content_type = content.content_type  # pyright: ignore[reportAttributeAccessIssue] - it is an HttpBody
            message.data = content.data  # pyright: ignore[reportAttributeAccessIssue]

    def _mask(self, value: dict[str, Any]) -> FieldMask | None:
        """Return the mask of the members that the body names, null included; None where the body brings its own."""
        desc, members = self._desc, value
        if self.body_field is not None and isinstance(self.body_field.value, DescFieldValueMessage):
            desc, members = self.body_field.value.message, as_object(value.get(self.body_field.json_name)) or {}
        if UPDATE_MASK in members or "updateMask" in members:
            return None
        fields = [field_by_name(desc, name) for name in members]
        return FieldMask(paths=list(dict.fromkeys(f.name for f in fields if f is not None and f.name not in self._bound)))

    def _put(self, value: dict[str, Any], parameter: Parameter, text: str, faults: list[FieldViolation]) -> None:
        try:
            converted = parameter.convert(text)
        except ValueError as error:
            faults.append(lax.fault(error, parameter.path, text))
            return
        *outer, name = parameter.names
        if outer:
            value = _innermost(value, parameter)
        if parameter.repeated:
            value.setdefault(name, []).append(converted)
        else:
            value.pop(parameter.path[-1], None)
            value[name] = converted

    def _bind_query(self, value: dict[str, Any], query: bytes, faults: list[FieldViolation]) -> None:
        try:
            pairs = parse_qsl(query.decode(), keep_blank_values=True, errors="strict", max_num_fields=MOST_PARAMETERS)
        except UnicodeDecodeError as error:
            raise InvalidArgument("the query string is not valid UTF-8") from error
        except ValueError as error:
            raise InvalidArgument(f"the query string has more than {MOST_PARAMETERS} parameters") from error
        for name, text in pairs:
            parameter = self._parameters.get(name) or self._resolve(name)
            if parameter is not None:
                self._put(value, parameter, text, faults)

    def _resolve(self, name: str) -> Parameter | None:
        parameter = _parameter(self._desc, name, lenient=self.lenient)
        where = None if parameter is None else self.locate(parameter.path[0])
        if parameter is None or where == "header" or (not self.raw and where == "body"):
            return None
        if any(parameter.path == variable.path for variable in self.variables):
            return None
        self._parameters[name] = parameter
        return parameter


def _innermost(value: dict[str, Any], parameter: Parameter) -> dict[str, Any]:
    """Return the object within the value that holds the field of a parameter; it is made where it is missing."""
    for name, proto in zip(parameter.names[:-1], parameter.path, strict=False):
        inner = value.pop(proto, None) if proto != name else None
        inner = as_object(value.get(name, inner)) or {}
        value[name] = inner
        value = inner
    return value


def decode(cls: type[Message[Any]], value: dict[str, Any]) -> Message[Any]:
    """Make a message of a JSON object; members that it does not know are ignored.

    Raises:
        InvalidArgument: Some members are not what they must be; all are named.
    """
    if opaque.concerns(cls.desc()):
        faults: list[FieldViolation] = []
        value = opaque.fold(cls.desc(), value, (), faults)
        if faults:
            raise invalid(tuple(faults))
    return _decode(cls, value)


def _decode(cls: type[Message[Any]], value: dict[str, Any]) -> Message[Any]:
    try:
        return message_from_json_value(cls, value, ignore_unknown_fields=True)
    except RecursionError as error:
        raise malformed("request body is nested too deeply") from error
    except (TypeError, ValueError, OverflowError) as error:
        faults = tuple(find(cls.desc(), value)) or (_fault(cls.desc(), str(error)),)
        raise invalid(faults) from error


def prefixed(message: DescMessage, above: frozenset[str] = frozenset()) -> bool:
    """Tell whether a message holds a field, however deep, whose integer clients may write with a letter before it."""
    if message.type_name in above:
        return False
    above |= {message.type_name}
    return any(_prefix(f) or ((inner := _inner(f)) is not None and prefixed(inner, above)) for f in message.fields)


def _fault(message: DescMessage, text: str) -> FieldViolation:
    found = _SCALAR_NAME.search(text)
    name = found["field"].rpartition(".") if found else ("", "", "")
    return FieldViolation((name[2],) if name[0] == message.type_name else (), "is not valid", "type")


def _unprefix(message: DescMessage, value: dict[str, Any], path: tuple[str | int, ...], faults: list[FieldViolation]) -> None:
    """Take the letters off prefixed integers, in place."""
    for name, field in _prefixed_fields(message):
        member = value.get(name)
        if isinstance(member, str) and (letter := _prefix(field)):
            try:
                value[name] = _prefixed_integer(letter)(member)
            except ValueError as error:
                faults.append(FieldViolation((*path, field.name), str(error), "type", None, member))
        elif member is not None and (inner := _inner(field)) is not None:
            items = as_list(member)
            for index, item in enumerate([member] if items is None else items):
                members = as_object(item)
                if members is not None:
                    here = (*path, field.name) if items is None else (*path, field.name, index)
                    _unprefix(inner, members, here, faults)


@cache
def _prefixed_fields(message: DescMessage) -> tuple[tuple[str, DescField], ...]:
    """Return the fields, by each of their names, that are prefixed integers or hold some."""
    fields = [f for f in message.fields if _prefix(f) or ((inner := _inner(f)) is not None and prefixed(inner))]
    return tuple((name, f) for f in fields for name in {f.name, f.json_name})


def _parameter(message: DescMessage, name: str, *, lenient: bool = False) -> Parameter | None:
    """Resolve a dotted name; None when it names no field that a text can fill."""
    path: list[str] = []
    names: list[str] = []
    *outer, last = name.split(".")
    for part in outer:
        field = field_by_name(message, part)
        if field is None or not isinstance(field.value, DescFieldValueMessage):
            return None
        path.append(field.name)
        names.append(field.json_name)
        message = field.value.message
    field = field_by_name(message, last)
    convert = None if field is None else _converter(field, lenient=lenient)
    if field is None or convert is None:
        return None
    repeated = isinstance(field.value, DescFieldValueList)
    return Parameter((*path, field.name), (*names, field.json_name), convert, repeated)


def _required(parameter: Parameter | None, name: str) -> Parameter:
    if parameter is None:
        raise TypeError(f"the path variable {name} names a field that text cannot fill")
    return parameter


def _converter(field: DescField, *, lenient: bool = False) -> Callable[[str], Any] | None:
    letter = _prefix(field)
    if letter:
        return _prefixed_integer(letter)
    value = field.value
    if isinstance(value, DescFieldValueMap):
        return None
    kind: DescMessage | DescEnum | ScalarType
    if isinstance(value, DescFieldValueList):
        kind = value.element
    elif isinstance(value, DescFieldValueMessage):
        kind = value.message
    else:
        kind = value.enum if isinstance(value, DescFieldValueEnum) else value.scalar
    if isinstance(kind, DescEnum):
        return _enum(kind)
    if isinstance(kind, DescMessage):
        return _known(kind, lenient=lenient)
    return lax.text(kind) if lenient else _scalar(kind)


def _known(message: DescMessage, *, lenient: bool) -> Callable[[str], Any] | None:
    if message.type_name in WRAPPERS:
        return _converter(message.fields[0], lenient=lenient)
    if message.type_name == "google.protobuf.Timestamp" and lenient:
        return lambda text: lax.time(text.replace(" ", "+") if "T" in text else text)
    if message.type_name == "google.protobuf.Timestamp":
        # A plus sign in a query that was not encoded arrives as a space; no time has one.
        return lambda text: text.replace(" ", "+")
    if message.type_name in ("google.protobuf.Duration", "google.protobuf.FieldMask", "google.protobuf.Value"):
        return str
    return None


def _scalar(scalar: ScalarType) -> Callable[[str], Any]:
    if scalar == ScalarType.BOOL:
        return _boolean
    if scalar in (ScalarType.STRING, ScalarType.BYTES):
        return str

    def number(text: str) -> Any:  # noqa: ANN401 - int or float
        fault = scalar_fault(scalar, text)
        if fault is not None or not text.isascii() or text.strip() != text or "_" in text:
            raise ValueError(fault or "must be a number")
        return text if scalar in FLOATS else int(text)

    return number


def _boolean(text: str) -> bool:
    if text in ("true", "True", "1"):
        return True
    if text in ("false", "False", "0"):
        return False
    raise ValueError("must be true or false")


def _enum(enum: DescEnum) -> Callable[[str], Any]:
    numbers = {value.number for value in enum.values}
    names = {name for value in enum.values for name in (value.name, value.json_name) if name}

    def member(text: str) -> int | str:
        if text in names:
            return text
        if integer(text) and int(text) in numbers:
            return int(text)
        raise ValueError("must be one of " + ", ".join(v.name for v in enum.values))

    return member


def _prefixed_integer(letter: str) -> Callable[[str], int]:
    letters = letter.lower() + letter.upper()
    matches = re.compile(_PREFIXED.format(f"[{letters}]")).fullmatch

    def number(text: str) -> int:
        if matches(text) is None:
            raise ValueError("must be an integer")
        return int(text.lstrip(letters))

    return number


def _prefix(field: DescField) -> str:
    options = field.proto.options
    return options[ext_prefix] if options is not None and ext_prefix in options else ""


def header_of(field: DescField) -> str:
    """Return the header that fills a field, in lower case; empty for none."""
    options = field.proto.options
    return options[ext_header] if options is not None and ext_header in options else ""


def _inner(field: DescField) -> DescMessage | None:
    value = field.value
    if isinstance(value, DescFieldValueMessage):
        return value.message
    return value.element if isinstance(value, DescFieldValueList) and isinstance(value.element, DescMessage) else None


def _is_message(field: DescField | None, name: str) -> bool:
    return field is not None and isinstance(field.value, DescFieldValueMessage) and field.value.message.type_name == name


def _is_http_body(field: DescField | None) -> bool:
    return _is_message(field, HTTP_BODY)


def _required_field(message: DescMessage, name: str) -> DescField:
    field = field_by_name(message, name)
    if field is None:
        raise TypeError(f"{name}, which takes bare bodies, is no field of {message.type_name}")
    return field
