"""Sign-in of telemetry clients: dashboards, command lines, and devices that have a browser nearby."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from urllib.parse import parse_qs, quote, urlencode

from core.identity.accounts import Account, Accounts
from core.identity.attempts import SignInAttempts
from core.kernel.call import Call
from core.kernel.errors import DomainError, InvalidArgument, PermissionDenied, Unauthenticated
from core.kernel.limits import Limiter
from core.kernel.settings import Settings
from core.kernel.validation import validate
from core.live.events import EventBus
from core.telemetry.dashboard_tokens import DashboardTokens
from core.telemetry.frames import frames_topic, read_form
from core.telemetry.grants import GRANT_SECONDS, POLL_SECONDS, DeviceGrants, State
from core.telemetry.keys import CLIENT_SCOPES, require_editor
from core.telemetry.pages import code_form, consent_form, page
from core.telemetry.setup_script import setup_script
from gen.busbar.api.v1.error_reason_pb import ErrorReason
from gen.busbar.api.v1.options_pb import CredentialKind
from gen.busbar.telemetry.v1.sign_in_pb import (
    ApproveDeviceRequest,
    AuthorizeCliRequest,
    ClientConfig,
    CliKey,
    CliSignInRequest,
    CliSignUpRequest,
    DashboardToken,
    DeviceGrant,
    DeviceGrantKey,
    GetClientConfigRequest,
    GetSetupScriptRequest,
    IssueDashboardTokenRequest,
    PollDeviceGrantRequest,
    RelayFrameRequest,
    RelayFrameResponse,
    StartDeviceGrantRequest,
)
from gen.google.api.httpbody_pb import HttpBody

DEVICE_PAGE, CLI_PAGE = "/auth/device", "/auth/cli"
ACCEPTED, UNAUTHORIZED, NOT_FOUND = 202, 401, 404
MOST_FIELDS = 10
MOST_PORT = 65_535


@dataclass(frozen=True, slots=True)
class Consenter:
    """Who decides on a page."""

    org_id: str
    user_id: str
    shown: str


class SignInService:
    """Leads clients to a credential and tells them where to send."""

    def __init__(
        self,
        accounts: Accounts,
        grants: DeviceGrants,
        tokens: DashboardTokens,
        bus: EventBus,
        limiter: Limiter,
        settings: Settings,
    ) -> None:
        self._accounts = accounts
        self._grants = grants
        self._tokens = tokens
        self._bus = bus
        self._attempts = SignInAttempts(limiter)
        self._settings = settings

    async def issue_dashboard_token(self, request: IssueDashboardTokenRequest, call: Call) -> DashboardToken:
        """Issue a token of the session for dashboard sockets."""
        del request
        return DashboardToken(token=self._tokens.issue(call.caller))

    # Device grants

    async def start_device_grant(self, request: StartDeviceGrantRequest, call: Call) -> DeviceGrant:
        """Begin a device grant."""
        del request
        device_code, user_code = await self._grants.start()
        uri = f"{self._base(call)}{DEVICE_PAGE}"
        return DeviceGrant(
            device_code=device_code,
            user_code=user_code,
            verification_uri=uri,
            verification_uri_complete=f"{uri}?user_code={user_code}",
            interval=POLL_SECONDS,
            expires_in=GRANT_SECONDS,
        )

    async def poll_device_grant(self, request: PollDeviceGrantRequest, call: Call) -> DeviceGrantKey:
        """Hand out the key of a grant that its user allowed, once."""
        state, key = await self._grants.claim(request.device_code)
        if state == "pending":
            call.status = ACCEPTED
            return DeviceGrantKey(error="authorization_pending")
        if state == "denied":
            raise PermissionDenied("access_denied")
        if key is None:
            raise InvalidArgument("expired_token", reason=ErrorReason.CREDENTIAL_INVALID)
        return DeviceGrantKey(api_key=key)

    async def approve_device(self, request: ApproveDeviceRequest, call: Call) -> HttpBody:
        """Ask a user whether a device may have a key, and take the answer."""
        validate(request)
        title = "Connect a device"
        if not request.user_code:
            return page(call, title, code_form(DEVICE_PAGE))
        code = await self._grants.waiting(request.user_code)
        if code is None:
            failure = "This code is unknown, used or expired."
            return page(call, title, code_form(DEVICE_PAGE, failure), status=NOT_FOUND)
        form = _form(call)
        text = f"<p>A device asks to send and read telemetry in your organisation. It must show <code>{escape(code)}</code></p>"
        consenter, failure = await self._consenter(form, call)
        if form.get("decision") not in ("allow", "deny") or consenter is None:
            action = f"{DEVICE_PAGE}?user_code={quote(code)}"
            shown = None if consenter is None else consenter.shown
            body = text + consent_form(action, signed_in_as=shown, failure=failure)
            return page(call, title, body, status=UNAUTHORIZED if failure else 200)
        allowed: State = "allowed" if form["decision"] == "allow" else "denied"
        if not await self._grants.decide(code, allowed, consenter.org_id, consenter.user_id):
            return page(call, title, "<p>This code was used or has expired.</p>", status=NOT_FOUND)
        done = "The device gets its key now." if allowed == "allowed" else "The device gets no key."
        return page(call, title, f"<p>{done} You may close this page.</p>")

    # Command lines

    async def authorize_cli(self, request: AuthorizeCliRequest, call: Call) -> HttpBody:
        """Ask a user whether a command line may have a key, and lead back to it with the answer."""
        validate(request)
        _require_port(request.callback)
        form = _form(call)
        if form.get("decision") == "deny":
            return _back(request, call, error="access_denied")
        consenter, failure = await self._consenter(form, call)
        if form.get("decision") == "allow" and consenter is not None:
            return _back(request, call, key=await self._issue(consenter.org_id, request.name or "command line"))
        name = f" named <strong>{escape(request.name)}</strong>" if request.name else ""
        target = f"{request.callback.removesuffix('/callback')}"
        text = (
            f"<p>A command line on this machine asks for a key{name} that may send and read telemetry in your organisation."
            f" It listens at <strong>{escape(target)}</strong>. Allow it only if you have just started it.</p>"
        )
        fields = {"state": request.state, "callback": request.callback, "name": request.name}
        shown = None if consenter is None else consenter.shown
        body = text + consent_form(f"{CLI_PAGE}?{urlencode(fields)}", signed_in_as=shown, failure=failure)
        # Browsers hold the redirect after a form against this policy too.
        targets = f"'self' {target}"
        return page(call, "Connect a command line", body, status=UNAUTHORIZED if failure else 200, form_targets=targets)

    async def cli_sign_up(self, request: CliSignUpRequest, call: Call) -> CliKey:
        """Make an account with a key."""
        del call
        account = await self._accounts.register(
            request.email, request.password, display_name=request.first_name.strip(), open_session=False
        )
        return await self._cli_key(account)

    async def cli_sign_in(self, request: CliSignInRequest, call: Call) -> CliKey:
        """Make a key for a password."""
        self._attempts.check(request.email, call.address)
        account = await self._accounts.check_password(request.email, request.password)
        if account is None:
            self._attempts.failed(request.email, call.address)
            known = await self._accounts.find_user(request.email)
            raise Unauthenticated("no_account" if known is None else "invalid_credentials")
        return await self._cli_key(account)

    async def _cli_key(self, account: Account) -> CliKey:
        return CliKey(api_key=await self._issue(account.org_id, "command line"), org_id=account.org_id)

    async def _issue(self, org_id: str, name: str) -> str:
        issued = await self._accounts.issue(CredentialKind.TELEMETRY_KEY, org_id, scopes=CLIENT_SCOPES, name=name)
        return issued.secret

    # Whatever clients need besides

    async def get_setup_script(self, request: GetSetupScriptRequest, call: Call) -> HttpBody:
        """Return the setup script for this server."""
        del request
        return HttpBody(content_type="text/plain; charset=utf-8", data=setup_script(self._base(call)))

    async def get_client_config(self, request: GetClientConfigRequest, call: Call) -> ClientConfig:
        """Tell where the sockets are."""
        del request
        return ClientConfig(ws_url=self._base(call).replace("http", "ws", 1))

    async def relay_frame(self, request: RelayFrameRequest, call: Call) -> RelayFrameResponse:
        """Tell a picture to those who watch."""
        body = request.body or HttpBody()
        frame = read_form(body.content_type, body.data)
        bound = call.caller.bound_to
        if bound is not None and frame.source_id != bound:
            raise PermissionDenied(f"this token is bound to the source {bound}")
        self._bus.publish(frames_topic(call.caller.org_id), frame, remember=False)
        return RelayFrameResponse(success=True)

    # Helpers

    async def _consenter(self, form: dict[str, str], call: Call) -> tuple[Consenter | None, str]:
        """Return who decides, by their session or by the password in the form; else what was wrong with the password."""
        session = call.principal
        if session is not None and session.kind == CredentialKind.SESSION and session.user_id is not None:
            require_editor(session)
            user = await self._accounts.get_user(session.user_id)
            return Consenter(session.org_id, user.id, user.email), ""
        if "decision" not in form:
            return None, ""
        login, password = form.get("login", ""), form.get("password", "")
        try:
            self._attempts.check(login, call.address)
        except DomainError as error:
            return None, f"{error.message}."
        account = await self._accounts.check_password(login, password) if login and password else None
        if account is None:
            self._attempts.failed(login, call.address)
            return None, "The name or the password is wrong."
        return Consenter(account.org_id, account.user.id, account.user.email), ""

    def _base(self, call: Call) -> str:
        """Return the address under which clients reach the server; gRPC does not tell which one they used."""
        return call.base_url or self._settings.public_url.rstrip("/") or f"http://{self._settings.http}"


def _form(call: Call) -> dict[str, str]:
    """Return the fields of the form that came with a call; of a repeated one the last."""
    try:
        fields = parse_qs((call.raw or b"").decode(), max_num_fields=MOST_FIELDS)
    except ValueError:
        raise InvalidArgument("the body is not a valid form", reason=ErrorReason.MALFORMED_BODY) from None
    return {name: values[-1] for name, values in fields.items()}


def _require_port(callback: str) -> None:
    if int(callback.removesuffix("/callback").rpartition(":")[2]) > MOST_PORT:
        raise InvalidArgument.field("callback", f"must have a port up to {MOST_PORT}")


def _back(request: AuthorizeCliRequest, call: Call, **result: str) -> HttpBody:
    call.location = f"{request.callback}?{urlencode({**result, 'state': request.state})}"
    return HttpBody()
