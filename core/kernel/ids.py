"""Identifiers: sortable by time, lower case, never parsed."""

from __future__ import annotations

import itertools
import secrets
import time

# Random enough for processes to differ; asking the system for randomness at every call would cost more than the rest of the id.
_PROCESS = secrets.token_hex(8)
_calls = itertools.count(secrets.randbits(48))

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"


def new_id(prefix: str = "") -> str:
    """Return a fresh id: the prefix, then 26 characters of which the first ten grow with time (48 bits of milliseconds)."""
    number = (time.time_ns() // 1_000_000) << 80 | secrets.randbits(80)
    return prefix + "".join(_ALPHABET[number >> shift & 31] for shift in range(125, -1, -5))


def new_request_id() -> str:
    """Return an id for one call, for logs and the X-Request-Id header: no secret, only unlike any other."""
    return f"{_PROCESS}{next(_calls):016x}"
