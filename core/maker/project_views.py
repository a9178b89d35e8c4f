"""Projects as clients see them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence

from sqlalchemy import func
from sqlalchemy.orm import Mapped
from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from core.kernel.clock import to_timestamp
from core.maker.access import ProjectAccess, Role
from core.maker.people import People
from core.maker.tables import AttachmentRow, CollaboratorRow, ProjectRow
from gen.busbar.maker.v1.people_pb import UserCard
from gen.busbar.maker.v1.projects_pb import Project


class ProjectViews:
    """Makes the messages of projects, a whole page with a few queries."""

    def __init__(self, access: ProjectAccess, people: People) -> None:
        self._access = access
        self._people = people

    async def one(self, session: AsyncSession, row: ProjectRow, user_id: str | None, role: Role | None = None) -> Project:
        """Return one project as a user sees it; the role need not be looked up where it is known."""
        shown = (await self.page(session, [row], user_id))[0]
        if role is not None:
            shown.role = role.word
        return shown

    async def page(self, session: AsyncSession, rows: Sequence[ProjectRow], user_id: str | None) -> list[Project]:
        """Return projects as a user sees them; None is somebody without an account."""
        ids = [row.id for row in rows]
        owners = await self._people.cards(session, (row.owner_id for row in rows))
        boards = await _counts(session, col(AttachmentRow.project_id), ids)
        collaborators = await _counts(session, col(CollaboratorRow.project_id), ids)
        roles = {} if user_id is None else await self._access.roles(session, ids, user_id)
        return [
            project_message(
                row,
                owners.get(row.owner_id),
                role=Role.OWNER if row.owner_id == user_id else roles.get(row.id, Role.NONE),
                boards=boards.get(row.id, 0),
                collaborators=collaborators.get(row.id, 0),
            )
            for row in rows
        ]


def project_message(row: ProjectRow, owner: UserCard | None, *, role: Role, boards: int, collaborators: int) -> Project:
    """Return a project with what its own row does not say."""
    return Project(
        id=row.id,
        owner_id=row.owner_id,
        owner=owner,
        name=row.name,
        slug=row.slug,
        description=row.description,
        board_type=row.board_type,
        theme=row.theme,
        visibility=row.visibility,
        tags=json.loads(row.tags),
        cover_url=row.cover_url,
        board_count=boards,
        collaborator_count=collaborators,
        likes=row.likes,
        role=role.word,
        published_at=to_timestamp(row.published_us),
        created_at=to_timestamp(row.created_us),
        updated_at=to_timestamp(row.updated_us),
    )


async def _counts(session: AsyncSession, column: Mapped[str], ids: Iterable[str]) -> dict[str, int]:
    query = select(column, func.count()).where(column.in_(list(ids))).group_by(column)
    return dict((await session.exec(query)).all())
