"""Files that come in chunks: the first message names the file, each brings some of its bytes."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from typing import Protocol, TypeVar

from core.kernel.call import Call
from core.kernel.errors import FieldViolation, InvalidArgument
from core.kernel.validation import invalid
from gen.google.api.httpbody_pb import HttpBody

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._+-]*")
_FOLDERS = re.compile(r"^.*[/\\]", re.DOTALL)


class Part(Protocol):
    """A message with some of a file."""

    file_name: str
    body: HttpBody | None


P = TypeVar("P", bound=Part)


async def first_of(requests: AsyncIterator[P]) -> P:
    """Return the first message.

    Raises:
        InvalidArgument: There is none.
    """
    first = await anext(requests, None)
    if first is None:
        raise invalid((FieldViolation(("file",), "required", "required"),))
    return first


async def bytes_of(first: P, others: AsyncIterator[P]) -> AsyncIterator[bytes]:
    """Yield the bytes of a file as they come."""
    yield b"" if first.body is None else first.body.data
    async for request in others:
        yield b"" if request.body is None else request.body.data


def checked_name(part: Part, ending: str, refusal: str, call: Call) -> str:
    """Return the name of a file, without any folder.

    Raises:
        InvalidArgument: It has another ending, or characters that no such name needs.
    """
    name = _FOLDERS.sub("", part.file_name)
    if not name.endswith(ending):
        raise bad_request(call, refusal)
    if not _NAME.fullmatch(name):
        raise bad_request(call, "File name may hold letters, digits and . _ + - only.")
    return name


def bad_request(call: Call, message: str) -> InvalidArgument:
    """Return a refusal that REST answers with 400 rather than with the 422 of fields that are wrong."""
    call.status = 400
    return InvalidArgument(message)
