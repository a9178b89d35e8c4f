"""The plugin `revpi`: inputs and outputs of a Revolution Pi, as piCtory names them.

It works where the server itself runs on a Revolution Pi, with the library `revpimodio2` beside it. Elsewhere an instance says
what is missing and reads nothing. Without settings it has every input and output that piCtory configured; settings choose some:

    {"channels": [{"id": "AnalogInput_1", "name": "Pressure", "unit": "bar", "low": 0, "high": 6, "factor": 0.0006},
                  {"id": "RelayOutput_1", "direction": "output"}]}
"""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

from core.lab.plugin_api import DIRECTIONS, Channel, DevicePlugin, PluginMeta

LIBRARY = "revpimodio2"
PROCESS_IMAGE = Path("/dev/piControl0")
"""What the driver of the device offers, and no other machine has."""
_INPUT, _OUTPUT = 300, 301
"""Kinds of inputs and outputs in the library."""


class RevPiPlugin(DevicePlugin):
    """Reads and writes the process image, which other programs of the device go on using."""

    meta = PluginMeta(
        id="revpi",
        name="Revolution Pi",
        version="0.1.0",
        vendor="KUNBUS GmbH",
        description="Reads inputs and switches outputs of the Revolution Pi on which the server runs.",
        url="https://revolutionpi.com",
    )

    def __init__(self) -> None:
        super().__init__()
        self._factors: dict[str, float] = {}
        self._device: Any = None

    def configure(self, config: Mapping[str, Any], *, demo_mode: bool) -> None:
        """Take the channels from the settings, or from the device where there is one."""
        super().configure(config, demo_mode=demo_mode)
        given = config.get("channels")
        if given is None:
            with suppress(RuntimeError):
                self.channels = tuple(_found(_open()))
            return
        if not isinstance(given, list):
            raise TypeError("channels must be a list")
        chosen = [_chosen(one) for one in cast("list[object]", given)]
        self.channels = tuple(channel for channel, _ in chosen)
        self._factors = {channel.id: factor for channel, factor in chosen}

    async def connect(self) -> None:
        """Open the process image.

        Raises:
            RuntimeError: There is no such device, no library, or no input or output of a name.
        """
        if self.demo_mode:
            return
        self._device = await asyncio.to_thread(_open)
        missing = [channel.id for channel in self.channels if channel.id not in self._device.io]
        if missing:
            raise RuntimeError(f"piCtory's configuration has no input or output named {missing[0]}")

    async def read(self) -> dict[str, float]:
        """Return the values of inputs, at one moment."""
        return self.made_up() if self.demo_mode else await asyncio.to_thread(self._read)

    async def write(self, channel: str, value: float) -> None:
        """Set an output."""
        if not self.demo_mode:
            await asyncio.to_thread(self._write, channel, value)

    async def disconnect(self) -> None:
        """Let go of the process image; outputs stay as they are."""
        device, self._device = self._device, None
        if device is not None:
            await asyncio.to_thread(device.cleanup)

    def _read(self) -> dict[str, float]:
        if not self._device.readprocimg():
            raise RuntimeError(f"{PROCESS_IMAGE} could not be read")
        values: dict[str, float] = {}
        for channel in self.channels:
            value = self._device.io[channel.id].value
            # A word that piCtory joined to a text is no measurement.
            if channel.direction != "output" and isinstance(value, int | float):
                values[channel.id] = value * self._factors.get(channel.id, 1.0)
        return values

    def _write(self, channel: str, value: float) -> None:
        point = self._device.io[channel]
        raw = value / self._factors.get(channel, 1.0)
        point.value = raw > 0 if isinstance(point.value, bool) else round(raw)
        if not self._device.writeprocimg():
            raise RuntimeError(f"{PROCESS_IMAGE} could not be written")


def _open() -> Any:  # noqa: ANN401 - the library has no types and is not there
    """Open the device without keeping other programs from it.

    Raises:
        RuntimeError: There is none, or no library.
    """
    if not PROCESS_IMAGE.exists():
        raise RuntimeError(f"this machine is no Revolution Pi: it has no {PROCESS_IMAGE}")
    try:
        library = importlib.import_module(LIBRARY)
    except ImportError as error:
        raise RuntimeError(f"the library {LIBRARY} is not installed beside the server") from error
    try:
        return library.RevPiModIO(autorefresh=False, syncoutputs=True, debug=False, shared_procimg=True)
    except Exception as error:
        raise RuntimeError(f"the Revolution Pi cannot be opened: {error}") from error


def _found(device: Any) -> Iterator[Channel]:  # noqa: ANN401 - as above
    """Yield the inputs and outputs of a device, which is closed then."""
    try:
        for point in device.io:
            if point.type in (_INPUT, _OUTPUT):
                high = 1.0 if isinstance(point.value, bool) else 65_535.0
                yield Channel(point.name, point.name, "output" if point.type == _OUTPUT else "input", high=high)
    finally:
        device.cleanup()


def _chosen(given: object) -> tuple[Channel, float]:
    """Return a channel of the settings, and by what its raw values are multiplied."""
    members = cast("dict[str, Any]", given) if isinstance(given, dict) else {}
    name, direction, factor = members.get("id"), members.get("direction", "input"), float(members.get("factor", 1.0))
    if not isinstance(name, str) or not name or direction not in DIRECTIONS or not factor:
        raise ValueError("a channel needs the id of an input or output, a direction that there is, and a factor that is not 0")
    low, high = float(members.get("low", 0.0)), float(members.get("high", 100.0))
    return Channel(name, str(members.get("name", name)), direction, str(members.get("unit", "1")), low, high), factor
