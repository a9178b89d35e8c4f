"""A point's public id: its key, packed into a UUID of version 8, so that it needs neither a column nor an index.

Of the 122 bits that such a UUID leaves free, the channel has 31, the time 60 and n the last 31. The time is cut where the
version and the variant stand in between.
"""

from __future__ import annotations

import re
from typing import NamedTuple

_BIAS = 1 << 59
"""Added to times, which may lie before 1970."""
_SHAPE = re.compile(r"([0-9a-f]{8})-([0-9a-f]{4})-8([0-9a-f]{3})-([89ab][0-9a-f]{3})-([0-9a-f]{12})")


class PointKey(NamedTuple):
    """Where a point is stored."""

    channel_id: int
    at_us: int
    n: int


def pack(channel_id: int, at_us: int, n: int) -> str:
    """Return the public id of a point."""
    time = at_us + _BIAS
    head, tail = channel_id << 17 | time >> 43, (time & 0x7FFFFFFF) << 31 | n
    parts = head >> 16, head & 0xFFFF, time >> 31 & 0xFFF, 0x8000 | tail >> 48, tail & 0xFFFFFFFFFFFF
    return "%08x-%04x-8%03x-%04x-%012x" % parts  # noqa: UP031 - exports make millions, and this is the fastest way


def unpack(public_id: str) -> PointKey | None:
    """Return the key in a public id; None for what is none."""
    found = _SHAPE.fullmatch(public_id)
    if found is None:
        return None
    first, second, third, fourth, fifth = (int(part, 16) for part in found.groups())
    head, tail = first << 16 | second, (fourth & 0x3FFF) << 48 | fifth
    time = (head & 0x1FFFF) << 43 | third << 31 | tail >> 31
    return PointKey(head >> 17, time - _BIAS, tail & 0x7FFFFFFF)
