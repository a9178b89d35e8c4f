"""Signing in to the lab through an identity provider."""

from __future__ import annotations

import re
import secrets
from urllib.parse import urlencode

from sqlalchemy.exc import IntegrityError

from core.identity.members import Members
from core.kernel.call import Call, Cookie
from core.kernel.errors import DomainError, FailedPrecondition, FieldViolation, InvalidArgument, NotFound, Unavailable
from core.kernel.settings import Settings
from core.kernel.validation import invalid
from core.lab.access_tokens import AccessTokens
from core.lab.log_book import LogBook
from core.lab.oidc import Identity, Provider, ProviderFailed
from core.lab.sso_store import ATTEMPT_SECONDS, SsoStore
from core.lab.sso_tables import SsoAttemptRow
from core.lab.sso_users import SsoUsers, identity_of
from core.storage.database import Database
from gen.busbar.api.v1.error_reason_pb import ErrorReason
from gen.busbar.lab.v1.sso_pb import (
    AuthorizeSsoRequest,
    AuthorizeSsoResponse,
    CompleteSsoRequest,
    CompleteSsoResponse,
    ExchangeSsoCodeRequest,
    ExchangeSsoCodeResponse,
    GetSsoConfigRequest,
    SsoConfig,
)

PATH = "/api/v1/auth/sso"
COOKIE = "lab_sso"
TEMPORARY_REDIRECT, BAD_REQUEST, MISCONFIGURED = 307, 400, 500
FRONTEND = "http://localhost:5173"

_BROWSER = re.compile(r"[A-Za-z0-9_-]{43}")


class SsoService:
    """Leads a browser to the identity provider and back."""

    def __init__(
        self,
        database: Database,
        *,
        settings: Settings,
        provider: Provider,
        store: SsoStore,
        users: SsoUsers,
        members: Members,
        tokens: AccessTokens,
        book: LogBook,
    ) -> None:
        self._database = database
        self._settings = settings
        self._provider = provider
        self._store = store
        self._users = users
        self._members = members
        self._tokens = tokens
        self._book = book

    async def get_sso_config(self, request: GetSsoConfigRequest, call: Call) -> SsoConfig:
        """Tell whether there is a provider."""
        if not self._settings.oidc_enabled:
            return SsoConfig()
        return SsoConfig(enabled=True, provider_name=self._settings.oidc_provider_name, authorize_url=f"{PATH}/authorize")

    async def authorize_sso(self, request: AuthorizeSsoRequest, call: Call) -> AuthorizeSsoResponse:
        """Begin an attempt of this browser, which its cookie will prove."""
        self._require_enabled(call)
        browser = _browser(call) or secrets.token_urlsafe(32)
        redirect_uri = self._redirect_uri(call)
        attempt = await self._store.begin(browser, redirect_uri)
        try:
            location = await self._provider.authorize_url(attempt.state, attempt.verifier, redirect_uri)
        except ProviderFailed as error:
            raise _bad_gateway(error) from error
        call.cookies.append(Cookie(COOKIE, browser, ATTEMPT_SECONDS))
        call.status, call.location = TEMPORARY_REDIRECT, location
        return AuthorizeSsoResponse(location=location)

    async def complete_sso(self, request: CompleteSsoRequest, call: Call) -> CompleteSsoResponse:
        """Find out who came back, and send them to the frontend with a one-time code."""
        if not request.error:
            _require(request, "code", "state")
        self._require_enabled(call)
        if request.error:
            return self._to_frontend(call, error=request.error)
        attempt = await self._store.take(request.state, _browser(call) or "")
        if attempt is None:
            raise _refused(call, "Invalid or expired SSO state.")
        identity = await self._identify(request.code, attempt, call)
        try:
            code = await self._sign_in(identity)
        except IntegrityError:
            # Another attempt of the same person was faster, and has made or linked the user.
            code = await self._sign_in(identity)
        return self._to_frontend(call, code=code)

    async def exchange_sso_code(self, request: ExchangeSsoCodeRequest, call: Call) -> ExchangeSsoCodeResponse:
        """Issue an access token for a one-time code."""
        async with self._database.unit_of_work() as session:
            row = await self._store.redeem(session, request.code)
            member = None if row is None else await self._members.find_in(session, row.org_id, row.user_id)
            token = None
            if row is not None and member is not None:
                token = await self._tokens.issue(session, row.org_id, row.user_id, member.role)
        if token is None:
            raise _refused(call, "Invalid or expired SSO authorization code.")
        return ExchangeSsoCodeResponse(access_token=token)

    async def _identify(self, code: str, attempt: SsoAttemptRow, call: Call) -> Identity:
        try:
            claims = await self._provider.identify(code, attempt.verifier, attempt.redirect_uri)
        except ProviderFailed as error:
            raise _bad_gateway(error) from error
        try:
            return identity_of(claims)
        except InvalidArgument:
            call.status = BAD_REQUEST
            raise

    async def _sign_in(self, identity: Identity) -> str:
        """Return a one-time code for the user of an identity; the log entry is written with it."""
        async with self._database.unit_of_work() as session:
            known = await self._users.resolve(session, identity)
            user = known.user
            text = f"User '{user.username}' logged in via SSO ({self._settings.oidc_provider_name})."
            self._book.write(session, known.org_id, user.id, text)
            return self._store.issue_code(session, known.org_id, user.id)

    def _require_enabled(self, call: Call) -> None:
        if not self._settings.oidc_enabled:
            raise NotFound("SSO is not enabled.")
        if not self._settings.oidc_issuer_url or not self._settings.oidc_client_id:
            text = "SSO is enabled, but BUSBAR_OIDC_ISSUER_URL or BUSBAR_OIDC_CLIENT_ID is empty: set both."
            call.status = MISCONFIGURED
            raise FailedPrecondition(text, reason=ErrorReason.NOT_CONFIGURED)

    def _redirect_uri(self, call: Call) -> str:
        base = self._settings.public_url.rstrip("/") or call.base_url
        return self._settings.oidc_redirect_uri or f"{base}{PATH}/callback"

    def _to_frontend(self, call: Call, **query: str) -> CompleteSsoResponse:
        # Never from the request: the code that it carries must not be led astray.
        origins = [*self._settings.cors_origins, *self._settings.lab.cors_origins, FRONTEND]
        frontend = (self._settings.oidc_frontend_url or origins[0]).rstrip("/")
        call.status, call.location = TEMPORARY_REDIRECT, f"{frontend}/sso-callback?{urlencode(query)}"
        return CompleteSsoResponse(location=call.location)


def _browser(call: Call) -> str | None:
    """Return the random name that this browser got with an earlier attempt."""
    value = call.sent_cookie(COOKIE)
    return value if value is not None and _BROWSER.fullmatch(value) else None


def _require(request: CompleteSsoRequest, *names: str) -> None:
    missing = tuple(FieldViolation((name,), "required", "required") for name in names if not getattr(request, name))
    if missing:
        raise invalid(missing)


def _refused(call: Call, text: str) -> DomainError:
    call.status = BAD_REQUEST
    return InvalidArgument(text)


def _bad_gateway(error: ProviderFailed) -> DomainError:
    return Unavailable(str(error), reason=ErrorReason.UPSTREAM_FAILED)
