"""Shared views: tokens by which anyone may watch the dashboards of an organisation, or of some of its sources."""

from __future__ import annotations

import json
from typing import cast

from sqlalchemy import tuple_
from sqlmodel import col, select

from core.identity.credentials import Credentials
from core.identity.tables import CredentialRow
from core.kernel.call import Call
from core.kernel.clock import Clock
from core.kernel.errors import InvalidArgument, NotFound
from core.kernel.pages import decode_cursor, encode_cursor, page_limit
from core.signals.service import Signals
from core.storage.database import Database
from core.telemetry.access import may_see
from core.telemetry.keys import require_editor
from core.telemetry.times import format_time, parse_time
from gen.busbar.api.v1.options_pb import CredentialKind
from gen.busbar.telemetry.v1.shares_pb import (
    CreatedShare,
    CreateShareRequest,
    ListSharesRequest,
    ListSharesResponse,
    RevokeShareRequest,
    RevokeShareResponse,
    Share,
)

SCOPES = ("share",)
"""No call asks for this scope, so that a share is good for its socket and nothing else."""


class ShareService:
    """Makes, lists and revokes the shares of the caller's organisation."""

    def __init__(self, database: Database, credentials: Credentials, signals: Signals, clock: Clock) -> None:
        self._database = database
        self._credentials = credentials
        self._signals = signals
        self._clock = clock

    async def create_share(self, request: CreateShareRequest, call: Call) -> CreatedShare:
        """Make a share. It belongs to the organisation, and outlives whoever made it."""
        require_editor(call.caller)
        expires = parse_time("expires_at", request.expires_at)
        if expires is not None and expires <= self._clock.now_us():
            raise InvalidArgument.field("expires_at", "must be in the future")
        for source_id in request.sources:
            if self._signals.find_device(call.caller.org_id, source_id) is None or not may_see(call.caller, source_id):
                raise NotFound(f"source {source_id} not found", source=source_id)
        async with self._database.unit_of_work() as session:
            issued = await self._credentials.issue(
                session,
                CredentialKind.SHARE_TOKEN,
                call.caller.org_id,
                scopes=SCOPES,
                name=request.name,
                board_ids=request.sources or None,
                expires_us=expires,
            )
            share = _share(issued.row)
        return CreatedShare(share=share, token=issued.secret)

    async def list_shares(self, request: ListSharesRequest, call: Call) -> ListSharesResponse:
        """List the shares of the organisation, newest first."""
        limit = page_limit(request.limit if request.has_field("limit") else None)
        query = select(CredentialRow).where(
            col(CredentialRow.org_id) == call.caller.org_id, col(CredentialRow.kind) == int(CredentialKind.SHARE_TOKEN)
        )
        after = decode_cursor(request.cursor, int, str)
        if after is not None:
            query = query.where(tuple_(col(CredentialRow.created_us), col(CredentialRow.id)) < after)
        query = query.order_by(col(CredentialRow.created_us).desc(), col(CredentialRow.id).desc()).limit(limit + 1)
        async with self._database.read() as session:
            rows = list((await session.exec(query)).all())
        cursor = encode_cursor(rows[limit - 1].created_us, rows[limit - 1].id) if len(rows) > limit else None
        return ListSharesResponse(shares=[_share(row) for row in rows[:limit]], next_cursor=cursor)

    async def revoke_share(self, request: RevokeShareRequest, call: Call) -> RevokeShareResponse:
        """Revoke a share, and end the sockets that were opened by it."""
        require_editor(call.caller)
        async with self._database.unit_of_work() as session:
            row = await session.get(CredentialRow, request.share_id)
            if row is None or row.org_id != call.caller.org_id or row.kind != int(CredentialKind.SHARE_TOKEN):
                raise NotFound(f"share {request.share_id} not found", share=request.share_id)
            ended = await self._credentials.revoke(session, [row.id])
        self._credentials.drop(ended)
        return RevokeShareResponse()


def _share(row: CredentialRow) -> Share:
    return Share(
        id=row.id,
        name=row.name,
        prefix=row.prefix,
        sources=[] if row.board_ids is None else cast("list[str]", json.loads(row.board_ids)),
        created_at=format_time(row.created_us),
        last_used_at=_time(row.last_used_us),
        expires_at=_time(row.expires_us),
        revoked_at=_time(row.revoked_us),
    )


def _time(at_us: int | None) -> str | None:
    return None if at_us is None else format_time(at_us)
