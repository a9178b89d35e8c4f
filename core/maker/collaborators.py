"""Who works on a project besides its owner, and who is invited to."""

from __future__ import annotations

from sqlalchemy import or_, tuple_
from sqlalchemy.exc import IntegrityError
from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from core.identity.tables import UserRow
from core.kernel.call import Call, Principal
from core.kernel.clock import Clock, to_timestamp
from core.kernel.errors import AlreadyExists, InvalidArgument, NotFound, PermissionDenied
from core.kernel.ids import new_id
from core.kernel.pages import decode_cursor, encode_cursor, page_limit
from core.live.events import EventBus
from core.maker.access import ProjectAccess, Role
from core.maker.attachments import Attachments
from core.maker.events import CollaboratorChanged, CollaboratorRemoved, project_topic
from core.maker.notices import Notices
from core.maker.sharing import attached_boards
from core.maker.tables import CollaboratorRow, ProjectRow
from core.storage.database import Database
from core.storage.locks import lock_name
from gen.busbar.maker.v1.collaborators_pb import (
    AddCollaboratorRequest,
    ListCollaboratorsRequest,
    ListCollaboratorsResponse,
    RemoveCollaboratorRequest,
    RemoveCollaboratorResponse,
    UpdateCollaboratorRequest,
)
from gen.busbar.maker.v1.people_pb import Member

OWNER_KEY = (-1, "")
"""Where the owner stands in the list: before everybody who was ever invited."""


class CollaboratorService:
    """Keeps the collaborators of projects."""

    def __init__(self, database: Database, bus: EventBus, clock: Clock, attachments: Attachments, notices: Notices) -> None:
        self._database = database
        self._bus = bus
        self._clock = clock
        self._attachments = attachments
        self._access: ProjectAccess = attachments.access
        self._notices = notices

    async def list_collaborators(self, request: ListCollaboratorsRequest, call: Call) -> ListCollaboratorsResponse:
        """List the owner, then the others by the time of their invitation."""
        limit = page_limit(request.limit if request.has_field("limit") else None)
        after = decode_cursor(request.cursor, int, str)
        async with self._database.read() as session:
            seat = await self._access.seat(session, request.project_id, call.caller, Role.VIEWER)
            members: list[tuple[tuple[int, str], Member]] = []
            if after is None:
                owner = await session.get_one(UserRow, seat.project.owner_id)
                members.append((OWNER_KEY, _owner(seat.project, owner)))
            for row, user in await _page(session, seat.project.id, after or OWNER_KEY, limit + 1 - len(members)):
                members.append(((row.invited_us, row.id), _member(row, user, seat.role)))
        cursor = encode_cursor(*members[limit - 1][0]) if len(members) > limit else None
        return ListCollaboratorsResponse(collaborators=[member for _, member in members[:limit]], next_cursor=cursor)

    async def add_collaborator(self, request: AddCollaboratorRequest, call: Call) -> Member:
        """Add a user, or invite an address."""
        if sum(map(bool, (request.username, request.email, request.user_id))) != 1:
            raise InvalidArgument("exactly one of username, email and userId is required")
        email, now = request.email.strip().lower(), self._clock.now_us()
        try:
            async with self._database.unit_of_work() as session:
                seat = await self._access.seat(session, request.project_id, call.caller, Role.OWNER)
                if email:
                    await lock_invitations(session, email)
                user = await _find(session, request, email)
                _refuse_owner(seat.project, user)
                row = CollaboratorRow(
                    id=new_id("col_"),
                    project_id=seat.project.id,
                    user_id=None if user is None else user.id,
                    email=email if user is None else None,
                    role=request.role or "editor",
                    invited_us=now,
                    joined_us=None if user is None else now,
                )
                session.add(row)
                await session.flush()
                if user is not None:
                    await tell_added(session, self._notices, seat.project, row)
                boards = await attached_boards(session, seat.project.id)
        except IntegrityError:
            raise AlreadyExists("already a collaborator") from None
        if row.user_id is not None:
            self._changed(row, boards)
        return _member(row, user, Role.OWNER)

    def _changed(self, row: CollaboratorRow, boards: list[tuple[str, str]]) -> None:
        self._attachments.sharing.changed(boards)
        self._bus.publish(project_topic(row.project_id), CollaboratorChanged(row.user_id or "", row.role))

    async def update_collaborator(self, request: UpdateCollaboratorRequest, call: Call) -> Member:
        """Give a collaborator another role."""
        async with self._database.unit_of_work() as session:
            seat = await self._access.seat(session, request.project_id, call.caller, Role.OWNER, to_change=True)
            row = await _require(session, seat.project.id, request.user_id)
            user = None if row.user_id is None else await session.get(UserRow, row.user_id)
            changed = row.role != request.role
            row.role = request.role
            boards = await attached_boards(session, seat.project.id)
        if changed and row.user_id is not None:
            self._changed(row, boards)
        return _member(row, user, Role.OWNER)

    async def remove_collaborator(self, request: RemoveCollaboratorRequest, call: Call) -> RemoveCollaboratorResponse:
        """Take a collaborator away; their boards go with them, since only they may share them."""
        project_id, caller = request.project_id, call.caller
        async with self._database.unit_of_work() as session:
            seat = await self._access.seat(session, project_id, caller, to_change=True)
            if seat.role < Role.OWNER and not _leaves(request, caller):
                raise PermissionDenied("owner role required", role="owner", project=project_id)
            row = await _require(session, project_id, request.user_id)
            user_id = row.user_id
            boards = await attached_boards(session, project_id)
            theirs = [] if user_id is None else await attached_boards(session, project_id, user_id)
            await self._attachments.detach(session, project_id, [board_id for _, board_id in theirs])
            if theirs:
                seat.project.updated_us = self._clock.now_us()
            await session.delete(row)
        if user_id is not None:
            self._attachments.told_detached(project_id, theirs, caller.user_id, call.client_id)
            self._attachments.sharing.changed(boards)
            self._bus.publish(project_topic(project_id), CollaboratorRemoved(user_id))
        return RemoveCollaboratorResponse(ok=True)


class Invitations:
    """Makes collaborators of those who register with an invited address, within their registration."""

    def __init__(self, notices: Notices, clock: Clock) -> None:
        self._notices = notices
        self._clock = clock

    async def resolve(self, session: AsyncSession, user: UserRow) -> None:
        """Turn every invitation of a new user's address into a place in its project.

        No board's members need to be read anew: nobody has asked yet what the new user may do.
        """
        await lock_invitations(session, user.email)
        invited = select(CollaboratorRow).where(col(CollaboratorRow.email) == user.email)
        for row in (await session.exec(invited)).all():
            row.user_id, row.email, row.joined_us = user.id, None, self._clock.now_us()
            project = await session.get_one(ProjectRow, row.project_id)
            await tell_added(session, self._notices, project, row)


async def lock_invitations(session: AsyncSession, email: str) -> None:
    """Let an address be invited and registered one after the other, so that neither misses the other."""
    await lock_name(session, f"invitations of {email}")


async def tell_added(session: AsyncSession, notices: Notices, project: ProjectRow, row: CollaboratorRow) -> None:
    """Notify a new collaborator."""
    await notices.post(
        session,
        row.user_id or "",
        "collaborator.added",
        f"You are now {'an editor' if row.role == 'editor' else 'a viewer'} of {project.name}",
        link=f"/projects/{project.id}",
        data={"projectId": project.id, "role": row.role},
    )


async def _find(session: AsyncSession, request: AddCollaboratorRequest, email: str) -> UserRow | None:
    """Return the user whom a request names; None for an address without an account."""
    if email:
        return (await session.exec(select(UserRow).where(col(UserRow.email) == email))).one_or_none()
    if request.user_id:
        user = await session.get(UserRow, request.user_id)
    else:
        name = request.username.lower()
        user = (await session.exec(select(UserRow).where(col(UserRow.username) == name))).one_or_none()
    if user is None:
        raise NotFound(f"user {request.user_id or request.username} not found")
    return user


def _refuse_owner(project: ProjectRow, user: UserRow | None) -> None:
    if user is not None and user.id == project.owner_id:
        raise AlreadyExists("the owner is a member already")


async def _require(session: AsyncSession, project_id: str, user_id: str) -> CollaboratorRow:
    """Return a collaborator by the id of the user or of the invitation."""
    named = or_(col(CollaboratorRow.user_id) == user_id, col(CollaboratorRow.id) == user_id)
    query = select(CollaboratorRow).where(col(CollaboratorRow.project_id) == project_id, named)
    row = (await session.exec(query)).one_or_none()
    if row is None:
        raise NotFound(f"collaborator {user_id} not found", user=user_id)
    return row


def _leaves(request: RemoveCollaboratorRequest, caller: Principal) -> bool:
    return caller.user_id is not None and request.user_id == caller.user_id


async def _page(
    session: AsyncSession, project_id: str, after: tuple[str | int, ...], limit: int
) -> list[tuple[CollaboratorRow, UserRow | None]]:
    query = select(CollaboratorRow, UserRow).join(UserRow, col(UserRow.id) == col(CollaboratorRow.user_id), isouter=True)
    key = tuple_(col(CollaboratorRow.invited_us), col(CollaboratorRow.id))
    query = query.where(col(CollaboratorRow.project_id) == project_id, key > after)
    ordered = query.order_by(col(CollaboratorRow.invited_us), col(CollaboratorRow.id)).limit(limit)
    return list((await session.exec(ordered)).all())


def _owner(project: ProjectRow, user: UserRow) -> Member:
    return Member(
        id=user.id,
        user_id=user.id,
        username=user.username,
        display_name=user.display_name,
        avatar_url=user.avatar_url,
        role="owner",
        status="active",
        joined_at=to_timestamp(project.created_us),
    )


def _member(row: CollaboratorRow, user: UserRow | None, reader: Role) -> Member:
    """Return a member as somebody in the project sees them; only the owner reads invited addresses."""
    address = (row.email or "") if reader == Role.OWNER else "invited"
    return Member(
        id=row.id,
        user_id=row.user_id,
        username=None if user is None else user.username,
        display_name=address if user is None else user.display_name,
        avatar_url=None if user is None else user.avatar_url,
        role=row.role,
        status="invited" if user is None else "active",
        joined_at=to_timestamp(row.joined_us),
        invited_at=to_timestamp(row.invited_us),
    )
