"""Codes that people read aloud and type."""

from __future__ import annotations

import secrets

LETTERS = "ABCDEFGHJKLMNPQRSTUVWXYZ23456789"
"""What codes are made of: neither I, O, 0 nor 1, which are hard to tell apart."""
LENGTH = 8


def new_code() -> str:
    """Return a code fit to be read aloud."""
    return "".join(secrets.choice(LETTERS) for _ in range(LENGTH))
