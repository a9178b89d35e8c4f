"""Telemetry keys: who holds one, and the keys of an organisation."""

from __future__ import annotations

from sqlalchemy import tuple_
from sqlmodel import col, select

from core.identity.credentials import Credentials
from core.identity.tables import CredentialRow
from core.kernel.call import Call, Principal
from core.kernel.clock import Clock
from core.kernel.errors import InvalidArgument, NotFound, PermissionDenied
from core.kernel.pages import decode_cursor, encode_cursor, page_limit
from core.storage.database import Database
from core.telemetry.quotas import PointQuotas
from core.telemetry.times import format_time, parse_time
from gen.busbar.api.v1.options_pb import CredentialKind
from gen.busbar.telemetry.v1.keys_pb import (
    CreatedKey,
    CreateKeyRequest,
    Key,
    ListKeysRequest,
    ListKeysResponse,
    RevokeKeyRequest,
    RevokeKeyResponse,
    VerifyKeyRequest,
    VerifyKeyResponse,
)

DEFAULT_SCOPES = ("write",)
CLIENT_SCOPES = ("read", "write")
"""What a key may do that a command line or a device fetched for itself."""


class KeyService:
    """Issues, lists and revokes the telemetry keys of the caller's organisation."""

    def __init__(self, database: Database, credentials: Credentials, quotas: PointQuotas, clock: Clock) -> None:
        self._database = database
        self._credentials = credentials
        self._quotas = quotas
        self._clock = clock

    async def verify_key(self, request: VerifyKeyRequest, call: Call) -> VerifyKeyResponse:
        """Tell whose key it is."""
        del request
        return VerifyKeyResponse(org_id=call.caller.org_id, scopes=sorted(call.caller.scopes))

    async def create_key(self, request: CreateKeyRequest, call: Call) -> CreatedKey:
        """Issue a key. It belongs to the organisation, and outlives whoever made it."""
        require_editor(call.caller)
        expires = parse_time("expires_at", request.expires_at)
        if expires is not None and expires <= self._clock.now_us():
            raise InvalidArgument.field("expires_at", "must be in the future")
        quota = request.points_per_month if request.has_field("points_per_month") else None
        async with self._database.unit_of_work() as session:
            issued = await self._credentials.issue(
                session,
                CredentialKind.TELEMETRY_KEY,
                call.caller.org_id,
                scopes=tuple(request.scopes) or DEFAULT_SCOPES,
                name=request.name,
                expires_us=expires,
            )
            if quota is not None:
                await session.flush()
                self._quotas.set(session, issued.row.id, quota)
        if quota is not None:
            self._quotas.known(issued.row.id, quota)
        shown = self._key(issued.row)
        return CreatedKey(
            id=shown.id,
            name=shown.name,
            prefix=shown.prefix,
            scopes=shown.scopes,
            created_at=shown.created_at,
            expires_at=_time(issued.row.expires_us),
            points_per_month=quota,
            key=issued.secret,
        )

    async def list_keys(self, request: ListKeysRequest, call: Call) -> ListKeysResponse:
        """List the keys of the organisation, newest first."""
        limit = page_limit(request.limit if request.has_field("limit") else None)
        query = select(CredentialRow).where(
            col(CredentialRow.org_id) == call.caller.org_id, col(CredentialRow.kind) == int(CredentialKind.TELEMETRY_KEY)
        )
        after = decode_cursor(request.cursor, int, str)
        if after is not None:
            query = query.where(tuple_(col(CredentialRow.created_us), col(CredentialRow.id)) < after)
        query = query.order_by(col(CredentialRow.created_us).desc(), col(CredentialRow.id).desc()).limit(limit + 1)
        async with self._database.read() as session:
            rows = list((await session.exec(query)).all())
        cursor = encode_cursor(rows[limit - 1].created_us, rows[limit - 1].id) if len(rows) > limit else None
        return ListKeysResponse(keys=[self._key(row) for row in rows[:limit]], next_cursor=cursor)

    async def revoke_key(self, request: RevokeKeyRequest, call: Call) -> RevokeKeyResponse:
        """Revoke a key for the very next call."""
        require_editor(call.caller)
        async with self._database.unit_of_work() as session:
            row = await session.get(CredentialRow, request.key_id)
            if row is None or row.org_id != call.caller.org_id or row.kind != int(CredentialKind.TELEMETRY_KEY):
                raise NotFound(f"key {request.key_id} not found", key=request.key_id)
            ended = await self._credentials.revoke(session, [row.id])
        self._credentials.drop(ended)
        return RevokeKeyResponse()

    def _key(self, row: CredentialRow) -> Key:
        limit, used = self._quotas.usage(row.id) or (None, None)
        return Key(
            id=row.id,
            name=row.name,
            prefix=row.prefix,
            scopes=row.scopes.split(",") if row.scopes else list(DEFAULT_SCOPES),
            created_at=format_time(row.created_us),
            last_used_at=_time(row.last_used_us),
            expires_at=_time(row.expires_us),
            revoked_at=_time(row.revoked_us),
            points_per_month=limit,
            points_this_month=used,
        )


def require_editor(caller: Principal) -> None:
    """Refuse those who may only look on: a credential that they issued could do more than they may."""
    if caller.role == "viewer":
        raise PermissionDenied("viewers may not issue or revoke credentials", role="operator")


def _time(at_us: int | None) -> str | None:
    return None if at_us is None else format_time(at_us)
