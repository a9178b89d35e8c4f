"""Accounts: who proves a mail address, and who signs in by it."""

from __future__ import annotations

from urllib.parse import urlsplit

from protobuf.wkt import Empty
from sqlalchemy.exc import IntegrityError
from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from core.identity.attempts import SignInAttempts
from core.identity.places import membership
from core.identity.proofs import LIFE_US
from core.identity.tables import OrgRow, UserRow
from core.kernel.call import Call
from core.kernel.clock import MICROSECONDS, Clock
from core.kernel.errors import AlreadyExists, InvalidArgument, NotFound, PermissionDenied, Unauthenticated
from core.kernel.settings import is_loopback
from core.mail.post import Mail
from core.plans.access import user_of
from core.plans.people import People, address, org_messages
from gen.busbar.api.v1.options_pb import CredentialKind
from gen.busbar.plans.v1.accounts_pb import (
    CheckPinRequest,
    CreateAccountRequest,
    CreateEmailVerificationRequest,
    CreateSignInCodeRequest,
    EmailVerification,
    Session,
    SignInCode,
    SignInRequest,
    SignOutRequest,
)

SIGN_INS = (CredentialKind.PLANS_TOKEN, CredentialKind.SESSION, CredentialKind.LAB_JWT)
"""Kinds of credentials that end with a sign-out. Keys outlive it."""


MINUTE_US = 60 * MICROSECONDS


class AccountService:
    """Signs people in and out."""

    def __init__(self, people: People, attempts: SignInAttempts, clock: Clock) -> None:
        self._people = people
        self._database = people.database
        self._proofs = people.proofs
        self._attempts = attempts
        self._clock = clock
        self._local_mode = people.local_mode

    async def create_email_verification(self, request: CreateEmailVerificationRequest, call: Call) -> EmailVerification:
        """Tell whether the address has an account, and send a pin there."""
        email = address(request.email)
        async with self._database.read() as session:
            user = await _user_at(session, email)
            named = await session.get(UserRow, request.user_id) if request.user_id else None
        if request.user_id:
            if named is None or named.deleted_us is not None:
                raise NotFound("User not found", user=request.user_id)
            if named.email != email:
                raise InvalidArgument.field("email", "is not the address of the user")
        if request.require_user and user is None:
            raise NotFound("User not found", email=email)
        if request.require_no_user and user is not None:
            raise AlreadyExists("User already exists", field="email")
        if self._local_mode:
            self._require_near(call)
        else:
            await self._send_pin(email)
        return EmailVerification(has_account=user is not None, is_local_mode=self._local_mode)

    async def check_pin(self, request: CheckPinRequest, call: Call) -> Empty:
        """Tell whether a pin counts."""
        email = address(request.email)
        if self._local_mode:
            self._require_near(call)
            return Empty()
        self._attempts.check(email, call.address)
        async with self._database.unit_of_work() as session:
            found = await self._proofs.find_pin(session, email, request.pin)
        if found is None:
            self._attempts.failed(email, call.address)
            raise NotFound("Invalid or expired pin")
        if found.used:
            raise AlreadyExists("Pin was already used", field="pin")
        return Empty()

    async def create_sign_in_code(self, request: CreateSignInCodeRequest, call: Call) -> SignInCode:
        """Make a code for the caller and the organisation of the call."""
        del request
        async with self._database.unit_of_work() as session:
            code = await self._proofs.new_code(session, user_of(call.caller), call.caller.org_id)
        return SignInCode(code=code)

    async def sign_in(self, request: SignInRequest, call: Call) -> Session:
        """Sign in with a pin, or with a code."""
        return await (self._by_code(request, call) if request.is_sign_in_code else self._by_pin(request, call))

    async def sign_out(self, request: SignOutRequest, call: Call) -> Empty:
        """End the caller's token."""
        del request
        if call.caller.kind not in SIGN_INS:
            raise PermissionDenied("a key does not end by signing out")
        await self._people.identity.sign_out(call.caller.credential_id)
        return Empty()

    async def create_account(self, request: CreateAccountRequest, call: Call) -> Session:
        """Make an account for a proved address, and sign in."""
        email, name = address(request.email), request.user_name.strip()
        if not name:
            raise InvalidArgument.field("user_name", "must not be blank")
        self._check(email, call)
        try:
            async with self._database.unit_of_work() as session:
                if await _user_at(session, email) is not None:
                    raise AlreadyExists("an account for this email already exists", field="email")
                made = None
                if await self._is_proved(session, email, request.pin):
                    user = await self._people.identity.register_by_mail(session, email, name)
                    made = await self._signed_in(session, user)
        except IntegrityError as error:
            # The address was free when the unit of work began, and another call was faster.
            raise AlreadyExists("an account for this email already exists", field="email") from error
        if made is None:
            raise self._refused(email, call, "Error creating account: invalid or expired pin")
        return made

    # Signing in

    async def _by_pin(self, request: SignInRequest, call: Call) -> Session:
        email = address(request.email)
        self._check(email, call)
        async with self._database.unit_of_work() as session:
            user = await _user_at(session, email)
            signed_in = None
            # Without an account the pin stays good for making one.
            if user is not None and await self._is_proved(session, email, request.pin):
                signed_in = await self._signed_in(session, user)
        if user is None:
            raise NotFound("Error signing in: no account for this email", email=email)
        # Whoever joined an organisation by the proof is a member from the next call on.
        self._people.credentials.reread_user(user.id)
        if signed_in is None:
            raise self._refused(email, call, "Error signing in: invalid or expired pin")
        return signed_in

    async def _by_code(self, request: SignInRequest, call: Call) -> Session:
        # No account is named, so only the address that guesses can be made to wait.
        self._check(call.address, call)
        async with self._database.unit_of_work() as session:
            signed_in = None
            used = await self._proofs.use_code(session, request.pin)
            if used is not None:
                user_id, org_id = used
                user, org = await session.get_one(UserRow, user_id), await session.get_one(OrgRow, org_id)
                if user.deleted_us is None and await membership(session, org_id, user_id) is not None:
                    signed_in = await self._session(session, user, [org])
        if signed_in is None:
            raise self._refused(call.address, call, "Error signing in: invalid or expired code")
        return signed_in

    async def _is_proved(self, session: AsyncSession, email: str, pin: str) -> bool:
        return self._local_mode or await self._proofs.use_pin(session, email, pin)

    async def _signed_in(self, session: AsyncSession, user: UserRow) -> Session:
        """Open a session for somebody who proved their address, or who is believed to have it."""
        if not self._local_mode:
            await self._people.orgs.prove(session, user)
        orgs = await self._people.orgs.of_user(session, user.id)
        return await self._session(session, user, [*orgs, *await self._people.invites.inviting(session, user)])

    async def _session(self, session: AsyncSession, user: UserRow, orgs: list[OrgRow]) -> Session:
        issued = await self._people.credentials.issue(session, CredentialKind.PLANS_TOKEN, None, user_id=user.id)
        return Session(
            user_id=user.id,
            token=issued.secret,
            email=user.email,
            user_name=user.display_name,
            orgs=org_messages(await self._people.orgs.described(session, orgs)),
            is_local_mode=self._local_mode,
        )

    def _check(self, login: str, call: Call) -> None:
        """Refuse whoever has failed too often, and in local mode whoever does not come from this machine."""
        if self._local_mode:
            self._require_near(call)
        else:
            self._attempts.check(login, call.address)

    def _refused(self, login: str, call: Call, message: str) -> Unauthenticated:
        self._attempts.failed(login, call.address)
        return Unauthenticated(message)

    def _require_near(self, call: Call) -> None:
        """Refuse a page whose name was made to point to this machine: the browser counts it as a site of its own."""
        if not is_loopback(urlsplit(call.base_url).hostname or "localhost"):
            raise PermissionDenied("in local mode the server is reached by a loopback address only")

    async def _send_pin(self, email: str) -> None:
        async with self._database.unit_of_work() as session:
            pin = await self._proofs.new_pin(session, email)
            text = f"Your pin is {pin}\n\nIt counts for {LIFE_US // MINUTE_US} minutes. Nobody signs in without it.\n"
            expires = self._clock.now_us() + LIFE_US
            await self._people.mail.send(session, Mail(email, "Your pin to sign in", text, expires_us=expires))


async def _user_at(session: AsyncSession, email: str) -> UserRow | None:
    return (await session.exec(select(UserRow).where(col(UserRow.email) == email))).one_or_none()
