"""Reads request bodies, never more than may be kept: the limit holds for what arrives and for what it inflates to."""

from __future__ import annotations

import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from typing import Any

from core.kernel.errors import DomainError, InvalidArgument, TooLarge
from gen.busbar.api.v1.error_reason_pb import ErrorReason

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]

GZIP = 16 + zlib.MAX_WBITS
"""Tells zlib that the stream has the gzip header."""


class Disconnected(DomainError):
    """The client went away before its request was complete."""

    code = "CANCELLED"


class UnsupportedMediaType(InvalidArgument):
    """The body has a form that the operation does not take."""

    default_reason = ErrorReason.MALFORMED_BODY


def too_large(limit: int) -> TooLarge:
    """Return the refusal of a body over a limit in bytes."""
    return TooLarge(f"request body is larger than {limit} bytes", limit_bytes=limit)


def check_length(length: str | None, limit: int) -> None:
    """Refuse a body by its Content-Length, before a byte of it is read.

    Raises:
        TooLarge: It says that the body is over the limit.
        InvalidArgument: It is no number.
    """
    if length is None:
        return
    if not (length.isascii() and length.isdigit()):
        raise malformed("Content-Length must be a number")
    if len(length) > len(str(limit)) or int(length) > limit:
        raise too_large(limit)


def malformed(message: str) -> InvalidArgument:
    """Return the refusal of a body that cannot be read."""
    return InvalidArgument(message, reason=ErrorReason.MALFORMED_BODY)


def inflates(encoding: str | None) -> bool:
    """Tell whether a body is compressed.

    Raises:
        UnsupportedMediaType: It is, in a way that is not understood.
    """
    name = (encoding or "identity").strip().lower()
    if name in ("gzip", "x-gzip"):
        return True
    if name in ("identity", ""):
        return False
    raise UnsupportedMediaType(f"content encoding {name[:40]} is not supported, use gzip or identity")


async def read(receive: Receive, limit: int, *, inflate: bool) -> bytes:
    """Read a whole body.

    Raises:
        TooLarge: More than `limit` bytes arrive, or come out of inflation.
        InvalidArgument: The compressed form is damaged.
        Disconnected: The client went away.
    """
    message = await receive()
    if not message.get("more_body") and message["type"] == "http.request" and not inflate:
        body: bytes = message.get("body", b"")
        if len(body) > limit:
            raise too_large(limit)
        return body
    return b"".join([chunk async for chunk in _chunks(message, receive, limit, inflate=inflate)])


async def chunks(receive: Receive, limit: int, *, inflate: bool) -> AsyncIterator[bytes]:
    """Yield a body as it arrives, with the refusals of `read`."""
    async for chunk in _chunks(await receive(), receive, limit, inflate=inflate):
        yield chunk


async def _chunks(message: MutableMapping[str, Any], receive: Receive, limit: int, *, inflate: bool) -> AsyncIterator[bytes]:
    inflater = _Inflater(limit) if inflate else None
    received = 0
    while True:
        if message["type"] == "http.disconnect":
            raise Disconnected("the client went away")
        chunk: bytes = message.get("body", b"")
        received += len(chunk)
        if received > limit:
            raise too_large(limit)
        if inflater is not None:
            chunk = inflater.feed(chunk)
        if chunk:
            yield chunk
        if not message.get("more_body"):
            break
        message = await receive()
    if inflater is not None:
        inflater.close(empty=received == 0)


class _Inflater:
    """Inflates a gzip stream of one or more members, up to a limit in bytes."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._left = limit
        self._stream = zlib.decompressobj(GZIP)

    def feed(self, data: bytes) -> bytes:
        """Inflate what arrived."""
        out = b""
        while data:
            if self._stream.eof:
                self._stream = zlib.decompressobj(GZIP)
            try:
                # One byte more than is left tells a bomb from a body that just fits.
                out += (part := self._stream.decompress(data, self._left + 1))
            except zlib.error as error:
                raise malformed("request body is not valid gzip") from error
            self._left -= len(part)
            if self._left < 0:
                raise too_large(self._limit)
            data = self._stream.unused_data or self._stream.unconsumed_tail
        return out

    def close(self, *, empty: bool) -> None:
        """Check that the stream is complete."""
        if not empty and not self._stream.eof:
            raise malformed("request body is not valid gzip")
