"""Streams over plain HTTP: lines of JSON, server-sent events, or the bytes of HttpBody.

One task runs the service from its first to its last message, and waits while the client does not read: nothing piles up.
Beside it another waits for the client to go away, and ends the service at once when it does.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, MutableMapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Protocol

import structlog
from protobuf import DescMessage, Message

from adapters.rest.body import Receive
from adapters.rest.codec import Encode, dumps
from core.kernel.errors import DomainError, Internal

Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

log = structlog.get_logger("busbar.rest")

EVENTS = "text/event-stream"
LINES = "application/x-ndjson"
ID_FIELDS = ("cursor", "seq")

ESCAPES = {"@": b"\\u0040"}
"""How JSON writes the first character of a mark that would end a frame too early."""

GRACE_SECONDS = 0.25
"""How long the status line waits for the first message, so that a refusal can still be told by its status."""
KEEP_ALIVE_SECONDS = 15.0
"""Silence after which a comment is sent on event streams, so that proxies keep them open."""


@dataclass(frozen=True, slots=True)
class Form:
    """How a surface writes a stream of JSON texts.

    Attributes:
        mark: What ends each text.
        content_type: Type of the whole.
        keep_alive: What is sent in silence; empty for nothing.
        keep_alive_seconds: Silence after which it is sent; None as on event streams.
        waits: Whether the status line waits for the first message, so that it tells of a refusal.
    """

    mark: str = "\n"
    content_type: str = LINES
    keep_alive: str = ""
    keep_alive_seconds: float | None = None
    waits: bool = False


LINE_BY_LINE = Form()


class Framing(Protocol):
    """How messages of a stream are written."""

    keep_alive: bytes
    keep_alive_seconds: float | None
    waits: bool
    """Whether the status line waits for the first message, however long it takes."""

    def content_type(self, first: Message[Any] | None, /) -> str:
        """Return the Content-Type; `first` is the first message, where it is known."""
        ...

    def frame(self, message: Message[Any]) -> bytes:
        """Return what is sent for a message."""
        ...

    def error(self, envelope: bytes, /) -> bytes:
        """Return what is sent last when the service fails after the start."""
        ...


class Lines:
    """JSON texts, each ended by a mark."""

    def __init__(self, encode: Encode, form: Form = LINE_BY_LINE) -> None:
        self._encode = encode
        self._mark = form.mark.encode()
        self._escaped = ESCAPES.get(form.mark[0], b"") + form.mark[1:].encode()
        self._content_type = form.content_type
        self.keep_alive = (form.keep_alive and form.keep_alive + form.mark).encode()
        self.keep_alive_seconds = form.keep_alive_seconds
        self.waits = form.waits

    def content_type(self, _first: Message[Any] | None, /) -> str:
        """Return the type of the form, whatever the message."""
        return self._content_type

    def frame(self, message: Message[Any]) -> bytes:
        """Return one JSON text; a mark within one of its strings is written so that it ends nothing."""
        text = dumps(self._encode(message))
        return (text.replace(self._mark, self._escaped) if self._mark in text else text) + self._mark

    def error(self, envelope: bytes, /) -> bytes:
        """Return the envelope as the last text."""
        return envelope.rstrip() + self._mark


class Events:
    """Server-sent events; the id of each is its cursor, from which `Last-Event-ID` resumes."""

    keep_alive = b": keep-alive\n\n"
    keep_alive_seconds: float | None = None

    def __init__(self, encode: Encode, message: DescMessage, *, waits: bool = False) -> None:
        self._encode = encode
        self.waits = waits
        names = {field.name: field.local_name for field in message.fields}
        self._id = next((names[name] for name in ID_FIELDS if name in names), None)

    def content_type(self, _first: Message[Any] | None, /) -> str:
        """Return the type of event streams, whatever the message."""
        return EVENTS

    def frame(self, message: Message[Any]) -> bytes:
        """Return one event."""
        data = b"data: " + dumps(self._encode(message)) + b"\n\n"
        cursor = None if self._id is None else getattr(message, self._id)
        if not cursor:
            return data
        text = str(int(cursor)) if isinstance(cursor, float) and cursor.is_integer() else str(cursor)
        return b"id: " + text.replace("\n", "").encode() + b"\n" + data

    def error(self, envelope: bytes, /) -> bytes:
        """Return the envelope as an event of its own kind."""
        return b"event: error\ndata: " + envelope.rstrip() + b"\n\n"


class Bytes:
    """The data of HttpBody messages; the first one tells the Content-Type, so nothing can be sent before it."""

    keep_alive = b""
    keep_alive_seconds: float | None = None
    waits = True

    def content_type(self, first: Message[Any] | None, /) -> str:
        """Return the type that the first message names."""
        return getattr(first, "content_type", "") or "application/octet-stream"

    def frame(self, message: Message[Any]) -> bytes:
        """Return the data of a message."""
        return getattr(message, "data", b"")

    def error(self, _envelope: bytes, /) -> bytes:
        """Return nothing: an error has no place within foreign data."""
        return b""


class Outgoing:
    """One stream on its way to its client.

    Raises from `run` what the service refused before anything was sent.
    """

    def __init__(
        self,
        messages: AsyncGenerator[Message[Any], None],
        framing: Framing,
        send: Send,
        start: Callable[[str], MutableMapping[str, Any]],
        envelope: Callable[[DomainError], bytes],
    ) -> None:
        self._messages = messages
        self._framing = framing
        self._send = send
        self._start = start
        self._envelope = envelope
        self._started = False
        self._quiet = True
        self._lock = asyncio.Lock()

    async def run(self, receive: Receive) -> None:
        """Send the stream until it ends or the client goes away."""
        pump = asyncio.create_task(self._pump())
        gone = asyncio.create_task(_disconnected(receive))
        wait = GRACE_SECONDS
        try:
            while not pump.done() and not gone.done():
                self._quiet = True
                await asyncio.wait({pump, gone}, timeout=wait, return_when=asyncio.FIRST_COMPLETED)
                if self._quiet and not pump.done() and not gone.done() and not self._lock.locked():
                    await self._idle()
                wait = self._framing.keep_alive_seconds or KEEP_ALIVE_SECONDS
        finally:
            pump.cancel()
            gone.cancel()
            ended, _ = await asyncio.gather(pump, gone, return_exceptions=True)
        if isinstance(ended, Exception):
            raise ended

    async def _idle(self) -> None:
        """Open the answer of a silent stream, or show that it lives."""
        async with self._lock:
            if not self._started and not self._framing.waits:
                await self._open(None)
            elif self._started and self._framing.keep_alive:
                await self._write(self._framing.keep_alive)

    async def _pump(self) -> None:
        try:
            async with aclosing(self._messages) as messages:
                async for message in messages:
                    async with self._lock:
                        await self._open(message)
                        await self._write(self._framing.frame(message))
                        self._quiet = False
        except Exception as error:
            if not self._started:
                raise
            await self._fail(error)
        async with self._lock:
            await self._open(None)
            await self._send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _fail(self, error: Exception) -> None:
        if not isinstance(error, DomainError):
            log.error("stream failed", exc_info=error)
            error = Internal("internal error")
        async with self._lock:
            await self._write(self._framing.error(self._envelope(error)))

    async def _open(self, first: Message[Any] | None) -> None:
        if not self._started:
            self._started = True
            await self._send(self._start(self._framing.content_type(first)))

    async def _write(self, data: bytes) -> None:
        if data:
            await self._send({"type": "http.response.body", "body": data, "more_body": True})


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def chunked(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Yield the pieces of a body as they arrive; an empty one is a single empty piece, so that the service hears of it."""
    empty = True
    async for chunk in chunks:
        empty = False
        yield chunk
    if empty:
        yield b""


async def lines(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Yield the lines of a body as they arrive, without empty ones."""
    rest = b""
    async for chunk in chunks:
        *complete, rest = (rest + chunk).split(b"\n")
        for line in complete:
            if line.strip():
                yield line
    if rest.strip():
        yield rest
