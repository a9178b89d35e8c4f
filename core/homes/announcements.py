"""What an area that announces devices to homes and the door that carries it there agree on."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Topics:
    """Names under which boards talk on a broker.

    Attributes:
        root: First word of every topic of ours.
    """

    root: str

    @property
    def bridge(self) -> str:
        """Where the server tells whether it is there; also its last will."""
        return f"{self.root}/bridge/status"

    def status(self, board_id: str) -> str:
        """Where a board tells whether it is there."""
        return f"{self.root}/{board_id}/status"

    def state(self, board_id: str, pin: int) -> str:
        """Where the value of a pin stands."""
        return f"{self.root}/{board_id}/v/{pin}"

    def command(self, board_id: str, pin: int) -> str:
        """Where a pin is set."""
        return f"{self.state(board_id, pin)}/set"

    @property
    def command_filter(self) -> str:
        """Where all pins of all boards are set."""
        return f"{self.root}/+/v/+/set"

    @property
    def command_pattern(self) -> re.Pattern[str]:
        """Reads board and pin from the topic of a command."""
        return re.compile(re.escape(self.root) + r"/([^/]+)/v/([0-9]{1,3})/set")


def component_id(pin: int) -> str:
    """Return the name of a pin's component within its device."""
    return f"v{pin}"


@dataclass(frozen=True, slots=True)
class Announced:
    """All that a home must know of a board now.

    Attributes:
        id: Id of the board.
        description: Its discovery message.
        online: Whether it is there.
        states: Texts of its pins that were ever written, by index.
    """

    id: str
    description: Json
    online: bool
    states: dict[int, str]


@dataclass(frozen=True, slots=True)
class PinSet:
    """The value of one pin has changed."""

    board_id: str
    pin: int
    text: str


Change = list[Announced] | PinSet
"""All boards that are announced now, or one changed pin."""


@runtime_checkable
class Homes(Protocol):
    """The devices that are announced.

    Attributes:
        topics: Names under which they talk.
        connected: Whether a door carries them at this moment; the door says so.
    """

    topics: Topics
    connected: bool

    def watch(self) -> AsyncGenerator[Change]:
        """Yield all announced devices, then every change; all of them again whenever more than a value has changed."""
        ...

    def refresh(self) -> None:
        """Let watchers see all announced devices anew."""
        ...

    async def set_pin(self, board_id: str, pin: int, payload: bytes) -> None:
        """Write what a home has set. Refusals are DomainErrors."""
        ...
