"""Answers: how messages are written into them, and how they are sent."""

from __future__ import annotations

from collections.abc import Callable, MutableMapping
from dataclasses import dataclass, field
from typing import Any

from protobuf import DescField, DescFieldValueMessage, DescFieldValueScalar, Message

from adapters.rest.binding import HTTP_BODY
from adapters.rest.codec import dumps, encoder, field_encoder
from adapters.rest.descriptors import field_by_name
from adapters.rest.dialects import JSON, TEXT, Dialect
from adapters.rest.streams import EVENTS, Bytes, Events, Framing, Lines, Send
from core.kernel.call import Cookie
from core.kernel.rpc import BindingError, Rpc
from gen.google.api.http_pb import HttpRule

PROTOBUF = "application/protobuf"
REVISION = "revision"
NOSNIFF = (b"x-content-type-options", b"nosniff")


@dataclass(slots=True)
class Answer:
    """An answer on its way out."""

    status: int
    request_id: str
    headers: list[tuple[bytes, bytes]] = field(default_factory=list[tuple[bytes, bytes]])
    content_type: str = ""
    content: bytes = b""

    def has(self, name: bytes) -> bool:
        """Tell whether a header is set."""
        return any(known == name for known, _ in self.headers)

    def start(self, length: int | None) -> MutableMapping[str, Any]:
        """Return the event that begins the answer; `length` is None where it is not known."""
        headers = [*self.headers, (b"x-request-id", self.request_id.encode("latin-1")), NOSNIFF]
        if self.content_type:
            headers.append((b"content-type", self.content_type.encode("latin-1")))
        # Without a body there is no length to tell, and a 304 must not tell that it is none.
        if length is not None and self.status not in (204, 304):
            headers.append((b"content-length", str(length).encode()))
        return {"type": "http.response.start", "status": int(self.status), "headers": headers}

    async def send(self, send: Send) -> None:
        """Send the whole answer."""
        await send(self.start(len(self.content)))
        await send({"type": "http.response.body", "body": self.content})


class Codec:
    """Writes the answers of one HTTP rule.

    Attributes:
        revised: Whether the answers have a revision, and so an entity tag.
    """

    def __init__(self, rpc: Rpc, rule: HttpRule, dialect: Dialect) -> None:
        self._dialect = dialect
        self._desc = rpc.response.desc()
        self._part = field_by_name(self._desc, rule.response_body) if rule.response_body else None
        style = dialect.answer_style(rpc.rest)
        self._encode = encoder(self._desc, style)
        self._encode_part = None if self._part is None else field_encoder(self._part, style)
        self._opaque = self._desc.type_name == HTTP_BODY or _is_http_body(self._part)
        self._events = rpc.rest.events
        self._write = self._writer(rpc)
        revision = field_by_name(self._desc, rpc.rest.revision or REVISION)
        plain = revision is not None and isinstance(revision.value, DescFieldValueScalar) and revision.value.oneof is None
        if rpc.rest.revision and not plain:
            raise BindingError(
                f"{rpc.name} says that {rpc.rest.revision} is its revision, which is no such field of its answer"
            )
        self._revision = revision.local_name if revision is not None and plain else ""
        self.revised = bool(self._revision)

    def _writer(self, rpc: Rpc) -> Callable[[Any], tuple[str, bytes]]:
        """Return what writes an answer as the options of its rpc want it."""
        encode, part, encode_part = self._encode, self._part, self._encode_part
        if rpc.rest.empty:
            return lambda _message: ("", b"")
        if rpc.rest.text:
            name = _text_field(rpc)
            return lambda message: (TEXT, getattr(message, name).encode())
        if part is None:
            return lambda message: (JSON, dumps(encode(message)))
        if encode_part is None:
            return lambda message: (JSON, dumps(message[part]))
        return lambda message: (JSON, dumps(None if message[part] is None else encode_part(message[part])))

    def encode(self, message: Message[Any], accept: str) -> tuple[str, bytes]:
        """Return the Content-Type and the bytes of an answer."""
        if self._opaque:
            content: Any = message if self._part is None else message[self._part]
            if content is None:
                return "application/octet-stream", b""
            return content.content_type or "application/octet-stream", content.data
        if "protobuf" in accept:
            return PROTOBUF, message.to_binary()
        if self._dialect.plain_ok is not None and self._dialect.plain_ok(accept):
            return TEXT, b"OK"
        return self._write(message)

    def etag(self, message: Message[Any]) -> bytes:
        """Return the entity tag of an answer that has a revision."""
        return f'"{getattr(message, self._revision)}"'.encode()

    def framing(self, accept: str) -> Framing:
        """Return how the messages of a stream are written."""
        if self._opaque:
            return Bytes()
        if self._events or EVENTS in accept:
            return Events(self._encode, self._desc, waits=self._events)
        return Lines(self._encode, self._dialect.form)


def _text_field(rpc: Rpc) -> str:
    found = field_by_name(rpc.response.desc(), rpc.rest.text)
    if found is None or not isinstance(found.value, DescFieldValueScalar):
        raise BindingError(f"{rpc.name} answers with the text of {rpc.rest.text}, which is no such field of its answer")
    return found.local_name


def cookie_header(cookie: Cookie, *, secure: bool) -> bytes:
    """Return the value of Set-Cookie."""
    text = f"{cookie.name}={cookie.value}; HttpOnly; SameSite=Lax; Path=/; Max-Age={cookie.max_age}"
    return (f"{text}; Secure" if secure else text).encode("latin-1")


def _is_http_body(part: DescField | None) -> bool:
    return part is not None and isinstance(part.value, DescFieldValueMessage) and part.value.message.type_name == HTTP_BODY
