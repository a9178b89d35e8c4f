"""A pin service that does what a test of a door needs, bound to the real descriptor."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

from protobuf import Oneof
from protobuf.wkt import Value

from core.kernel.call import Call, Ended, Principal
from core.kernel.errors import Aborted, InvalidArgument, NotFound, PermissionDenied, ResourceExhausted, Unauthenticated
from core.kernel.limits import Limiter
from core.kernel.pipeline import IdempotencyStore, Platform
from core.kernel.rpc import bind
from core.kernel.validation import validate
from gen.busbar.api.v1.error_reason_pb import ErrorReason
from gen.busbar.api.v1.options_pb import CredentialKind
from gen.busbar.maker.v1 import pins_pb
from gen.busbar.maker.v1.pins_pb import (
    ConnectPinsRequest,
    ConnectPinsResponse,
    ListPinsRequest,
    ListPinsResponse,
    Pin,
    PinAck,
    PinChange,
    PinOpen,
    PinPong,
    PinRefusal,
    PinSnapshot,
    PinWrite,
    PinWriteMany,
    ReadPinRequest,
    WatchPinsRequest,
    WritePinRequest,
)

PEOPLE = {
    "alice": Principal("c1", CredentialKind.SESSION, "org1", user_id="u1"),
    "reader": Principal("c2", CredentialKind.AGENT_KEY, "org1", user_id="u1", scopes=frozenset({"pins:read"})),
    "mute": Principal("c3", CredentialKind.AGENT_KEY, "org1", user_id="u1", scopes=frozenset({"boards:read"})),
    "rig": Principal("c4", CredentialKind.TELEMETRY_KEY, "org1"),
}

REFUSALS: dict[str, Exception] = {
    "b-expired": Unauthenticated("credential ended"),
    "b-barred": PermissionDenied("removed from the project"),
    "b-gone": NotFound("board deleted"),
    "b-replaced": Aborted("replaced by a newer connection", reason=ErrorReason.REPLACED),
    "b-lagged": ResourceExhausted("too slow", reason=ErrorReason.LAGGED),
    "b-odd": InvalidArgument("odd"),
    "b-defect": RuntimeError("UNIQUE constraint failed: boards.secret"),
}
"""How the stream of a board ends after its first answer."""


class People:
    """Knows everyone from memory."""

    def known(self, credential: str) -> Principal | None:
        return PEOPLE.get(credential)

    async def authenticate(self, credential: str) -> Principal | None:
        return PEOPLE.get(credential)

    def why_not(self, credential: str) -> Ended:
        return Ended("unknown", None)


class FakePins:
    """Boards whose names say how they behave: `b1` works, `slow` never answers, `broken` fails inside, others do not exist.

    Attributes:
        calls: Every call, in order.
        opened: What each live connection opened with.
        entered: Set when a call that goes on has begun.
        ended: Set when such a call has cleaned up.
        offered: Answers that the service had ready for `flood`, taken or not.
    """

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.opened: list[PinOpen] = []
        self.entered = asyncio.Event()
        self.ended = asyncio.Event()
        self.offered = 0
        self._outboxes: set[asyncio.Queue[ConnectPinsResponse]] = set()
        self._seq = 0

    async def read_pin(self, request: ReadPinRequest, call: Call) -> Pin:
        await self._admit(request.board_id, call)
        return Pin(board_id=request.board_id, pin_index=request.pin_index, value=Value.from_python(21.5), seq=3)

    async def write_pin(self, request: WritePinRequest, call: Call) -> Pin:
        await self._admit(request.board_id, call)
        self._seq += 1
        return Pin(board_id=request.board_id, pin_index=request.pin_index, value=request.value, seq=self._seq)

    async def list_pins(self, request: ListPinsRequest, call: Call) -> ListPinsResponse:
        await self._admit(request.board_id, call)
        return ListPinsResponse(pins=[Pin(pin_index=n) for n in range(3)])

    async def watch_pins(self, request: WatchPinsRequest, call: Call) -> AsyncIterator[Pin]:
        await self._admit(request.board_id, call)
        try:
            for seq in range(3):
                yield Pin(board_id=request.board_id, seq=seq + 1)
            self.entered.set()
            await asyncio.Event().wait()
        finally:
            self.ended.set()

    async def connect_pins(self, requests: AsyncIterator[ConnectPinsRequest], call: Call) -> AsyncIterator[ConnectPinsResponse]:
        opening = (await anext(requests)).frame
        assert opening is not None
        assert isinstance(opening.value, PinOpen)
        validate(opening.value)
        board = opening.value.board_id
        self.opened.append(opening.value)
        try:
            if board != "flood" and board not in REFUSALS:
                await self._admit(board, call)
            yield answer("snapshot", PinSnapshot(board_id=board, status="online", seq=41, pins=[Pin(pin_index=7, label="V7")]))
            self.entered.set()
            if board in REFUSALS:
                raise REFUSALS[board]
            async for message in self._flood() if board == "flood" else self._talk(requests, call):
                yield message
        finally:
            self.ended.set()

    async def _flood(self) -> AsyncIterator[ConnectPinsResponse]:
        while True:
            self.offered += 1
            yield answer("error", PinRefusal(error="x" * 60_000))

    async def _talk(self, requests: AsyncIterator[ConnectPinsRequest], call: Call) -> AsyncIterator[ConnectPinsResponse]:
        outbox: asyncio.Queue[ConnectPinsResponse] = asyncio.Queue()
        self._outboxes.add(outbox)
        reader = asyncio.create_task(self._hear(requests, outbox, call))
        try:
            while True:
                message = await outbox.get()
                if message.frame is None:
                    return
                yield message
        finally:
            self._outboxes.discard(outbox)
            reader.cancel()
            with suppress(asyncio.CancelledError):
                await reader

    async def _hear(
        self, requests: AsyncIterator[ConnectPinsRequest], outbox: asyncio.Queue[ConnectPinsResponse], call: Call
    ) -> None:
        async for request in requests:
            frame = request.frame
            assert frame is not None
            if frame.field == "ping":
                outbox.put_nowait(answer("pong", PinPong()))
            elif isinstance(frame.value, PinWriteMany):
                self._seq += len(frame.value.pins)
                outbox.put_nowait(answer("ack", PinAck(id=frame.value.id, seq=self._seq)))
            elif isinstance(frame.value, PinWrite):
                self._write(frame.value, outbox, call)
        outbox.put_nowait(ConnectPinsResponse())

    def _write(self, write: PinWrite, outbox: asyncio.Queue[ConnectPinsResponse], call: Call) -> None:
        try:
            validate(write)
        except InvalidArgument as error:
            outbox.put_nowait(answer("error", PinRefusal(id=write.id, error=error.message)))
            return
        self._seq += 1
        pin = Pin(board_id="b1", pin_index=write.pin_index, value=write.value, seq=self._seq)
        change = PinChange(board_id="b1", seq=self._seq, pin=pin, origin="user", client_id=call.client_id)
        outbox.put_nowait(answer("ack", PinAck(id=write.id, seq=self._seq)))
        for every in self._outboxes:
            every.put_nowait(answer("pin", change))

    async def _admit(self, board: str, call: Call) -> None:
        self.calls.append(call)
        if board == "slow":
            try:
                self.entered.set()
                await asyncio.Event().wait()
            finally:
                self.ended.set()
        if board == "broken":
            raise RuntimeError("UNIQUE constraint failed: boards.secret")
        if board == "long":
            raise NotFound("ü" * 20_000, board="x" * 20_000)
        if board != "b1":
            raise NotFound(f"board {board} not found", board=board)


def answer(field: Any, value: Any) -> ConnectPinsResponse:
    """Return one frame of the server."""
    return ConnectPinsResponse(frame=Oneof(field=field, value=value))


def platform(service: FakePins, *, idempotency: IdempotencyStore | None = None, limits: bool = False) -> Platform:
    """Return a platform that serves the fake alone."""
    rpcs = bind(next(s for s in pins_pb.desc().services if s.name == "PinService"), service)
    return Platform(rpcs, People(), limiter=Limiter(enabled=limits), idempotency=idempotency)
