"""API tokens: long-lived credentials of controllers and scripts."""

from __future__ import annotations

from sqlmodel import col, select

from core.identity.credentials import Credentials
from core.identity.tables import CredentialRow
from core.kernel.call import Call
from core.kernel.clock import from_timestamp, to_exact_timestamp
from core.kernel.errors import NotFound, PermissionDenied
from core.lab.paging import page_of, read_page
from core.storage.database import Database
from gen.busbar.api.v1.options_pb import CredentialKind
from gen.busbar.lab.v1.common_pb import StatusResponse
from gen.busbar.lab.v1.tokens_pb import (
    CreateTokenRequest,
    DeleteTokenRequest,
    ListTokensRequest,
    ListTokensResponse,
    Token,
    TokenCreated,
)


class TokenService:
    """Keeps API tokens."""

    def __init__(self, database: Database, credentials: Credentials) -> None:
        self._database = database
        self._credentials = credentials

    async def list_tokens(self, request: ListTokensRequest, call: Call) -> ListTokensResponse:
        """List live tokens, newest first."""
        page = page_of(request)
        query = select(CredentialRow).where(
            col(CredentialRow.org_id) == call.caller.org_id,
            col(CredentialRow.kind) == int(CredentialKind.LAB_TOKEN),
            col(CredentialRow.revoked_us).is_(None),
        )
        if call.caller.role != "admin":
            query = query.where(col(CredentialRow.user_id) == call.caller.user_id)
        newest = query.order_by(col(CredentialRow.created_us).desc(), col(CredentialRow.id).desc())
        async with self._database.read() as session:
            rows, total = await read_page(session, newest, page)
        return ListTokensResponse(page=page.number, page_size=page.size, total=total, data=[self._message(row) for row in rows])

    async def create_token(self, request: CreateTokenRequest, call: Call) -> TokenCreated:
        """Make a token of the caller."""
        user_id = call.caller.user_id
        if user_id is None:
            raise PermissionDenied("only a user can own an API token")
        async with self._database.unit_of_work() as session:
            issued = await self._credentials.issue(
                session,
                CredentialKind.LAB_TOKEN,
                call.caller.org_id,
                user_id=user_id,
                name=request.name,
                expires_us=from_timestamp(request.expires_at),
            )
        return TokenCreated(
            public_id=issued.row.id,
            name=issued.row.name,
            token=issued.secret,
            expires_at=request.expires_at,
            created_at=to_exact_timestamp(issued.row.created_us),
        )

    async def delete_token(self, request: DeleteTokenRequest, call: Call) -> StatusResponse:
        """End a token at once."""
        async with self._database.unit_of_work() as session:
            row = await session.get(CredentialRow, request.public_id)
            if (
                row is None
                or row.org_id != call.caller.org_id
                or row.kind != int(CredentialKind.LAB_TOKEN)
                or row.revoked_us is not None
            ):
                raise NotFound("API token not found.", token=request.public_id)
            if row.user_id != call.caller.user_id and call.caller.role != "admin":
                raise PermissionDenied("Cannot delete another user's token.")
            ended = await self._credentials.revoke(session, [row.id])
        self._credentials.drop(ended)
        return StatusResponse(status="success", message="API token deleted.")

    def _message(self, row: CredentialRow) -> Token:
        return Token(
            public_id=row.id,
            name=row.name,
            last_used_at=to_exact_timestamp(self._credentials.last_used_us(row)),
            expires_at=to_exact_timestamp(row.expires_us),
            created_at=to_exact_timestamp(row.created_us),
            user_public_id=row.user_id or "",
        )
