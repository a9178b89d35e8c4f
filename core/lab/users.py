"""People of the lab."""

from __future__ import annotations

from core.identity.credentials import Credentials
from core.identity.members import Members
from core.kernel.call import Call
from core.kernel.errors import AlreadyExists, PermissionDenied
from core.lab.auth import user_message
from core.lab.ids import already_exists, not_found
from core.lab.paging import page_of
from core.lab.users_gone import UsersGone
from core.storage.database import Database
from gen.busbar.lab.v1.auth_pb import User
from gen.busbar.lab.v1.common_pb import StatusResponse
from gen.busbar.lab.v1.users_pb import (
    CreateUserRequest,
    DeleteUserRequest,
    GetUserRequest,
    ListUsersRequest,
    ListUsersResponse,
    UpdateUserRequest,
)

FIELDS = ("email", "username", "password", "role")


class UserService:
    """Keeps the users of an organisation."""

    def __init__(self, database: Database, members: Members, credentials: Credentials, gone: UsersGone) -> None:
        self._database = database
        self._members = members
        self._credentials = credentials
        self._gone = gone

    async def list_users(self, request: ListUsersRequest, call: Call) -> ListUsersResponse:
        """List users in the order in which they joined."""
        page = page_of(request)
        members, total = await self._members.page(call.caller.org_id, page.offset, page.size)
        return ListUsersResponse(
            page=page.number, page_size=page.size, total=total, data=[user_message(member) for member in members]
        )

    async def create_user(self, request: CreateUserRequest, call: Call) -> StatusResponse:
        """Make a user of the caller's organisation."""
        try:
            await self._members.add(
                call.caller.org_id, request.email, request.username, request.password, request.role or "viewer"
            )
        except AlreadyExists as error:
            raise already_exists("User") from error
        return StatusResponse(status="success", message="User successfully created.")

    async def get_user(self, request: GetUserRequest, call: Call) -> User:
        """Read a user."""
        member = await self._members.find(call.caller.org_id, request.public_id)
        if member is None:
            raise not_found("User", request.public_id)
        return user_message(member)

    async def update_user(self, request: UpdateUserRequest, call: Call) -> StatusResponse:
        """Change the fields that are named and not null. Who may not is told so before anything about the user."""
        admin = call.caller.role == "admin"
        if not admin and request.public_id != call.caller.user_id:
            raise PermissionDenied("You can only update your own profile.")
        values = {name: getattr(request, name) for name in FIELDS if request.has_field(name)}
        if "role" in values and not admin:
            raise PermissionDenied("Only admins can change user roles.")
        try:
            found = await self._members.change(call.caller.org_id, request.public_id, values)
        except AlreadyExists as error:
            raise already_exists("User") from error
        if not found:
            raise not_found("User", request.public_id)
        return StatusResponse(status="success", message="User successfully updated.")

    async def delete_user(self, request: DeleteUserRequest, call: Call) -> StatusResponse:
        """Delete a user with all that the user owns, in one transaction."""
        org_id, user_id = call.caller.org_id, request.public_id
        async with self._database.unit_of_work() as session:
            member = await self._members.find_in(session, org_id, user_id)
            if member is None:
                raise not_found("User", user_id)
            await self._gone.forget(session, org_id, user_id)
            ended = await self._members.remove(session, org_id, member)
        self._credentials.drop(ended, "ownerless")
        self._credentials.reread_user(user_id)
        await self._gone.committed(org_id, user_id)
        return StatusResponse(status="success", message="User successfully deleted.")
