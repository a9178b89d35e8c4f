"""Public ids of the lab, and the refusals that name what they belong to."""

from __future__ import annotations

import uuid

from core.kernel.errors import AlreadyExists, NotFound


def new_public_id() -> str:
    """Return a random UUID in lower case."""
    return str(uuid.uuid4())


def not_found(entity: str, public_id: str) -> NotFound:
    """Return the refusal for a row that does not exist here, such as `Event '...' not found`."""
    return NotFound(f"{entity} '{public_id}' not found.", entity=entity, id=public_id)


def already_exists(entity: str) -> AlreadyExists:
    """Return the refusal for a unique thing that is taken, such as `Event already exists`."""
    return AlreadyExists(f"{entity} already exists.", entity=entity)
