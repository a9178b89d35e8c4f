"""Which projects are on which list, and in which order."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import ColumnElement, and_, exists, or_, tuple_
from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from core.kernel.errors import InvalidArgument
from core.kernel.pages import decode_cursor, encode_cursor
from core.maker.tables import CollaboratorRow, ProjectRow

ORDERS = {"recent": ("published_us", "id"), "popular": ("likes", "published_us", "id"), "updated": ("updated_us", "id")}
"""By which columns each order of the feed goes, greatest first."""


@dataclass(frozen=True, slots=True)
class Page:
    """A page of projects, and where the next one begins; None at the end."""

    rows: list[ProjectRow]
    next_cursor: str | None


async def list_of(session: AsyncSession, user_id: str | None, scope: str, words: str, cursor: str, limit: int) -> Page:
    """Return a page of the projects that a user owns, shares or both, last changed first."""
    owned = col(ProjectRow.owner_id) == user_id
    shared = exists().where(col(CollaboratorRow.project_id) == col(ProjectRow.id), col(CollaboratorRow.user_id) == user_id)
    wanted = {"owned": owned, "shared": shared, "all": or_(owned, shared)}[scope]
    conditions = [wanted, *([_found(words)] if words.strip() else [])]
    return await _page(session, conditions, "updated", cursor, limit)


async def feed(session: AsyncSession, order: str, cursor: str, limit: int) -> Page:
    """Return a page of the public projects."""
    return await _page(session, [col(ProjectRow.visibility) == "public"], order, cursor, limit)


async def _page(session: AsyncSession, conditions: list[ColumnElement[bool]], order: str, cursor: str, limit: int) -> Page:
    names = ORDERS[order]
    columns = [col(getattr(ProjectRow, name)) for name in names]
    query = select(ProjectRow).where(*conditions)
    after = decode_cursor(cursor, str, *(str if name == "id" else int for name in names))
    if after is not None:
        if after[0] != order:
            raise InvalidArgument("invalid cursor", field="cursor")
        query = query.where(tuple_(*columns) < after[1:])
    query = query.order_by(*(column.desc() for column in columns)).limit(limit + 1)
    rows = list((await session.exec(query)).all())
    if len(rows) <= limit:
        return Page(rows, None)
    return Page(rows[:limit], encode_cursor(order, *(getattr(rows[limit - 1], name) for name in names)))


def _found(words: str) -> ColumnElement[bool]:
    """Return the condition that each word is in the name, the description or the tags."""
    texts = [col(column) for column in (ProjectRow.name, ProjectRow.description, ProjectRow.tags)]
    return and_(*(or_(*(text.icontains(word, autoescape=True) for text in texts)) for word in words.split()))
