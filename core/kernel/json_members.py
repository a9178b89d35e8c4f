"""Members of JSON objects that are named twice: readers of JSON keep the last, so none would know which one counts."""

from __future__ import annotations

import json
from typing import Any

from core.kernel.errors import InvalidArgument
from gen.busbar.api.v1.error_reason_pb import ErrorReason

MOST_SHOWN = 80
"""Characters of a name in a refusal."""


def is_whole(text: bytes, written: bytes) -> bool:
    """Whether a text names no member twice, as what was read of it tells once it is written anew: that has as many colons then.

    False may also mean that a reader left out something else. Counting costs a small part of the reading.
    """
    # A colon that is written as an escape could stand for one that is missing.
    return written.count(b":") == text.count(b":") and b"\\u003" not in text


def require_unique(text: bytes) -> None:
    """Look for a member named twice within one object, however deep, in a text that a reader of JSON took.

    Raises:
        InvalidArgument: There is one; the refusal names it.
    """
    # Some numbers are too long to be read, and none is of interest.
    json.loads(text, object_pairs_hook=_unique, parse_int=str, strict=False)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise InvalidArgument(f"request body names {twice[:MOST_SHOWN]!r} twice", reason=ErrorReason.MALFORMED_BODY)
    return members
