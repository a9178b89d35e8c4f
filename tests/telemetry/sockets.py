"""Devices and dashboards as clients of the whole server."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any
from weakref import WeakKeyDictionary

import websockets
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

from tests.conftest import Running

SECONDS = 60.0
_greetings: WeakKeyDictionary[ClientConnection, dict[str, Any]] = WeakKeyDictionary()


def greeting(socket: ClientConnection) -> dict[str, Any]:
    """Return the first frame that the server sent."""
    return _greetings[socket]


async def say(socket: ClientConnection, kind: str, **members: Any) -> None:
    """Send a frame."""
    await socket.send(json.dumps({"type": kind, **members}))


async def hear(socket: ClientConnection, *kinds: str, where: Callable[[dict[str, Any]], bool] | None = None) -> dict[str, Any]:
    """Return the next frame of some types, of any type when none is given."""
    async with asyncio.timeout(SECONDS):
        while True:
            data = await socket.recv()
            if isinstance(data, bytes):
                continue
            frame = json.loads(data)
            if (not kinds or frame["type"] in kinds) and (where is None or where(frame)):
                return frame


async def nothing_before_pong(socket: ClientConnection, kind: str) -> None:
    """Ask a dashboard's socket for a pong, and see that no frame of a type comes before it."""
    await say(socket, "ping")
    frame = await hear(socket, kind, "pong")
    assert frame["type"] == "pong", frame


async def end_of(socket: ClientConnection) -> int | None:
    """Read until the server closes, and return the code."""

    async def read_on() -> None:
        async for _ in socket:
            pass

    with suppress(ConnectionClosed):
        await asyncio.wait_for(read_on(), SECONDS)
    return socket.close_code


@asynccontextmanager
async def device(
    busbar: Running, key: str, source_id: str = "rig", /, path: str = "/ws/device", **members: Any
) -> AsyncGenerator[ClientConnection]:
    """Connect a device and take its welcome, for `greeting`."""
    async with websockets.connect(f"{busbar.ws_url}{path}", max_size=None) as socket:
        await say(socket, "device_auth", api_key=key, source_id=source_id, **members)
        welcome = await hear(socket)
        assert welcome["type"] == "authenticated", welcome
        _greetings[socket] = welcome
        yield socket


@asynccontextmanager
async def dashboard(busbar: Running, token: str, path: str = "/ws/browser", /, **auth: Any) -> AsyncGenerator[ClientConnection]:
    """Connect a dashboard and take its `init`, for `greeting`."""
    async with websockets.connect(f"{busbar.ws_url}{path}", max_size=None) as socket:
        await say(socket, **(auth or {"kind": "browser_auth", "token": token}))
        init = await hear(socket)
        assert init["type"] == "init", init
        _greetings[socket] = init
        yield socket


def sources(socket: ClientConnection) -> list[str]:
    """Return the sources that were online when a dashboard connected."""
    return [source["source_id"] for source in greeting(socket)["online_sources"]]
