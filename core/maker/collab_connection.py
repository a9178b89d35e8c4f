"""One live connection to a project."""

from __future__ import annotations

import secrets
from collections.abc import AsyncGenerator, AsyncIterator
from functools import partial
from typing import TYPE_CHECKING

from protobuf import Oneof

from core.identity.lifeline import Lifeline
from core.kernel.call import Call
from core.kernel.errors import DomainError, InvalidArgument, NotFound, PermissionDenied, TooLarge
from core.kernel.validation import validate
from core.live.events import Policy, Reader
from core.live.mailbox import Mailbox
from core.maker.access import Role
from core.maker.collab_view import CollabView, Frame
from core.maker.events import project_topic
from core.maker.pin_connection import origin_of, sentence
from core.maker.pin_values import scalar
from gen.busbar.api.v1.error_reason_pb import ErrorReason
from gen.busbar.maker.v1.collab_pb import (
    CollabAck,
    CollabConflict,
    CollabOp,
    CollabOpen,
    CollaborateRequest,
    CollabPeerPresence,
    CollabPresence,
    CollabWrite,
)
from gen.busbar.maker.v1.people_pb import UserCard
from gen.busbar.maker.v1.pins_pb import PinPong, PinRefusal

if TYPE_CHECKING:
    from core.maker.collab import CollabService

QUEUED_FRAMES = 32
"""Frames ready to be sent; further ones wait in the events, where they are counted."""
QUEUED_EVENTS = 256 - QUEUED_FRAMES
"""Events that may wait for a slow reader before it is told to start again."""
PRESENCES_PER_SECOND = 20
MOST_PRESENCE = 16_384
"""Bytes of what a client tells of its place."""


class CollabConnection:
    """Sends a welcome and then what happens, and carries out the frames of the other side."""

    def __init__(
        self, service: CollabService, project_id: str, requests: AsyncIterator[CollaborateRequest], call: Call
    ) -> None:
        # A connection that is no socket has no name yet.
        call.client_id = self._client_id = call.client_id or f"c{secrets.token_hex(5)}"
        self._service = service
        self._project_id = project_id
        self._requests = requests
        self._call = call
        self._caller = call.caller
        self._view = CollabView(service, project_id, self._client_id, self._caller)
        self._out: Mailbox[Frame] = Mailbox(QUEUED_FRAMES)

    @classmethod
    async def open(cls, service: CollabService, requests: AsyncIterator[CollaborateRequest], call: Call) -> CollabConnection:
        """Read the opening frame and check that the caller is a member."""
        first = await anext(requests, None)
        opening = None if first is None or first.frame is None else first.frame.value
        if not isinstance(opening, CollabOpen):
            raise InvalidArgument.field("open", "must be the first frame")
        validate(opening)
        connection = cls(service, opening.project_id, requests, call)
        async with service.documents.database.read() as session:
            await connection._view.look(session)
        return connection

    async def run(self) -> AsyncGenerator[Frame]:
        """Yield frames until one side ends."""
        topic = project_topic(self._project_id)
        async with self._service.bus.subscribe(topic, policy=Policy.LAGGED, size=QUEUED_EVENTS) as events:
            user = await self._view.card(self._caller.user_id)
            with self._service.peers.joined(self._project_id, self._client_id, user or UserCard()):
                welcome = await self._view.welcome(events)
                lifeline = Lifeline(self._service.pins.boards.credentials, self._service.clock, self._call, self._out)
                lifeline.start(partial(self._send_events, events, self._service.bus.cursor), self._carry_out)
                try:
                    yield Oneof(field="welcome", value=welcome)
                    async for frame in self._out:
                        yield frame
                finally:
                    await lifeline.stop()

    async def _send_events(self, events: Reader, after: int) -> None:
        async for cursor, event in events:
            for frame in await self._view.told(events, event, known=cursor <= after):
                await self._out.put(frame)

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
        if isinstance(frame, CollabOp):
            return await self._op(frame)
        if isinstance(frame, CollabWrite):
            return await self._write(frame)
        if isinstance(frame, CollabPresence):
            return self._presence(frame)
        if isinstance(frame, CollabOpen):
            raise InvalidArgument.field("open", "the connection is open")
        return Oneof(field="pong", value=PinPong())

    def _presence(self, frame: CollabPresence) -> None:
        validate(frame)
        if len(frame.cursor.encode()) + len(frame.selection.encode()) > MOST_PRESENCE:
            raise TooLarge(f"cursor and selection must be at most {MOST_PRESENCE} bytes", limit_bytes=MOST_PRESENCE)
        self._service.limiter.check(("presence", self._client_id), PRESENCES_PER_SECOND, 1)
        told = CollabPeerPresence(client_id=self._client_id, doc=frame.doc, cursor=frame.cursor, selection=frame.selection)
        self._service.peers.moved(self._project_id, told)

    async def _op(self, frame: CollabOp) -> Frame:
        validate(frame)
        self._require_editor("projects:write")
        applied = await self._service.apply(self._project_id, frame, self._call)
        if applied.done:
            return Oneof(field="ack", value=CollabAck(id=frame.id, revision=applied.revision))
        return Oneof(field="conflict", value=CollabConflict(id=frame.id, doc=frame.doc, revision=applied.revision))

    async def _write(self, frame: CollabWrite) -> Frame:
        validate(frame)
        self._require_editor("pins:write")
        pins = self._service.pins
        if frame.board_id not in self._view.boards:
            raise NotFound(f"board {frame.board_id} is not attached to the project", board=frame.board_id)
        board = await pins.boards.require(frame.board_id, self._caller, Role.EDITOR)
        pins.limit(board)
        value = [(frame.pin_index, scalar(frame.value))]
        written = await pins.write(board, value, by=origin_of(self._call), client_id=self._client_id)
        return Oneof(field="ack", value=CollabAck(id=frame.id, seq=written[0].seq))

    def _require_editor(self, scope: str) -> None:
        if self._view.role < Role.EDITOR:
            raise PermissionDenied("editor role required", role="editor", project=self._project_id)
        if not self._caller.may(scope):
            raise PermissionDenied(f"insufficient scope: {scope} required", reason=ErrorReason.SCOPE_MISSING, scope=scope)
