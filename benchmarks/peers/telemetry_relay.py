"""The peer of telemetry over sockets: a bare relay of the `websockets` package, from devices to dashboards.

It collects for as long as the server does and sends what came as one JSON array. It checks, parses and stores nothing.
"""

from __future__ import annotations

import asyncio
import json
import signal
from contextlib import suppress

import uvloop
from websockets.asyncio.server import ServerConnection, broadcast, serve
from websockets.exceptions import ConnectionClosed

BATCH_SECONDS = 0.025

dashboards: set[ServerConnection] = set()
waiting: list[str] = []


async def relay(socket: ServerConnection) -> None:
    """Take frames from devices; keep dashboards."""
    assert socket.request is not None
    shows = socket.request.path == "/ws/browser"
    if shows:
        dashboards.add(socket)
    # Clients leave without a goodbye.
    with suppress(ConnectionClosed):
        async for frame in socket:
            waiting.append(str(frame))  # noqa: PERF401 - others wait for what comes, not for its end
    dashboards.discard(socket)


async def send() -> None:
    """Send batches for ever."""
    while True:
        await asyncio.sleep(BATCH_SECONDS)
        if waiting:
            batch = f"[{','.join(waiting)}]"
            waiting.clear()
            broadcast(dashboards, batch)


async def main() -> None:
    """Serve until SIGTERM."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    sending = asyncio.create_task(send())
    async with serve(relay, "127.0.0.1", 0, compression=None) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        print(json.dumps({"port": port}), flush=True)
        await stop.wait()
    sending.cancel()


if __name__ == "__main__":
    uvloop.run(main())
