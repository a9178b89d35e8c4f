"""Projects for tests of what belongs to them."""

from __future__ import annotations

from core.maker.access import Role
from tests.conftest import Person, Running


async def make_project(busbar: Running, owner: Person, *, visibility: str = "private", **members: Role) -> str:
    """Make a project and return its id; further arguments are roles by user id."""
    client = busbar.client("grpc", owner.session)
    project = await client.call("ProjectService.CreateProject", name="Greenhouse", visibility=visibility)
    for user_id, role in members.items():
        names = {"project_id": project.id, "user_id": user_id}
        await client.call("CollaboratorService.AddCollaborator", **names, role=role.word)
    return project.id
