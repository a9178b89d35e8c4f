"""Boards. A board is a device of the signals foundation with an owner, a name and a device token."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import func, tuple_
from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from core.identity.credentials import Credentials, Issued
from core.identity.tables import CredentialRow
from core.kernel.call import Call, Principal
from core.kernel.clock import MICROSECONDS, Clock, to_timestamp
from core.kernel.errors import FailedPrecondition, InvalidArgument, NotFound, PermissionDenied
from core.kernel.ids import new_id
from core.kernel.pages import decode_cursor, encode_cursor, page_limit
from core.kernel.patches import named_values
from core.kernel.settings import Settings
from core.live.events import EventBus
from core.maker.events import BoardDeleted, board_topic
from core.maker.tables import BoardRow
from core.signals.service import Signals
from core.storage.database import Database
from gen.busbar.api.v1.error_reason_pb import ErrorReason
from gen.busbar.api.v1.options_pb import CredentialKind
from gen.busbar.maker.v1.boards_pb import (
    Board,
    BoardWithToken,
    CreateBoardRequest,
    DeleteBoardRequest,
    DeleteBoardResponse,
    GetBoardRequest,
    ListBoardsRequest,
    ListBoardsResponse,
    RotateBoardTokenRequest,
    UpdateBoardRequest,
)

TOKEN_SCOPES = ("boards:read", "pins:read", "pins:write", "write")
"""What a board may do with its own token: talk over its pins, and send telemetry as the source that it is."""


@dataclass(frozen=True, slots=True)
class KnownBoard:
    """What a hot path needs of a board, kept in memory."""

    id: str
    org_id: str
    owner_id: str
    device_id: int


class BoardService:
    """Keeps boards and their device tokens."""

    def __init__(
        self,
        database: Database,
        credentials: Credentials,
        signals: Signals,
        bus: EventBus,
        clock: Clock,
        settings: Settings,
    ) -> None:
        self._database = database
        self.credentials = credentials
        self._signals = signals
        self._clock = clock
        self._bus = bus
        self._quotas = settings.quotas
        self._offline_after_us = int(settings.live.offline_after_seconds * MICROSECONDS)
        self._known: dict[str, KnownBoard] = {}
        self._left: dict[int, int] = {}

    async def require(self, board_id: str, caller: Principal) -> KnownBoard:
        """Return a board that the caller may see; from memory after the first time.

        Raises:
            NotFound: It does not exist, belongs to another organisation, or is not among the boards of the caller's key.
        """
        board = self._known.get(board_id) or await self._load(board_id)
        if board is None or board.org_id != caller.org_id:
            raise _not_found(board_id)
        if caller.board_ids is not None and board_id not in caller.board_ids:
            raise _not_found(board_id)
        if caller.kind == CredentialKind.BOARD_TOKEN and caller.bound_to != board_id:
            raise PermissionDenied("this token is bound to another board")
        return board

    async def _load(self, board_id: str) -> KnownBoard | None:
        async with self._database.read() as session:
            row = await session.get(BoardRow, board_id)
        if row is None:
            return None
        board = self._known[board_id] = KnownBoard(row.id, row.org_id, row.owner_id, row.device_id)
        return board

    async def list_boards(self, request: ListBoardsRequest, call: Call) -> ListBoardsResponse:
        """List the caller's boards by name, then id."""
        limit = page_limit(request.limit if request.has_field("limit") else None)
        rows = await self.visible(call.caller, decode_cursor(request.cursor, str, str), limit + 1)
        last = rows[limit - 1] if len(rows) > limit else None
        cursor = None if last is None else encode_cursor(last.name.lower(), last.id)
        return ListBoardsResponse(boards=[self._message(row, call.caller) for row in rows[:limit]], next_cursor=cursor)

    async def visible(
        self, caller: Principal, after: tuple[str | int, ...] | None = None, limit: int | None = None
    ) -> list[BoardRow]:
        """Return the boards that the caller may see, by name without regard to case, then by id."""
        name = func.lower(BoardRow.name)
        query = select(BoardRow).where(col(BoardRow.org_id) == caller.org_id)
        if caller.board_ids is not None:
            query = query.where(col(BoardRow.id).in_(caller.board_ids))
        if caller.kind == CredentialKind.BOARD_TOKEN:
            query = query.where(col(BoardRow.id) == caller.bound_to)
        if after is not None:
            query = query.where(tuple_(name, col(BoardRow.id)) > after)
        async with self._database.read() as session:
            return list((await session.exec(query.order_by(name, col(BoardRow.id)).limit(limit))).all())

    async def create_board(self, request: CreateBoardRequest, call: Call) -> BoardWithToken:
        """Make a board, its device and its token."""
        caller = call.caller
        if caller.user_id is None:
            raise PermissionDenied("only a user can own a board")
        name = _name(request.name)
        async with self._database.read() as session:
            await self._require_room(session, caller.user_id)
        board_id = new_id("brd-")
        device = await self._signals.ensure_device(caller.org_id, board_id, name=name, kind="board")
        now = self._clock.now_us()
        async with self._database.unit_of_work() as session:
            await self._require_room(session, caller.user_id)
            issued = await self._issue_token(session, board_id, caller)
            row = BoardRow(
                id=board_id,
                org_id=caller.org_id,
                owner_id=caller.user_id,
                device_id=device.id,
                name=name,
                board_type=request.board_type or "esp32",
                connection_type=request.connection_type or "wifi",
                token_prefix=issued.row.prefix,
                created_us=now,
                updated_us=now,
            )
            session.add(row)
        call.headers.append(("Location", f"/api/boards/{board_id}"))
        return self._with_token(row, caller, issued)

    async def _require_room(self, session: AsyncSession, user_id: str) -> None:
        count = select(func.count()).select_from(BoardRow).where(col(BoardRow.owner_id) == user_id)
        used = (await session.exec(count)).one()
        if used >= self._quotas.boards:
            raise FailedPrecondition(
                f"the account holds {used} boards, the most is {self._quotas.boards}",
                reason=ErrorReason.QUOTA_EXCEEDED,
                limit=self._quotas.boards,
                used=used,
            )

    async def _issue_token(self, session: AsyncSession, board_id: str, caller: Principal) -> Issued:
        return await self.credentials.issue(
            session, CredentialKind.BOARD_TOKEN, caller.org_id, scopes=TOKEN_SCOPES, name=board_id, bound_to=board_id
        )

    async def get_board(self, request: GetBoardRequest, call: Call) -> Board:
        """Read one board."""
        await self.require(request.board_id, call.caller)
        async with self._database.read() as session:
            row = await session.get(BoardRow, request.board_id)
        if row is None:
            raise _not_found(request.board_id)
        return self._message(row, call.caller)

    async def update_board(self, request: UpdateBoardRequest, call: Call) -> Board:
        """Change the named fields; naming none leaves `updated_at` alone."""
        await self._require_owner(request.board_id, call.caller)
        values = named_values(request, "name", "board_type", "connection_type")
        if "name" in values:
            _name(values["name"])
        async with self._database.unit_of_work() as session:
            row = await session.get(BoardRow, request.board_id)
            if row is None:
                raise _not_found(request.board_id)
            changed = [name for name, value in values.items() if getattr(row, name) != value]
            for name in changed:
                setattr(row, name, values[name])
            if changed:
                row.updated_us = self._clock.now_us()
        if "name" in changed:
            await self._signals.update_device(row.device_id, name=row.name)
        return self._message(row, call.caller)

    async def delete_board(self, request: DeleteBoardRequest, call: Call) -> DeleteBoardResponse:
        """Delete a board with everything that hangs on it."""
        board = await self._require_owner(request.board_id, call.caller)
        async with self._database.unit_of_work() as session:
            row = await session.get(BoardRow, board.id)
            if row is None:
                raise _not_found(board.id)
            ended = await self.credentials.revoke(session, await self._live_tokens(session, board.id))
            await session.delete(row)
        self._known.pop(board.id, None)
        self._left.pop(board.device_id, None)
        self.credentials.drop(ended)
        self._bus.publish(board_topic(board.org_id, board.id), BoardDeleted())
        await self._signals.delete_device(board.device_id)
        return DeleteBoardResponse(ok=True)

    async def rotate_board_token(self, request: RotateBoardTokenRequest, call: Call) -> BoardWithToken:
        """Replace the token; the old one dies with the commit."""
        board = await self._require_owner(request.board_id, call.caller)
        async with self._database.unit_of_work() as session:
            row = await session.get(BoardRow, board.id)
            if row is None:
                raise _not_found(board.id)
            ended = await self.credentials.revoke(session, await self._live_tokens(session, board.id))
            issued = await self._issue_token(session, board.id, call.caller)
            row.token_prefix = issued.row.prefix
            row.updated_us = self._clock.now_us()
        self.credentials.drop(ended)
        return self._with_token(row, call.caller, issued)

    async def note_firmware(self, board_id: str, firmware_version: str | None, board_type: str | None) -> None:
        """Keep what a board tells about itself."""
        async with self._database.unit_of_work() as session:
            row = await session.get(BoardRow, board_id)
            if row is not None:
                row.firmware_version = firmware_version or row.firmware_version
                row.board_type = board_type or row.board_type

    def status(self, device_id: int) -> str:
        """Return `online`, `offline` or `never`."""
        seen = self.last_seen_us(device_id)
        if self._signals.online(device_id):
            return "online"
        if seen is None:
            return "never"
        alive = self._clock.now_us() - seen < self._offline_after_us and seen > self._left.get(device_id, 0)
        return "online" if alive else "offline"

    def left(self, device_id: int) -> None:
        """Note that the connection of a board has ended: it is offline until it is heard from again."""
        self._left[device_id] = self._clock.now_us()

    def last_seen_us(self, device_id: int) -> int | None:
        """Return when a board was last heard from."""
        device = self._signals.get_device(device_id)
        return None if device is None else device.last_seen_us

    async def _require_owner(self, board_id: str, caller: Principal) -> KnownBoard:
        board = await self.require(board_id, caller)
        if board.owner_id != caller.user_id:
            raise PermissionDenied("only the owner may change a board")
        return board

    async def _live_tokens(self, session: AsyncSession, board_id: str) -> list[str]:
        tokens = select(CredentialRow.id).where(
            col(CredentialRow.bound_to) == board_id,
            col(CredentialRow.kind) == int(CredentialKind.BOARD_TOKEN),
            col(CredentialRow.revoked_us).is_(None),
        )
        return list((await session.exec(tokens)).all())

    def _message(self, row: BoardRow, caller: Principal) -> Board:
        owner = row.owner_id == caller.user_id
        return Board(
            id=row.id,
            owner_id=row.owner_id,
            name=row.name,
            board_type=row.board_type,
            connection_type=row.connection_type,
            status=self.status(row.device_id),
            last_seen_at=to_timestamp(self.last_seen_us(row.device_id)),
            firmware_version=row.firmware_version,
            token_prefix=row.token_prefix if owner else "",
            created_at=to_timestamp(row.created_us),
            updated_at=to_timestamp(row.updated_us),
        )

    def _with_token(self, row: BoardRow, caller: Principal, issued: Issued) -> BoardWithToken:
        # Both messages number their common fields alike, so the one can be read as the other.
        board = BoardWithToken.from_binary(self._message(row, caller).to_binary())
        board.device_token = issued.secret
        return board


def _name(name: str) -> str:
    if not name.strip():
        raise InvalidArgument.field("name", "must be 1-80 characters and not blank")
    return name


def _not_found(board_id: str) -> NotFound:
    return NotFound("board not found", board=board_id)
