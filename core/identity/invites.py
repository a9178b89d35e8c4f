"""Invites: how somebody with an account of their own comes into an organisation of others."""

from __future__ import annotations

import uuid
from typing import Literal

from sqlalchemy import delete
from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession
from sqlmodel.sql.expression import SelectOfScalar

from core.identity.tables import InviteRow, MembershipRow, OrgRow, UserRow
from core.kernel.clock import Clock
from core.kernel.errors import AlreadyExists
from core.kernel.ids import new_id
from core.storage.locks import lock_name

Which = Literal["pending", "accepted", "all"]


class Invites:
    """Keeps invites within units of work of others."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    async def create(
        self, session: AsyncSession, org_id: str, email: str, *, name: str, role: str, owner: bool, inviter_id: str
    ) -> InviteRow:
        """Invite an address, in lower case, to a place.

        Raises:
            AlreadyExists: The address belongs to a member, or is invited already; `field` in the metadata tells which.
        """
        await lock_name(session, f"invite:{org_id}:{email}")
        member = select(UserRow.id).join(MembershipRow).where(col(MembershipRow.org_id) == org_id, col(UserRow.email) == email)
        if (await session.exec(member)).first() is not None:
            raise AlreadyExists("user is already a member of the org", field="member")
        if (await session.exec(_pending(email).where(col(InviteRow.org_id) == org_id))).first() is not None:
            raise AlreadyExists("an active invite for this email already exists", field="invite")
        row = InviteRow(
            id=str(uuid.uuid4()),
            org_id=org_id,
            email=email,
            name=name,
            role=role,
            owner=owner,
            inviter_id=inviter_id,
            created_us=self._clock.now_us(),
        )
        session.add(row)
        return row

    async def accept(self, session: AsyncSession, user: UserRow, org_id: str) -> MembershipRow | None:
        """Make the user a member as the pending invite for their address says; None without such an invite.

        Whoever has not proved the address is not invited by it: anybody can register under it.
        """
        if not user.email_verified or user.deleted_us is not None:
            return None
        await lock_name(session, f"invite:{org_id}:{user.email}")
        invite = (await session.exec(_pending(user.email).where(col(InviteRow.org_id) == org_id).with_for_update())).first()
        if invite is None:
            # Another call of the user may have accepted it since this one looked.
            joined = select(MembershipRow).where(col(MembershipRow.org_id) == org_id, col(MembershipRow.user_id) == user.id)
            return (await session.exec(joined)).one_or_none()
        now = self._clock.now_us()
        invite.accepted_us, invite.invitee_id = now, user.id
        row = MembershipRow(
            id=new_id("mem_"),
            org_id=org_id,
            user_id=user.id,
            role=invite.role,
            owner=invite.owner,
            guest=True,
            created_us=now,
        )
        session.add(row)
        await session.flush()
        return row

    async def list(self, session: AsyncSession, org_id: str, which: Which) -> list[InviteRow]:
        """Return invites of an organisation, newest first."""
        query = select(InviteRow).where(col(InviteRow.org_id) == org_id)
        if which != "all":
            accepted = col(InviteRow.accepted_us)
            query = query.where(accepted.is_(None) if which == "pending" else accepted.is_not(None))
        return list((await session.exec(query.order_by(col(InviteRow.created_us).desc(), col(InviteRow.id)))).all())

    async def inviting(self, session: AsyncSession, user: UserRow) -> list[OrgRow]:
        """Return the organisations that have invited the proved address of a user, in the order of their invites."""
        if not user.email_verified:
            return []
        query = select(OrgRow).join(InviteRow, col(InviteRow.org_id) == col(OrgRow.id))
        waiting = query.where(col(InviteRow.email) == user.email, col(InviteRow.accepted_us).is_(None))
        return list((await session.exec(waiting.order_by(col(InviteRow.created_us), col(InviteRow.id)))).all())

    async def withdraw(self, session: AsyncSession, org_id: str, email: str) -> None:
        """Delete the pending invite of an organisation for an address."""
        await session.exec(
            delete(InviteRow).where(
                col(InviteRow.org_id) == org_id, col(InviteRow.email) == email, col(InviteRow.accepted_us).is_(None)
            )
        )


def _pending(email: str) -> SelectOfScalar[InviteRow]:
    return select(InviteRow).where(col(InviteRow.email) == email, col(InviteRow.accepted_us).is_(None))
