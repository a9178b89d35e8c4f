"""An HTTP server that runs as a task of the process."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Generator
from contextlib import contextmanager

import uvicorn

DATE_SECONDS = 1.0
LOOK_SECONDS = 0.005
GOODBYE_SECONDS = 0.1


class Listener(uvicorn.Server):
    """A server that leaves signals to the process, tells when it answers, and stops at once rather than at its next look."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.ready = asyncio.Event()
        self._leaving = asyncio.Event()

    def leave(self) -> None:
        """Take no more connections and close those that are idle."""
        self.should_exit = True
        self._leaving.set()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start to answer, and tell."""
        await super().startup(sockets)
        self.ready.set()

    async def main_loop(self) -> None:
        """Keep the date of answers until it is time to leave."""
        # Its own loop counts tenths of a second and makes the date at each tenth of them.
        while not await self.on_tick(0):
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._leaving.wait(), DATE_SECONDS)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Close every connection; what runs is waited for until `force_exit`, then a moment longer for goodbyes."""
        for listener in (*self.servers, *(sockets or ())):
            listener.close()
        for connection in list(self.server_state.connections):
            connection.shutdown()
        left = int(GOODBYE_SECONDS / LOOK_SECONDS)
        while (self.server_state.connections or self.server_state.tasks) and left > 0:
            await asyncio.sleep(LOOK_SECONDS)
            left -= self.force_exit
        for server in self.servers:
            await server.wait_closed()

    @contextmanager
    def capture_signals(self) -> Generator[None]:
        """Capture nothing."""
        yield
