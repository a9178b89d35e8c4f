"""Frames to messages and back.

A frame is the JSON of one member of a oneof, with the member's name in `type`. A member of type `bytes` is a binary frame.
A member of type `google.protobuf.Struct` is a frame of any shape; one that is sent may bring a `type` of its own, so that a
service can pass on what it does not know.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import orjson
from protobuf import DescField, DescFieldValueMessage, DescFieldValueScalar, DescMessage, DescOneof, Message, Oneof, ScalarType

from adapters.live.styles import NO_MEMBERS, Members
from adapters.rest.binding import Binding, Payload, decode, prefixed
from adapters.rest.codec import Encode, as_object, encoder
from adapters.rest.descriptors import json_name
from adapters.rest.dialects import Asked, Dialect
from core.kernel.errors import InvalidArgument
from core.kernel.rpc import BindingError, Rpc
from core.live.shared import forms_of
from gen.busbar.api.v1.error_reason_pb import ErrorReason
from gen.google.api.http_pb import HttpRule

LONGEST_TYPE = 64


class BadFrame(Exception):
    """A frame that cannot be read.

    Attributes:
        error: What is wrong with it.
        sentence: The same in the names that the client uses.
        members: What the frame held, as far as it could be read.
        is_object: Whether it was a JSON object.
    """

    def __init__(
        self, error: InvalidArgument, sentence: str = "", members: Members = NO_MEMBERS, *, is_object: bool = True
    ) -> None:
        super().__init__(sentence)
        self.error = error
        self.sentence = sentence or error.message
        self.members = members
        self.is_object = is_object


@dataclass(frozen=True, slots=True)
class _Inward:
    """A member that clients send; `field` is its proto name, and `read` makes it of a JSON object and its text."""

    field: str
    desc: DescMessage
    read: Callable[[dict[str, Any], bytes], Message[Any]]


class Frames:
    """Reads and writes the frames of one rpc in the style of its surface."""

    def __init__(self, rpc: Rpc, dialect: Dialect) -> None:
        opening = rpc.socket.open if rpc.socket is not None else ""
        self._dialect = dialect
        self._request, self._response = rpc.request, rpc.response
        inward, outward = _only_oneof(rpc, rpc.request.desc()), _only_oneof(rpc, rpc.response.desc())
        self._inward_name, self._outward_name = inward.local_name, outward.local_name
        declared = dialect.style.declared_names
        members = {json_name(f, declared=declared): f for f in inward.fields if f.name != opening}
        self._inward = {kind: _inward(rpc, field) for kind, field in members.items() if not _is_bytes(field)}
        self._fallback = None if rpc.socket is None or not rpc.socket.fallback else member(rpc, rpc.socket.fallback)
        self._fallback_name = "" if rpc.socket is None else rpc.socket.fallback
        self._binary = next((field.name for field in members.values() if _is_bytes(field)), None)
        self._outward: dict[str, tuple[str, Encode | None]] = {}
        for field in outward.fields:
            encode = None if _is_bytes(field) else encoder(_message(rpc, field), dialect.style)
            self._outward[field.name] = json_name(field, declared=declared), encode

    def read(self, data: str | bytes) -> Message[Any]:
        """Make a message of a frame.

        Raises:
            BadFrame: It cannot be read.
        """
        if isinstance(data, bytes):
            if self._binary is None:
                raise BadFrame(InvalidArgument("frames must be text"), is_object=False)
            return self.request(self._binary, data)
        raw = data.encode()
        members = _object(raw)
        kind = members.get("type")
        inward = self._inward.get(kind) if isinstance(kind, str) else None
        if inward is None and self._fallback is not None:
            return self.request(self._fallback_name, decode(self._fallback, members))
        if inward is None:
            raise BadFrame(InvalidArgument(_unknown(kind)), members=members)
        try:
            return self.request(inward.field, inward.read(members, raw))
        except InvalidArgument as error:
            sentence = self._dialect.refusal(error, Asked("", request=inward.desc)).message
            raise BadFrame(error, sentence, members) from error

    def request(self, field: str, value: Any) -> Message[Any]:  # noqa: ANN401 - the member's message or its bytes
        """Return a request with one member."""
        message = self._request()
        setattr(message, self._inward_name, Oneof(field=field, value=value))
        return message

    def write(self, message: Message[Any]) -> str | bytes | None:
        """Return the frame of an answer; None when no member is set."""
        chosen: Oneof[Any, Any] | None = getattr(message, self._outward_name)
        if chosen is None:
            return None
        kind, encode = self._outward[chosen.field]
        if encode is None:
            return chosen.value
        forms = forms_of(chosen.value)
        if forms is None:
            return text({"type": kind, **encode(chosen.value)})
        made = forms.get(self)
        if made is None:
            made = forms[self] = text({"type": kind, **encode(chosen.value)})
        return made


def text(members: Mapping[str, Any]) -> str:
    """Return a frame of some members."""
    return orjson.dumps(members).decode()


def member(rpc: Rpc, name: str) -> type[Message[Any]]:
    """Return the class of a member of the request's oneof.

    Raises:
        BindingError: There is no such member, or it is no message.
    """
    field = next((f for f in _only_oneof(rpc, rpc.request.desc()).fields if f.name == name), None)
    if field is None:
        raise BindingError(f"the socket of {rpc.name} opens with {name}, which is no member of {rpc.request.desc().type_name}")
    return _message(rpc, field).type


def _only_oneof(rpc: Rpc, message: DescMessage) -> DescOneof:
    oneofs = [oneof for oneof in message.members if isinstance(oneof, DescOneof)]
    if len(oneofs) != 1 or len(message.members) != 1:
        raise BindingError(f"{message.type_name} must hold one oneof and nothing else: {rpc.name} has a socket")
    return oneofs[0]


def _message(rpc: Rpc, field: DescField) -> DescMessage:
    if not isinstance(field.value, DescFieldValueMessage):
        raise BindingError(f"{field.name} must be a message or bytes: it is a frame of {rpc.name}")
    return field.value.message


def _is_bytes(field: DescField) -> bool:
    return isinstance(field.value, DescFieldValueScalar) and field.value.scalar == ScalarType.BYTES


def _inward(rpc: Rpc, field: DescField) -> _Inward:
    desc = _message(rpc, field)
    kind = desc.type
    if desc.type_name == "google.protobuf.Struct":
        # A frame of any shape, kept as it came but for its type.
        return _Inward(field.name, desc, lambda members, _raw: decode(kind, {k: v for k, v in members.items() if k != "type"}))
    if not prefixed(desc):
        return _Inward(field.name, desc, lambda members, _raw: decode(kind, members))
    # Letters before integers are a matter of request bodies, so these few members are read as one.
    binding = Binding(replace(rpc, request=kind), HttpRule(pattern=Oneof(field="post", value="/"), body="*"))
    return _Inward(field.name, desc, lambda _members, raw: binding.message((), b"", Payload(raw)))


def _object(raw: bytes) -> dict[str, Any]:
    try:
        value: object = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        sentence = f"frame is not valid JSON: {error.msg} at {error.pos}"
        raise BadFrame(InvalidArgument(sentence, reason=ErrorReason.MALFORMED_BODY), is_object=False) from error
    members = as_object(value)
    if members is None:
        raise BadFrame(InvalidArgument("frame must be a JSON object"), is_object=False)
    return members


def _unknown(kind: object) -> str:
    if kind is None:
        return "type: required"
    return f"unknown frame type {kind[:LONGEST_TYPE]}" if isinstance(kind, str) else "type: must be a string"
