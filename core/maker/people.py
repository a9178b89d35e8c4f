"""People as others see them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable

from sqlalchemy import func
from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from core.identity.tables import UserRow
from core.kernel.clock import to_timestamp
from core.maker.tables import ProjectRow
from gen.busbar.maker.v1.people_pb import PublicUser, UserCard

CountListings = Callable[[AsyncSession, str], Awaitable[int]]
"""Returns the number of published listings of a user."""


class People:
    """Reads what is public about users."""

    def __init__(self) -> None:
        self.count_listings: CountListings = _none

    async def cards(self, session: AsyncSession, user_ids: Iterable[str]) -> dict[str, UserCard]:
        """Return the cards of users by id; ids that nobody has are left out."""
        columns = select(UserRow.id, UserRow.username, UserRow.display_name)
        found = await session.exec(columns.where(col(UserRow.id).in_(set(user_ids))))
        return {
            user_id: UserCard(id=user_id, username=username, display_name=display_name)
            for user_id, username, display_name in found.all()
        }

    async def counts(self, session: AsyncSession, user_id: str) -> tuple[int, int]:
        """Return the numbers of a user's public projects and of their published listings."""
        public = col(ProjectRow.visibility) == "public"
        query = select(func.count()).select_from(ProjectRow).where(col(ProjectRow.owner_id) == user_id, public)
        return (await session.exec(query)).one(), await self.count_listings(session, user_id)

    async def public(self, session: AsyncSession, user: UserRow) -> PublicUser:
        """Return a user as everybody may see them."""
        projects, listings = await self.counts(session, user.id)
        return PublicUser(
            id=user.id,
            username=user.username,
            display_name=user.display_name,
            bio=user.bio,
            avatar_url=user.avatar_url,
            website_url=user.website_url,
            created_at=to_timestamp(user.created_us),
            project_count=projects,
            listing_count=listings,
        )


async def _none(_session: AsyncSession, _user_id: str) -> int:
    return 0
