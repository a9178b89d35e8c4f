"""Users who prove who they are at an identity provider instead of here."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import ColumnElement, func
from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from core.identity.tables import MembershipRow, UserRow
from core.kernel.clock import Clock
from core.kernel.ids import new_id


@dataclass(frozen=True, slots=True)
class Known:
    """A user, the organisation where they act, and their role in it."""

    user: UserRow
    org_id: str
    role: str


class ExternalUsers:
    """Finds, links and makes users within units of work of others."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    async def by_subject(self, session: AsyncSession, provider: str, subject: str) -> Known | None:
        """Return the user who is linked to a subject of a provider."""
        return await self._find(session, (col(UserRow.sso_provider) == provider) & (col(UserRow.sso_subject) == subject))

    async def by_email(self, session: AsyncSession, email: str) -> Known | None:
        """Return the user of a mail address."""
        return await self._find(session, col(UserRow.email) == email.strip().lower())

    async def link(self, session: AsyncSession, user_id: str, provider: str, subject: str) -> None:
        """Let a user sign in through a provider from now on."""
        user = await session.get_one(UserRow, user_id)
        user.sso_provider, user.sso_subject = provider, subject
        await session.flush()

    async def add(
        self, session: AsyncSession, org_id: str, role: str, *, email: str, username: str, provider: str, subject: str
    ) -> Known:
        """Make a user of an organisation who can sign in through a provider only: there is no password."""
        now = self._clock.now_us()
        user = UserRow(
            id=new_id("usr_"),
            email=email.strip().lower(),
            username=username,
            display_name=username[:80],
            email_verified=True,
            password_hash="",
            sso_provider=provider,
            sso_subject=subject,
            created_us=now,
        )
        session.add(user)
        await session.flush()
        session.add(MembershipRow(id=new_id("mem_"), org_id=org_id, user_id=user.id, role=role, created_us=now))
        await session.flush()
        return Known(user, org_id, role)

    async def is_taken(self, session: AsyncSession, username: str) -> bool:
        """Tell whether somebody has a username, whatever its case."""
        taken = select(UserRow.id).where(func.lower(UserRow.username) == username.lower())
        return (await session.exec(taken)).first() is not None

    async def first_admin(self, session: AsyncSession) -> Known | None:
        """Return the first administrator of the server; None while there is none."""
        return await self._find(session, col(UserRow.role) == "admin")

    async def _find(self, session: AsyncSession, wanted: ColumnElement[bool]) -> Known | None:
        """Return the oldest such user, in the organisation that they joined first."""
        query = (
            select(UserRow, MembershipRow.org_id, MembershipRow.role)
            .join(MembershipRow)
            .where(wanted, col(UserRow.deleted_us).is_(None))
            .order_by(col(UserRow.created_us), col(UserRow.id), col(MembershipRow.created_us))
            .limit(1)
        )
        found = (await session.exec(query)).first()
        return None if found is None else Known(*found)
