"""Invites to an organisation. The first call that somebody makes for it accepts theirs; see core/identity/places.py."""

from __future__ import annotations

from protobuf.wkt import Empty

from core.identity.invites import Which
from core.identity.tables import InviteRow, OrgRow, UserRow
from core.kernel.call import Call
from core.kernel.clock import to_exact_timestamp
from core.kernel.errors import AlreadyExists, InvalidArgument, NotFound
from core.mail.post import Mail
from core.plans.access import user_of
from core.plans.people import People, address
from core.plans.permissions import may, require, role_by_id, role_of
from gen.busbar.plans.v1.invites_pb import (
    CreateInviteRequest,
    DeleteInviteRequest,
    Invite,
    ListAcceptedInvitesRequest,
    ListAllInvitesRequest,
    ListInvitesResponse,
    ListPendingInvitesRequest,
)


class InviteService:
    """Keeps invites."""

    def __init__(self, people: People) -> None:
        self._database = people.database
        self._invites = people.invites
        self._mail = people.mail

    async def create_invite(self, request: CreateInviteRequest, call: Call) -> Empty:
        """Invite somebody, and tell them by mail."""
        email, role = address(request.email), role_by_id(request.org_role_id)
        inviter_id, org_id = user_of(call.caller), call.caller.org_id
        await require(call.caller, "invite_user", role)
        async with self._database.unit_of_work() as session:
            org, inviter = await session.get_one(OrgRow, org_id), await session.get_one(UserRow, inviter_id)
            try:
                await self._invites.create(
                    session,
                    org_id,
                    email,
                    name=request.name.strip(),
                    role=role.role,
                    owner=role.owner,
                    inviter_id=inviter_id,
                )
            except AlreadyExists as error:
                # The contract answers 400 here, and not 409.
                raise InvalidArgument.field("email", error.message) from error
            await self._mail.send(session, _mail(email, org, inviter), org_id)
        return Empty()

    async def list_pending_invites(self, request: ListPendingInvitesRequest, call: Call) -> ListInvitesResponse:
        """List what nobody has accepted."""
        del request
        return await self._list(call, "pending")

    async def list_accepted_invites(self, request: ListAcceptedInvitesRequest, call: Call) -> ListInvitesResponse:
        """List what was accepted."""
        del request
        return await self._list(call, "accepted")

    async def list_all_invites(self, request: ListAllInvitesRequest, call: Call) -> ListInvitesResponse:
        """List every invite."""
        del request
        return await self._list(call, "all")

    async def delete_invite(self, request: DeleteInviteRequest, call: Call) -> Empty:
        """Take an invite back."""
        caller = call.caller
        async with self._database.unit_of_work() as session:
            invite = await session.get(InviteRow, request.invite_id)
            if invite is None or invite.org_id != caller.org_id:
                raise NotFound(f"Invite not found: {request.invite_id}", invite=request.invite_id)
            role = role_of(invite.role, owner=invite.owner)
            own = invite.inviter_id == caller.user_id and await may(caller, "invite_user", role)
            if not own:
                await require(caller, "remove_user", role)
            await session.delete(invite)
        return Empty()

    async def _list(self, call: Call, which: Which) -> ListInvitesResponse:
        async with self._database.read() as session:
            rows = await self._invites.list(session, call.caller.org_id, which)
        return ListInvitesResponse(invites=[_message(row) for row in rows])


def _message(row: InviteRow) -> Invite:
    return Invite(
        id=row.id,
        org_id=row.org_id,
        email=row.email,
        name=row.name,
        org_role_id=role_of(row.role, owner=row.owner).id,
        inviter_id=row.inviter_id,
        invitee_id=row.invitee_id,
        accepted_at=to_exact_timestamp(row.accepted_us),
        created_at=to_exact_timestamp(row.created_us),
    )


def _mail(email: str, org: OrgRow, inviter: UserRow) -> Mail:
    text = (
        f"{inviter.display_name} ({inviter.email}) invites you to the organisation {org.name}.\n\n"
        f"Sign in with {email} and choose the organisation to accept.\n"
    )
    return Mail(email, f"Invitation to {org.name}", text)
