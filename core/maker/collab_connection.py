"""One live connection to a project."""

from __future__ import annotations

import secrets
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from functools import partial
from typing import TYPE_CHECKING, Literal

from protobuf import Oneof
from sqlmodel.ext.asyncio.session import AsyncSession

from core.kernel.call import Call
from core.kernel.errors import DomainError, InvalidArgument, NotFound, PermissionDenied, ResourceExhausted, TooLarge
from core.kernel.validation import validate
from core.live.events import Lagged, Policy, Reader
from core.live.mailbox import Mailbox
from core.maker.access import Role
from core.maker.boards import KnownBoard
from core.maker.document_kinds import KINDS
from core.maker.events import (
    BoardAttached,
    BoardDetached,
    CollaboratorChanged,
    CollaboratorRemoved,
    DocumentSaved,
    PeerJoined,
    PeerLeft,
    PeerMoved,
    ProjectDeleted,
    ProjectUpdated,
    board_topic,
    project_topic,
)
from core.maker.lifeline import Lifeline
from core.maker.pin_connection import origin_of, sentence
from core.maker.pin_values import scalar
from core.signals.model import LatestChanged
from gen.busbar.api.v1.error_reason_pb import ErrorReason
from gen.busbar.maker.v1.collab_pb import (
    CollabAck,
    CollabBoard,
    CollabChange,
    CollabConflict,
    CollabOp,
    CollabOpen,
    CollaborateRequest,
    CollabPeer,
    CollabPeerPresence,
    CollabPresence,
    CollabProject,
    CollabSaved,
    CollabWelcome,
    CollabWrite,
)
from gen.busbar.maker.v1.people_pb import UserCard
from gen.busbar.maker.v1.pins_pb import PinChange, PinPong, PinRefusal

if TYPE_CHECKING:
    from core.maker.collab import CollabService

QUEUED_FRAMES = 32
"""Frames ready to be sent; further ones wait in the events, where they are counted."""
QUEUED_EVENTS = 256 - QUEUED_FRAMES
"""Events that may wait for a slow reader before it is told to start again."""
PRESENCES_PER_SECOND = 20
MOST_PRESENCE = 16_384
"""Bytes of what a client tells of its place."""

Frame = (
    Oneof[Literal["welcome"], CollabWelcome]
    | Oneof[Literal["peer_joined"], CollabPeer]
    | Oneof[Literal["peer_left"], CollabPeer]
    | Oneof[Literal["presence"], CollabPeerPresence]
    | Oneof[Literal["op"], CollabChange]
    | Oneof[Literal["doc_saved"], CollabSaved]
    | Oneof[Literal["widgets_replaced"], CollabSaved]
    | Oneof[Literal["pin"], PinChange]
    | Oneof[Literal["board_attached"], CollabBoard]
    | Oneof[Literal["board_detached"], CollabBoard]
    | Oneof[Literal["project_updated"], CollabProject]
    | Oneof[Literal["ack"], CollabAck]
    | Oneof[Literal["conflict"], CollabConflict]
    | Oneof[Literal["error"], PinRefusal]
    | Oneof[Literal["pong"], PinPong]
)


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
        self._role = Role.VIEWER
        self._revisions: dict[str, int] = {}
        self._boards: dict[str, KnownBoard] = {}
        self._pins_after: dict[str, float] = {}
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
            await connection._look(session)
        return connection

    async def run(self) -> AsyncGenerator[Frame]:
        """Yield frames until one side ends."""
        topic = project_topic(self._project_id)
        async with self._service.bus.subscribe(topic, policy=Policy.LAGGED, size=QUEUED_EVENTS) as events:
            user = await self._card(self._caller.user_id)
            with self._service.peers.joined(self._project_id, self._client_id, user or UserCard()):
                welcome = await self._welcome(events)
                lifeline = Lifeline(self._service.pins.boards.credentials, self._service.clock, self._call, self._out)
                lifeline.start(partial(self._send_events, events, self._service.bus.cursor), self._carry_out)
                try:
                    yield Oneof(field="welcome", value=welcome)
                    async with aclosing(self._frames()) as frames:
                        async for frame in frames:
                            yield frame
                finally:
                    await lifeline.stop()

    async def _frames(self) -> AsyncGenerator[Frame]:
        async for frame in self._out:
            yield frame

    async def _welcome(self, events: Reader) -> CollabWelcome:
        """Return the state of the project, up to which the events that already wait are left out."""
        service = self._service
        async with service.documents.database.read() as session:
            await self._look(session)
            for row, _ in await service.attachments.boards(session, self._project_id, self._caller):
                self._follow(events, KnownBoard(row.id, row.org_id, row.owner_id, row.device_id))
            saved = await service.documents.documents.revisions(session, self._project_id)
            self._revisions = {kind: saved.get(kind, 0) for kind in KINDS}
            pins = await service.pin_map.read(session, self._project_id, self._caller)
            # At the same moment: nothing may wait between the two looks into memory.
            self._pins_after = {board.id: self._seq(board) for board in self._boards.values()}
        return CollabWelcome(
            project_id=self._project_id,
            client_id=self._client_id,
            role=self._role.word,
            revisions=dict(self._revisions),
            peers=service.peers.others(self._project_id, self._client_id),
            pins=pins,
        )

    async def _look(self, session: AsyncSession) -> None:
        """Learn what the caller is to the project now."""
        seat = await self._service.documents.access.seat(session, self._project_id, self._caller, Role.VIEWER)
        self._role = seat.role

    async def _look_again(self) -> None:
        try:
            async with self._service.documents.database.read() as session:
                await self._look(session)
        except NotFound:
            raise PermissionDenied("no longer a member of the project", project=self._project_id) from None

    def _follow(self, events: Reader, board: KnownBoard) -> None:
        self._boards[board.id] = board
        events.follow(board_topic(board.org_id, board.id))

    def _seq(self, board: KnownBoard) -> float:
        device = self._service.pins.signals.get_device(board.device_id)
        return 0 if device is None else device.seq

    async def _card(self, user_id: str | None) -> UserCard | None:
        if user_id is None:
            return None
        async with self._service.documents.database.read() as session:
            return (await self._service.people.cards(session, [user_id])).get(user_id)

    # What happens

    async def _send_events(self, events: Reader, after: int) -> None:
        async for cursor, event in events:
            for frame in await self._told(events, event, known=cursor <= after):
                await self._out.put(frame)

    async def _told(self, events: Reader, event: object, *, known: bool) -> list[Frame]:
        """Return what an event is to the client; `known` for one from before the welcome."""
        if isinstance(event, Lagged):
            raise ResourceExhausted("the reader is too slow", reason=ErrorReason.LAGGED)
        if isinstance(event, LatestChanged):
            return self._written(event)
        if isinstance(event, DocumentSaved):
            return self._saved(event)
        if isinstance(event, PeerJoined | PeerLeft | PeerMoved):
            return [] if known else self._of_peer(event)
        if isinstance(event, BoardAttached):
            return await self._attached(events, event)
        if isinstance(event, BoardDetached):
            return await self._detached(events, event)
        return await self._of_project(event)

    async def _of_project(self, event: object) -> list[Frame]:
        if isinstance(event, ProjectDeleted):
            raise NotFound(f"project {self._project_id} was deleted", project=self._project_id)
        mine = isinstance(event, CollaboratorRemoved | CollaboratorChanged) and event.user_id == self._caller.user_id
        if not (mine or isinstance(event, ProjectUpdated)):
            return []
        await self._look_again()
        by, client_id = (event.by, event.client_id) if isinstance(event, ProjectUpdated) else (None, None)
        updated = CollabProject(project_id=self._project_id, role=self._role.word, by=await self._card(by), client_id=client_id)
        return [Oneof(field="project_updated", value=updated)]

    def _written(self, event: LatestChanged) -> list[Frame]:
        board = self._boards.get(event.device.slug)
        if board is None or event.seq <= self._pins_after.get(board.id, 0):
            return []
        change = self._service.pins.change(board, event)
        return [] if change is None else [Oneof(field="pin", value=change)]

    def _saved(self, event: DocumentSaved) -> list[Frame]:
        if event.revision <= self._revisions.get(event.kind, 0):
            return []
        self._revisions[event.kind] = event.revision
        if event.patch is None:
            saved = CollabSaved(doc=event.kind, revision=event.revision, by=event.by, client_id=event.client_id)
            frames: list[Frame] = [Oneof(field="doc_saved", value=saved)]
            return [*frames, Oneof(field="widgets_replaced", value=saved)] if event.kind == "widgets" else frames
        if event.client_id == self._client_id:
            return []
        change = CollabChange(
            doc=event.kind, revision=event.revision, patch=event.patch, by=event.by, client_id=event.client_id
        )
        return [Oneof(field="op", value=change)]

    def _of_peer(self, event: PeerJoined | PeerLeft | PeerMoved) -> list[Frame]:
        told = event.presence if isinstance(event, PeerMoved) else event.peer
        if told.client_id == self._client_id:
            return []
        if isinstance(event, PeerMoved):
            return [Oneof(field="presence", value=event.presence)]
        if isinstance(event, PeerJoined):
            return [Oneof(field="peer_joined", value=event.peer)]
        return [Oneof(field="peer_left", value=event.peer)]

    async def _attached(self, events: Reader, event: BoardAttached) -> list[Frame]:
        if event.board_id in self._boards:
            return []
        try:
            board = await self._service.pins.boards.require(event.board_id, self._caller)
        except NotFound:
            # Detached or deleted since, which the next event tells, or not among the boards of the caller's key.
            return []
        by = await self._card(event.by)
        self._follow(events, board)
        self._pins_after[board.id] = self._seq(board)
        pins = self._service.pins.written(board)
        told = CollabBoard(board_id=board.id, pins=pins, by=by, client_id=event.client_id)
        return [Oneof(field="board_attached", value=told)]

    async def _detached(self, events: Reader, event: BoardDetached) -> list[Frame]:
        board = self._boards.pop(event.board_id, None)
        if board is None:
            return []
        events.leave(board_topic(board.org_id, board.id))
        told = CollabBoard(board_id=board.id, by=await self._card(event.by), client_id=event.client_id)
        return [Oneof(field="board_detached", value=told)]

    # What the client wants

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
        if frame.board_id not in self._boards:
            raise NotFound(f"board {frame.board_id} is not attached to the project", board=frame.board_id)
        board = await pins.boards.require(frame.board_id, self._caller, Role.EDITOR)
        pins.limit(board)
        value = [(frame.pin_index, scalar(frame.value))]
        written = await pins.write(board, value, by=origin_of(self._call), client_id=self._client_id)
        return Oneof(field="ack", value=CollabAck(id=frame.id, seq=written[0].seq))

    def _require_editor(self, scope: str) -> None:
        if self._role < Role.EDITOR:
            raise PermissionDenied("editor role required", role="editor", project=self._project_id)
        if not self._caller.may(scope):
            raise PermissionDenied(f"insufficient scope: {scope} required", reason=ErrorReason.SCOPE_MISSING, scope=scope)
