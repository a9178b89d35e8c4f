"""Who may do what in a classroom. The one place that decides; assignments, submissions and certificates ask here."""

from __future__ import annotations

from dataclasses import dataclass

from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from core.kernel.call import Principal
from core.kernel.errors import NotFound, PermissionDenied
from core.maker.classroom_tables import AssignmentRow, ClassroomMemberRow, ClassroomRow, SubmissionRow
from core.storage.locks import lock_name

TEACHER, STUDENT = "teacher", "student"


@dataclass(frozen=True, slots=True)
class Place:
    """A classroom together with what the caller is in it."""

    classroom: ClassroomRow
    role: str
    user_id: str

    @property
    def teaches(self) -> bool:
        """Whether the caller is the teacher."""
        return self.role == TEACHER

    def require_teacher(self) -> None:
        """Refuse students. Raises PermissionDenied."""
        if not self.teaches:
            raise PermissionDenied("only the teacher of the classroom may do this", role=TEACHER)


async def place_in(session: AsyncSession, classroom_id: str, caller: Principal) -> Place:
    """Return a classroom as its teacher or one of its students. Agent keys act for their user.

    Raises:
        NotFound: There is no such classroom, or the caller is not in it.
    """
    found = await _place(session, classroom_id, caller.user_id)
    if found is None:
        raise NotFound(f"classroom {classroom_id} not found", classroom=classroom_id)
    return found


async def _place(session: AsyncSession, classroom_id: str, user_id: str | None) -> Place | None:
    query = select(ClassroomRow, ClassroomMemberRow.role).join(
        ClassroomMemberRow, col(ClassroomMemberRow.classroom_id) == col(ClassroomRow.id)
    )
    query = query.where(col(ClassroomRow.id) == classroom_id, col(ClassroomMemberRow.user_id) == user_id)
    found = (await session.exec(query)).one_or_none()
    return None if found is None or user_id is None else Place(found[0], found[1], user_id)


async def assignment_for(
    session: AsyncSession, assignment_id: str, caller: Principal, *, lock: bool = False
) -> tuple[AssignmentRow, Place]:
    """Return an assignment and the caller's place in its classroom. Students do not see drafts.

    Args:
        session: Where to read.
        assignment_id: Id of the assignment.
        caller: Who asks.
        lock: Hold the classroom, so that nothing in it changes before this unit of work has ended.

    Raises:
        NotFound: There is no such assignment for the caller.
    """
    missing = NotFound(f"assignment {assignment_id} not found", assignment=assignment_id)
    owner = select(AssignmentRow.classroom_id).where(col(AssignmentRow.id) == assignment_id)
    classroom_id = (await session.exec(owner)).first()
    if classroom_id is None:
        raise missing
    if lock:
        await lock_classroom(session, classroom_id)
    place = await _place(session, classroom_id, caller.user_id)
    row = await session.get(AssignmentRow, assignment_id)
    if place is None or row is None or (row.status == "draft" and not place.teaches):
        raise missing
    return row, place


async def submission_to_judge(
    session: AsyncSession, submission_id: str, caller: Principal
) -> tuple[SubmissionRow, AssignmentRow, Place]:
    """Return a submission for its teacher, and hold its classroom.

    Raises:
        NotFound: There is no such submission for the caller.
        PermissionDenied: It is the caller's own.
    """
    missing = NotFound(f"submission {submission_id} not found", submission=submission_id)
    owner = select(SubmissionRow.assignment_id).where(col(SubmissionRow.id) == submission_id)
    assignment_id = (await session.exec(owner)).first()
    if assignment_id is None:
        raise missing
    try:
        assignment, place = await assignment_for(session, assignment_id, caller, lock=True)
    except NotFound:
        raise missing from None
    row = await session.get(SubmissionRow, submission_id)
    if row is None or (not place.teaches and row.student_id != place.user_id):
        raise missing
    place.require_teacher()
    return row, assignment, place


async def lock_classroom(session: AsyncSession, classroom_id: str) -> None:
    """Hold a classroom until the unit of work ends: joins, hand-ins and grades of one classroom come one after another.

    Without it two grades at once could each miss the other, and the certificate that both together earn.
    """
    await lock_name(session, f"classroom {classroom_id}")


async def member_of(session: AsyncSession, classroom_id: str, user_id: str) -> ClassroomMemberRow | None:
    """Return somebody's place in a classroom; None when they have none."""
    query = select(ClassroomMemberRow).where(
        col(ClassroomMemberRow.classroom_id) == classroom_id, col(ClassroomMemberRow.user_id) == user_id
    )
    return (await session.exec(query)).one_or_none()


async def student_ids(session: AsyncSession, classroom_id: str) -> list[str]:
    """Return the students of a classroom in the order in which they joined."""
    query = select(ClassroomMemberRow.user_id).where(
        col(ClassroomMemberRow.classroom_id) == classroom_id, col(ClassroomMemberRow.role) == STUDENT
    )
    return list((await session.exec(query.order_by(col(ClassroomMemberRow.joined_us), col(ClassroomMemberRow.id)))).all())
