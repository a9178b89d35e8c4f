"""Bodies of multipart/form-data, read as they arrive: one file, which is handed on piece by piece, and a few texts."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple
from urllib.parse import urlencode

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from adapters.rest.binding import Binding
from adapters.rest.body import UnsupportedMediaType, malformed, too_large
from adapters.rest.descriptors import field_by_name
from core.kernel.errors import FieldViolation
from core.kernel.rpc import BindingError, Rpc
from core.kernel.validation import invalid
from gen.busbar.api.v1.options_pb import Multipart
from gen.google.api.http_pb import HttpRule

KIND = "multipart/form-data"
MOST_PARTS = 100
MOST_TEXT = 65_536
"""Bytes of all texts of a body together: they are kept, unlike the file."""

_FOLDERS = re.compile(r"^.*[/\\]", re.DOTALL)


class Piece(NamedTuple):
    """The next bytes of a file.

    Attributes:
        data: The bytes; none in the piece that tells of texts after the file.
        content_type: Type of the file, as its part says.
        query: The texts so far, in the form of a query string.
    """

    data: bytes
    content_type: str
    query: bytes


@dataclass(slots=True)
class _Part:
    """One part, of which the headers have been read."""

    name: str = ""
    filename: str = ""
    content_type: str = ""
    is_file: bool = False
    text: bytearray = field(default_factory=bytearray)


def form_of(rpc: Rpc, rule: HttpRule) -> Multipart | None:
    """Return the form that the body of a rule is; None where it is none.

    Raises:
        BindingError: The body is no file, or the name of the file has no field.
    """
    form = rpc.rest.multipart
    if form is None or not rule.body:
        return None
    request = rpc.request.desc()
    if not Binding(rpc, rule).opaque or not form.part or (form.filename and field_by_name(request, form.filename) is None):
        raise BindingError(f"{rpc.name} takes a form, but {request.type_name} has no HttpBody as its body or no such fields")
    return form


async def pieces(chunks: AsyncIterator[bytes], content_type: str, form: Multipart) -> AsyncIterator[Piece]:
    """Yield the file of a body as it arrives; at least one piece, even of an empty file.

    Raises:
        InvalidArgument: The body is no form, or has not exactly one file.
        TooLarge: It has too many parts or too much text.
        UnsupportedMediaType: It has another type.
    """
    reader = _Reader(content_type, form)
    async for chunk in chunks:
        for piece in reader.feed(chunk):
            yield piece
    for piece in reader.close():
        yield piece


class _Reader:
    """Makes pieces of the events of a parser."""

    def __init__(self, content_type: str, form: Multipart) -> None:
        kind, options = parse_options_header(content_type)
        boundary = options.get(b"boundary", b"")
        if kind.lower() != KIND.encode() or not boundary:
            raise UnsupportedMediaType(f"content type {content_type[:80]} is not supported, use {KIND}")
        self._form = form
        self._texts: list[tuple[str, bytes | str]] = []
        self._text_bytes = self._parts = 0
        self._part = _Part()
        self._header = (bytearray(), bytearray())
        self._file: _Part | None = None
        self._ended = False
        self._told = 0
        self._out: list[bytes] = []
        self._parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._begin,
                "on_header_field": lambda data, start, end: self._header[0].extend(data[start:end]),
                "on_header_value": lambda data, start, end: self._header[1].extend(data[start:end]),
                "on_header_end": self._end_header,
                "on_headers_finished": self._open,
                "on_part_data": self._data,
                "on_part_end": self._end,
                "on_end": self._finish,
            },
        )

    def feed(self, chunk: bytes) -> Iterator[Piece]:
        """Read what arrived."""
        try:
            self._parser.write(chunk)
        except FormParserError as error:
            raise malformed(f"request body is not valid {KIND}") from error
        if self._out and self._file is not None:
            yield self._piece(b"".join(self._out))
        self._out.clear()

    def close(self) -> Iterator[Piece]:
        """Check that the body is whole; yield what has not been told yet."""
        if not self._ended:
            raise malformed(f"request body is not valid {KIND}")
        if self._file is None:
            raise invalid((FieldViolation((self._form.part,), "required", "required"),))
        if self._told < len(self._texts) or not self._told:
            yield self._piece(b"")

    def _piece(self, data: bytes) -> Piece:
        file = self._file or self._part
        texts = list(self._texts)
        self._told = max(1, len(texts))
        if self._form.filename:
            # Last, so that no text of that name counts instead.
            texts.append((self._form.filename, _FOLDERS.sub("", file.filename)))
        return Piece(data, file.content_type, urlencode(texts).encode())

    def _begin(self) -> None:
        self._part = _Part()
        self._parts += 1
        if self._parts > MOST_PARTS:
            raise malformed(f"request body has more than {MOST_PARTS} parts")

    def _end_header(self) -> None:
        name, value = (bytes(part) for part in self._header)
        self._header = (bytearray(), bytearray())
        if name.lower() == b"content-type":
            self._part.content_type = value.decode("latin-1").strip()
        elif name.lower() == b"content-disposition":
            _, options = parse_options_header(value)
            self._part.name = options.get(b"name", b"").decode(errors="replace")
            self._part.filename = options.get(b"filename", b"").decode(errors="replace")

    def _open(self) -> None:
        part = self._part
        part.is_file = part.name == self._form.part
        if part.is_file and self._file is not None:
            raise invalid((FieldViolation((part.name,), "must be one file", "repeated.max_items", 1),))
        if part.is_file:
            self._file = part

    def _data(self, data: bytes, start: int, end: int) -> None:
        if self._part.is_file:
            self._out.append(data[start:end])
            return
        self._text_bytes += end - start
        if self._text_bytes > MOST_TEXT:
            raise too_large(MOST_TEXT)
        self._part.text += data[start:end]

    def _end(self) -> None:
        if not self._part.is_file:
            self._texts.append((self._part.name, bytes(self._part.text)))

    def _finish(self) -> None:
        self._ended = True
