"""Accounts of makers over the identity foundation: the session cookie, and the words the contract uses."""

from __future__ import annotations

from functools import partial

from core.identity.accounts import Account, Accounts
from core.identity.attempts import SignInAttempts
from core.identity.credentials import SESSION_LIFE_US
from core.identity.secrets import verify_password
from core.identity.tables import UserRow
from core.kernel.call import Call, Cookie
from core.kernel.clock import MICROSECONDS, Clock, to_timestamp
from core.kernel.errors import InvalidArgument, Unauthenticated
from core.kernel.limits import Limiter
from core.maker.notices import Notices
from core.maker.people import People
from core.maker.referrals import Referrals
from core.storage.database import Database
from gen.busbar.api.v1.options_pb import CredentialKind
from gen.busbar.maker.v1.auth_pb import (
    ChangePasswordRequest,
    ChangePasswordResponse,
    GetSessionRequest,
    LoginRequest,
    LogoutRequest,
    LogoutResponse,
    RegisterRequest,
    SessionEnvelope,
    SessionUser,
)

COOKIE = "plynx_session"


class AuthService:
    """Registers users and keeps their sessions."""

    def __init__(
        self,
        database: Database,
        accounts: Accounts,
        limiter: Limiter,
        clock: Clock,
        *,
        people: People,
        notices: Notices,
        referrals: Referrals,
    ) -> None:
        self._database = database
        self._people = people
        self._notices = notices
        self._referrals = referrals
        self._accounts = accounts
        self._attempts = SignInAttempts(limiter)
        self._clock = clock

    async def register(self, request: RegisterRequest, call: Call) -> SessionEnvelope:
        """Make the account and sign its user in."""
        code = request.referral_code
        account = await self._accounts.register(
            request.email,
            request.password,
            username=request.username,
            display_name=request.display_name,
            also=partial(self._referrals.use, code) if code else None,
        )
        return await self._signed_in(account, call)

    async def login(self, request: LoginRequest, call: Call) -> SessionEnvelope:
        """Check the password and open a session. Failures count against the account and against the address."""
        self._attempts.check(request.email, call.address)
        account = await self._accounts.sign_in(request.email, request.password)
        if account is None:
            self._attempts.failed(request.email, call.address)
            raise Unauthenticated("invalid email or password")
        return await self._signed_in(account, call)

    async def logout(self, request: LogoutRequest, call: Call) -> LogoutResponse:
        """End the session that the call was made with."""
        del request
        principal = call.principal
        if principal is not None and principal.kind == CredentialKind.SESSION:
            await self._accounts.sign_out(principal.credential_id)
        call.cookies.append(Cookie(COOKIE, "", 0))
        return LogoutResponse(ok=True)

    async def get_session(self, request: GetSessionRequest, call: Call) -> SessionEnvelope:
        """Tell who is signed in; renew the cookie of a session that lives on, clear a stale one."""
        del request
        principal = call.principal
        if principal is None or principal.user_id is None or principal.kind != CredentialKind.SESSION:
            if call.credential_source == "cookie":
                call.cookies.append(Cookie(COOKIE, "", 0))
            return SessionEnvelope()
        user = await self._accounts.get_user(principal.user_id)
        if call.credential_source == "cookie" and call.credential and principal.expires_at_us is not None:
            left = (principal.expires_at_us - self._clock.now_us()) // MICROSECONDS
            call.cookies.append(Cookie(COOKIE, call.credential, left))
        return SessionEnvelope(user=await self._session_user(user), expires_at=to_timestamp(principal.expires_at_us))

    async def change_password(self, request: ChangePasswordRequest, call: Call) -> ChangePasswordResponse:
        """Set the new password once the current one is proved."""
        caller = call.caller
        user = await self._accounts.get_user(caller.user_id or "")
        if not await verify_password(user.password_hash, request.current_password):
            raise Unauthenticated("current password is wrong")
        if request.new_password == request.current_password:
            raise InvalidArgument.field("new_password", "must differ from the current password")
        await self._accounts.change_password(user.id, request.new_password, keep=caller.credential_id)
        return ChangePasswordResponse(ok=True)

    async def _signed_in(self, account: Account, call: Call) -> SessionEnvelope:
        issued = account.session
        token = None if issued is None else issued.secret
        if issued is not None:
            call.cookies.append(Cookie(COOKIE, issued.secret, SESSION_LIFE_US // MICROSECONDS))
        expires = to_timestamp(issued.row.expires_us) if issued else None
        return SessionEnvelope(user=await self._session_user(account.user), token=token, expires_at=expires)

    async def _session_user(self, user: UserRow) -> SessionUser:
        async with self._database.read() as session:
            projects, listings = await self._people.counts(session, user.id)
            unread = await self._notices.unread(session, user.id)
        return SessionUser(
            id=user.id,
            username=user.username,
            display_name=user.display_name,
            bio=user.bio,
            avatar_url=user.avatar_url,
            website_url=user.website_url,
            created_at=to_timestamp(user.created_us),
            project_count=projects,
            listing_count=listings,
            email=user.email,
            email_verified=user.email_verified,
            role=user.role,
            unread_notifications=unread,
        )
