"""The people of an organisation, as its administrators manage them: they get no organisation of their own."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import func
from sqlalchemy.exc import IntegrityError
from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from core.identity.credentials import Credentials
from core.identity.secrets import hash_password
from core.identity.tables import MembershipRow, UserRow
from core.kernel.clock import Clock
from core.kernel.errors import AlreadyExists, FailedPrecondition
from core.kernel.ids import new_id
from core.storage.database import Database
from core.storage.locks import lock_name


@dataclass(frozen=True, slots=True)
class Member:
    """A user and their role in an organisation."""

    user: UserRow
    role: str


class Members:
    """Makes, changes and removes the users of an organisation."""

    def __init__(self, database: Database, credentials: Credentials, clock: Clock) -> None:
        self._database = database
        self._credentials = credentials
        self._clock = clock

    async def page(self, org_id: str, offset: int, limit: int) -> tuple[list[Member], int]:
        """Return members in the order in which they joined, and how many there are."""
        query = select(UserRow, MembershipRow.role).join(MembershipRow).where(col(MembershipRow.org_id) == org_id)
        ordered = query.order_by(col(MembershipRow.created_us), col(MembershipRow.id)).offset(offset).limit(limit)
        count = select(func.count()).select_from(MembershipRow).where(col(MembershipRow.org_id) == org_id)
        async with self._database.read() as session:
            rows = (await session.exec(ordered)).all()
            total = (await session.exec(count)).one()
        return [Member(user, role) for user, role in rows], total

    async def find(self, org_id: str, user_id: str) -> Member | None:
        """Return a member; None for a user of another organisation."""
        async with self._database.read() as session:
            return await self.find_in(session, org_id, user_id)

    async def find_in(self, session: AsyncSession, org_id: str, user_id: str) -> Member | None:
        """Return a member as the caller's unit of work sees them."""
        query = (
            select(UserRow, MembershipRow.role)
            .join(MembershipRow)
            .where(col(MembershipRow.org_id) == org_id, col(UserRow.id) == user_id)
        )
        found = (await session.exec(query)).one_or_none()
        return None if found is None else Member(*found)

    async def add(self, org_id: str, email: str, username: str, password: str, role: str) -> UserRow:
        """Make a user who belongs to an organisation.

        Raises:
            AlreadyExists: The address or the name is taken, whatever its case.
        """
        hashed = await hash_password(password)
        now = self._clock.now_us()
        email = email.strip().lower()
        user = UserRow(
            id=new_id("usr_"),
            email=email,
            username=username,
            display_name=username,
            password_hash=hashed,
            created_us=now,
        )
        membership = MembershipRow(id=new_id("mem_"), org_id=org_id, user_id=user.id, role=role, created_us=now)
        try:
            async with self._database.unit_of_work() as session:
                await self._require_free(session, user.id, email, username)
                session.add(user)
                await session.flush()
                session.add(membership)
        except IntegrityError as error:
            # Both were free when the unit of work began, and another call was faster.
            raise AlreadyExists("email or username is already taken", field="email") from error
        return user

    async def change(self, org_id: str, user_id: str, values: dict[str, str]) -> bool:
        """Set `email`, `username`, `password` and `role` of a member; tell whether there is such a member.

        Raises:
            AlreadyExists: The address or the name is taken.
            FailedPrecondition: The organisation would be left without an administrator, or the account is the person's own.
        """
        hashed = await hash_password(values["password"]) if "password" in values else None
        try:
            async with self._database.unit_of_work() as session:
                member = await self.find_in(session, org_id, user_id)
                if member is None:
                    return False
                if values.keys() - {"role"}:
                    await self._require_kept_here(session, org_id, user_id)
                user = member.user
                email = values.get("email", user.email).strip().lower()
                if email != user.email:
                    user.email, user.email_verified = email, False
                user.username = values.get("username", user.username)
                await self._require_free(session, user_id, user.email, user.username)
                user.password_hash = hashed or user.password_hash
                if values.get("role", member.role) != member.role:
                    await self._set_role(session, org_id, member, values["role"])
        except IntegrityError as error:
            raise AlreadyExists("email or username is already taken", field="email") from error
        self._credentials.reread_user(user_id)
        return True

    async def _set_role(self, session: AsyncSession, org_id: str, member: Member, role: str) -> None:
        if member.role == "admin":
            await self._require_other_admin(session, org_id, member.user.id)
        place = await self._place(session, org_id, member.user.id)
        place.role = role
        if place.owner:
            await self._hand_over(session, place)

    async def remove(self, session: AsyncSession, org_id: str, member: Member) -> list[str]:
        """Delete a user in the caller's unit of work: nobody signs in as them again, and their address and name are free.

        Of somebody with an account of their own only the membership ends. Returns the credentials to `drop` once it is
        committed; call `reread_user` too.

        Raises:
            FailedPrecondition: The organisation would be left without an administrator.
        """
        if member.role == "admin":
            await self._require_other_admin(session, org_id, member.user.id)
        place = await self._place(session, org_id, member.user.id)
        if place.owner:
            await self._hand_over(session, place)
        if place.guest:
            await session.delete(place)
            return await self._credentials.revoke_member(session, org_id, member.user.id)
        user = await session.get_one(UserRow, member.user.id)
        user.deleted_us = self._clock.now_us()
        user.email = f"{user.id}@deleted.invalid"
        user.username = user.id
        user.password_hash = ""
        user.sso_provider = user.sso_subject = None
        for row in (await session.exec(select(MembershipRow).where(col(MembershipRow.user_id) == user.id))).all():
            await session.delete(row)
        return await self._credentials.revoke_user(session, user.id)

    async def _place(self, session: AsyncSession, org_id: str, user_id: str) -> MembershipRow:
        query = select(MembershipRow).where(col(MembershipRow.org_id) == org_id, col(MembershipRow.user_id) == user_id)
        return (await session.exec(query)).one()

    async def _require_kept_here(self, session: AsyncSession, org_id: str, user_id: str) -> None:
        """Refuse to change what somebody signs in with who has an account of their own: it opens other organisations too."""
        if (await self._place(session, org_id, user_id)).guest:
            raise FailedPrecondition("the account belongs to its user: only the role in this organisation can be changed")

    async def _hand_over(self, session: AsyncSession, place: MembershipRow) -> None:
        """Let an organisation keep an owner: when the last one stops being one, the oldest other administrator is it."""
        place.owner = False
        session.add(place)
        await session.flush()
        admins = select(MembershipRow).where(
            col(MembershipRow.org_id) == place.org_id, col(MembershipRow.role) == "admin", col(MembershipRow.id) != place.id
        )
        rows = (await session.exec(admins.order_by(col(MembershipRow.created_us), col(MembershipRow.id)))).all()
        if rows and not any(row.owner for row in rows):
            rows[0].owner = True
            session.add(rows[0])

    async def _require_free(self, session: AsyncSession, user_id: str, email: str, username: str) -> None:
        taken = select(UserRow.id).where(
            (col(UserRow.email) == email) | (func.lower(UserRow.username) == username.lower()), col(UserRow.id) != user_id
        )
        if (await session.exec(taken)).first() is not None:
            raise AlreadyExists("email or username is already taken", field="email")

    async def _require_other_admin(self, session: AsyncSession, org_id: str, user_id: str) -> None:
        await lock_name(session, f"admins:{org_id}")
        others = select(MembershipRow.id).where(
            col(MembershipRow.org_id) == org_id, col(MembershipRow.role) == "admin", col(MembershipRow.user_id) != user_id
        )
        if (await session.exec(others)).first() is None:
            raise FailedPrecondition("the last administrator must stay")
