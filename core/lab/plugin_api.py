"""What a plugin is.

A plugin is written against this module alone, which needs nothing but the standard library:

    class Oven(DevicePlugin):
        meta = PluginMeta(id="oven", name="Oven", version="1.0.0", vendor="Ovens Ltd", description="Reads an oven.")
        channels = (Channel("temp", "Temperature", unit="°C", low=0, high=500),
                    Channel("heater", "Heater", direction="output", unit="%", low=0, high=100))

        async def connect(self) -> None: ...                    # before the first read; raise to say that it failed
        async def read(self) -> dict[str, float]: ...           # values of input and bidirectional channels, by channel id
        async def write(self, channel: str, value: float): ...  # a value for an output or bidirectional channel
        async def disconnect(self) -> None: ...                 # after the last read, also after a failure

It is found by an entry point of the group `webmacs.plugins` whose name is the plugin's id:

    [project.entry-points."webmacs.plugins"]
    oven = "oven_plugin:Oven"

Each instance is an object of its own. `configure` is called first, then `connect`; then `read` and `write`, one at a time. A
plugin that is not part of Busbar runs in a process of its own, which is ended when a call takes too long, so it may block.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

GROUP = "webmacs.plugins"
"""Group of the entry points by which plugins are found."""

DIRECTIONS = ("input", "output", "bidirectional")

_PERIOD_SECONDS = 300.0
_MIDDLE, _SWING = 0.4, 0.3
"""Where made-up values lie within the range of their channel, and how far they go to either side."""


@dataclass(frozen=True)
class PluginMeta:
    """What people see of a plugin.

    Attributes:
        id: Names the plugin; the name of its entry point.
        name: Name to show.
        version: Version.
        vendor: Who made it.
        description: What it reads.
        url: Where to read more.
    """

    id: str
    name: str
    version: str
    vendor: str = ""
    description: str = ""
    url: str | None = None


@dataclass(frozen=True)
class Channel:
    """One thing that a device measures or switches.

    Attributes:
        id: Names the channel within the plugin.
        name: Name to show.
        direction: `input` is read, `output` is written, `bidirectional` is both.
        unit: Unit of its values.
        low: Smallest value to expect.
        high: Largest value to expect.
    """

    id: str
    name: str
    direction: str = "input"
    unit: str = "1"
    low: float = 0.0
    high: float = 100.0


class DevicePlugin:
    """Base of plugins. A subclass needs `meta`, `channels` and what of the methods it has to do."""

    meta: ClassVar[PluginMeta]
    channels: tuple[Channel, ...] = ()

    def __init__(self) -> None:
        self.config: Mapping[str, Any] = {}
        self.demo_mode = False

    def configure(self, config: Mapping[str, Any], *, demo_mode: bool) -> None:
        """Take the settings of the instance; `channels` may depend on them. Raise to refuse them."""
        self.config = config
        self.demo_mode = demo_mode

    async def connect(self) -> None:
        """Open the device."""

    async def read(self) -> dict[str, float]:
        """Return values by channel id. A channel that is left out has no value now."""
        return {}

    async def write(self, channel: str, value: float) -> None:
        """Set an output."""
        raise NotImplementedError(f"{self.meta.id} writes nothing to {channel} = {value}")

    async def disconnect(self) -> None:
        """Close the device."""

    def made_up(self) -> dict[str, float]:
        """Return values for a demonstration: a slow wave within the range of each channel that is read."""
        turn = time.time() / _PERIOD_SECONDS * math.tau
        read = [channel for channel in self.channels if channel.direction != "output"]
        return {
            channel.id: channel.low + (channel.high - channel.low) * (_MIDDLE + _SWING * math.sin(turn + index))
            for index, channel in enumerate(read)
        }
