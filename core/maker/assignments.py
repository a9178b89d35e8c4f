"""Assignments. Students see one once it is published, and it is published once."""

from __future__ import annotations

from typing import Any

from sqlalchemy import func, tuple_
from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from core.kernel.call import Call
from core.kernel.clock import Clock, from_timestamp, to_timestamp
from core.kernel.errors import FailedPrecondition, InvalidArgument
from core.kernel.ids import new_id
from core.kernel.pages import decode_cursor, encode_cursor, page_limit
from core.kernel.patches import named_values
from core.maker.access import ProjectAccess
from core.maker.certificate_issue import pass_mark
from core.maker.class_access import Place, assignment_for, lock_classroom, place_in, student_ids
from core.maker.classroom_tables import AssignmentRow, SubmissionRow
from core.maker.notices import Notices
from core.maker.submissions import latest_submissions, submission_messages
from core.maker.texts import required_text
from core.storage.database import Database
from gen.busbar.maker.v1.assignments_pb import (
    Assignment,
    CreateAssignmentRequest,
    GetAssignmentRequest,
    ListAssignmentsRequest,
    ListAssignmentsResponse,
    UpdateAssignmentRequest,
)
from gen.busbar.maker.v1.submissions_pb import Submission

FIELDS = (
    "title", "instructions", "project_template_id", "max_points", "pass_points", "required", "due_at", "status",
)  # fmt: skip
CLEARS = ("project_template_id", "pass_points", "due_at")
STEPS = {("draft", "published"), ("published", "closed")}
DEFAULT_POINTS = 100
MOST_TITLE = 160
NEVER_US = 2**62
"""Sorts assignments without a due time behind all others."""


class AssignmentService:
    """Keeps the assignments of classrooms."""

    def __init__(self, database: Database, access: ProjectAccess, notices: Notices, clock: Clock) -> None:
        self._database = database
        self._access = access
        self._notices = notices
        self._clock = clock

    async def list_assignments(self, request: ListAssignmentsRequest, call: Call) -> ListAssignmentsResponse:
        """List assignments by due time, those without one last, then oldest first."""
        limit = page_limit(request.limit if request.has_field("limit") else None)
        key = (func.coalesce(col(AssignmentRow.due_us), NEVER_US), col(AssignmentRow.created_us), col(AssignmentRow.id))
        query = select(AssignmentRow).where(col(AssignmentRow.classroom_id) == request.classroom_id)
        after = decode_cursor(request.cursor, int, int, str)
        if after is not None:
            query = query.where(tuple_(*key) > after)
        async with self._database.read() as session:
            place = await place_in(session, request.classroom_id, call.caller)
            if not place.teaches:
                query = query.where(col(AssignmentRow.status) != "draft")
            rows = list((await session.exec(query.order_by(*key).limit(limit + 1))).all())
            shown = await _shown(session, place, rows[:limit])
        last = rows[limit - 1] if len(rows) > limit else None
        due = None if last is None else NEVER_US if last.due_us is None else last.due_us
        cursor = None if last is None or due is None else encode_cursor(due, last.created_us, last.id)
        return ListAssignmentsResponse(assignments=shown, next_cursor=cursor)

    async def create_assignment(self, request: CreateAssignmentRequest, call: Call) -> Assignment:
        """Make an assignment; a published one is told to every student."""
        row = self._row(request)
        async with self._database.unit_of_work() as session:
            await lock_classroom(session, row.classroom_id)
            place = await place_in(session, row.classroom_id, call.caller)
            place.require_teacher()
            if row.project_template_id:
                await self._access.seat(session, row.project_template_id, call.caller)
            session.add(row)
            await session.flush()
            if row.status == "published":
                await self._tell_students(session, place, row)
            [shown] = await _shown(session, place, [row])
        call.headers.append(("Location", f"/api/assignments/{row.id}"))
        return shown

    def _row(self, request: CreateAssignmentRequest) -> AssignmentRow:
        now = self._clock.now_us()
        row = AssignmentRow(
            id=new_id("asg_"),
            classroom_id=request.classroom_id,
            title=required_text("title", request.title, MOST_TITLE),
            instructions=request.instructions,
            project_template_id=request.project_template_id or None,
            max_points=request.max_points if request.has_field("max_points") else DEFAULT_POINTS,
            pass_points=request.pass_points if request.has_field("pass_points") else None,
            required=request.required if request.has_field("required") else True,
            due_us=from_timestamp(request.due_at),
            status=request.status or "published",
            created_us=now,
            updated_us=now,
        )
        _check_pass_mark(row)
        return row

    async def get_assignment(self, request: GetAssignmentRequest, call: Call) -> Assignment:
        """Read one assignment."""
        async with self._database.read() as session:
            row, place = await assignment_for(session, request.assignment_id, call.caller)
            [shown] = await _shown(session, place, [row])
        return shown

    async def update_assignment(self, request: UpdateAssignmentRequest, call: Call) -> Assignment:
        """Change the named fields; naming none leaves `updated_at` alone."""
        values = _columns(named_values(request, *FIELDS, nullable=CLEARS))
        async with self._database.unit_of_work() as session:
            row, place = await assignment_for(session, request.assignment_id, call.caller, lock=True)
            place.require_teacher()
            changed = {name: value for name, value in values.items() if getattr(row, name) != value}
            await self._check(session, row, changed, call)
            for name, value in changed.items():
                setattr(row, name, value)
            _check_pass_mark(row)
            if changed:
                row.updated_us = self._clock.now_us()
            if changed.get("status") == "published":
                await self._tell_students(session, place, row)
            [shown] = await _shown(session, place, [row])
        return shown

    async def _check(self, session: AsyncSession, row: AssignmentRow, changed: dict[str, Any], call: Call) -> None:
        """Refuse what the state of the assignment, or of others, does not allow."""
        if changed.get("project_template_id"):
            await self._access.seat(session, changed["project_template_id"], call.caller)
        if "status" in changed and (row.status, changed["status"]) not in STEPS:
            raise FailedPrecondition(f"a {row.status} assignment cannot become {changed['status']}")
        if "max_points" in changed:
            given = select(func.max(SubmissionRow.points)).where(col(SubmissionRow.assignment_id) == row.id)
            most = (await session.exec(given)).one()
            if most is not None and most > changed["max_points"]:
                raise FailedPrecondition(f"{most:g} points were given already")

    async def _tell_students(self, session: AsyncSession, place: Place, row: AssignmentRow) -> None:
        for student_id in await student_ids(session, row.classroom_id):
            await self._notices.post(
                session,
                student_id,
                "assignment.published",
                f"{place.classroom.name}: {row.title}",
                link=f"/assignments/{row.id}",
                data={"assignmentId": row.id, "classroomId": row.classroom_id},
            )


def _columns(values: dict[str, Any]) -> dict[str, Any]:
    """Return the values of columns for values of fields."""
    if "title" in values:
        required_text("title", values["title"], MOST_TITLE)
    if "due_at" in values:
        values["due_us"] = from_timestamp(values.pop("due_at"))
    return values


def _check_pass_mark(row: AssignmentRow) -> None:
    if row.pass_points is not None and row.pass_points > row.max_points:
        raise InvalidArgument.field("pass_points", f"must be at most the {row.max_points} of maxPoints")


async def _shown(session: AsyncSession, place: Place, rows: list[AssignmentRow]) -> list[Assignment]:
    """Return assignments as the caller sees them."""
    mine = {} if place.teaches else await _own(session, place, rows)
    counts = await _counts(session, rows) if place.teaches else {}
    return [
        Assignment(
            id=row.id,
            classroom_id=row.classroom_id,
            title=row.title,
            instructions=row.instructions,
            project_template_id=row.project_template_id,
            max_points=row.max_points,
            pass_points=pass_mark(row),
            required=row.required,
            due_at=to_timestamp(row.due_us),
            status=row.status,
            my_submission=mine.get(row.id),
            submission_count=counts.get(row.id, 0) if place.teaches else None,
            created_at=to_timestamp(row.created_us),
            updated_at=to_timestamp(row.updated_us),
        )
        for row in rows
    ]


async def _own(session: AsyncSession, place: Place, rows: list[AssignmentRow]) -> dict[str, Submission]:
    latest = await latest_submissions(session, [row.id for row in rows], place.user_id)
    shown = await submission_messages(session, place.classroom.id, list(latest.values()))
    return {submission.assignment_id: submission for submission in shown}


async def _counts(session: AsyncSession, rows: list[AssignmentRow]) -> dict[str, int]:
    key = col(SubmissionRow.assignment_id)
    query = select(key, func.count()).where(key.in_([row.id for row in rows])).group_by(key)
    return dict((await session.exec(query)).all())
