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
        """Whether a reading is to be told now."""
        told = self._told_us.get(event_id)
        return told is None or not 0 <= now_us - told < EVERY_US

    def told(self, event_id: str, now_us: int) -> None:
        """Count a reading as told."""
        self._told_us[event_id] = now_us

    def forget(self, event_id: str) -> None:
        """Take back that a reading was told."""
        self._told_us.pop(event_id, None)
