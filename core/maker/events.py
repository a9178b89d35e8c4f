"""What happens to boards besides changes of their pins, and where it is told."""

from __future__ import annotations

from dataclasses import dataclass

from core.live.events import Topic
from core.signals.topics import device_topic
from gen.busbar.maker.v1.ota_jobs_pb import OtaNews


@dataclass(frozen=True, slots=True)
class BoardStatusChanged:
    """A board came or went."""

    online: bool
    at_us: int


@dataclass(frozen=True, slots=True)
class BoardDeleted:
    """A board is gone for good."""


@dataclass(frozen=True, slots=True)
class OtaChanged:
    """The firmware job of a board began, went on or ended.

    Attributes:
        news: The job as it is now.
        for_board: Whether the board has to be told; it knows what it told itself.
        begins: Whether the job is new, and is to be offered to the board.
    """

    news: OtaNews
    for_board: bool
    begins: bool = False


def board_topic(org_id: str, board_id: str) -> Topic:
    """Return the topic of everything about one board; changes of its channels come there too."""
    return device_topic(org_id, board_id)
