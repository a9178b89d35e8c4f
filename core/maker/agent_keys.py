"""Keys for agents. A key acts for its user within its scopes and boards."""

from __future__ import annotations

import json

from protobuf.wkt import ListValue, Value
from sqlalchemy import func, or_, tuple_
from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from core.foundations import Foundations
from core.identity.tables import CredentialRow
from core.kernel.call import Call
from core.kernel.clock import from_timestamp, to_timestamp
from core.kernel.errors import FailedPrecondition, InvalidArgument, NotFound
from core.kernel.pages import decode_cursor, encode_cursor, page_limit
from core.maker.boards import BoardService
from core.storage.locks import lock_name
from gen.busbar.api.v1.error_reason_pb import ErrorReason
from gen.busbar.api.v1.options_pb import CredentialKind
from gen.busbar.maker.v1.agent_keys_pb import (
    AgentKey,
    CreateAgentKeyRequest,
    CreatedAgentKey,
    ListAgentKeysRequest,
    ListAgentKeysResponse,
    RevokeAgentKeyRequest,
    RevokeAgentKeyResponse,
)

READ_SCOPES = ("boards:read", "pins:read", "projects:read")
"""What a key may do when nobody says more."""


class AgentKeyService:
    """Issues, lists and revokes the caller's keys."""

    def __init__(self, found: Foundations, boards: BoardService) -> None:
        self._found = found
        self._database = found.database
        self._credentials = found.credentials
        self._boards = boards
        self._clock = found.clock
        self._quotas = found.settings.quotas

    async def create_agent_key(self, request: CreateAgentKeyRequest, call: Call) -> CreatedAgentKey:
        """Issue a key for boards that the caller owns."""
        caller = call.caller
        expires = from_timestamp(request.expires_at)
        if expires is not None and expires <= self._clock.now_us():
            raise InvalidArgument.field("expires_at", "must be in the future")
        boards, tools = _names(request.board_ids), _names(request.tools)
        if unknown := sorted(set(tools or ()) - self._found.tools):
            raise InvalidArgument.field("tools", f"there is no tool {unknown[0][:128]}")
        for board_id in boards or ():
            await self._boards.require(board_id, caller)
        async with self._database.unit_of_work() as session:
            await lock_name(session, f"keys of {caller.user_id}")
            await self._require_room(session, caller.user_id)
            issued = await self._credentials.issue(
                session,
                CredentialKind.AGENT_KEY,
                caller.org_id,
                user_id=caller.user_id,
                scopes=tuple(request.scopes) or READ_SCOPES,
                name=request.name,
                board_ids=boards,
                expires_us=expires,
                read_only=request.read_only,
                tools=tools,
            )
        shown = _key(issued.row)
        return CreatedAgentKey(
            id=shown.id,
            name=shown.name,
            prefix=shown.prefix,
            scopes=shown.scopes,
            board_ids=shown.board_ids,
            created_at=shown.created_at,
            expires_at=shown.expires_at,
            read_only=shown.read_only,
            tools=shown.tools,
            key=issued.secret,
        )

    async def _require_room(self, session: AsyncSession, user_id: str | None) -> None:
        live = await session.exec(
            select(func.count())
            .select_from(CredentialRow)
            .where(
                col(CredentialRow.user_id) == user_id,
                col(CredentialRow.kind) == int(CredentialKind.AGENT_KEY),
                col(CredentialRow.revoked_us).is_(None),
                or_(col(CredentialRow.expires_us).is_(None), col(CredentialRow.expires_us) > self._clock.now_us()),
            )
        )
        used = live.one()
        if used >= self._quotas.agent_keys:
            raise FailedPrecondition(
                f"the account holds {used} live keys, the most is {self._quotas.agent_keys}",
                reason=ErrorReason.QUOTA_EXCEEDED,
                limit=self._quotas.agent_keys,
                used=used,
            )

    async def list_agent_keys(self, request: ListAgentKeysRequest, call: Call) -> ListAgentKeysResponse:
        """List the caller's keys, newest first."""
        limit = page_limit(request.limit if request.has_field("limit") else None)
        query = select(CredentialRow).where(
            col(CredentialRow.user_id) == call.caller.user_id, col(CredentialRow.kind) == int(CredentialKind.AGENT_KEY)
        )
        after = decode_cursor(request.cursor, int, str)
        if after is not None:
            query = query.where(tuple_(col(CredentialRow.created_us), col(CredentialRow.id)) < after)
        query = query.order_by(col(CredentialRow.created_us).desc(), col(CredentialRow.id).desc()).limit(limit + 1)
        async with self._database.read() as session:
            rows = list((await session.exec(query)).all())
        cursor = encode_cursor(rows[limit - 1].created_us, rows[limit - 1].id) if len(rows) > limit else None
        return ListAgentKeysResponse(keys=[_key(row) for row in rows[:limit]], next_cursor=cursor)

    async def revoke_agent_key(self, request: RevokeAgentKeyRequest, call: Call) -> RevokeAgentKeyResponse:
        """Revoke one of the caller's keys for the very next call."""
        async with self._database.unit_of_work() as session:
            row = await session.get(CredentialRow, request.key_id)
            if row is None or row.user_id != call.caller.user_id or row.kind != int(CredentialKind.AGENT_KEY):
                raise NotFound(f"key {request.key_id} not found", key=request.key_id)
            ended = await self._credentials.revoke(session, [row.id])
        self._credentials.drop(ended)
        return RevokeAgentKeyResponse(ok=True)


def _key(row: CredentialRow) -> AgentKey:
    return AgentKey(
        id=row.id,
        name=row.name,
        prefix=row.prefix,
        scopes=row.scopes.split(","),
        board_ids=_list(row.board_ids),
        created_at=to_timestamp(row.created_us),
        last_used_at=to_timestamp(row.last_used_us),
        expires_at=to_timestamp(row.expires_us),
        revoked_at=to_timestamp(row.revoked_us),
        read_only=row.read_only,
        tools=_list(row.tools),
    )


def _names(items: ListValue | None) -> list[str] | None:
    return None if items is None else [str(item) for item in items.to_python()]


def _list(kept: str | None) -> ListValue | None:
    """Return a kept list of names as a message."""
    return None if kept is None else ListValue(values=[Value.from_python(str(item)) for item in json.loads(kept)])
