"""Ids of the plans area."""

from __future__ import annotations

import uuid


def new_uuid() -> str:
    """Return a fresh id: a lower-case UUID of version 4, which is what clients of plans expect."""
    return str(uuid.uuid4())
