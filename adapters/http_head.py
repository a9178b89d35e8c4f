"""Bounds the head of HTTP requests: the parser itself would gather an endless header until the memory is gone."""

from __future__ import annotations

from itertools import chain

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

MOST_HEAD_BYTES = 65_536
"""Bytes of the headers of one request."""
TOO_LARGE = (
    b"HTTP/1.1 431 Request Header Fields Too Large\r\nconnection: close\r\ncontent-type: text/plain; charset=utf-8\r\n"
    b"content-length: 32\r\n\r\nRequest headers are too large.\r\n"
)


class HeadTooLarge(Exception):
    """The headers of a request are over the limit."""


class BoundedHead(HttpToolsProtocol):
    """Speaks HTTP/1.1 and answers 431 to a head over the limit, before the application hears of it."""

    _in_head = True
    _received = 0

    def data_received(self, data: bytes) -> None:
        """Take bytes from the peer."""
        if self._in_head:
            self._received += len(data)
        super().data_received(data)
        if self._in_head and self._received > MOST_HEAD_BYTES and not self.transport.is_closing():
            self._refuse()

    def on_message_begin(self) -> None:
        """Begin to count."""
        self._in_head = True
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """Check what came, now that it is told from the body."""
        received, self._received = self._received, 0
        self._in_head = False
        if received > MOST_HEAD_BYTES and self._size() > MOST_HEAD_BYTES:
            self._refuse()
            raise HeadTooLarge
        super().on_headers_complete()

    def send_400_response(self, msg: str) -> None:
        """Answer to what is no HTTP, unless the answer was given already."""
        if not self.transport.is_closing():
            super().send_400_response(msg)

    def _size(self) -> int:
        """Return the bytes of the headers, separators included."""
        return sum(map(len, chain.from_iterable(self.headers))) + 4 * len(self.headers)

    def _refuse(self) -> None:
        self.transport.write(TOO_LARGE)
        self.transport.close()
