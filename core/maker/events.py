"""What happens to boards besides changes of their pins, and where it is told."""

from __future__ import annotations

from dataclasses import dataclass

from core.live.events import Topic
from core.signals.topics import device_topic


@dataclass(frozen=True, slots=True)
class BoardStatusChanged:
    """A board came or went."""

    online: bool
    at_us: int


@dataclass(frozen=True, slots=True)
class BoardDeleted:
    """A board is gone for good."""


def board_topic(org_id: str, board_id: str) -> Topic:
    """Return the topic of everything about one board; changes of its channels come there too."""
    return device_topic(org_id, board_id)
