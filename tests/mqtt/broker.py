"""A real MQTT broker for tests: a NATS server, which speaks MQTT with retained messages and last wills."""

from __future__ import annotations

import asyncio
import socket
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

SERVER = Path(sys.executable).with_name("nats-server")
CONFIG = """
server_name: "broker"
listen: "127.0.0.1:-1"
jetstream {{ store_dir: "{folder}" }}
mqtt {{ host: "127.0.0.1", port: {port} }}
"""


def free_port() -> int:
    """Return a port that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@dataclass
class Broker:
    """A broker that a test may stop and start again; what it retains is kept on disk."""

    folder: Path
    port: int = field(default_factory=free_port)
    _process: asyncio.subprocess.Process | None = None

    @property
    def url(self) -> str:
        """Its address, as the server is set to it."""
        return f"mqtt://127.0.0.1:{self.port}"

    async def start(self) -> None:
        """Start it; returns when it takes connections."""
        config = self.folder / "broker.conf"
        config.write_text(CONFIG.format(folder=self.folder / "store", port=self.port))
        self._process = await asyncio.create_subprocess_exec(SERVER, "-c", config, stderr=asyncio.subprocess.PIPE)
        assert self._process.stderr is not None
        async with asyncio.timeout(20):
            while b"Server is ready" not in await self._process.stderr.readline():
                pass

    async def stop(self) -> None:
        """End it at once."""
        if self._process is not None:
            self._process.kill()
            await self._process.communicate()
            self._process = None


@asynccontextmanager
async def running_broker(folder: Path) -> AsyncGenerator[Broker]:
    """Run a broker until the block ends."""
    folder.mkdir(parents=True, exist_ok=True)
    broker = Broker(folder)
    await broker.start()
    try:
        yield broker
    finally:
        await broker.stop()
