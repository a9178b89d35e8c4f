"""Organisations of the plans area, and the people in them."""

from __future__ import annotations

from protobuf.wkt import Empty
from sqlalchemy import func
from sqlalchemy.exc import IntegrityError
from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from core.identity.places import membership
from core.identity.tables import MembershipRow, OrgRow, UserRow
from core.kernel.call import Call
from core.kernel.errors import AlreadyExists, InvalidArgument, NotFound
from core.plans.access import user_of
from core.plans.configs import set_configs
from core.plans.people import People, org_message, org_messages
from core.plans.permissions import ROLES, require, role_of
from core.plans.tables import PlanRow
from gen.busbar.plans.v1.configs_pb import OrgUserConfig
from gen.busbar.plans.v1.orgs_pb import (
    CreateOrgRequest,
    CreateOrgResponse,
    GetOrgSessionRequest,
    ListOrgRolesRequest,
    ListOrgRolesResponse,
    ListOrgsRequest,
    ListOrgsResponse,
    ListUsersRequest,
    ListUsersResponse,
    Org,
    OrgRole,
    OrgUser,
    RemoveOrgUserRequest,
    User,
)

DRAFT = "draft"
"""Name of plans that have none yet."""


class OrgService:
    """Keeps organisations and their members."""

    def __init__(self, people: People) -> None:
        self._people = people
        self._database = people.database
        self._credentials = people.credentials
        self._orgs = people.orgs
        self._invites = people.invites

    async def list_orgs(self, request: ListOrgsRequest, call: Call) -> ListOrgsResponse:
        """List the caller's organisations, then those that invite them."""
        del request
        user_id = user_of(call.caller)
        async with self._database.read() as session:
            user = await session.get_one(UserRow, user_id)
            found = [*await self._orgs.of_user(session, user_id), *await self._invites.inviting(session, user)]
            known = await self._orgs.described(session, found)
        return ListOrgsResponse(orgs=org_messages(known))

    async def create_org(self, request: CreateOrgRequest, call: Call) -> CreateOrgResponse:
        """Make an organisation that the caller owns."""
        name, user_id = request.name.strip(), user_of(call.caller)
        if not name:
            raise InvalidArgument.field("name", "must not be blank")
        try:
            async with self._database.unit_of_work() as session:
                user = await session.get_one(UserRow, user_id)
                org = await self._orgs.create(session, name, user)
                joined: list[str] = []
                if request.auto_add_domain_users and not self._people.local_mode:
                    joined = await self._orgs.claim_domain(session, org.id, user)
        except IntegrityError as error:
            raise AlreadyExists("the domain is claimed by another organisation", field="auto_add_domain_users") from error
        for member in (user_id, *joined):
            self._credentials.reread_user(member)
        return CreateOrgResponse(id=org.id)

    async def get_org_session(self, request: GetOrgSessionRequest, call: Call) -> Org:
        """Read the organisation of the call."""
        del request
        async with self._database.read() as session:
            known = await self._orgs.described(session, [await session.get_one(OrgRow, call.caller.org_id)])
        return org_message(known[0])

    async def list_org_roles(self, request: ListOrgRolesRequest, call: Call) -> ListOrgRolesResponse:
        """List the roles."""
        del request
        await require(call.caller, "list_org_roles")
        roles = [OrgRole(id=role.id, is_default=True, label=role.label, description=role.description) for role in ROLES]
        return ListOrgRolesResponse(roles=roles)

    async def list_users(self, request: ListUsersRequest, call: Call) -> ListUsersResponse:
        """List the members."""
        del request
        org_id = call.caller.org_id
        async with self._database.read() as session:
            members = await self._orgs.members(session, org_id)
            named = await _named_plans(session, org_id)
            plan_configs, org_configs = await set_configs(session, org_id, [user.id for user, _ in members])
        return ListUsersResponse(
            users=[
                User(
                    id=user.id,
                    name=user.display_name,
                    email=user.email,
                    num_non_draft_plans=named.get(user.id, 0),
                    default_plan_config=plan_configs.get(user.id),
                )
                for user, _ in members
            ],
            org_users_by_user_id={user.id: _org_user(place, org_configs.get(user.id)) for user, place in members},
        )

    async def remove_org_user(self, request: RemoveOrgUserRequest, call: Call) -> Empty:
        """Remove a member, whose next call for the organisation is refused."""
        org_id, user_id = call.caller.org_id, request.user_id
        async with self._database.unit_of_work() as session:
            place = await membership(session, org_id, user_id)
            if place is None:
                raise NotFound("User not found in org", user=user_id)
            await require(call.caller, "remove_user", role_of(place.role, owner=place.owner))
            user = await session.get_one(UserRow, user_id)
            ended = await self._orgs.remove(session, place)
            await self._invites.withdraw(session, org_id, user.email)
        self._credentials.drop(ended)
        self._credentials.reread_user(user_id)
        return Empty()


def _org_user(place: MembershipRow, config: OrgUserConfig | None) -> OrgUser:
    role = role_of(place.role, owner=place.owner)
    return OrgUser(org_id=place.org_id, user_id=place.user_id, org_role_id=role.id, config=config)


async def _named_plans(session: AsyncSession, org_id: str) -> dict[str, int]:
    """Return how many plans with a name each user owns in an organisation."""
    query = select(PlanRow.owner_id, func.count()).where(col(PlanRow.org_id) == org_id, col(PlanRow.name) != DRAFT)
    return dict((await session.exec(query.group_by(col(PlanRow.owner_id)))).all())
