"""One live connection to a board: a browser, an agent, or the board itself."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from protobuf import Oneof

from core.identity.lifeline import Lifeline
from core.kernel.call import Call
from core.kernel.clock import to_timestamp
from core.kernel.errors import (
    Aborted,
    DomainError,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    ResourceExhausted,
)
from core.kernel.validation import validate
from core.live.events import Lagged, Policy
from core.live.mailbox import Mailbox
from core.maker.access import Role
from core.maker.events import BoardDeleted, BoardSharingChanged, BoardStatusChanged, OtaChanged, board_topic
from core.maker.pin_values import scalar
from core.signals.model import LatestChanged
from gen.busbar.api.v1.error_reason_pb import ErrorReason
from gen.busbar.api.v1.options_pb import CredentialKind
from gen.busbar.maker.v1.ota_jobs_pb import OtaNews, OtaProgress
from gen.busbar.maker.v1.pins_pb import (
    BoardStatus,
    ConnectPinsRequest,
    PinAck,
    PinChange,
    PinHello,
    PinOpen,
    PinPong,
    PinRefusal,
    PinSnapshot,
    PinWrite,
    PinWriteMany,
)

if TYPE_CHECKING:
    from core.maker.boards import KnownBoard
    from core.maker.pins import PinService

QUEUED_EVENTS = 256
"""Events that may wait for a slow reader before it is told to start again."""
QUEUED_FRAMES = 32
"""Frames ready to be sent; further ones wait in the events, where they are counted."""

Frame = (
    Oneof[Literal["snapshot"], PinSnapshot]
    | Oneof[Literal["pin"], PinChange]
    | Oneof[Literal["status"], BoardStatus]
    | Oneof[Literal["ack"], PinAck]
    | Oneof[Literal["error"], PinRefusal]
    | Oneof[Literal["pong"], PinPong]
    | Oneof[Literal["ota"], OtaNews]
)


class PinConnection:
    """Sends a snapshot and then every change, and carries out the frames of the other side."""

    def __init__(self, pins: PinService, board: KnownBoard, since: float, call: Call) -> None:
        self._pins = pins
        self.board = board
        self._since = since
        self._call = call
        self._caller = call.caller
        self._device = self._caller.kind == CredentialKind.BOARD_TOKEN
        self._out: Mailbox[Frame] = Mailbox(QUEUED_FRAMES)
        self._requests: AsyncIterator[ConnectPinsRequest]

    @classmethod
    async def open(cls, pins: PinService, requests: AsyncIterator[ConnectPinsRequest], call: Call) -> PinConnection:
        """Read the opening frame and check that the caller may see the board."""
        first = await anext(requests, None)
        opening = None if first is None or first.frame is None else first.frame.value
        if not isinstance(opening, PinOpen):
            raise InvalidArgument.field("open", "must be the first frame")
        validate(opening)
        board = await pins.boards.require(opening.board_id, call.caller)
        connection = cls(pins, board, opening.since, call)
        connection._requests = requests
        return connection

    async def run(self) -> AsyncIterator[Frame]:
        """Yield frames until one side ends. A board is online meanwhile."""
        if not self._device:
            async with aclosing(self._talk()) as frames:
                async for frame in frames:
                    yield frame
            return
        # Before the subscription: a board need not be told that it came.
        self._pins.attach(self.board.device_id, self)
        try:
            await self._pins.signals.touch(self.board.device_id)
            async with aclosing(self._talk()) as frames:
                async for frame in frames:
                    yield frame
        finally:
            self._pins.detach(self.board.device_id, self)

    async def _talk(self) -> AsyncGenerator[Frame]:
        topic = board_topic(self.board.org_id, self.board.id)
        events = self._pins.bus.subscribe(topic, policy=Policy.LAGGED, size=QUEUED_EVENTS)
        snapshot = self._pins.snapshot(self.board, self._since)
        lifeline = Lifeline(self._pins.boards.credentials, self._pins.clock, self._call, self._out)
        lifeline.start(partial(self._send_events, events, snapshot.seq), self._carry_out)
        try:
            yield Oneof(field="snapshot", value=snapshot)
            async for frame in self._out:
                yield frame
        finally:
            events.close()
            await lifeline.stop()

    def replaced(self) -> None:
        """End because a newer connection of the same board took this one's place."""
        self._out.close(Aborted("a newer connection took this one's place", reason=ErrorReason.REPLACED, board=self.board.id))

    async def _send_events(self, events: Any, after: float) -> None:  # noqa: ANN401 - a subscription of the bus
        if self._device:
            await self._offer_firmware(again=True)
        async for _, event in events:
            if isinstance(event, Lagged):
                raise ResourceExhausted("the reader is too slow", reason=ErrorReason.LAGGED)
            if isinstance(event, BoardDeleted):
                raise NotFound(f"board {self.board.id} was deleted", board=self.board.id)
            if isinstance(event, BoardSharingChanged):
                await self._pins.recheck(self.board, self._caller)
            elif isinstance(event, BoardStatusChanged):
                status = "online" if event.online else "offline"
                at = to_timestamp(event.at_us)
                await self._out.put(Oneof(field="status", value=BoardStatus(board_id=self.board.id, status=status, at=at)))
            elif isinstance(event, OtaChanged):
                await self._tell_firmware(event)
            elif isinstance(event, LatestChanged) and event.seq > after and not (self._device and event.by == "device"):
                change = self._pins.change(self.board, event)
                if change is not None:
                    await self._out.put(Oneof(field="pin", value=change))

    async def _offer_firmware(self, *, again: bool) -> None:
        news = await self._pins.ota.offer(self.board, again=again)
        if news is not None:
            await self._out.put(Oneof(field="ota", value=news))

    async def _tell_firmware(self, event: OtaChanged) -> None:
        """Tell the board what it must know of its firmware job, and its owner everything."""
        if not self._device:
            if self._caller.user_id == self.board.owner_id:
                await self._out.put(Oneof(field="ota", value=event.news))
        elif event.begins:
            await self._offer_firmware(again=False)
        elif event.for_board:
            await self._out.put(Oneof(field="ota", value=event.news))

    async def _carry_out(self) -> None:
        async for request in self._requests:
            frame = None if request.frame is None else request.frame.value
            answer: Frame | None
            try:
                answer = await self._answer(frame)
            except DomainError as error:
                refusal = PinRefusal(id=getattr(frame, "id", None) or None, error=sentence(error))
                answer = Oneof(field="error", value=refusal)
            if answer is not None:
                await self._out.put(answer)
        self._out.close()

    async def _answer(self, frame: object) -> Frame | None:
        if isinstance(frame, PinWrite):
            return await self._write(frame.id, [frame], frame)
        if isinstance(frame, PinWriteMany):
            return await self._write(frame.id, frame.pins, frame)
        if isinstance(frame, PinHello):
            validate(frame)
            if not self._device:
                raise PermissionDenied("only a board says hello")
            await self._pins.boards.note_firmware(self.board.id, frame.firmware_version, frame.board_type)
            return None
        if isinstance(frame, OtaProgress):
            validate(frame)
            if not self._device:
                raise PermissionDenied("only a board tells of its firmware")
            await self._pins.ota.progress(self.board, frame)
            return None
        if isinstance(frame, PinOpen):
            raise InvalidArgument.field("open", "the connection is open")
        return Oneof(field="pong", value=PinPong())

    async def _write(self, frame_id: str, writes: list[PinWrite], frame: PinWrite | PinWriteMany) -> Frame:
        validate(frame)
        if not self._caller.may("pins:write"):
            raise PermissionDenied("insufficient scope: pins:write required", reason=ErrorReason.SCOPE_MISSING)
        await self._pins.boards.require(self.board.id, self._caller, Role.EDITOR)
        self._pins.limit(self.board)
        values = [(write.pin_index, scalar(write.value)) for write in writes]
        origin = origin_of(self._call)
        written = await self._pins.write(self.board, values, by=origin, client_id=self._call.client_id)
        return Oneof(field="ack", value=PinAck(id=frame_id, seq=max(pin.seq for pin in written)))


def origin_of(call: Call) -> str:
    """Return what a call counts as where the origin of a write is told: `device`, `mcp` or `user`."""
    if call.caller.kind == CredentialKind.BOARD_TOKEN:
        return "device"
    return "mcp" if call.door == "mcp" or call.caller.kind == CredentialKind.AGENT_KEY else "user"


def sentence(error: DomainError) -> str:
    """Return the message with field names as the frames of this area spell them."""
    text = error.message
    for violation in error.violations:
        for part in violation.path:
            if isinstance(part, str) and "_" in part:
                head, *rest = part.split("_")
                text = text.replace(part, head + "".join(word.capitalize() for word in rest))
    return text
