"""Wheels made for tests: right ones, and ones that are wrong in one way."""

from __future__ import annotations

import base64
import hashlib
import io
import zipfile
from typing import Any

PLUGIN = """
from core.lab.plugin_api import Channel, DevicePlugin, PluginMeta


class Oven(DevicePlugin):
    meta = PluginMeta(id="oven", name="Oven", version="1.0.0", vendor="Ovens Ltd", description="Reads an oven.")
    channels = (
        Channel("temp", "Temperature", unit="°C", low=0, high=500),
        Channel("echo", "Echo", unit="%"),
        Channel("heater", "Heater", direction="output", unit="%"),
    )

    def configure(self, config, *, demo_mode):
        super().configure(config, demo_mode=demo_mode)
        self.heater = 0.0
        if config.get("refuse"):
            raise ValueError("refused settings")

    async def connect(self):
        print("hello from the oven")

    async def read(self):
        if self.config.get("fail"):
            raise RuntimeError("the oven is cold")
        if self.config.get("hang"):
            import time
            time.sleep(3600)
        return {"temp": float(self.config.get("temp", 180)), "echo": self.heater, "nonsense": float("nan")}

    async def write(self, channel, value):
        self.heater = value
"""


def wheel(
    name: str = "oven-plugin",
    version: str = "1.0.0",
    *,
    code: str = PLUGIN,
    entry_points: str | None = "[webmacs.plugins]\noven = oven_plugin:Oven\n",
    metadata: str | None = None,
    files: dict[str, bytes] | None = None,
    record: dict[str, str] | None = None,
    mutate: Any = None,
) -> bytes:
    """Return the bytes of a wheel.

    Args:
        name: Name of the package.
        version: Its version.
        code: Text of its module.
        entry_points: Text of its entry points; None for no such file.
        metadata: Text of its metadata, when it is another one.
        files: Further files.
        record: Hashes to record instead of the right ones, by name of the file.
        mutate: Takes the open archive before its RECORD is written, to put in what zipfile's plain functions do not.
    """
    stem = f"{name.replace('-', '_')}-{version}"
    info = f"{stem}.dist-info"
    content = {
        f"{name.replace('-', '_')}.py": code.encode(),
        f"{info}/METADATA": (metadata or f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n").encode(),
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        **(files or {}),
    }
    if entry_points is not None:
        content[f"{info}/entry_points.txt"] = entry_points.encode()
    lines = [f"{path},{(record or {}).get(path) or hashed(data)},{len(data)}" for path, data in content.items()]
    content[f"{info}/RECORD"] = "\n".join([*lines, f"{info}/RECORD,,", ""]).encode()
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for path, data in content.items():
            archive.writestr(path, data)
        if mutate is not None:
            mutate(archive)
    return out.getvalue()


def file_of(name: str = "oven-plugin", version: str = "1.0.0") -> str:
    """Return the name of the file of a wheel."""
    return f"{name.replace('-', '_')}-{version}-py3-none-any.whl"


def hashed(data: bytes) -> str:
    """Return a hash as RECORD writes it."""
    return "sha256=" + base64.urlsafe_b64encode(hashlib.sha256(data).digest()).decode().rstrip("=")
