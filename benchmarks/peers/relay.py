"""The peer of live fan-out: a bare broadcast relay of the `websockets` package. It stores and checks nothing."""

from __future__ import annotations

import asyncio
import json
import signal
from contextlib import suppress

import uvloop
from websockets.asyncio.server import ServerConnection, broadcast, serve
from websockets.exceptions import ConnectionClosed

watchers: set[ServerConnection] = set()


async def relay(socket: ServerConnection) -> None:
    """Send every frame of a client to all clients."""
    watchers.add(socket)
    # Clients leave without a goodbye.
    with suppress(ConnectionClosed):
        async for frame in socket:
            broadcast(watchers, frame)
    watchers.discard(socket)


async def main() -> None:
    """Serve until SIGTERM."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    async with serve(relay, "127.0.0.1", 0, compression=None) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        print(json.dumps({"port": port}), flush=True)
        await stop.wait()


if __name__ == "__main__":
    uvloop.run(main())
