"""Ids of plans and of everything that belongs to them."""

from __future__ import annotations

import uuid


def new_uuid() -> str:
    """Return a random UUID in lower case."""
    return str(uuid.uuid4())
