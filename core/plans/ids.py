"""Ids of plans and of what is in them: the contract wants UUIDs."""

from __future__ import annotations

import uuid


def new_uuid() -> str:
    """Return a fresh lower-case UUID."""
    return str(uuid.uuid4())
