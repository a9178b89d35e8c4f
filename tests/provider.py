"""A server of the tests that speaks the OpenAI protocol, and misbehaves in the ways that providers do."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncGenerator, AsyncIterator, Generator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

KEY = "sk-local-0123456789"
MODEL = "tiny-1"
USAGE = {"prompt_tokens": 11, "completion_tokens": 3, "total_tokens": 14}


@dataclass
class Provider:
    """What the server answers, and what it was asked.

    Attributes:
        pieces: Pieces of the answer; joined where it is not streamed.
        finish: Why the answer ends; None leaves it without an end.
        status: Status of a refusal; 0 answers.
        headers: Header fields of a refusal.
        usage: Whether it tells what an answer cost.
        garbage: Bytes to answer instead of JSON.
        cut: Whether a stream breaks off without its end.
        error: Whether a stream ends with an error of the provider.
        hangs: Whether it never answers; `asked` is set when it was asked.
        hangs_after: Pieces after which a stream goes silent; None never.
        requests: Bodies that it was sent, by order.
        paths: Paths at which it was asked, by order.
        credentials: What it was asked with, by order.
    """

    pieces: list[str] = field(default_factory=lambda: ["Use ", "pin ", "4."])
    finish: str | None = "stop"
    status: int = 0
    headers: dict[str, str] = field(default_factory=dict[str, str])
    usage: bool = True
    garbage: bytes | None = None
    cut: bool = False
    error: bool = False
    hangs: bool = False
    hangs_after: int | None = None
    requests: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    paths: list[str] = field(default_factory=list[str])
    credentials: list[str] = field(default_factory=list[str])
    url: str = ""
    asked: asyncio.Event = field(default_factory=asyncio.Event)
    left: asyncio.Event = field(default_factory=asyncio.Event)
    release: asyncio.Event = field(default_factory=asyncio.Event)

    async def answer(self, request: Request) -> Response:
        """Answer one request."""
        body = await request.json()
        self.paths.append(request.url.path)
        self.credentials.append(request.headers["authorization"])
        self.requests.append(body)
        self.asked.set()
        if self.hangs:
            await self.release.wait()
        if request.headers["authorization"] != f"Bearer {KEY}":
            return JSONResponse({"error": {"message": f"bad key {request.headers['authorization']}"}}, 401)
        if self.status:
            return JSONResponse({"error": {"message": f"refused {KEY}"}}, self.status, self.headers)
        if self.garbage is not None:
            return Response(self.garbage, media_type="application/json")
        if body.get("stream"):
            return StreamingResponse(self._events(), media_type="text/event-stream")
        return JSONResponse(self._whole(body))

    def _whole(self, body: dict[str, Any]) -> dict[str, Any]:
        text = "".join(self.pieces)
        part = {"text": text} if "prompt" in body else {"message": {"role": "assistant", "content": text or None}}
        choice = {"index": 0, "finish_reason": self.finish, **part}
        answer = {"id": "c1", "object": "x", "created": 1, "model": body["model"], "choices": [choice]}
        return {**answer, "usage": USAGE} if self.usage else answer

    async def _events(self) -> AsyncIterator[bytes]:
        try:
            for number, piece in enumerate(self.pieces):
                if number == self.hangs_after:
                    await self.release.wait()
                yield self._event([{"index": 0, "delta": {"content": piece}, "finish_reason": None}])
            if self.error:
                yield b'data: {"error": {"message": "out of memory", "type": "server_error"}}\n\n'
                return
            if self.cut:
                return
            yield self._event([{"index": 0, "delta": {}, "finish_reason": self.finish}])
            if self.usage:
                yield self._event([], usage=USAGE)
            yield b"data: [DONE]\n\n"
        finally:
            self.left.set()

    def _event(self, choices: list[dict[str, Any]], **more: Any) -> bytes:
        chunk = {"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": MODEL, "choices": choices, **more}
        return b"data: " + json.dumps(chunk).encode() + b"\n\n"


class _Server(uvicorn.Server):
    """A server that leaves signals to the tests, and tells when it answers."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.ready = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start to answer, and tell."""
        await super().startup(sockets)
        self.ready.set()

    @contextmanager
    def capture_signals(self) -> Generator[None]:
        """Capture nothing."""
        yield


@asynccontextmanager
async def answering(app: Starlette) -> AsyncGenerator[str]:
    """Serve an application on a free port of this machine, and tell its address."""
    server = _Server(uvicorn.Config(app, host="127.0.0.1", port=0, log_config=None, lifespan="off"))
    task = asyncio.create_task(server.serve())
    await asyncio.wait_for(server.ready.wait(), 10)
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        await task


@asynccontextmanager
async def serving() -> AsyncGenerator[Provider]:
    """Serve on a free port of this machine."""
    provider = Provider()
    routes = [Route(f"/v1/{path}", provider.answer, methods=["POST"]) for path in ("chat/completions", "completions")]
    async with answering(Starlette(routes=routes)) as url:
        provider.url = f"{url}/v1"
        try:
            yield provider
        finally:
            provider.release.set()


def settings(provider: Provider, **more: Any) -> dict[str, Any]:
    """Return the settings of a server that asks the provider."""
    return {"ai_base_url": provider.url, "ai_key": KEY, "ai_model": MODEL, **more}
