"""Projects for tests of what belongs to them."""

from __future__ import annotations

from core.kernel.ids import new_id
from core.maker.access import Role
from core.maker.tables import AttachmentRow, CollaboratorRow, ProjectRow
from tests.conftest import Person, Running


async def make_project(busbar: Running, owner: Person, *, visibility: str = "private", **members: Role) -> str:
    """Make a project and return its id; further arguments are roles by user id."""
    project_id, now = new_id("prj_"), busbar.clock.now_us()
    async with busbar.app.database.unit_of_work() as session:
        session.add(
            ProjectRow(
                id=project_id,
                org_id=owner.org_id,
                owner_id=owner.id,
                name="Greenhouse",
                slug=project_id,
                visibility=visibility,
                created_us=now,
                updated_us=now,
            )
        )
        await session.flush()
        for user_id, role in members.items():
            session.add(collaborator(project_id, user_id, role, now))
    return project_id


def collaborator(project_id: str, user_id: str, role: Role, now: int) -> CollaboratorRow:
    """Return somebody's place in a project."""
    return CollaboratorRow(
        id=new_id("col_"), project_id=project_id, user_id=user_id, role=role.word, invited_us=now, joined_us=now
    )


def attachment(project_id: str, board_id: str, now: int) -> AttachmentRow:
    """Return a board's place in a project."""
    return AttachmentRow(project_id=project_id, board_id=board_id, attached_us=now)
