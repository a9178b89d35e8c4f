"""A client that sees each ASGI event as it is sent, and may be slow or go away."""

from __future__ import annotations

import asyncio
from collections.abc import MutableMapping
from typing import Any

from adapters.rest.app import RestApp
from tests.rest.fakes import ALICE

PATIENCE = 5.0


class Wire:
    """One request, driven event by event."""

    def __init__(self, app: RestApp, path: str, *, method: str = "GET", room: int = 100, **headers: str) -> None:
        path, _, query = path.partition("?")
        self._scope: dict[str, Any] = {
            "type": "http",
            "method": method,
            "path": path,
            "raw_path": path.encode(),
            "query_string": query.encode(),
            "headers": [(k.replace("_", "-").encode(), v.encode()) for k, v in {**ALICE, **headers}.items()],
            "client": ("203.0.113.9", 1),
            "server": ("box.test", 80),
            "scheme": "http",
        }
        self._sent: asyncio.Queue[MutableMapping[str, Any]] = asyncio.Queue(maxsize=room)
        self._gone = asyncio.Event()
        self._asked = False
        self.task = asyncio.create_task(app(self._scope, self._receive, self._sent.put))

    async def _receive(self) -> MutableMapping[str, Any]:
        if not self._asked:
            self._asked = True
            return {"type": "http.request", "body": b"", "more_body": False}
        await self._gone.wait()
        return {"type": "http.disconnect"}

    async def event(self) -> MutableMapping[str, Any]:
        """Return the next event."""
        return await asyncio.wait_for(self._sent.get(), PATIENCE)

    async def start(self) -> tuple[int, dict[str, str]]:
        """Return the status and the headers."""
        event = await self.event()
        return event["status"], {k.decode(): v.decode() for k, v in event["headers"]}

    async def chunk(self) -> bytes:
        """Return the next piece of the body."""
        return (await self.event())["body"]

    async def rest(self) -> bytes:
        """Return everything up to the end."""
        body = b""
        while True:
            event = await self.event()
            body += event.get("body", b"")
            if not event.get("more_body"):
                await asyncio.wait_for(self.task, PATIENCE)
                return body

    def leave(self) -> None:
        """Close the connection."""
        self._gone.set()
