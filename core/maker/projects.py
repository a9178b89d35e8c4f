"""Projects: what people build around their boards."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Literal, get_args

from sqlalchemy import delete, func, text
from sqlalchemy.exc import IntegrityError
from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from core.kernel.call import Call, Principal
from core.kernel.clock import Clock
from core.kernel.errors import FailedPrecondition, InvalidArgument, NotFound, PermissionDenied
from core.kernel.pages import decode_cursor, encode_cursor, page_limit
from core.live.events import EventBus
from core.maker.access import ProjectAccess, Role, project_not_found
from core.maker.attachments import Attachments
from core.maker.boards import BoardService
from core.maker.cloning import ProjectCopies, lock_projects, new_project
from core.maker.events import ProjectDeleted, ProjectUpdated, project_topic
from core.maker.project_lists import list_of
from core.maker.project_pins import ProjectPinMap
from core.maker.project_views import ProjectViews
from core.maker.sharing import attached_boards
from core.maker.tables import AttachmentRow, BoardRow, CollaboratorRow, LikeRow, ProjectRow
from core.storage.database import Database
from gen.busbar.api.v1.error_reason_pb import ErrorReason
from gen.busbar.maker.v1.projects_pb import (
    AttachBoardRequest,
    AttachBoardResponse,
    CreateProjectRequest,
    DeleteProjectRequest,
    DeleteProjectResponse,
    DetachBoardRequest,
    DetachBoardResponse,
    GetProjectPinsRequest,
    GetProjectRequest,
    LikeProjectRequest,
    LikeProjectResponse,
    ListProjectBoardsRequest,
    ListProjectBoardsResponse,
    ListProjectsRequest,
    ListProjectsResponse,
    Project,
    ProjectPins,
    PublishProjectRequest,
    UnlikeProjectRequest,
    UnlikeProjectResponse,
    UnpublishProjectRequest,
    UpdateProjectRequest,
)

Deleting = Callable[[AsyncSession, str], Awaitable[None]]
"""Removes, in the unit of work that deletes a project, what hangs on it, or lets go of it."""

Field = Literal["name", "description", "board_type", "theme", "visibility", "tags", "cover_url"]
"""What clients may set."""
FIELDS: tuple[Field, ...] = get_args(Field)
LONGEST_TAG = 32

_LIKE = text(
    "INSERT INTO project_like (project_id, user_id, created_us) VALUES (:project_id, :user_id, :now) ON CONFLICT DO NOTHING"
)
_UNLIKE = text("DELETE FROM project_like WHERE project_id = :project_id AND user_id = :user_id")
_COUNT = text("UPDATE project SET likes = likes + :change WHERE id = :project_id")


class ProjectService:
    """Keeps projects, their boards and their likes."""

    def __init__(  # noqa: PLR0913 - a project has that many sides
        self,
        database: Database,
        bus: EventBus,
        clock: Clock,
        *,
        attachments: Attachments,
        boards: BoardService,
        views: ProjectViews,
        copies: ProjectCopies,
        pins: ProjectPinMap,
        quota: int,
    ) -> None:
        self._database = database
        self._bus = bus
        self._clock = clock
        self._access: ProjectAccess = attachments.access
        self._attachments = attachments
        self._boards = boards
        self._views = views
        self._copies = copies
        self._pins = pins
        self._quota = quota
        self._deleting: list[Deleting] = []

    def on_delete(self, work: Deleting) -> None:
        """Let work be done in the unit of work that deletes a project, before the project itself goes."""
        self._deleting.append(work)

    async def list_projects(self, request: ListProjectsRequest, call: Call) -> ListProjectsResponse:
        """List the caller's projects, last changed first."""
        limit = page_limit(request.limit if request.has_field("limit") else None)
        user_id = call.caller.user_id
        async with self._database.read() as session:
            page = await list_of(session, user_id, request.scope or "owned", request.q, request.cursor, limit)
            return ListProjectsResponse(
                projects=await self._views.page(session, page.rows, user_id), next_cursor=page.next_cursor
            )

    async def create_project(self, request: CreateProjectRequest, call: Call) -> Project:
        """Make a project, empty or as a copy."""
        caller = call.caller
        if caller.user_id is None:
            raise PermissionDenied("only a user can own a project")
        values = _given(request)
        async with self._database.unit_of_work() as session:
            await lock_projects(session, caller.user_id)
            await self._require_room(session, caller.user_id)
            if request.template_project_id:
                seat = await self._access.seat(session, request.template_project_id, caller)
                firmware = seat.role >= Role.VIEWER
                row = await self._copies.copy(session, seat.project.id, caller, request.name, firmware=firmware)
            else:
                row = await new_project(session, caller, request.name, self._clock)
            self._set(row, values)
            await session.flush()
            project = await self._views.one(session, row, caller.user_id)
        call.headers.append(("Location", f"/api/projects/{row.id}"))
        return project

    async def _require_room(self, session: AsyncSession, user_id: str) -> None:
        count = select(func.count()).select_from(ProjectRow).where(col(ProjectRow.owner_id) == user_id)
        used = (await session.exec(count)).one()
        if used >= self._quota:
            raise FailedPrecondition(
                f"the account holds {used} projects, the most is {self._quota}",
                reason=ErrorReason.QUOTA_EXCEEDED,
                limit=self._quota,
                used=used,
            )

    async def get_project(self, request: GetProjectRequest, call: Call) -> Project:
        """Read one project."""
        async with self._database.read() as session:
            seat = await self._access.seat(session, request.project_id, call.caller)
            return await self._views.one(session, seat.project, call.caller.user_id, seat.role)

    async def update_project(self, request: UpdateProjectRequest, call: Call) -> Project:
        """Change the named fields; naming none, or none to another value, leaves `updated_at` alone."""
        return await self._change(request.project_id, _named(request), call, Role.EDITOR)

    async def publish_project(self, request: PublishProjectRequest, call: Call) -> Project:
        """Make a project public."""
        return await self._change(request.project_id, {"visibility": "public"}, call, Role.OWNER)

    async def unpublish_project(self, request: UnpublishProjectRequest, call: Call) -> Project:
        """Make a project private."""
        return await self._change(request.project_id, {"visibility": "private"}, call, Role.OWNER)

    async def _change(self, project_id: str, values: dict[str, str | None], call: Call, least: Role) -> Project:
        caller = call.caller
        async with self._database.unit_of_work() as session:
            seat = await self._access.seat(session, project_id, caller, least, to_change=True)
            row = seat.project
            changed = {name: value for name, value in values.items() if getattr(row, name) != value}
            if "visibility" in changed and seat.role < Role.OWNER:
                raise PermissionDenied("only the owner may change the visibility", role="owner", project=project_id)
            if changed:
                self._set(row, changed)
                row.updated_us = self._clock.now_us()
            project = await self._views.one(session, row, caller.user_id, seat.role)
        if changed:
            self._bus.publish(project_topic(project_id), ProjectUpdated(caller.user_id, call.client_id))
        return project

    def _set(self, row: ProjectRow, values: dict[str, str | None]) -> None:
        for name, value in values.items():
            setattr(row, name, value)
        if row.visibility == "public" and row.published_us is None:
            row.published_us = self._clock.now_us()

    async def delete_project(self, request: DeleteProjectRequest, call: Call) -> DeleteProjectResponse:
        """Delete a project with what is its own; boards survive."""
        project_id = request.project_id
        async with self._database.unit_of_work() as session:
            row = (await self._access.seat(session, project_id, call.caller, Role.OWNER, to_change=True)).project
            boards = await attached_boards(session, project_id)
            for work in self._deleting:
                await work(session, project_id)
            for table in (AttachmentRow, CollaboratorRow, LikeRow):
                await session.exec(delete(table).where(col(table.project_id) == project_id))
            await session.delete(row)
        self._attachments.sharing.changed(boards)
        self._bus.publish(project_topic(project_id), ProjectDeleted())
        return DeleteProjectResponse(ok=True)

    async def like_project(self, request: LikeProjectRequest, call: Call) -> LikeProjectResponse:
        """Like a project once."""
        return LikeProjectResponse(ok=True, likes=await self._like(request.project_id, call.caller, likes=True))

    async def unlike_project(self, request: UnlikeProjectRequest, call: Call) -> UnlikeProjectResponse:
        """Take a like back."""
        return UnlikeProjectResponse(ok=True, likes=await self._like(request.project_id, call.caller, likes=False))

    async def _like(self, project_id: str, caller: Principal, *, likes: bool) -> int:
        values = {"project_id": project_id, "user_id": caller.user_id, "now": self._clock.now_us()}
        try:
            async with self._database.unit_of_work() as session:
                seat = await self._access.seat(session, project_id, caller)
                connection = await session.connection()
                # The statement itself tells whether something changed, so that two at once are counted once.
                if (await connection.execute(_LIKE if likes else _UNLIKE, values)).rowcount > 0:
                    await connection.execute(_COUNT, {"project_id": project_id, "change": 1 if likes else -1})
                await session.refresh(seat.project)
                return seat.project.likes
        except IntegrityError:
            # The project was deleted between the look and the like.
            raise project_not_found(project_id) from None

    async def list_project_boards(self, request: ListProjectBoardsRequest, call: Call) -> ListProjectBoardsResponse:
        """List the boards of a project, first attached first."""
        limit = page_limit(request.limit if request.has_field("limit") else None)
        after = decode_cursor(request.cursor, int, str)
        async with self._database.read() as session:
            await self._access.seat(session, request.project_id, call.caller, Role.VIEWER)
            found = await self._attachments.boards(session, request.project_id, call.caller, after, limit + 1)
            boards = await self._boards.messages(session, [row for row, _ in found[:limit]], call.caller)
        cursor = encode_cursor(found[limit - 1][1], found[limit - 1][0].id) if len(found) > limit else None
        return ListProjectBoardsResponse(boards=boards, next_cursor=cursor)

    async def attach_board(self, request: AttachBoardRequest, call: Call) -> AttachBoardResponse:
        """Attach a board of the caller's own."""
        project_id, board_id, caller = request.project_id, request.board_id, call.caller
        async with self._database.read() as session:
            await self._access.seat(session, project_id, caller, Role.EDITOR)
        board = await self._boards.require(board_id, caller)
        if board.owner_id != caller.user_id:
            raise PermissionDenied("only the owner of a board may attach it", board=board_id)
        try:
            async with self._database.unit_of_work() as session:
                made = await self._attachments.attach(session, project_id, board_id, caller)
                row = await session.get(BoardRow, board_id)
                shown = [] if row is None else await self._boards.messages(session, [row], caller)
        except IntegrityError:
            # Project or board was deleted between the look and the attachment.
            raise NotFound(f"project {project_id} or board {board_id} not found") from None
        if made:
            self._attachments.told_attached(project_id, board.org_id, board_id, caller.user_id, call.client_id)
        return AttachBoardResponse(ok=True, attached=True, board=shown[0] if shown else None)

    async def detach_board(self, request: DetachBoardRequest, call: Call) -> DetachBoardResponse:
        """Detach a board; one that is not attached, or does not exist, is detached already."""
        project_id = request.project_id
        async with self._database.unit_of_work() as session:
            seat = await self._access.seat(session, project_id, call.caller, Role.EDITOR, to_change=True)
            board = await session.get(BoardRow, request.board_id)
            detached = await self._attachments.detach(session, project_id, [request.board_id])
            if detached:
                seat.project.updated_us = self._clock.now_us()
        if detached and board is not None:
            boards = [(board.org_id, board.id)]
            self._attachments.told_detached(project_id, boards, call.caller.user_id, call.client_id)
        return DetachBoardResponse(ok=True, attached=False)

    async def get_project_pins(self, request: GetProjectPinsRequest, call: Call) -> ProjectPins:
        """Read the pins of all attached boards."""
        async with self._database.read() as session:
            return await self._pins.read(session, request.project_id, call.caller)


def _given(request: CreateProjectRequest) -> dict[str, str | None]:
    """Return the fields that a new project is given; the others keep their defaults, or come from the template."""
    _checked_name(request.name)
    values: dict[str, str | None] = {
        name: getattr(request, name) for name in ("description", "board_type", "theme", "visibility") if getattr(request, name)
    }
    if request.tags:
        values["tags"] = _tags(request.tags)
    if request.cover_url:
        values["cover_url"] = request.cover_url
    return values


def _named(request: UpdateProjectRequest) -> dict[str, str | None]:
    """Return the fields to change: those of the mask, or without one those that are present."""
    names: list[Field]
    if request.update_mask is None:
        names = [name for name in FIELDS if (request.tags if name == "tags" else request.has_field(name))]
    else:
        names = [name for name in FIELDS if name in request.update_mask.paths]
    return {name: _new_value(request, name) for name in names}


def _new_value(request: UpdateProjectRequest, name: Field) -> str | None:
    if name == "tags":
        return _tags(request.tags)
    value: str | None = getattr(request, name) if request.has_field(name) else None
    if name == "cover_url":
        return value or None
    if value is None:
        raise InvalidArgument.field(name, "must not be null")
    return _checked_name(value) if name == "name" else value


def _checked_name(name: str) -> str:
    if not name.strip():
        raise InvalidArgument.field("name", "must be 1-120 characters and not blank")
    return name


def _tags(tags: list[str]) -> str:
    """Return tags as they are kept: lower case, without blanks around them, each once, in the order given."""
    words = list(dict.fromkeys(tag.strip().lower() for tag in tags))
    if not all(0 < len(word) <= LONGEST_TAG for word in words):
        raise InvalidArgument.field("tags", f"must be of 1-{LONGEST_TAG} characters each")
    return json.dumps(words, ensure_ascii=False)
