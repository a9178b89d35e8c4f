"""How often webhooks are told of readings, whichever way those come."""

from __future__ import annotations

from core.kernel.clock import MICROSECONDS

EVERY_US = 5 * MICROSECONDS
"""Shortest time between two readings of one event that webhooks are told."""


class Readings:
    """Remembers when webhooks were last told of each event."""

    def __init__(self) -> None:
        self._told_us: dict[str, int] = {}

    def due(self, event_id: str, now_us: int) -> bool:
        """Whether a reading is to be told now; it counts as told from here on."""
        told = self._told_us.get(event_id)
        if told is not None and 0 <= now_us - told < EVERY_US:
            return False
        self._told_us[event_id] = now_us
        return True
