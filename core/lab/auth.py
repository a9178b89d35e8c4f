"""Signing in to the lab with mail address and password."""

from __future__ import annotations

from core.identity.accounts import Accounts
from core.identity.members import Member, Members
from core.kernel.call import Call
from core.kernel.clock import to_exact_timestamp
from core.kernel.errors import PermissionDenied, Unauthenticated
from core.lab.access_tokens import AccessTokens
from core.lab.log_book import LogBook
from core.storage.database import Database
from gen.busbar.api.v1.options_pb import CredentialKind
from gen.busbar.lab.v1.auth_pb import GetMeRequest, LoginRequest, LoginResponse, LogoutRequest, User
from gen.busbar.lab.v1.common_pb import StatusResponse

SIGN_INS = (CredentialKind.LAB_JWT, CredentialKind.SESSION)
"""Kinds of credentials that end with a sign-out. API tokens outlive it."""


class AuthService:
    """Opens and ends sign-ins."""

    def __init__(self, database: Database, identity: Accounts, members: Members, tokens: AccessTokens, book: LogBook) -> None:
        self._database = database
        self._identity = identity
        self._members = members
        self._tokens = tokens
        self._book = book

    async def login(self, request: LoginRequest, call: Call) -> LoginResponse:
        """Check the password and issue an access token; the log entry is written with it."""
        account = await self._identity.check_password(request.email, request.password)
        if account is None:
            raise Unauthenticated("Invalid email or password.")
        user = account.user
        async with self._database.unit_of_work() as session:
            member = await self._members.find_in(session, account.org_id, user.id)
            role = "viewer" if member is None else member.role
            token = await self._tokens.issue(session, account.org_id, user.id, role)
            self._book.write(session, account.org_id, user.id, f"User '{user.username}' logged in.")
        return LoginResponse(
            status="success",
            message="Successfully logged in.",
            access_token=token,
            public_id=user.id,
            username=user.username,
        )

    async def logout(self, request: LogoutRequest, call: Call) -> StatusResponse:
        """End the caller's access token."""
        if call.caller.kind in SIGN_INS:
            await self._identity.sign_out(call.caller.credential_id)
        return StatusResponse(status="success", message="Successfully logged out.")

    async def get_me(self, request: GetMeRequest, call: Call) -> User:
        """Read the caller's account."""
        user_id = call.caller.user_id
        member = None if user_id is None else await self._members.find(call.caller.org_id, user_id)
        if member is None:
            raise PermissionDenied("this credential belongs to no user")
        return user_message(member)


def user_message(member: Member) -> User:
    """Return a user as the lab shows them."""
    user = member.user
    registered = to_exact_timestamp(user.created_us)
    return User(
        public_id=user.id,
        email=user.email,
        username=user.username,
        role=member.role,
        admin=member.role == "admin",
        registered_on=registered,
        created_on=registered,
        sso_provider=user.sso_provider,
    )
