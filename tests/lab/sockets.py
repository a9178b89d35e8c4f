"""Browsers and controllers on the sockets of the lab."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from typing import Any

import httpx
import websockets
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

from tests.conftest import Running

SECONDS = 60.0
WATCH, SEND = "/ws/datapoints/stream", "/ws/controller/telemetry"


def token_of(client: httpx.AsyncClient) -> str:
    """Return the token with which a client signed in."""
    return client.headers["authorization"].removeprefix("Bearer ")


async def hear(socket: ClientConnection) -> dict[str, Any]:
    """Return the next frame."""
    return json.loads(await asyncio.wait_for(socket.recv(), SECONDS))


async def ask(socket: ClientConnection, frame: object) -> dict[str, Any]:
    """Send a frame, as JSON or as text, and return the next one."""
    await socket.send(frame if isinstance(frame, str | bytes) else json.dumps(frame))
    return await hear(socket)


async def ending(socket: ClientConnection) -> tuple[int | None, str | None]:
    """Read until the server closes; return code and reason."""
    with suppress(ConnectionClosed):
        async with asyncio.timeout(SECONDS):
            async for _ in socket:
                pass
    return socket.close_code, socket.close_reason


@asynccontextmanager
async def stream(busbar: Running, client: httpx.AsyncClient) -> AsyncGenerator[ClientConnection]:
    """Watch datapoints, from after the welcome."""
    async with websockets.connect(f"{busbar.ws_url}{WATCH}?token={token_of(client)}") as socket:
        assert (await hear(socket))["type"] == "connected"
        yield socket


@asynccontextmanager
async def controller(busbar: Running, client: httpx.AsyncClient) -> AsyncGenerator[ClientConnection]:
    """Send datapoints."""
    async with websockets.connect(f"{busbar.ws_url}{SEND}?token={token_of(client)}") as socket:
        yield socket


async def settle(socket: ClientConnection) -> None:
    """Wait until a controller's batches so far are dealt with: only a refusal is ever answered, so cause one."""
    frame = await ask(socket, {"datapoints": [{}]})
    assert frame == {"type": "error", "message": "No valid datapoints in batch"}
