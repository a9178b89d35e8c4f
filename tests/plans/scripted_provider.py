"""A model provider that answers by script: each question takes the next answer, and the last one is given for ever."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from tests.provider import answering

USAGE = {"prompt_tokens": 11, "completion_tokens": 3, "total_tokens": 14}


@dataclass
class Answer:
    """One answer.

    Attributes:
        pieces: Pieces of its text.
        arguments: Pieces of the arguments of a function that it calls instead.
        finish: Why it ends; None cuts the stream off without an end.
        status: Status of a refusal; 0 answers.
        headers: Header fields of a refusal.
        usage: What it tells of its cost; None for nothing.
        silent_at: Piece before which it goes silent until the test ends; None never.
        raw: Bytes to send in the place of events.
    """

    pieces: tuple[str, ...] = ("Hello", " world")
    arguments: tuple[str, ...] = ()
    finish: str | None = "stop"
    status: int = 0
    headers: dict[str, str] = field(default_factory=dict[str, str])
    usage: dict[str, Any] | None = field(default_factory=lambda: dict(USAGE))
    silent_at: int | None = None
    raw: bytes | None = None


@dataclass
class ScriptedProvider:
    """The provider.

    Attributes:
        script: Answers in order.
        requests: Bodies of the questions, in order.
        headers: Their header fields.
        paths: Their paths, with the query.
        url: Its address, to which `/chat/completions` is added.
        left: Set when a caller has left, or read to the end.
    """

    script: list[Answer] = field(default_factory=lambda: [Answer()])
    requests: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    headers: list[dict[str, str]] = field(default_factory=list[dict[str, str]])
    paths: list[str] = field(default_factory=list[str])
    url: str = ""
    release: asyncio.Event = field(default_factory=asyncio.Event)
    left: asyncio.Event = field(default_factory=asyncio.Event)

    async def answer(self, request: Request) -> Response:
        """Answer one question."""
        number = min(len(self.requests), len(self.script) - 1)
        self.requests.append(await request.json())
        self.headers.append(dict(request.headers))
        self.paths.append(f"{request.url.path}?{request.url.query}".rstrip("?"))
        answer = self.script[number]
        if answer.status:
            return JSONResponse({"error": {"message": "refused"}}, answer.status, answer.headers)
        return StreamingResponse(self._events(answer), media_type="text/event-stream")

    async def _events(self, answer: Answer) -> AsyncIterator[bytes]:
        try:
            if answer.raw is not None:
                yield answer.raw
                return
            deltas: list[dict[str, Any]] = [{"content": piece} for piece in answer.pieces]
            if answer.arguments:
                deltas = [
                    {"tool_calls": [{"index": 0, "type": "function", "function": {"name": "f", "arguments": piece}}]}
                    for piece in answer.arguments
                ]
            for at, delta in enumerate(deltas):
                if at == answer.silent_at:
                    await self.release.wait()
                yield _event([{"index": 0, "delta": delta, "finish_reason": None}])
            if answer.finish is None:
                return
            yield _event([{"index": 0, "delta": {}, "finish_reason": answer.finish}])
            if answer.usage is not None:
                yield _event([], usage=answer.usage)
            yield b"data: [DONE]\n\n"
        finally:
            self.left.set()


def _event(choices: list[dict[str, Any]], **more: Any) -> bytes:
    chunk = {"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": choices, **more}
    return b"data: " + json.dumps(chunk).encode() + b"\n\n"


@asynccontextmanager
async def scripted() -> AsyncGenerator[ScriptedProvider]:
    """Serve on a free port of this machine."""
    provider = ScriptedProvider()
    route = Route("/{path:path}", provider.answer, methods=["POST"])
    async with answering(Starlette(routes=[route])) as url:
        provider.url = f"{url}/v1"
        try:
            yield provider
        finally:
            provider.release.set()
