"""Where a user acts whose credential belongs to no organisation: each call names one, and this tells the user's place there.

A place costs two look-ups in storage once, and a dictionary look-up afterwards. Whoever changes a membership calls `forget`, so
that the next call finds the change.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace

from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from core.identity.invites import Invites
from core.identity.tables import MembershipRow, UserRow
from core.kernel.call import Principal
from core.kernel.errors import Unauthenticated
from core.storage.database import Database


@dataclass(frozen=True, slots=True)
class Place:
    """A user's place in an organisation, as their membership says."""

    org_id: str
    role: str
    owner: bool


class Places:
    """Finds places, and accepts the invites that lead to one."""

    def __init__(self, database: Database, invites: Invites) -> None:
        self._database = database
        self._invites = invites
        self._known: defaultdict[str, dict[str, Place]] = defaultdict(dict)
        self._changes = 0

    async def in_org(self, principal: Principal, wish: str | None) -> Principal:
        """Return the caller as who they are in the organisation that the call is for.

        None leaves it open, which is enough for a user of one organisation. A pending invite for the proved address of the user
        is accepted by this.

        Raises:
            Unauthenticated: No organisation is named, or the user is no member and not invited.
        """
        if principal.user_id is None or wish == "":
            raise Unauthenticated("no org id")
        place = self._known.get(principal.user_id, {}).get(wish or "")
        if place is None:
            place = await self._find(principal.user_id, wish)
        return replace(principal, org_id=place.org_id, role=place.role, owner=place.owner)

    def forget(self, user_id: str) -> None:
        """Let the next call of a user ask storage again."""
        self._changes += 1
        self._known.pop(user_id, None)

    async def _find(self, user_id: str, wish: str | None) -> Place:
        before = self._changes
        place = await (self._only(user_id) if wish is None else self._member(user_id, wish))
        if place is None and wish is not None:
            async with self._database.unit_of_work() as session:
                joined = await self._invites.accept(session, await session.get_one(UserRow, user_id), wish)
            place = None if joined is None else _place(joined)
            self.forget(user_id)
            before = self._changes
        if place is None:
            raise Unauthenticated("no org id" if wish is None else "not a member of org")
        # What was read while a membership changed may be what was before.
        if self._changes == before:
            self._known[user_id][wish or ""] = place
        return place

    async def _only(self, user_id: str) -> Place | None:
        query = select(MembershipRow).where(col(MembershipRow.user_id) == user_id).limit(2)
        async with self._database.read() as session:
            rows = (await session.exec(query)).all()
        return _place(rows[0]) if len(rows) == 1 else None

    async def _member(self, user_id: str, org_id: str) -> Place | None:
        async with self._database.read() as session:
            row = await membership(session, org_id, user_id)
        return None if row is None else _place(row)


async def membership(session: AsyncSession, org_id: str, user_id: str) -> MembershipRow | None:
    """Return the membership of a user in an organisation."""
    query = select(MembershipRow).where(col(MembershipRow.org_id) == org_id, col(MembershipRow.user_id) == user_id)
    return (await session.exec(query)).one_or_none()


def _place(row: MembershipRow) -> Place:
    return Place(row.org_id, row.role, row.owner)
