"""Serves the development model over the protocol of OpenAI, on this machine only."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Sequence
from typing import Any

import msgspec
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from adapters.dev_model.answers import Asked, Pause, Step, answer
from adapters.listening import Listener

HOST = "127.0.0.1"
_PIECE = 24
_CHARACTERS_PER_TOKEN = 4


class _Part(msgspec.Struct):
    type: str = "text"
    text: str = ""


class _Message(msgspec.Struct):
    role: str
    content: str | list[_Part] | None = None

    def words(self) -> str:
        """Return the text of the message, which may come in parts."""
        if isinstance(self.content, list):
            return "\n".join(part.text for part in self.content if part.type == "text")
        return self.content or ""


class _Kind(msgspec.Struct):
    type: str = "string"


class _Parameters(msgspec.Struct):
    properties: dict[str, _Kind] = {}


class _Function(msgspec.Struct):
    name: str
    parameters: _Parameters = msgspec.field(default_factory=_Parameters)


class _Tool(msgspec.Struct):
    function: _Function


class _Wanted(msgspec.Struct):
    """The fields of a request that matter here."""

    model: str
    messages: list[_Message]
    stream: bool = False
    stop: str | list[str] | None = None
    tools: list[_Tool] | None = None

    def asked(self) -> Asked:
        """Return the question."""
        messages = [(message.role, message.words()) for message in self.messages]
        if not self.tools:
            return Asked(self.model, messages)
        function = self.tools[0].function
        kinds = {name: kind.type for name, kind in function.parameters.properties.items()}
        return Asked(self.model, messages, (function.name, kinds))


_decoder = msgspec.json.Decoder(_Wanted)


class DevModel:
    """The development model on a port of this machine.

    Args:
        port: Port; 0 picks a free one.
        pace_seconds: Seconds between two pieces of an answer.
    """

    def __init__(self, port: int = 0, pace_seconds: float = 0.0) -> None:
        self._port = port
        self._pace = pace_seconds
        self._server: Listener | None = None
        self._task: asyncio.Task[None] | None = None
        self._stopping = asyncio.Event()
        self.url = ""

    async def start(self) -> str:
        """Start to answer, and return the address.

        Raises:
            OSError: The port cannot be had.
        """
        sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind((HOST, self._port))
        except OSError:
            sock.close()
            raise
        routes = [
            Route("/v1/chat/completions", self._complete, methods=["POST"]),
            Route("/v1/models", _models, methods=["GET"]),
        ]
        self._server = Listener(
            uvicorn.Config(Starlette(routes=routes), lifespan="off", log_config=None, access_log=False, server_header=False)
        )
        self._task = asyncio.create_task(self._server.serve(sockets=[sock]), name="development model")
        await self._server.ready.wait()
        self.url = f"http://{HOST}:{sock.getsockname()[1]}/v1"
        return self.url

    async def stop(self) -> None:
        """Stop to answer; running answers are broken off."""
        self._stopping.set()
        if self._server is not None and self._task is not None:
            self._server.should_exit = self._server.force_exit = True
            await self._task

    async def _complete(self, request: Request) -> Response:
        try:
            wanted = _decoder.decode(await request.body())
        except msgspec.MsgspecError as error:
            return JSONResponse({"error": {"message": str(error), "type": "invalid_request_error"}}, 400)
        asked = wanted.asked()
        steps = _stopped(answer(asked), wanted.stop)
        if wanted.stream:
            return StreamingResponse(self._events(wanted, asked, steps), media_type="text/event-stream")
        for step in steps:
            if isinstance(step, Pause):
                await self._sleep(step.seconds)
        text = _text(steps)
        message: dict[str, Any] = {"role": "assistant", "content": None, "tool_calls": [_tool_call(asked, text)]}
        if asked.function is None:
            message = {"role": "assistant", "content": text}
        choice = {"index": 0, "message": message, "finish_reason": _reason(asked)}
        return JSONResponse({**_head(wanted, "chat.completion"), "choices": [choice], "usage": _usage(asked, text)})

    async def _events(self, wanted: _Wanted, asked: Asked, steps: Sequence[Step]) -> AsyncIterator[bytes]:
        for step in steps:
            if isinstance(step, Pause):
                await self._sleep(step.seconds)
                continue
            for at in range(0, len(step), _PIECE):
                piece = step[at : at + _PIECE]
                delta = {"tool_calls": [_tool_call(asked, piece)]} if asked.function is not None else {"content": piece}
                yield _event(wanted, [{"index": 0, "delta": delta, "finish_reason": None}])
                if self._pace:
                    await self._sleep(self._pace)
        yield _event(wanted, [{"index": 0, "delta": {}, "finish_reason": _reason(asked)}])
        yield _event(wanted, [], usage=_usage(asked, _text(steps)))
        yield b"data: [DONE]\n\n"

    async def _sleep(self, seconds: float) -> None:
        """Wait, unless the server stops meanwhile."""
        try:
            async with asyncio.timeout(seconds):
                await self._stopping.wait()
        except TimeoutError:
            return


def _stopped(steps: Sequence[Step], stop: str | list[str] | None) -> list[Step]:
    """Return an answer up to the first of the marks at which it is to end."""
    marks = [stop] if isinstance(stop, str) else stop or []
    kept: list[Step] = []
    for step in steps:
        ends = [at for mark in marks if mark and isinstance(step, str) and (at := step.find(mark)) >= 0]
        if ends and isinstance(step, str):
            return [*kept, step[: min(ends)]]
        kept.append(step)
    return kept


def _text(steps: Sequence[Step]) -> str:
    return "".join(step for step in steps if isinstance(step, str))


def _tool_call(asked: Asked, arguments: str) -> dict[str, Any]:
    name = asked.function[0] if asked.function else ""
    return {"index": 0, "id": "call_dev", "type": "function", "function": {"name": name, "arguments": arguments}}


def _reason(asked: Asked) -> str:
    return "stop" if asked.function is None else "tool_calls"


def _usage(asked: Asked, text: str) -> dict[str, int]:
    read = sum(_tokens(message) for _, message in asked.messages)
    written = _tokens(text)
    return {"prompt_tokens": read, "completion_tokens": written, "total_tokens": read + written}


def _tokens(text: str) -> int:
    return -(-len(text) // _CHARACTERS_PER_TOKEN)


def _head(wanted: _Wanted, kind: str) -> dict[str, Any]:
    return {"id": "dev", "object": kind, "created": 0, "model": wanted.model}


def _event(wanted: _Wanted, choices: list[dict[str, Any]], **more: Any) -> bytes:  # noqa: ANN401 - JSON
    chunk = {**_head(wanted, "chat.completion.chunk"), "choices": choices, **more}
    return b"data: " + json.dumps(chunk).encode() + b"\n\n"


async def _models(request: Request) -> JSONResponse:
    del request
    return JSONResponse({"object": "list", "data": [{"id": "planner", "object": "model", "created": 0, "owned_by": "dev"}]})
