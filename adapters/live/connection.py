"""One open socket.

Two tasks serve it: one reads frames for the service, the other sends the service's answers, one at a time. Nothing is kept
beyond a few frames that the service has not asked for yet, so a slow peer slows down only itself; how much may wait for a
slow reader is the service's own bounded queue.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, MutableMapping
from contextlib import aclosing, suppress
from typing import Any

import structlog
from protobuf import Message

from adapters.live.frames import BadFrame, Frames, text
from adapters.live.handshake import Handshake
from adapters.live.styles import INTERNAL, NORMAL, UNSUPPORTED, Ending, Style
from core.kernel.errors import DomainError, TooLarge, Unavailable
from core.kernel.errors import Internal as InternalError
from gen.busbar.api.v1.error_reason_pb import ErrorReason
from gen.busbar.api.v1.options_pb import Socket

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]

log = structlog.get_logger("busbar.live")

WAITING_FRAMES = 16
"""Frames read ahead of the service; then the socket is left unread, and the peer must wait."""

LAST_FRAMES_SECONDS = 2.0
"""How long the service may take over the frames that came before a disconnect."""

CLEANUP_SECONDS = 5.0
"""How long a handler may take to clean up after it was stopped."""

CLOSE_SECONDS = 2.0
"""How long a close frame may wait for a slow reader."""

STALL_CHECKS = 4
"""How often a stall is looked for within the time that makes one."""

LONGEST_CHARACTER = 4
"""Bytes of a character in UTF-8."""


class Incoming:
    """The client's frames as the stream of requests that the service reads."""

    def __init__(self, opening: Message[Any] | None) -> None:
        self.exhausted = asyncio.Event()
        self._waiting: asyncio.Queue[Message[Any] | None] = asyncio.Queue(WAITING_FRAMES)
        if opening is not None:
            self._waiting.put_nowait(opening)

    async def put(self, message: Message[Any] | None) -> None:
        """Add a request, or with None the end, as soon as there is room."""
        await self._waiting.put(message)

    def __aiter__(self) -> Incoming:
        return self

    async def __anext__(self) -> Message[Any]:
        if self.exhausted.is_set():
            raise StopAsyncIteration
        message = await self._waiting.get()
        if message is None:
            self.exhausted.set()
            raise StopAsyncIteration
        return message


class Connection:
    """Talks over one socket until either side ends it.

    Attributes:
        closed: Set when nothing of the connection is left.
    """

    def __init__(
        self,
        frames: Frames,
        style: Style,
        handshake: Handshake,
        receive: Receive,
        *,
        socket: Socket,
        max_bytes: int,
        stall_seconds: float,
    ) -> None:
        self.closed = asyncio.Event()
        self._frames = frames
        self._style = style
        self._handshake = handshake
        self._receive = receive
        self._max_bytes = max_bytes
        self._stall_seconds = stall_seconds
        self._accept_first = socket.accept_first or socket.refuse_by_close
        self._now = asyncio.get_running_loop().time
        self._introduces_itself = socket.accept_first
        self._objects_only = socket.objects_only
        self._incoming = Incoming(None)
        self._sending = asyncio.Lock()
        self._ended = asyncio.Event()
        self._ending: Ending | None = None
        self._gone = False
        self._heard = False
        self._sending_since: float | None = None
        self._stalled = False

    def incoming(self, opening: Message[Any] | None) -> Incoming:
        """Return the stream of requests, which begins with the opening one."""
        self._incoming = Incoming(opening)
        return self._incoming

    def end(self, code: int, reason: str) -> None:
        """End the connection from this side."""
        self._ending = Ending(code, reason)
        self._ended.set()

    async def run(self, answers: AsyncGenerator[Message[Any]]) -> None:
        """Serve the connection until it ends; every failure becomes a close code, or an HTTP answer before acceptance."""
        sender = asyncio.create_task(self._send_answers(answers), name="socket sender")
        reader = asyncio.create_task(self._read_frames(), name="socket reader")
        ended = asyncio.create_task(self._ended.wait(), name="socket end")
        stalls = asyncio.create_task(self._look_for_stalls(), name="socket stalls")
        try:
            await asyncio.wait({sender, reader, ended}, return_when=asyncio.FIRST_COMPLETED)
            if self._gone and self._handshake.accepted and not sender.done():
                await self._let_finish(sender, reader)
        finally:
            await _stop(sender, reader, ended, stalls)
        await self._close(sender, reader)

    async def _send_answers(self, answers: AsyncGenerator[Message[Any]]) -> None:
        async with aclosing(answers):
            if self._accept_first:
                await self._transmit(self._handshake.acceptance())
            async for message in answers:
                if not self._handshake.accepted:
                    await self._transmit(self._handshake.acceptance())
                frame = self._frames.write(message)
                if frame is not None:
                    await self._transmit_frame(frame)

    async def _read_frames(self) -> None:
        while True:
            event = await self._receive()
            if event["type"] == "websocket.disconnect":
                self._gone = True
                return
            binary: bytes | None = event.get("bytes")
            data: str | bytes = event["text"] if binary is None else binary
            if _is_longer(data, self._max_bytes):
                raise TooLarge(f"frame is larger than {self._max_bytes} bytes", limit_bytes=self._max_bytes)
            try:
                message = self._frames.read(data)
            except BadFrame as bad:
                if self._objects_only and not bad.is_object:
                    self.end(UNSUPPORTED, bad.sentence)
                    return
                if self._introduces_itself and not self._heard:
                    # The first frame says who is there; without that there is nobody to talk with.
                    raise bad.error from bad
                await self._transmit_frame(text(self._style.error(bad.error, bad.sentence, bad.members)))
            else:
                self._heard = True
                await self._incoming.put(message)

    async def _transmit_frame(self, frame: str | bytes) -> None:
        kind = "text" if isinstance(frame, str) else "bytes"
        await self._transmit({"type": "websocket.send", kind: frame})

    async def _transmit(self, event: MutableMapping[str, Any]) -> None:
        """Send one event; to a peer that is gone nothing is sent, so that the service may finish what it began."""
        if self._gone:
            # A service that has always something to say must not keep the loop to itself.
            await asyncio.sleep(0)
            return
        async with self._sending:
            self._sending_since = self._now()
            try:
                await self._handshake.send(event)
            except Exception:  # noqa: BLE001 - servers differ in how they say that the peer is gone
                self._gone = True
                self._ended.set()
            finally:
                self._sending_since = None

    async def _look_for_stalls(self) -> None:
        """End the connection when its peer takes nothing any more.

        A timeout around each frame would cost as much as sending it.
        """
        while not self._stalled:
            await asyncio.sleep(self._stall_seconds / STALL_CHECKS)
            since = self._sending_since
            self._stalled = since is not None and self._now() - since > self._stall_seconds
        self._ended.set()

    async def _let_finish(self, sender: asyncio.Task[None], reader: asyncio.Task[None]) -> None:
        """Let the service take the frames that came before the end, since the client may count on them."""
        exhausted = asyncio.create_task(self._exhaust(reader), name="socket last frames")
        await asyncio.wait({sender, exhausted}, timeout=LAST_FRAMES_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        await _stop(exhausted)

    async def _exhaust(self, reader: asyncio.Task[None]) -> None:
        await asyncio.wait({reader})
        await self._incoming.put(None)
        await self._incoming.exhausted.wait()

    async def _close(self, sender: asyncio.Task[None], reader: asyncio.Task[None]) -> None:
        failure = _failure(sender) or _failure(reader)
        if self._gone or self._stalled:
            return
        with suppress(Exception):  # The peer may go at any moment, and then there is nobody to tell.
            async with asyncio.timeout(CLOSE_SECONDS):
                if self._handshake.accepted:
                    await self._say_goodbye(self._ending or self._ending_of(failure))
                elif self._ending is not None:
                    error = Unavailable(self._ending.reason, reason=ErrorReason.SHUTTING_DOWN, retry_after=1)
                    await self._handshake.refuse(error)
                elif failure is not None:
                    await self._handshake.refuse(
                        failure if isinstance(failure, DomainError) else InternalError("internal error")
                    )
                else:
                    await self._handshake.send(self._handshake.acceptance())
                    await self._say_goodbye(Ending(NORMAL))

    def _ending_of(self, failure: BaseException | None) -> Ending:
        if failure is None:
            return Ending(NORMAL)
        return self._style.ending(failure) if isinstance(failure, DomainError) else Ending(INTERNAL, "internal error")

    async def _say_goodbye(self, ending: Ending) -> None:
        if ending.last is not None:
            await self._handshake.send({"type": "websocket.send", "text": text(ending.last)})
        await self._handshake.send({"type": "websocket.close", "code": ending.code, "reason": ending.short_reason})


def _is_longer(data: str | bytes, limit: int) -> bool:
    if isinstance(data, bytes) or len(data) > limit:
        return len(data) > limit
    return len(data) * LONGEST_CHARACTER > limit and len(data.encode()) > limit


async def _stop(*tasks: asyncio.Task[Any]) -> None:
    """Stop tasks and wait until they have cleaned up, but not for ever."""
    for task in tasks:
        task.cancel()
    _, late = await asyncio.wait(tasks, timeout=CLEANUP_SECONDS)
    for task in late:
        log.error("a live call does not end", task=task.get_name())


def _failure(task: asyncio.Task[None]) -> BaseException | None:
    """Return what a task failed with; None for one that ended well or was stopped."""
    if not task.done() or task.cancelled():
        return None
    error = task.exception()
    if error is not None and not isinstance(error, DomainError):
        log.error("unexpected failure at the door", exc_info=error)
    return error
