"""What members of projects may do with the boards that are attached to them, kept in memory for the hot path."""

from __future__ import annotations

from collections.abc import Iterable

from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from core.live.events import EventBus
from core.maker.access import Role
from core.maker.events import BoardSharingChanged, board_topic
from core.maker.tables import AttachmentRow, BoardRow, CollaboratorRow, ProjectRow
from core.storage.database import Database


class BoardSharing:
    """Knows the members of the projects to which boards are attached.

    A board's members are read once and kept until its attachments or the collaborators of one of its projects change.
    """

    def __init__(self, database: Database, bus: EventBus) -> None:
        self._database = database
        self._bus = bus
        self._roles: dict[str, dict[str, Role]] = {}
        self._changes = 0

    async def role(self, board_id: str, user_id: str | None) -> Role:
        """Return what a user who does not own a board may do with it: nothing, read, or write pins."""
        if user_id is None:
            return Role.NONE
        known = self._roles.get(board_id, {}).get(user_id)
        if known is None:
            # That somebody has no role is never kept: an invited user gets theirs with their registration.
            known = (await self._load(board_id)).get(user_id, Role.NONE)
        return known

    async def _load(self, board_id: str) -> dict[str, Role]:
        before = self._changes
        async with self._database.read() as session:
            roles = await _members(session, board_id)
        # What was read before a change may be stale already, and must not be kept.
        if before == self._changes:
            self._roles[board_id] = roles
        return roles

    def changed(self, boards: Iterable[tuple[str, str]]) -> None:
        """Forget the members of boards, named by organisation and id, and let whoever watches them be looked at again.

        Call it after the commit.
        """
        self._changes += 1
        for org_id, board_id in boards:
            self._roles.pop(board_id, None)
            self._bus.publish(board_topic(org_id, board_id), BoardSharingChanged())


async def attached_boards(session: AsyncSession, project_id: str, owner_id: str | None = None) -> list[tuple[str, str]]:
    """Return the boards of a project by organisation and id; only those of one owner, if one is given."""
    query = select(BoardRow.org_id, BoardRow.id).join(AttachmentRow, col(AttachmentRow.board_id) == col(BoardRow.id))
    query = query.where(col(AttachmentRow.project_id) == project_id)
    if owner_id is not None:
        query = query.where(col(BoardRow.owner_id) == owner_id)
    return list((await session.exec(query)).all())


async def _members(session: AsyncSession, board_id: str) -> dict[str, Role]:
    here = col(AttachmentRow.board_id) == board_id
    owners = select(ProjectRow.owner_id).join(AttachmentRow, col(AttachmentRow.project_id) == col(ProjectRow.id)).where(here)
    roles = dict.fromkeys((await session.exec(owners)).all(), Role.EDITOR)
    same = col(AttachmentRow.project_id) == col(CollaboratorRow.project_id)
    members = select(CollaboratorRow.user_id, CollaboratorRow.role).join(AttachmentRow, same).where(here)
    for user_id, role in (await session.exec(members)).all():
        if user_id is not None:
            roles[user_id] = max(roles.get(user_id, Role.NONE), Role[role.upper()])
    return roles
