"""Classrooms and their rosters. Students come in by a code, so a classroom may hold users of any organisation."""

from __future__ import annotations

import re
from collections.abc import Sequence

from sqlalchemy import and_, case, func, or_, tuple_
from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from core.identity.tables import UserRow
from core.kernel.call import Call, Principal
from core.kernel.clock import Clock, to_timestamp
from core.kernel.errors import FailedPrecondition, NotFound, PermissionDenied, ResourceExhausted
from core.kernel.ids import new_id
from core.kernel.limits import Limiter
from core.kernel.pages import decode_cursor, encode_cursor, page_limit
from core.kernel.patches import named_values
from core.kernel.settings import Settings
from core.maker.class_access import STUDENT, TEACHER, Place, lock_classroom, member_of, place_in
from core.maker.classroom_tables import AssignmentRow, ClassroomMemberRow, ClassroomRow
from core.maker.codes import new_code
from core.maker.people import People
from core.maker.texts import required_text
from core.storage.database import Database
from gen.busbar.maker.v1.classrooms_pb import (
    Classroom,
    CreateClassroomRequest,
    GetClassroomRequest,
    JoinClassroomRequest,
    ListClassroomsRequest,
    ListClassroomsResponse,
    RemoveClassroomMemberRequest,
    RemoveClassroomMemberResponse,
    RosterView,
    RotateJoinCodeRequest,
    UpdateClassroomRequest,
)
from gen.busbar.maker.v1.people_pb import Member

WRONG_CODES, WRONG_CODE_WINDOW = 10, 600
"""Wrong codes of one user or address before it must wait, and the seconds in which they count."""
MOST_NAME = 120


class ClassroomService:
    """Keeps classrooms and who is in them."""

    def __init__(self, database: Database, people: People, limiter: Limiter, clock: Clock, settings: Settings) -> None:
        self._database = database
        self._people = people
        self._limiter = limiter
        self._clock = clock
        self._teachers_only = settings.classrooms.teachers_only

    async def list_classrooms(self, request: ListClassroomsRequest, call: Call) -> ListClassroomsResponse:
        """List the classrooms of the caller, archived ones last, then newest first."""
        limit = page_limit(request.limit if request.has_field("limit") else None)
        archived = case((col(ClassroomRow.archived), 1), else_=0)
        newest = tuple_(col(ClassroomRow.created_us), col(ClassroomRow.id))
        query = select(ClassroomRow, ClassroomMemberRow.role).join(
            ClassroomMemberRow, col(ClassroomMemberRow.classroom_id) == col(ClassroomRow.id)
        )
        user_id = _user(call.caller)
        query = query.where(col(ClassroomMemberRow.user_id) == user_id)
        after = decode_cursor(request.cursor, int, int, str)
        if after is not None:
            query = query.where(or_(archived > after[0], and_(archived == after[0], newest < after[1:])))
        query = query.order_by(archived, col(ClassroomRow.created_us).desc(), col(ClassroomRow.id).desc())
        async with self._database.read() as session:
            places = [Place(row, role, user_id) for row, role in (await session.exec(query.limit(limit + 1))).all()]
            shown = await self._shown(session, places[:limit])
        last = places[limit - 1].classroom if len(places) > limit else None
        cursor = None if last is None else encode_cursor(int(last.archived), last.created_us, last.id)
        return ListClassroomsResponse(classrooms=shown, next_cursor=cursor)

    async def create_classroom(self, request: CreateClassroomRequest, call: Call) -> Classroom:
        """Make a classroom with its teacher in it."""
        user_id = _user(call.caller)
        name = required_text("name", request.name, MOST_NAME)
        now = self._clock.now_us()
        async with self._database.unit_of_work() as session:
            await self._require_licence(session, user_id)
            row = ClassroomRow(
                id=new_id("cls_"),
                org_id=call.caller.org_id,
                teacher_id=user_id,
                name=name,
                description=request.description,
                join_code=await _free_code(session),
                created_us=now,
                updated_us=now,
            )
            session.add(row)
            await session.flush()
            session.add(_member(row.id, user_id, TEACHER, now))
            [shown] = await self._shown(session, [Place(row, TEACHER, user_id)])
        call.headers.append(("Location", f"/api/classrooms/{row.id}"))
        return shown

    async def _require_licence(self, session: AsyncSession, user_id: str) -> None:
        if not self._teachers_only:
            return
        user = await session.get_one(UserRow, user_id)
        if user.role not in (TEACHER, "admin"):
            raise PermissionDenied("only teachers may make classrooms on this server", role=TEACHER)

    async def get_classroom(self, request: GetClassroomRequest, call: Call) -> RosterView:
        """Read a classroom with everybody in it."""
        async with self._database.read() as session:
            place = await place_in(session, request.classroom_id, call.caller)
            [shown] = await self._shown(session, [place])
            members = await _roster(session, place.classroom.id)
        return RosterView(
            classroom=shown,
            teachers=[member for member in members if member.role == TEACHER],
            students=[member for member in members if member.role == STUDENT],
            role=place.role,
        )

    async def update_classroom(self, request: UpdateClassroomRequest, call: Call) -> Classroom:
        """Change the named fields; naming none leaves `updated_at` alone."""
        values = named_values(request, "name", "description", "archived")
        if "name" in values:
            required_text("name", values["name"], MOST_NAME)
        async with self._database.unit_of_work() as session:
            await lock_classroom(session, request.classroom_id)
            place = await place_in(session, request.classroom_id, call.caller)
            place.require_teacher()
            changed = {name: value for name, value in values.items() if getattr(place.classroom, name) != value}
            for name, value in changed.items():
                setattr(place.classroom, name, value)
            if changed:
                place.classroom.updated_us = self._clock.now_us()
            [shown] = await self._shown(session, [place])
        return shown

    async def rotate_join_code(self, request: RotateJoinCodeRequest, call: Call) -> Classroom:
        """Replace the join code."""
        async with self._database.unit_of_work() as session:
            await lock_classroom(session, request.classroom_id)
            place = await place_in(session, request.classroom_id, call.caller)
            place.require_teacher()
            place.classroom.join_code = await _free_code(session)
            place.classroom.updated_us = self._clock.now_us()
            [shown] = await self._shown(session, [place])
        return shown

    async def join_classroom(self, request: JoinClassroomRequest, call: Call) -> Classroom:
        """Let the caller in as a student. Wrong codes count against the user and against the address."""
        user_id = _user(call.caller)
        keys = [("join-code-user", user_id), ("join-code-address", call.address)]
        self._refuse_guessing(keys)
        code = re.sub(r"[\s-]", "", request.join_code).upper()
        async with self._database.unit_of_work() as session:
            row = await _by_code(session, code)
            if row is None:
                for key in keys:
                    self._limiter.count(key, WRONG_CODES)
                raise NotFound("no classroom has this join code")
            await self._let_in(session, row, user_id)
            [shown] = await self._shown(session, [Place(row, STUDENT, user_id)])
        return shown

    def _refuse_guessing(self, keys: list[tuple[str, str]]) -> None:
        wait = max(self._limiter.wait(key, WRONG_CODES, WRONG_CODE_WINDOW) for key in keys)
        if wait > 0:
            raise ResourceExhausted("too many wrong join codes, try again later", retry_after=wait)

    async def _let_in(self, session: AsyncSession, row: ClassroomRow, user_id: str) -> None:
        member = await member_of(session, row.id, user_id)
        if member is not None:
            if member.role == TEACHER:
                raise FailedPrecondition("the teacher cannot join as a student")
            return
        if row.archived:
            raise FailedPrecondition("classroom is archived")
        session.add(_member(row.id, user_id, STUDENT, self._clock.now_us()))
        await session.flush()

    async def remove_classroom_member(self, request: RemoveClassroomMemberRequest, call: Call) -> RemoveClassroomMemberResponse:
        """Take a student out, or let the caller leave."""
        async with self._database.unit_of_work() as session:
            await lock_classroom(session, request.classroom_id)
            place = await place_in(session, request.classroom_id, call.caller)
            if request.user_id != place.user_id:
                place.require_teacher()
            member = await member_of(session, place.classroom.id, request.user_id)
            if member is not None and member.role == TEACHER:
                raise PermissionDenied("the teacher cannot leave the classroom", role=STUDENT)
            if member is not None:
                await session.delete(member)
        return RemoveClassroomMemberResponse(ok=True)

    async def _shown(self, session: AsyncSession, places: Sequence[Place]) -> list[Classroom]:
        """Return classrooms as the caller sees them."""
        ids = [place.classroom.id for place in places]
        cards = await self._people.cards(session, {place.classroom.teacher_id for place in places})
        students = await _student_counts(session, ids)
        assignments = await _assignment_counts(session, ids)
        return [
            Classroom(
                id=row.id,
                teacher_id=row.teacher_id,
                teacher=cards[row.teacher_id],
                name=row.name,
                description=row.description,
                join_code=row.join_code if place.teaches else None,
                student_count=students.get(row.id, 0),
                assignment_count=sum(assignments.get((row.id, draft), 0) for draft in ((0, 1) if place.teaches else (0,))),
                role=place.role,
                archived=row.archived,
                created_at=to_timestamp(row.created_us),
                updated_at=to_timestamp(row.updated_us),
            )
            for place in places
            for row in (place.classroom,)
        ]


async def _student_counts(session: AsyncSession, ids: list[str]) -> dict[str, int]:
    key = col(ClassroomMemberRow.classroom_id)
    query = select(key, func.count()).where(key.in_(ids), col(ClassroomMemberRow.role) == STUDENT).group_by(key)
    return dict((await session.exec(query)).all())


async def _assignment_counts(session: AsyncSession, ids: list[str]) -> dict[tuple[str, int], int]:
    """Return the numbers of assignments by classroom and by whether they are drafts, as 0 or 1."""
    key, draft = col(AssignmentRow.classroom_id), case((col(AssignmentRow.status) == "draft", 1), else_=0)
    query = select(key, draft, func.count()).where(key.in_(ids)).group_by(key, draft)
    return {(classroom_id, drafts): count for classroom_id, drafts, count in (await session.exec(query)).all()}


async def _roster(session: AsyncSession, classroom_id: str) -> list[Member]:
    """Return everybody in a classroom by display name, then by user id; storage cannot fold the case of every script."""
    query = select(ClassroomMemberRow, UserRow).join(UserRow, col(UserRow.id) == col(ClassroomMemberRow.user_id))
    rows = (await session.exec(query.where(col(ClassroomMemberRow.classroom_id) == classroom_id))).all()
    ordered = sorted(rows, key=lambda pair: (pair[1].display_name.casefold(), pair[1].id))
    return [class_member(member, user) for member, user in ordered]


def class_member(member: ClassroomMemberRow | None, user: UserRow) -> Member:
    """Return somebody as a member of a classroom; a former student is named by their user id."""
    return Member(
        id=user.id if member is None else member.id,
        user_id=user.id,
        username=user.username,
        display_name=user.display_name,
        avatar_url=user.avatar_url,
        role=STUDENT if member is None else member.role,
        status="active",
        joined_at=None if member is None else to_timestamp(member.joined_us),
    )


async def _by_code(session: AsyncSession, code: str) -> ClassroomRow | None:
    """Return the classroom of a code, and hold it; None when the code was replaced before that."""
    query = select(ClassroomRow).where(col(ClassroomRow.join_code) == code)
    found = (await session.exec(query)).one_or_none()
    if found is None:
        return None
    await lock_classroom(session, found.id)
    await session.refresh(found)
    return found if found.join_code == code else None


async def _free_code(session: AsyncSession) -> str:
    while True:
        code = new_code()
        taken = select(ClassroomRow.id).where(col(ClassroomRow.join_code) == code)
        if (await session.exec(taken)).first() is None:
            return code


def _member(classroom_id: str, user_id: str, role: str, now_us: int) -> ClassroomMemberRow:
    return ClassroomMemberRow(id=new_id("mem_"), classroom_id=classroom_id, user_id=user_id, role=role, joined_us=now_us)


def _user(caller: Principal) -> str:
    if caller.user_id is None:
        raise PermissionDenied("only users have classrooms")
    return caller.user_id
