"""Serves an ASGI app as the real server does, so that both sides of a comparison run under the same uvicorn settings."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import uvicorn


class _Uvicorn(uvicorn.Server):
    """A server that says when it answers, and leaves its caller time to tidy up after SIGTERM."""

    def __init__(self, config: uvicorn.Config, announced: dict[str, Any]) -> None:
        super().__init__(config)
        self._announced = announced

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        print(json.dumps(self._announced), flush=True)

    @contextmanager
    def capture_signals(self) -> Generator[None]:
        def stop() -> None:
            self.should_exit = True

        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop)
        yield


async def serve(app: Any, **announced: str) -> None:  # noqa: ANN401 - ASGI
    """Serve until SIGTERM; print the port and what else clients need as one JSON object."""
    listener = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(app, lifespan="off", log_config=None, access_log=False, server_header=False, proxy_headers=False)
    await _Uvicorn(config, {"port": listener.getsockname()[1], **announced}).serve(sockets=[listener])
