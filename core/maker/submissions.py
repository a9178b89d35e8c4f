"""Submissions. Everything that changes one holds its classroom, so hand-ins and grades of a class come one after another."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from sqlalchemy import and_, func, tuple_
from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from core.identity.tables import UserRow
from core.kernel.call import Call
from core.kernel.clock import Clock, to_timestamp
from core.kernel.errors import FailedPrecondition, InvalidArgument, PermissionDenied
from core.kernel.ids import new_id
from core.kernel.pages import decode_cursor, encode_cursor, page_limit
from core.maker.access import ProjectAccess
from core.maker.certificate_issue import CertificateIssue
from core.maker.class_access import STUDENT, Place, assignment_for, submission_to_judge
from core.maker.classroom_tables import AssignmentRow, ClassroomMemberRow, SubmissionRow
from core.maker.classrooms import class_member
from core.maker.notices import Notices
from core.storage.database import Database
from gen.busbar.maker.v1.people_pb import Member
from gen.busbar.maker.v1.submissions_pb import (
    CreateSubmissionRequest,
    GradeSubmissionRequest,
    ListSubmissionsRequest,
    ListSubmissionsResponse,
    ReturnSubmissionRequest,
    Submission,
)


class SubmissionService:
    """Takes what students hand in, and what teachers say to it."""

    def __init__(
        self, database: Database, access: ProjectAccess, certificates: CertificateIssue, notices: Notices, clock: Clock
    ) -> None:
        self._database = database
        self._access = access
        self._certificates = certificates
        self._notices = notices
        self._clock = clock

    async def list_submissions(self, request: ListSubmissionsRequest, call: Call) -> ListSubmissionsResponse:
        """List submissions by student, the latest attempt first."""
        limit = page_limit(request.limit if request.has_field("limit") else None)
        name = func.lower(UserRow.display_name)
        # Negative, so that one comparison of the whole key finds what comes after.
        key = (name, col(SubmissionRow.student_id), -col(SubmissionRow.attempt))
        query = select(SubmissionRow, name).join(UserRow, col(UserRow.id) == col(SubmissionRow.student_id))
        query = query.where(col(SubmissionRow.assignment_id) == request.assignment_id)
        if request.status:
            query = query.where(col(SubmissionRow.status) == request.status)
        after = decode_cursor(request.cursor, str, str, int)
        if after is not None:
            query = query.where(tuple_(*key) > after)
        async with self._database.read() as session:
            assignment, place = await assignment_for(session, request.assignment_id, call.caller)
            place.require_teacher()
            found = (await session.exec(query.order_by(*key).limit(limit + 1))).all()
            rows = [row for row, _ in found[:limit]]
            shown = await submission_messages(session, assignment.classroom_id, rows)
        cursor = encode_cursor(found[limit - 1][1], rows[-1].student_id, -rows[-1].attempt) if len(found) > limit else None
        return ListSubmissionsResponse(submissions=shown, next_cursor=cursor)

    async def create_submission(self, request: CreateSubmissionRequest, call: Call) -> Submission:
        """Hand something in, in place of what waits for a grade."""
        if not (request.content.strip() or request.url or request.project_id):
            raise InvalidArgument.field("content", "required unless url or projectId is given")
        async with self._database.unit_of_work() as session:
            assignment, place = await assignment_for(session, request.assignment_id, call.caller, lock=True)
            if place.teaches:
                raise PermissionDenied("only students hand in", role=STUDENT)
            if request.project_id:
                await self._access.seat(session, request.project_id, call.caller)
            if assignment.status == "closed":
                raise FailedPrecondition("assignment is closed")
            attempt = await self._make_room(session, assignment.id, place.user_id)
            row = self._row(request, assignment, place, attempt)
            session.add(row)
            await session.flush()
            [shown] = await submission_messages(session, assignment.classroom_id, [row])
            await self._tell_teacher(session, assignment, place, shown)
        return shown

    async def _make_room(self, session: AsyncSession, assignment_id: str, student_id: str) -> int:
        """Take away what waits for a grade, and return the number of the next attempt."""
        latest = (await latest_submissions(session, [assignment_id], student_id)).get(assignment_id)
        if latest is None:
            return 1
        if latest.status == "graded":
            raise FailedPrecondition("submission is graded already; the teacher must return it first")
        if latest.status == "submitted":
            await session.delete(latest)
        return latest.attempt + 1

    def _row(self, request: CreateSubmissionRequest, assignment: AssignmentRow, place: Place, attempt: int) -> SubmissionRow:
        now = self._clock.now_us()
        return SubmissionRow(
            id=new_id("sub_"),
            assignment_id=assignment.id,
            student_id=place.user_id,
            project_id=request.project_id or None,
            content=request.content,
            url=request.url or None,
            attempt=attempt,
            late=assignment.due_us is not None and now > assignment.due_us,
            status="submitted",
            submitted_us=now,
        )

    async def grade_submission(self, request: GradeSubmissionRequest, call: Call) -> Submission:
        """Write a grade and, when it completes the classroom's requirements, the certificate with it."""
        async with self._database.unit_of_work() as session:
            row, assignment, place = await submission_to_judge(session, request.submission_id, call.caller)
            if request.points > assignment.max_points:
                raise InvalidArgument.field("points", f"must be at most {assignment.max_points}")
            if row.status == "returned":
                raise FailedPrecondition("submission was returned to the student")
            row.status, row.points, row.graded_us = "graded", request.points, self._clock.now_us()
            row.feedback = request.feedback if request.has_field("feedback") else None
            await session.flush()
            await self._certificates.after_grade(session, place.classroom, row.student_id)
            title = f"{assignment.title}: {row.points:g} of {assignment.max_points} points"
            await self._tell_student(session, row, assignment, title)
            [shown] = await submission_messages(session, assignment.classroom_id, [row])
        return shown

    async def return_submission(self, request: ReturnSubmissionRequest, call: Call) -> Submission:
        """Let the student hand in again."""
        async with self._database.unit_of_work() as session:
            row, assignment, _ = await submission_to_judge(session, request.submission_id, call.caller)
            if row.status == "returned":
                raise FailedPrecondition("submission was returned already")
            row.status = "returned"
            if request.has_field("feedback"):
                row.feedback = request.feedback
            await self._tell_student(session, row, assignment, f"{assignment.title}: returned to you")
            [shown] = await submission_messages(session, assignment.classroom_id, [row])
        return shown

    async def _tell_teacher(
        self, session: AsyncSession, assignment: AssignmentRow, place: Place, submission: Submission
    ) -> None:
        name = "" if submission.student is None else submission.student.display_name
        await self._notices.post(
            session,
            place.classroom.teacher_id,
            "submission.received",
            f"{name} handed in {assignment.title}",
            link=f"/assignments/{assignment.id}",
            data=_data(assignment, submission.id),
        )

    async def _tell_student(self, session: AsyncSession, row: SubmissionRow, assignment: AssignmentRow, title: str) -> None:
        await self._notices.post(
            session,
            row.student_id,
            "submission.graded",
            title,
            body=row.feedback or "",
            link=f"/assignments/{assignment.id}",
            data={**_data(assignment, row.id), "status": row.status, "points": row.points},
        )


def _data(assignment: AssignmentRow, submission_id: str) -> dict[str, object]:
    return {"submissionId": submission_id, "assignmentId": assignment.id, "classroomId": assignment.classroom_id}


async def latest_submissions(session: AsyncSession, assignment_ids: Iterable[str], student_id: str) -> dict[str, SubmissionRow]:
    """Return what a student handed in last, by assignment."""
    query = select(SubmissionRow).where(
        col(SubmissionRow.assignment_id).in_(set(assignment_ids)), col(SubmissionRow.student_id) == student_id
    )
    rows = await session.exec(query.order_by(col(SubmissionRow.attempt)))
    return {row.assignment_id: row for row in rows.all()}


async def submission_messages(session: AsyncSession, classroom_id: str, rows: Sequence[SubmissionRow]) -> list[Submission]:
    """Return submissions of one classroom with their students."""
    students = await _students(session, classroom_id, {row.student_id for row in rows})
    return [
        Submission(
            id=row.id,
            assignment_id=row.assignment_id,
            student=students[row.student_id],
            project_id=row.project_id,
            content=row.content,
            url=row.url,
            attempt=row.attempt,
            late=row.late,
            status=row.status,
            points=row.points,
            feedback=row.feedback,
            graded_at=to_timestamp(row.graded_us),
            submitted_at=to_timestamp(row.submitted_us),
        )
        for row in rows
    ]


async def _students(session: AsyncSession, classroom_id: str, user_ids: set[str]) -> dict[str, Member]:
    """Return people as members of a classroom, those who have left it too."""
    here = and_(col(ClassroomMemberRow.user_id) == col(UserRow.id), col(ClassroomMemberRow.classroom_id) == classroom_id)
    query = select(UserRow, ClassroomMemberRow).join(ClassroomMemberRow, here, isouter=True)
    found = (await session.exec(query.where(col(UserRow.id).in_(user_ids)))).all()
    return {user.id: class_member(member, user) for user, member in found}
