"""A WebSocket door behind uvicorn on a free port, as the server runs it, and clients for it."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest
import uvicorn
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.http11 import Response

from adapters.live.app import LiveApp
from core.kernel.pipeline import Platform
from core.kernel.settings import Settings
from tests.grpc.fake_pins import FakePins, platform

PINS = "/ws/boards/b1/pins"


class Server(uvicorn.Server):
    """Leaves signals to the tests."""

    def install_signal_handlers(self) -> None:
        """Install none."""


@dataclass
class Serving:
    """A running door."""

    live: LiveApp
    service: FakePins
    platform: Platform
    url: str

    def connect(self, path: str = PINS, token: str | None = "alice", **options: Any) -> connect:
        """Return a client that is about to connect."""
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        headers |= options.pop("headers", {})
        return connect(self.url + path, additional_headers=headers, proxy=None, open_timeout=10, close_timeout=5, **options)

    async def refusal(self, path: str = PINS, token: str | None = "alice", **options: Any) -> Response:
        """Return the HTTP answer to a connection that is refused."""
        try:
            async with self.connect(path, token, **options):
                raise AssertionError("the connection was accepted")
        except InvalidStatus as refused:
            return refused.response

    async def gone(self) -> None:
        """Wait until the door holds no connection."""
        await until(lambda: not self.live.connections)


@asynccontextmanager
async def serving(
    app: Platform | None = None, *, limits: bool = False, ping: float | None = None, **settings: Any
) -> AsyncGenerator[Serving]:
    """Serve the fake, or another platform, until the block ends."""
    service = FakePins()
    served = app or platform(service, limits=limits)
    live = LiveApp(served, Settings(**settings))
    listening = socket.socket()
    listening.bind(("127.0.0.1", 0))
    config = uvicorn.Config(
        live, lifespan="off", log_config=None, ws_max_size=16 * 1024 * 1024, ws_ping_interval=ping, ws_ping_timeout=ping
    )
    server = Server(config)
    task = asyncio.create_task(server.serve(sockets=[listening]))
    await until(lambda: server.started)
    try:
        yield Serving(live, service, served, f"ws://127.0.0.1:{listening.getsockname()[1]}")
    finally:
        await live.close_all()
        server.should_exit = server.force_exit = True
        await task


async def hear(client: ClientConnection) -> dict[str, Any]:
    """Return the next frame."""
    async with asyncio.timeout(60):
        return json.loads(await client.recv())


async def ask(client: ClientConnection, frame: object) -> dict[str, Any]:
    """Send a frame, given as JSON or as text, and return the next one of the server."""
    await client.send(frame if isinstance(frame, str | bytes) else json.dumps(frame))
    return await hear(client)


async def closing(client: ClientConnection) -> tuple[int, str]:
    """Read until the server closes; return the code and the reason."""
    with pytest.raises(ConnectionClosed) as closed:
        await _read_on(client)
    frame = closed.value.rcvd
    assert frame is not None
    return frame.code, frame.reason


async def _read_on(client: ClientConnection) -> None:
    async with asyncio.timeout(60):
        while True:
            await client.recv()


async def until(condition: Callable[[], bool]) -> None:
    """Wait until something holds that no event tells of."""
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110 - there is no event to wait for
            await asyncio.sleep(0.005)
