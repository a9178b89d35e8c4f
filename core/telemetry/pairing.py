"""Pairing: a code that a user reads off a screen becomes a token that a device keeps."""

from __future__ import annotations

import secrets
import string

from sqlalchemy import delete, update
from sqlalchemy.exc import IntegrityError
from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from core.identity.credentials import Credentials
from core.identity.secrets import hash_secret
from core.identity.tables import CredentialRow
from core.kernel.call import Call, Principal
from core.kernel.clock import MICROSECONDS, Clock
from core.kernel.errors import AlreadyExists, FailedPrecondition, NotFound, PermissionDenied, Unauthenticated
from core.kernel.ids import new_id
from core.kernel.limits import Limiter
from core.signals.service import Signals
from core.storage.database import Database
from core.telemetry.keys import require_editor
from core.telemetry.tables import PairingRow
from core.telemetry.times import format_time
from gen.busbar.api.v1.error_reason_pb import ErrorReason
from gen.busbar.api.v1.options_pb import CredentialKind
from gen.busbar.telemetry.v1.pairing_pb import (
    CompletePairingRequest,
    CreatePairingRequest,
    CreatePairingResponse,
    DeviceToken,
    GetPairingRequest,
    ListDeviceTokensRequest,
    ListDeviceTokensResponse,
    PairedDevice,
    Pairing,
    RevokeDeviceTokenRequest,
    RevokeDeviceTokenResponse,
    VerifyDeviceRequest,
    VerifyDeviceResponse,
)

CODE_ALPHABET = string.ascii_uppercase + string.digits
CODE_LENGTH = 6
CODE_SECONDS = 900
ATTEMPTS, ATTEMPT_WINDOW = 10, 60
"""Codes that one address may try, and the seconds in which they count: six characters could be guessed otherwise."""

REMEMBERED_US = 24 * 3600 * MICROSECONDS
"""How long an ended code is told from an unknown one."""

DEVICE_SCOPES = ("read", "write")
ISSUERS = (CredentialKind.SESSION, CredentialKind.TELEMETRY_KEY)
OK, GONE = 200, 410


class PairingService:
    """Makes pairing codes and turns them into device tokens."""

    def __init__(self, database: Database, credentials: Credentials, signals: Signals, limiter: Limiter, clock: Clock) -> None:
        self._database = database
        self._credentials = credentials
        self._signals = signals
        self._limiter = limiter
        self._clock = clock

    async def create_pairing(self, request: CreatePairingRequest, call: Call) -> CreatePairingResponse:
        """Make a code, or complete the pairing whose code the request holds."""
        if request.code.strip():
            device = await self._complete(request.code, call)
            call.status = OK
            return CreatePairingResponse(
                device_token=device.device_token,
                source_id=device.source_id,
                org_id=device.org_id,
                source_name=device.source_name,
                endpoint=device.endpoint,
            )
        caller = _issuer(call)
        while True:
            code = "".join(secrets.choice(CODE_ALPHABET) for _ in range(CODE_LENGTH))
            source_id = request.source_id or f"device-{code.lower()}"
            if not request.source_id and self._signals.find_device(caller.org_id, source_id) is not None:
                continue
            try:
                expires = await self._keep(code, caller.org_id, source_id, request.name)
            except AlreadyExists:
                continue
            return CreatePairingResponse(code=code, expires_in=CODE_SECONDS, expires_at=format_time(expires))

    async def _keep(self, code: str, org_id: str, source_id: str, name: str) -> int:
        """Keep a code and return when it ends. Raises AlreadyExists when it is known."""
        now = self._clock.now_us()
        expires = now + CODE_SECONDS * MICROSECONDS
        row = PairingRow(
            id=new_id("pair_"),
            code_hash=hash_secret(code),
            org_id=org_id,
            source_id=source_id,
            name=name,
            created_us=now,
            expires_us=expires,
        )
        try:
            async with self._database.unit_of_work() as session:
                await session.exec(delete(PairingRow).where(col(PairingRow.expires_us) < now - REMEMBERED_US))
                session.add(row)
        except IntegrityError as error:
            raise AlreadyExists("the code is known already") from error
        return expires

    async def get_pairing(self, request: GetPairingRequest, call: Call) -> Pairing:
        """Tell how a pairing stands."""
        async with self._database.read() as session:
            row = await _find(session, request.code)
        if row.org_id != call.caller.org_id:
            raise _unknown()
        if row.completed_us is not None:
            return Pairing(status="completed", source_id=row.source_id)
        return Pairing(status="expired" if row.expires_us <= self._clock.now_us() else "pending")

    async def complete_pairing(self, request: CompletePairingRequest, call: Call) -> PairedDevice:
        """Turn a code into a device token."""
        return await self._complete(request.code, call)

    async def _complete(self, code: str, call: Call) -> PairedDevice:
        # Both ways of completing share one count, so that neither adds to the guesses of the other.
        self._limiter.check(("pairing-attempt", call.address), ATTEMPTS, ATTEMPT_WINDOW)
        async with self._database.read() as session:
            row = await _find(session, code)
        self._require_live(row, call)
        device = await self._signals.ensure_device(row.org_id, row.source_id, name=row.name or None)
        async with self._database.unit_of_work() as session:
            claimed = await session.exec(
                update(PairingRow)
                .where(col(PairingRow.id) == row.id, col(PairingRow.completed_us).is_(None))
                .values(completed_us=self._clock.now_us())
            )
            if claimed.rowcount != 1:
                raise _gone(call)
            issued = await self._credentials.issue(
                session,
                CredentialKind.DEVICE_TOKEN,
                row.org_id,
                scopes=DEVICE_SCOPES,
                name=device.name[:200],
                bound_to=row.source_id,
            )
        return PairedDevice(
            device_token=issued.secret,
            source_id=row.source_id,
            org_id=row.org_id,
            source_name=device.name,
            endpoint=call.base_url,
        )

    def _require_live(self, row: PairingRow, call: Call) -> None:
        if row.completed_us is not None or row.expires_us <= self._clock.now_us():
            raise _gone(call)

    async def list_device_tokens(self, request: ListDeviceTokensRequest, call: Call) -> ListDeviceTokensResponse:
        """List the device tokens of the organisation, newest first."""
        del request
        query = select(CredentialRow).where(
            col(CredentialRow.org_id) == call.caller.org_id, col(CredentialRow.kind) == int(CredentialKind.DEVICE_TOKEN)
        )
        query = query.order_by(col(CredentialRow.created_us).desc(), col(CredentialRow.id).desc())
        async with self._database.read() as session:
            rows = (await session.exec(query)).all()
        return ListDeviceTokensResponse(tokens=[_token(row) for row in rows])

    async def revoke_device_token(self, request: RevokeDeviceTokenRequest, call: Call) -> RevokeDeviceTokenResponse:
        """Revoke a device token for the very next call."""
        require_editor(call.caller)
        async with self._database.unit_of_work() as session:
            row = await session.get(CredentialRow, request.token_id)
            if row is None or row.org_id != call.caller.org_id or row.kind != int(CredentialKind.DEVICE_TOKEN):
                raise NotFound(f"device token {request.token_id} not found", token=request.token_id)
            ended = await self._credentials.revoke(session, [row.id])
        self._credentials.drop(ended)
        return RevokeDeviceTokenResponse()

    async def verify_device(self, request: VerifyDeviceRequest, call: Call) -> VerifyDeviceResponse:
        """Tell whose device token it is."""
        token = request.device_token or call.credential or ""
        holder = self._credentials.known(token) or await self._credentials.authenticate(token)
        if holder is None or holder.kind != CredentialKind.DEVICE_TOKEN or holder.bound_to is None:
            raise Unauthenticated("invalid device token")
        device = self._signals.find_device(holder.org_id, holder.bound_to)
        return VerifyDeviceResponse(
            valid=True,
            org_id=holder.org_id,
            source_id=holder.bound_to,
            source_name=holder.bound_to if device is None else device.name,
        )


async def _find(session: AsyncSession, code: str) -> PairingRow:
    """Return the pairing of a code as somebody typed it. Raises NotFound."""
    digest = hash_secret(code.strip().upper())
    row = (await session.exec(select(PairingRow).where(col(PairingRow.code_hash) == digest))).one_or_none()
    if row is None:
        raise _unknown()
    return row


def _unknown() -> NotFound:
    return NotFound("unknown pairing code")


def _gone(call: Call) -> FailedPrecondition:
    call.status = GONE
    return FailedPrecondition("the pairing code has expired or was used: get a new one")


def _issuer(call: Call) -> Principal:
    """Return who asks for a code: somebody who may write to any source, since the code may be for any."""
    caller = call.caller
    if caller.kind not in ISSUERS:
        raise PermissionDenied("a session or a telemetry key is needed to make a pairing code")
    if not caller.may("write"):
        raise PermissionDenied("insufficient scope: write required", reason=ErrorReason.SCOPE_MISSING, scope="write")
    require_editor(caller)
    return caller


def _token(row: CredentialRow) -> DeviceToken:
    return DeviceToken(
        id=row.id,
        prefix=row.prefix,
        source_id=row.bound_to or "",
        created_at=format_time(row.created_us),
        last_used_at=None if row.last_used_us is None else format_time(row.last_used_us),
        revoked_at=None if row.revoked_us is None else format_time(row.revoked_us),
    )
