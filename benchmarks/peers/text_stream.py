"""The peer of streamed runs, and the model that they ask: a text that streams to whoever waits once it is told to go.

As a peer it is a bare application under uvicorn that sends every piece of the text to all watchers as a message of its own. It
stores nothing and reads nothing in the text. As a model it speaks the OpenAI protocol.
"""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import uvicorn

PIECES = 4000
PIECE = "All pieces of this text are lines.\n"

Send = Callable[[dict[str, Any]], Awaitable[None]]
Receive = Callable[[], Awaitable[dict[str, Any]]]


class Text:
    """The text on its way."""

    def __init__(self) -> None:
        self.go = asyncio.Event()
        self.pieces = 0
        self.changed = asyncio.Event()

    async def write(self) -> None:
        """Let the text appear, piece by piece."""
        self.go.set()
        for _ in range(PIECES):
            self.pieces += 1
            changed, self.changed = self.changed, asyncio.Event()
            changed.set()
            await asyncio.sleep(0)

    async def read(self) -> AsyncIterator[int]:
        """Yield how many pieces are new, until all are there."""
        seen = 0
        while seen < PIECES:
            changed = self.changed
            if self.pieces == seen:
                await changed.wait()
            new, seen = self.pieces - seen, self.pieces
            yield new


class App:
    """One text after the other."""

    def __init__(self) -> None:
        self._text = Text()
        self._asked = asyncio.Event()
        self._writing: asyncio.Task[None] | None = None

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        """Answer a request."""
        path = scope["path"]
        if path in {"/go", "/go-when-asked"}:
            if path == "/go-when-asked":
                await self._asked.wait()
                self._asked.clear()
            self._writing, self._text = asyncio.create_task(self._text.write()), Text()
            await self._answer(send, [b"{}"])
        elif path == "/watch":
            message = json.dumps({"type": "reply", "replyChunk": PIECE}).encode() + b"@@PX@@"
            await self._stream(send, message, b'{"type":"finished"}@@PX@@')
        else:
            body = b""
            while (event := await receive()).get("more_body"):
                body += event["body"]
            delta = {"choices": [{"index": 0, "delta": {"content": PIECE}, "finish_reason": None}]}
            piece = b"data: " + json.dumps(delta).encode() + b"\n\n"
            stop = json.dumps({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}).encode()
            end = b"data: " + stop + b"\n\ndata: [DONE]\n\n"
            if b"Summarise a conversation" in body + event.get("body", b""):
                await self._answer(send, [piece, end])
            else:
                self._asked.set()
                await self._stream(send, piece, end)

    async def _stream(self, send: Send, piece: bytes, end: bytes) -> None:
        text = self._text
        await self._begin(send)
        async for new in text.read():
            for _ in range(new):
                await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": end})

    async def _answer(self, send: Send, parts: list[bytes]) -> None:
        await self._begin(send)
        await send({"type": "http.response.body", "body": b"".join(parts)})

    async def _begin(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]})


async def main() -> None:
    """Serve on a free port until SIGTERM."""
    listener = socket.create_server(("127.0.0.1", 0))
    print(json.dumps({"port": listener.getsockname()[1]}), flush=True)
    app: Any = App()
    config = uvicorn.Config(app, log_level="error", lifespan="off", access_log=False)
    await uvicorn.Server(config).serve(sockets=[listener])


if __name__ == "__main__":
    import uvloop

    uvloop.run(main())
