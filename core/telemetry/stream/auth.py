"""First frames: who connects, and what they may do here."""

from __future__ import annotations

from dataclasses import dataclass

from core.identity.credentials import Credentials
from core.kernel.call import Call, Principal
from core.kernel.errors import DomainError, InvalidArgument, PermissionDenied, Unauthenticated
from core.telemetry.access import may_see, require_slug
from core.telemetry.dashboard_tokens import DashboardTokens
from gen.busbar.api.v1.error_reason_pb import ErrorReason
from gen.busbar.api.v1.options_pb import CredentialKind
from gen.busbar.telemetry.v1.stream_pb import BrowserAuth, DataApiAuth, DeviceAuth, ShareAuth

DEVICE_KINDS = frozenset({CredentialKind.TELEMETRY_KEY, CredentialKind.DEVICE_TOKEN, CredentialKind.BOARD_TOKEN})
DEFAULT_ROOM = "default"
"""The room that every credential may enter."""


@dataclass(frozen=True, slots=True)
class Admitted:
    """Somebody who said who they are.

    Attributes:
        secret: What proved it.
        data_api: Whether they receive only what they subscribed to.
        shared: Whether they may only look on.
    """

    principal: Principal
    secret: str
    data_api: bool = False
    shared: bool = False


class Doorkeeper:
    """Reads first frames."""

    def __init__(self, credentials: Credentials, tokens: DashboardTokens) -> None:
        self._credentials = credentials
        self._tokens = tokens

    async def device(self, auth: DeviceAuth, call: Call, room: str) -> tuple[Admitted, str]:
        """Return the holder of a device's credential, and its source.

        Raises:
            Unauthenticated: The credential does not count here.
            PermissionDenied: It lacks the scope, or is for another source or room.
            InvalidArgument: The source is missing, or is none.
        """
        secret = auth.device_token or auth.api_key or _of_header(call)
        principal = await self._holder(secret)
        if principal is None or principal.kind not in DEVICE_KINDS:
            raise Unauthenticated("Invalid device token" if auth.device_token else "Invalid API key")
        if not principal.may("write"):
            raise PermissionDenied("API key lacks write scope", reason=ErrorReason.SCOPE_MISSING, scope="write")
        _check_room(principal, room)
        source_id = auth.source_id or auth.device_id or principal.bound_to
        if not source_id:
            raise InvalidArgument("source_id required", field="source_id")
        if not may_see(principal, source_id):
            raise PermissionDenied(f"this token is bound to the source {principal.bound_to}")
        if source_id != principal.bound_to:
            require_slug("source_id", source_id)
        call.principal = principal
        return Admitted(principal, secret), source_id

    async def dashboard(self, auth: BrowserAuth | ShareAuth | DataApiAuth, call: Call, room: str) -> Admitted:
        """Return the holder of a dashboard's credential.

        Raises:
            Unauthenticated: The credential does not count here.
            PermissionDenied: It may not read, is for another room, or comes from a page of another site.
        """
        if call.foreign_origin is not None:
            message = "connections from this origin are not accepted"
            raise PermissionDenied(message, reason=ErrorReason.ORIGIN_REFUSED, origin=call.foreign_origin)
        if isinstance(auth, ShareAuth):
            admitted = await self._share(auth)
        elif isinstance(auth, DataApiAuth):
            admitted = await self._data_api(auth, call)
        else:
            admitted = await self._browser(auth, call)
        principal = admitted.principal
        if not (admitted.shared or principal.may("read")):
            raise PermissionDenied("API key lacks read scope", reason=ErrorReason.SCOPE_MISSING, scope="read")
        _check_room(principal, room)
        call.principal = principal
        return admitted

    async def _browser(self, auth: BrowserAuth, call: Call) -> Admitted:
        secret = auth.token or _of_header(call)
        if not secret:
            raise Unauthenticated("token required")
        principal = await self._holder(secret) or await self._tokens.verify(secret)
        if principal is None or principal.kind not in (CredentialKind.SESSION, CredentialKind.TELEMETRY_KEY):
            raise Unauthenticated("Invalid session")
        return Admitted(principal, secret)

    async def _share(self, auth: ShareAuth) -> Admitted:
        if not auth.token:
            raise Unauthenticated("token required")
        principal = await self._holder(auth.token)
        if principal is None or principal.kind != CredentialKind.SHARE_TOKEN:
            raise Unauthenticated("Invalid share token")
        return Admitted(principal, auth.token, shared=True)

    async def _data_api(self, auth: DataApiAuth, call: Call) -> Admitted:
        secret = auth.api_key or _of_header(call)
        if not secret:
            raise Unauthenticated("api_key required")
        principal = await self._holder(secret)
        if principal is None or principal.kind != CredentialKind.TELEMETRY_KEY:
            raise Unauthenticated("Invalid API key")
        return Admitted(principal, secret, data_api=True)

    async def _holder(self, secret: str) -> Principal | None:
        if not secret:
            return None
        return self._credentials.known(secret) or await self._credentials.authenticate(secret)


def wrong_first_frame(*, device: bool, dashboard: bool) -> DomainError:
    """Return the refusal of a connection whose first frame does not say who is there."""
    types = "device_auth, browser_auth, share_auth or data_api_auth" if device else "browser_auth, share_auth or data_api_auth"
    return Unauthenticated(f"first message must be {types if dashboard else 'device_auth'}")


def _of_header(call: Call) -> str:
    return call.credential or "" if call.credential_source == "header" else ""


def _check_room(principal: Principal, room: str) -> None:
    if room not in (DEFAULT_ROOM, principal.org_id):
        raise PermissionDenied("this room belongs to another organisation")
