"""Organisations as their people make and leave them: owners, mail domains, members with accounts of their own."""

from __future__ import annotations

import uuid
from dataclasses import dataclass

from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from core.identity.credentials import Credentials
from core.identity.domains import PUBLIC_DOMAINS
from core.identity.places import membership
from core.identity.tables import MembershipRow, OrgDomainRow, OrgRow, UserRow
from core.kernel.clock import Clock
from core.kernel.errors import AlreadyExists, FailedPrecondition, InvalidArgument, PermissionDenied
from core.kernel.ids import new_id
from core.storage.locks import lock_name

ROLE_BY_DOMAIN = "viewer"
"""Role of those who become members by their mail domain."""


@dataclass(frozen=True, slots=True)
class KnownOrg:
    """An organisation, and whether it claims a mail domain."""

    org: OrgRow
    claims_domain: bool


class Orgs:
    """Makes, joins and leaves organisations, within units of work of others.

    Whoever changes the members of an organisation calls `Credentials.reread_user` for each of them after the commit.
    """

    def __init__(self, credentials: Credentials, clock: Clock) -> None:
        self._credentials = credentials
        self._clock = clock

    async def create(self, session: AsyncSession, name: str, owner: UserRow) -> OrgRow:
        """Make an organisation with its owner."""
        org = OrgRow(id=str(uuid.uuid4()), name=name, created_us=self._clock.now_us())
        session.add(org)
        await session.flush()
        self._join(session, org.id, owner.id, "admin", owner=True)
        await session.flush()
        return org

    async def claim_domain(self, session: AsyncSession, org_id: str, owner: UserRow) -> list[str]:
        """Claim the domain of the owner's address; return the users who became members by it.

        Raises:
            FailedPrecondition: The owner has not proved the address.
            InvalidArgument: The domain gives addresses to the public.
            AlreadyExists: Another organisation claims it.
        """
        if not owner.email_verified:
            raise FailedPrecondition("only an address that was proved by a pin shows that a domain is yours")
        domain = owner.email.rpartition("@")[2]
        if domain in PUBLIC_DOMAINS:
            raise InvalidArgument.field("auto_add_domain_users", f"{domain} gives addresses to the public")
        await lock_name(session, f"domain:{domain}")
        if await session.get(OrgDomainRow, domain) is not None:
            raise AlreadyExists(f"the domain {domain} is claimed by another organisation", field="auto_add_domain_users")
        session.add(OrgDomainRow(domain=domain, org_id=org_id, created_us=self._clock.now_us()))
        people = select(UserRow.id).where(
            col(UserRow.email).endswith(f"@{domain}", autoescape=True),
            col(UserRow.email_verified).is_(True),
            col(UserRow.deleted_us).is_(None),
            col(UserRow.id) != owner.id,
        )
        joining = list((await session.exec(people)).all())
        for user_id in joining:
            self._join(session, org_id, user_id, ROLE_BY_DOMAIN)
        return joining

    async def prove(self, session: AsyncSession, user: UserRow) -> None:
        """Note that a user has proved their address; the first time they join the organisation that claims its domain.

        Only then, so that somebody who is removed does not come back by signing in.
        """
        if user.email_verified:
            return
        user.email_verified = True
        session.add(user)
        domain = user.email.rpartition("@")[2]
        # Who claims a domain at this moment takes in those whose proof is stored, and this one sees the claim or is seen by it.
        await lock_name(session, f"domain:{domain}")
        claim = await session.get(OrgDomainRow, domain)
        if claim is not None and await membership(session, claim.org_id, user.id) is None:
            self._join(session, claim.org_id, user.id, ROLE_BY_DOMAIN)
        await session.flush()

    async def of_user(self, session: AsyncSession, user_id: str) -> list[OrgRow]:
        """Return the organisations of a user, in the order in which they joined."""
        query = select(OrgRow).join(MembershipRow).where(col(MembershipRow.user_id) == user_id)
        return list((await session.exec(query.order_by(col(MembershipRow.created_us), col(MembershipRow.id)))).all())

    async def described(self, session: AsyncSession, orgs: list[OrgRow]) -> list[KnownOrg]:
        """Return organisations with what is known of their domains."""
        query = select(OrgDomainRow.org_id).where(col(OrgDomainRow.org_id).in_([org.id for org in orgs]))
        claiming = set((await session.exec(query)).all())
        return [KnownOrg(org, org.id in claiming) for org in orgs]

    async def members(self, session: AsyncSession, org_id: str) -> list[tuple[UserRow, MembershipRow]]:
        """Return the members of an organisation, in the order in which they joined."""
        query = select(UserRow, MembershipRow).join(MembershipRow).where(col(MembershipRow.org_id) == org_id)
        ordered = query.order_by(col(MembershipRow.created_us), col(MembershipRow.id))
        return [(user, place) for user, place in (await session.exec(ordered)).all()]

    async def remove(self, session: AsyncSession, place: MembershipRow) -> list[str]:
        """End a membership, and the member's keys for the organisation. Returns the credentials to `drop` after the commit.

        Raises:
            PermissionDenied: The organisation would be left without an owner.
            FailedPrecondition: The account belongs to the organisation.
        """
        if place.owner:
            await lock_name(session, f"admins:{place.org_id}")
            others = select(MembershipRow.id).where(
                col(MembershipRow.org_id) == place.org_id, col(MembershipRow.owner).is_(True), col(MembershipRow.id) != place.id
            )
            if (await session.exec(others)).first() is None:
                raise PermissionDenied("the only owner of an organisation cannot be removed")
        if not place.guest:
            raise FailedPrecondition("the account belongs to this organisation: delete it among the users of the lab")
        await session.delete(place)
        return await self._credentials.revoke_member(session, place.org_id, place.user_id)

    def _join(self, session: AsyncSession, org_id: str, user_id: str, role: str, *, owner: bool = False) -> None:
        now = self._clock.now_us()
        row = MembershipRow(
            id=new_id("mem_"), org_id=org_id, user_id=user_id, role=role, owner=owner, guest=True, created_us=now
        )
        session.add(row)
