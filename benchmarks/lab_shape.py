"""What the benchmarks of the lab and their peer agree on."""

from __future__ import annotations

import uuid

EVENTS = 10
EXPERIMENT = "11111111-1111-4111-8111-111111111111"


def event_id(number: int) -> str:
    """Return the public id of an event of the peer."""
    return str(uuid.UUID(int=number, version=4))
