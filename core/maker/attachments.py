"""Which boards are attached to which projects."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from sqlalchemy import delete, exists, or_, text, tuple_
from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from core.kernel.call import Principal
from core.kernel.clock import Clock
from core.live.events import EventBus
from core.maker.access import ProjectAccess, Role
from core.maker.events import BoardAttached, BoardDetached, project_topic
from core.maker.sharing import BoardSharing
from core.maker.tables import AttachmentRow, BoardRow, CollaboratorRow, ProjectRow

_ATTACH = text(
    "INSERT INTO project_board (project_id, board_id, attached_us) VALUES (:project_id, :board_id, :attached_us)"
    " ON CONFLICT DO NOTHING"
)


class Attachments:
    """Attaches boards and detaches them. What changes something tells so by its result; `told` follows after the commit."""

    def __init__(self, access: ProjectAccess, sharing: BoardSharing, bus: EventBus, clock: Clock) -> None:
        self.access = access
        self.sharing = sharing
        self._bus = bus
        self._clock = clock

    async def attach(self, session: AsyncSession, project_id: str, board_id: str, caller: Principal) -> bool:
        """Attach a board of the caller's own and return whether it was not attached before.

        Raises:
            NotFound: The caller cannot see the project.
            PermissionDenied: The caller is neither its owner nor an editor.
        """
        seat = await self.access.seat(session, project_id, caller, Role.EDITOR, to_change=True)
        now = self._clock.now_us()
        values = {"project_id": project_id, "board_id": board_id, "attached_us": now}
        made = (await (await session.connection()).execute(_ATTACH, values)).rowcount > 0
        if made:
            seat.project.updated_us = now
        return made

    async def detach(self, session: AsyncSession, project_id: str, board_ids: Iterable[str]) -> list[str]:
        """Detach boards and return those that were attached."""
        query = delete(AttachmentRow).where(
            col(AttachmentRow.project_id) == project_id, col(AttachmentRow.board_id).in_(list(board_ids))
        )
        return list((await session.exec(query.returning(col(AttachmentRow.board_id)))).scalars().all())

    async def detach_everywhere(self, session: AsyncSession, board_id: str) -> list[str]:
        """Detach a board from all projects and return them."""
        query = delete(AttachmentRow).where(col(AttachmentRow.board_id) == board_id)
        return list((await session.exec(query.returning(col(AttachmentRow.project_id)))).scalars().all())

    def told_attached(self, project_id: str, org_id: str, board_id: str, call_by: str | None, client_id: str | None) -> None:
        """Tell, after the commit, that a board was attached."""
        self.sharing.changed([(org_id, board_id)])
        self._bus.publish(project_topic(project_id), BoardAttached(board_id, call_by, client_id))

    def told_detached(
        self, project_id: str, boards: Iterable[tuple[str, str]], call_by: str | None, client_id: str | None = None
    ) -> None:
        """Tell, after the commit, that boards were detached; they are named by organisation and id."""
        boards = list(boards)
        self.sharing.changed(boards)
        for _, board_id in boards:
            self._bus.publish(project_topic(project_id), BoardDetached(board_id, call_by, client_id))

    async def boards(
        self,
        session: AsyncSession,
        project_id: str,
        caller: Principal,
        after: tuple[str | int, ...] | None = None,
        limit: int | None = None,
    ) -> list[tuple[BoardRow, int]]:
        """Return the boards of a project with the times of their attachment, first attached first.

        A credential for some boards only sees those.
        """
        key = tuple_(col(AttachmentRow.attached_us), col(AttachmentRow.board_id))
        query = select(BoardRow, AttachmentRow.attached_us).join(AttachmentRow, col(AttachmentRow.board_id) == col(BoardRow.id))
        query = query.where(col(AttachmentRow.project_id) == project_id)
        if caller.board_ids is not None:
            query = query.where(col(BoardRow.id).in_(caller.board_ids))
        if after is not None:
            query = query.where(key > after)
        ordered = query.order_by(col(AttachmentRow.attached_us), col(AttachmentRow.board_id)).limit(limit)
        return list((await session.exec(ordered)).all())

    async def project_ids(self, session: AsyncSession, board_ids: Iterable[str], user_id: str | None) -> dict[str, list[str]]:
        """Return the projects to which boards are attached, as far as a user sees them, in the order of attachment."""
        found: dict[str, list[str]] = defaultdict(list)
        member = exists().where(col(CollaboratorRow.project_id) == col(ProjectRow.id), col(CollaboratorRow.user_id) == user_id)
        query = (
            select(AttachmentRow.board_id, AttachmentRow.project_id)
            .join(ProjectRow, col(ProjectRow.id) == col(AttachmentRow.project_id))
            .where(col(AttachmentRow.board_id).in_(list(board_ids)))
            .where(or_(col(ProjectRow.owner_id) == user_id, col(ProjectRow.visibility) == "public", member))
            .order_by(col(AttachmentRow.attached_us), col(AttachmentRow.project_id))
        )
        for board_id, project_id in (await session.exec(query)).all():
            found[board_id].append(project_id)
        return found
