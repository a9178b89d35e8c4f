"""The plugin `system`: how the machine is doing on which the server runs."""

from __future__ import annotations

import asyncio
from typing import Any

import psutil

from core.lab.plugin_api import Channel, DevicePlugin, PluginMeta

_GIGABYTE = 1024**3
_DISK = "/"


class SystemPlugin(DevicePlugin):
    """Reads processor, memory, disk, load and temperature. What a machine cannot tell is left out."""

    meta = PluginMeta(
        id="system",
        name="System Monitor",
        version="0.1.0",
        vendor="Busbar",
        description="Reads processor, memory, disk, load and temperature of the machine on which the server runs.",
    )
    channels = (
        Channel("cpu_percent", "CPU usage", unit="%"),
        Channel("memory_percent", "Memory usage", unit="%"),
        Channel("memory_used_gb", "Memory used", unit="GB", high=1024),
        Channel("disk_percent", "Disk usage", unit="%"),
        Channel("disk_used_gb", "Disk used", unit="GB", high=65536),
        Channel("load_avg_1m", "Load average (1 min)", unit="1", high=256),
        Channel("cpu_temp", "CPU temperature", unit="°C", high=120),
    )

    async def connect(self) -> None:
        """Begin to measure the processor, whose usage is that since the call before."""
        psutil.cpu_percent()

    async def read(self) -> dict[str, float]:
        """Return what the system tells, asked in a thread since a disk may keep it waiting."""
        if self.demo_mode:
            return self.made_up()
        return await asyncio.to_thread(_measure)


def _measure() -> dict[str, float]:
    memory, disk = psutil.virtual_memory(), psutil.disk_usage(_DISK)
    values = {
        "cpu_percent": psutil.cpu_percent(),
        "memory_percent": memory.percent,
        "memory_used_gb": memory.used / _GIGABYTE,
        "disk_percent": disk.percent,
        "disk_used_gb": disk.used / _GIGABYTE,
        "load_avg_1m": psutil.getloadavg()[0],
    }
    temperature = _temperature()
    return values if temperature is None else {**values, "cpu_temp": temperature}


def _temperature() -> float | None:
    """Return the temperature of the processor; None where no sensor tells it."""
    sensors: dict[str, list[Any]] = getattr(psutil, "sensors_temperatures", dict)()
    for name in ("coretemp", "k10temp", "cpu_thermal", "zenpower"):
        if sensors.get(name):
            return float(sensors[name][0].current)
    return None
