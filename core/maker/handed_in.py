"""What classrooms let their members read of each other's projects.

A teacher reads what a student has handed in, until it is returned or replaced; students read the template of an assignment
that they see. Whoever hands a project on must still be its owner or collaborator: nobody gives away what they have lost.
"""

from __future__ import annotations

from sqlalchemy import exists, or_
from sqlalchemy.orm import Mapped
from sqlalchemy.sql.elements import ColumnElement
from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from core.maker.access import Role
from core.maker.class_access import STUDENT
from core.maker.classroom_tables import AssignmentRow, ClassroomMemberRow, ClassroomRow, SubmissionRow
from core.maker.tables import CollaboratorRow, ProjectRow


async def classroom_role(session: AsyncSession, project_id: str, user_id: str) -> Role:
    """Return the role that a user has in a project through a classroom."""
    handed_in = (
        select(SubmissionRow.id)
        .join(AssignmentRow, col(AssignmentRow.id) == col(SubmissionRow.assignment_id))
        .join(ClassroomRow, col(ClassroomRow.id) == col(AssignmentRow.classroom_id))
        .where(
            col(SubmissionRow.project_id) == project_id,
            col(SubmissionRow.status) != "returned",
            col(ClassroomRow.teacher_id) == user_id,
            _holds(project_id, col(SubmissionRow.student_id)),
        )
    )
    template = (
        select(AssignmentRow.id)
        .join(ClassroomRow, col(ClassroomRow.id) == col(AssignmentRow.classroom_id))
        .join(ClassroomMemberRow, col(ClassroomMemberRow.classroom_id) == col(ClassroomRow.id))
        .where(
            col(AssignmentRow.project_template_id) == project_id,
            col(AssignmentRow.status) != "draft",
            col(ClassroomMemberRow.user_id) == user_id,
            col(ClassroomMemberRow.role) == STUDENT,
            _holds(project_id, col(ClassroomRow.teacher_id)),
        )
    )
    for query in (handed_in, template):
        if (await session.exec(query.limit(1))).first() is not None:
            return Role.VIEWER
    return Role.NONE


def _holds(project_id: str, user_id: Mapped[str]) -> ColumnElement[bool]:
    """Whether somebody is the owner or a collaborator of a project."""
    owned = exists().where(col(ProjectRow.id) == project_id, col(ProjectRow.owner_id) == user_id)
    shared = exists().where(col(CollaboratorRow.project_id) == project_id, col(CollaboratorRow.user_id) == user_id)
    return or_(owned, shared)
