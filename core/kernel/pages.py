"""Pages of lists: keyset cursors that stay right while rows are added."""

from __future__ import annotations

import base64
import binascii
import json
from typing import cast

from core.kernel.errors import InvalidArgument

DEFAULT_LIMIT = 50
MOST = 200
MOST_INTEGER = 2**63 - 1
"""Largest number that a column of either database holds."""


def page_limit(limit: int | None, *, default: int = DEFAULT_LIMIT, most: int = MOST) -> int:
    """Return the size of a page, clamped to 1 and the most."""
    return default if limit is None else max(1, min(limit, most))


def encode_cursor(*key: str | int) -> str:
    """Return the opaque name of the place after a row, from the columns by which the list is ordered."""
    return base64.urlsafe_b64encode(json.dumps(key).encode()).decode().rstrip("=")


def decode_cursor(cursor: str, *kinds: type) -> tuple[str | int, ...] | None:
    """Return the columns of a cursor; None for the first page.

    Raises:
        InvalidArgument: The cursor is not one of this list, or holds what no column can.
    """
    if not cursor:
        return None
    try:
        key = json.loads(base64.urlsafe_b64decode(cursor.encode() + b"=" * (-len(cursor) % 4)))
    except (ValueError, binascii.Error, UnicodeError):
        key = None
    parts = cast("list[str | int]", key) if isinstance(key, list) else []
    if [type(part) for part in parts] != list(kinds) or not all(_fits(part) for part in parts):
        raise InvalidArgument("invalid cursor", field="cursor")
    return tuple(parts)


def _fits(part: str | int) -> bool:
    """Whether a column can hold it: texts of databases have neither zero bytes nor halves of surrogate pairs."""
    if isinstance(part, int):
        return abs(part) <= MOST_INTEGER
    return "\0" not in part and not any("\ud800" <= letter <= "\udfff" for letter in part)
