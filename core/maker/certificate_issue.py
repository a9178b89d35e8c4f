"""When a certificate is issued, and what it certifies."""

from __future__ import annotations

import secrets

from sqlalchemy import func
from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from core.identity.tables import UserRow
from core.kernel.clock import Clock
from core.maker.class_access import STUDENT, member_of
from core.maker.classroom_tables import AssignmentRow, CertificateRow, ClassroomRow, SubmissionRow
from core.maker.notices import Notices

DEFAULT_TITLE = "Certificate of Completion"
ID_LETTERS = "0123456789abcdefghjkmnpqrstvwxyz"
ID_LENGTH = 26
_MILLISECOND_US = 1000


def pass_mark(assignment: AssignmentRow) -> int:
    """Return the points from which an assignment is passed: what was chosen, else 60 % of the most, rounded up."""
    return (assignment.max_points * 6 + 9) // 10 if assignment.pass_points is None else assignment.pass_points


class CertificateIssue:
    """Issues certificates within the caller's unit of work, which holds the classroom."""

    def __init__(self, notices: Notices, clock: Clock) -> None:
        self._notices = notices
        self._clock = clock

    async def after_grade(self, session: AsyncSession, classroom: ClassroomRow, student_id: str) -> None:
        """Issue the student's certificate if the classroom's requirements are met and none was ever issued.

        A revoked one counts: what the teacher took back, a further grade does not give again.
        """
        issued = select(CertificateRow.id).where(
            col(CertificateRow.classroom_id) == classroom.id, col(CertificateRow.recipient_id) == student_id
        )
        if (await session.exec(issued.limit(1))).first() is not None:
            return
        member = await member_of(session, classroom.id, student_id)
        if member is None or member.role != STUDENT:
            return
        required = await _required(session, classroom.id)
        best = await _best_points(session, required, student_id)
        if required and all(best.get(row.id, -1) >= pass_mark(row) for row in required):
            await self.issue(session, classroom, student_id, DEFAULT_TITLE)

    async def issue(self, session: AsyncSession, classroom: ClassroomRow, student_id: str, title: str) -> CertificateRow:
        """Issue a certificate and notify the student."""
        required = await _required(session, classroom.id)
        best = await _best_points(session, required, student_id)
        student, teacher = await session.get_one(UserRow, student_id), await session.get_one(UserRow, classroom.teacher_id)
        row = CertificateRow(
            id="".join(secrets.choice(ID_LETTERS) for _ in range(ID_LENGTH)),
            classroom_id=classroom.id,
            recipient_id=student_id,
            title=title,
            recipient_name=student.display_name,
            recipient_username=student.username,
            issuer_name=teacher.display_name,
            classroom_name=classroom.name,
            points=sum(best.values()) if best else None,
            max_points=float(sum(assignment.max_points for assignment in required)) if best else None,
            # Milliseconds are all that is printed, and what the digest is made of.
            issued_us=self._clock.now_us() // _MILLISECOND_US * _MILLISECOND_US,
        )
        session.add(row)
        await session.flush()
        await self._notices.post(
            session,
            student_id,
            "certificate.issued",
            f"You earned a certificate: {classroom.name}",
            link=f"/certificates/{row.id}",
            data={"certificateId": row.id, "classroomId": classroom.id},
        )
        return row


async def _required(session: AsyncSession, classroom_id: str) -> list[AssignmentRow]:
    query = select(AssignmentRow).where(
        col(AssignmentRow.classroom_id) == classroom_id, col(AssignmentRow.required), col(AssignmentRow.status) != "draft"
    )
    return list((await session.exec(query)).all())


async def _best_points(session: AsyncSession, assignments: list[AssignmentRow], student_id: str) -> dict[str, float]:
    """Return a student's best points by assignment; those without a grade are left out."""
    points, assignment_id = col(SubmissionRow.points), col(SubmissionRow.assignment_id)
    query = select(assignment_id, func.max(points)).where(
        assignment_id.in_([row.id for row in assignments]),
        col(SubmissionRow.student_id) == student_id,
        points.is_not(None),
    )
    found = (await session.exec(query.group_by(assignment_id))).all()
    return {key: most for key, most in found if most is not None}
