"""Boards. A board is a device of the signals foundation with an owner, a name and a device token."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass

from sqlalchemy import func, literal, tuple_
from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from core.identity.credentials import Credentials, Issued
from core.identity.tables import CredentialRow
from core.kernel.call import Call, Principal
from core.kernel.clock import MICROSECONDS, Clock, to_timestamp
from core.kernel.errors import FailedPrecondition, NotFound, PermissionDenied
from core.kernel.ids import new_id
from core.kernel.pages import decode_cursor, encode_cursor, page_limit
from core.kernel.patches import named_values
from core.kernel.settings import Settings
from core.live.events import EventBus
from core.maker.access import Role
from core.maker.attachments import Attachments
from core.maker.events import BoardDeleted, board_topic
from core.maker.tables import AttachmentRow, BoardRow
from core.maker.texts import required_text
from core.signals.service import Signals
from core.storage.database import Database
from core.storage.locks import lock_name
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

Deleting = Callable[[AsyncSession, str], Awaitable[None]]
"""Removes, in the unit of work that deletes a board, what hangs on it."""
Leaving = Callable[["KnownBoard", int], None]
"""Is told of a board whose connection has ended, and when."""

MOST_NAME = 80
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
        *,
        settings: Settings,
        attachments: Attachments,
    ) -> None:
        self._database = database
        self.credentials = credentials
        self._signals = signals
        self._clock = clock
        self._bus = bus
        self._quotas = settings.quotas
        self._offline_after_us = int(settings.live.offline_after_seconds * MICROSECONDS)
        self._attachments = attachments
        self._deleting: list[Deleting] = []
        self._leaving: list[Leaving] = []
        self._known: dict[str, KnownBoard] = {}
        self._left: dict[int, int] = {}

    def on_delete(self, work: Deleting) -> None:
        """Let work be done in the unit of work that deletes a board, before the board itself goes."""
        self._deleting.append(work)

    def on_leave(self, listener: Leaving) -> None:
        """Call a listener whenever the connection of a board has ended."""
        self._leaving.append(listener)

    async def require(self, board_id: str, caller: Principal, least: Role = Role.VIEWER) -> KnownBoard:
        """Return a board that the caller may see; from memory after the first time.

        Members of a project to which it is attached see it; to write its pins they must be editors.

        Raises:
            NotFound: It does not exist, the caller may not see it, or it is not among the boards of the caller's key.
            PermissionDenied: The caller sees it but has too small a role.
        """
        board = self._known.get(board_id) or await self._load(board_id)
        if board is None or (caller.board_ids is not None and board_id not in caller.board_ids):
            raise _not_found(board_id)
        if board.org_id != caller.org_id:
            role = await self._attachments.sharing.role(board_id, caller.user_id)
            if role == Role.NONE:
                raise _not_found(board_id)
            if role < least:
                raise PermissionDenied(f"{least.word} role required", role=least.word, board=board_id)
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
        """List the caller's boards, or those of a project, by name, then id."""
        limit = page_limit(request.limit if request.has_field("limit") else None)
        after = decode_cursor(request.cursor, str, str)
        async with self._database.read() as session:
            if request.project_id:
                await self._attachments.access.seat(session, request.project_id, call.caller, Role.VIEWER)
            rows = await self._listed(session, call.caller, after, limit + 1, project_id=request.project_id)
            last = rows[limit - 1] if len(rows) > limit else None
            cursor = None if last is None else encode_cursor(await _lower(session, last.name), last.id)
            return ListBoardsResponse(boards=await self.messages(session, rows[:limit], call.caller), next_cursor=cursor)

    async def visible(self, caller: Principal) -> list[BoardRow]:
        """Return the caller's own boards, by name without regard to case, then by id."""
        async with self._database.read() as session:
            return await self._listed(session, caller)

    async def _listed(
        self,
        session: AsyncSession,
        caller: Principal,
        after: tuple[str | int, ...] | None = None,
        limit: int | None = None,
        *,
        project_id: str = "",
    ) -> list[BoardRow]:
        name = func.lower(BoardRow.name)
        if project_id:
            attached = select(AttachmentRow.board_id).where(col(AttachmentRow.project_id) == project_id)
            query = select(BoardRow).where(col(BoardRow.id).in_(attached))
        else:
            query = select(BoardRow).where(col(BoardRow.org_id) == caller.org_id)
        if caller.board_ids is not None:
            query = query.where(col(BoardRow.id).in_(caller.board_ids))
        if caller.kind == CredentialKind.BOARD_TOKEN:
            query = query.where(col(BoardRow.id) == caller.bound_to)
        if after is not None:
            query = query.where(tuple_(name, col(BoardRow.id)) > after)
        return list((await session.exec(query.order_by(name, col(BoardRow.id)).limit(limit))).all())

    async def create_board(self, request: CreateBoardRequest, call: Call) -> BoardWithToken:
        """Make a board, its device and its token, and attach it to a project if one is named."""
        caller, project_id = call.caller, request.project_id
        if caller.user_id is None:
            raise PermissionDenied("only a user can own a board")
        name = required_text("name", request.name, MOST_NAME)
        async with self._database.read() as session:
            await self._require_room(session, caller.user_id)
            if project_id:
                await self._attachments.access.seat(session, project_id, caller, Role.EDITOR)
        board_id = new_id("brd-")
        device = await self._signals.ensure_device(caller.org_id, board_id, name=name, kind="board")
        async with self._database.unit_of_work() as session:
            await lock_name(session, f"boards of {caller.user_id}")
            await self._require_room(session, caller.user_id)
            issued = await self._issue_token(session, board_id, caller)
            row = self._row(board_id, device.id, request, caller, issued)
            session.add(row)
            await session.flush()
            if project_id:
                await self._attachments.attach(session, project_id, board_id, caller)
            board = (await self.messages(session, [row], caller))[0]
        if project_id:
            self._attachments.told_attached(project_id, row.org_id, board_id, caller.user_id, call.client_id)
        call.headers.append(("Location", f"/api/boards/{board_id}"))
        return _with_token(board, issued)

    def _row(self, board_id: str, device_id: int, request: CreateBoardRequest, caller: Principal, issued: Issued) -> BoardRow:
        now = self._clock.now_us()
        return BoardRow(
            id=board_id,
            org_id=caller.org_id,
            owner_id=caller.user_id or "",
            device_id=device_id,
            name=required_text("name", request.name, MOST_NAME),
            board_type=request.board_type or "esp32",
            connection_type=request.connection_type or "wifi",
            token_prefix=issued.row.prefix,
            created_us=now,
            updated_us=now,
        )

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
            return (await self.messages(session, [row], call.caller))[0]

    async def update_board(self, request: UpdateBoardRequest, call: Call) -> Board:
        """Change the named fields; naming none leaves `updated_at` alone."""
        await self._require_owner(request.board_id, call.caller)
        values = named_values(request, "name", "board_type", "connection_type")
        if "name" in values:
            required_text("name", values["name"], MOST_NAME)
        async with self._database.unit_of_work() as session:
            row = await session.get(BoardRow, request.board_id)
            if row is None:
                raise _not_found(request.board_id)
            changed = [name for name, value in values.items() if getattr(row, name) != value]
            for name in changed:
                setattr(row, name, values[name])
            if changed:
                row.updated_us = self._clock.now_us()
            board = (await self.messages(session, [row], call.caller))[0]
        if "name" in changed:
            await self._signals.update_device(row.device_id, name=row.name)
        return board

    async def delete_board(self, request: DeleteBoardRequest, call: Call) -> DeleteBoardResponse:
        """Delete a board with everything that hangs on it."""
        board = await self._require_owner(request.board_id, call.caller)
        async with self._database.unit_of_work() as session:
            row = await session.get(BoardRow, board.id)
            if row is None:
                raise _not_found(board.id)
            ended = await self.credentials.revoke(session, await self._live_tokens(session, board.id))
            for work in self._deleting:
                await work(session, board.id)
            projects = await self._attachments.detach_everywhere(session, board.id)
            await session.delete(row)
        self._known.pop(board.id, None)
        self._left.pop(board.device_id, None)
        self.credentials.drop(ended)
        self._bus.publish(board_topic(board.org_id, board.id), BoardDeleted())
        for project_id in projects:
            self._attachments.told_detached(project_id, [(board.org_id, board.id)], call.caller.user_id, call.client_id)
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
            shown = (await self.messages(session, [row], call.caller))[0]
        self.credentials.drop(ended)
        return _with_token(shown, issued)

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

    def left(self, board: KnownBoard) -> None:
        """Note that the connection of a board has ended: it is offline until it is heard from again."""
        now = self._left[board.device_id] = self._clock.now_us()
        for listener in self._leaving:
            listener(board, now)

    def left_since(self, device_id: int, at_us: int) -> bool:
        """Whether the connection of a board has ended since a time."""
        return self._left.get(device_id, 0) >= at_us

    def heard_since(self, device_id: int, at_us: int) -> bool:
        """Whether a board is connected, or was heard from after a time."""
        return self._signals.online(device_id) or (self.last_seen_us(device_id) or 0) > at_us

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

    async def messages(self, session: AsyncSession, rows: Iterable[BoardRow], caller: Principal) -> list[Board]:
        """Return boards as the caller sees them."""
        rows = list(rows)
        projects = await self._attachments.project_ids(session, [row.id for row in rows], caller.user_id)
        return [self._message(row, caller, projects.get(row.id, [])) for row in rows]

    def _message(self, row: BoardRow, caller: Principal, project_ids: list[str]) -> Board:
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
            project_ids=project_ids,
            token_prefix=row.token_prefix if owner else "",
            created_at=to_timestamp(row.created_us),
            updated_at=to_timestamp(row.updated_us),
        )


async def _lower(session: AsyncSession, name: str) -> str:
    """Return a name in lower case as the database orders by it; it may know fewer letters than Python does."""
    return (await session.exec(select(func.lower(literal(name))))).one()


def _with_token(shown: Board, issued: Issued) -> BoardWithToken:
    # Both messages number their common fields alike, so the one can be read as the other.
    board = BoardWithToken.from_binary(shown.to_binary())
    board.device_token = issued.secret
    return board


def _not_found(board_id: str) -> NotFound:
    return NotFound("board not found", board=board_id)
