"""What one connection knows of its project: it makes the welcome, and frames of what happens afterwards."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from protobuf import Oneof
from sqlmodel.ext.asyncio.session import AsyncSession

from core.kernel.call import Principal
from core.kernel.errors import NotFound, PermissionDenied, ResourceExhausted
from core.live.events import Lagged, Reader
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
)
from core.signals.model import LatestChanged
from gen.busbar.api.v1.error_reason_pb import ErrorReason
from gen.busbar.maker.v1.collab_pb import (
    CollabAck,
    CollabBoard,
    CollabChange,
    CollabConflict,
    CollabPeer,
    CollabPeerPresence,
    CollabProject,
    CollabSaved,
    CollabWelcome,
)
from gen.busbar.maker.v1.people_pb import UserCard
from gen.busbar.maker.v1.pins_pb import PinChange, PinPong, PinRefusal

if TYPE_CHECKING:
    from core.maker.collab import CollabService

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


class CollabView:
    """A project as one client sees it.

    Attributes:
        role: What the caller is to the project now.
        boards: Boards that are attached now, by id.
    """

    def __init__(self, service: CollabService, project_id: str, client_id: str, caller: Principal) -> None:
        self._service = service
        self._project_id = project_id
        self._client_id = client_id
        self._caller = caller
        self.role = Role.VIEWER
        self.boards: dict[str, KnownBoard] = {}
        self._revisions: dict[str, int] = {}
        self._pins_after: dict[str, float] = {}

    async def welcome(self, events: Reader) -> CollabWelcome:
        """Return the state of the project, up to which the events that already wait are left out."""
        service = self._service
        async with service.documents.database.read() as session:
            await self.look(session)
            for row, _ in await service.attachments.boards(session, self._project_id, self._caller):
                self._follow(events, KnownBoard(row.id, row.org_id, row.owner_id, row.device_id))
            saved = await service.documents.documents.revisions(session, self._project_id)
            self._revisions = {kind: saved.get(kind, 0) for kind in KINDS}
            pins = await service.pin_map.read(session, self._project_id, self._caller)
            # At the same moment: nothing may wait between the two looks into memory.
            self._pins_after = {board.id: self._seq(board) for board in self.boards.values()}
        return CollabWelcome(
            project_id=self._project_id,
            client_id=self._client_id,
            role=self.role.word,
            revisions=dict(self._revisions),
            peers=service.peers.others(self._project_id, self._client_id),
            pins=pins,
        )

    async def look(self, session: AsyncSession) -> None:
        """Learn what the caller is to the project now."""
        seat = await self._service.documents.access.seat(session, self._project_id, self._caller, Role.VIEWER)
        self.role = seat.role

    async def _look_again(self) -> None:
        try:
            async with self._service.documents.database.read() as session:
                await self.look(session)
        except NotFound:
            raise PermissionDenied("no longer a member of the project", project=self._project_id) from None

    def _follow(self, events: Reader, board: KnownBoard) -> None:
        self.boards[board.id] = board
        events.follow(board_topic(board.org_id, board.id))

    def _seq(self, board: KnownBoard) -> float:
        device = self._service.pins.signals.get_device(board.device_id)
        return 0 if device is None else device.seq

    async def card(self, user_id: str | None) -> UserCard | None:
        """Return the card of a user; None when there is none."""
        if user_id is None:
            return None
        async with self._service.documents.database.read() as session:
            return (await self._service.people.cards(session, [user_id])).get(user_id)

    async def told(self, events: Reader, event: object, *, known: bool) -> list[Frame]:
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
        updated = CollabProject(project_id=self._project_id, role=self.role.word, by=await self.card(by), client_id=client_id)
        return [Oneof(field="project_updated", value=updated)]

    def _written(self, event: LatestChanged) -> list[Frame]:
        board = self.boards.get(event.device.slug)
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
        if event.board_id in self.boards:
            return []
        try:
            board = await self._service.pins.boards.require(event.board_id, self._caller)
        except NotFound:
            # Detached or deleted since, which the next event tells, or not among the boards of the caller's key.
            return []
        by = await self.card(event.by)
        self._follow(events, board)
        self._pins_after[board.id] = self._seq(board)
        pins = self._service.pins.written(board)
        told = CollabBoard(board_id=board.id, pins=pins, by=by, client_id=event.client_id)
        return [Oneof(field="board_attached", value=told)]

    async def _detached(self, events: Reader, event: BoardDetached) -> list[Frame]:
        board = self.boards.pop(event.board_id, None)
        if board is None:
            return []
        events.leave(board_topic(board.org_id, board.id))
        told = CollabBoard(board_id=board.id, by=await self.card(event.by), client_id=event.client_id)
        return [Oneof(field="board_detached", value=told)]
