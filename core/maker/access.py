"""Who may do what with a project. The one place that decides; whatever belongs to a project asks here first."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from enum import IntEnum

from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from core.kernel.call import Principal
from core.kernel.errors import NotFound, PermissionDenied
from core.maker.tables import CollaboratorRow, ProjectRow


class Role(IntEnum):
    """What somebody is to a project, by growing rights.

    Attributes:
        NONE: No member. May see an unlisted or public project, but neither its firmware, pins, boards nor collaborators.
        VIEWER: Reads everything.
        EDITOR: Changes everything but visibility, collaborators and the project's existence.
        OWNER: Does everything.
    """

    NONE = 0
    VIEWER = 1
    EDITOR = 2
    OWNER = 3

    @property
    def word(self) -> str:
        """The role as clients read it."""
        return self.name.lower()


@dataclass(frozen=True, slots=True)
class Seat:
    """A project together with what the caller is to it."""

    project: ProjectRow
    role: Role


Grant = Callable[[AsyncSession, str, str], Awaitable[Role]]
"""Returns the role that a user has in a project for another reason than being its owner or collaborator; NONE for no reason."""


class ProjectAccess:
    """Finds projects for callers, as far as they may see them."""

    def __init__(self) -> None:
        self._grants: list[Grant] = []

    def grant(self, grant: Grant) -> None:
        """Let a further rule give roles, such as a teacher's view of what a student has handed in."""
        self._grants.append(grant)

    async def seat(
        self,
        session: AsyncSession,
        project_id: str,
        caller: Principal,
        least: Role = Role.NONE,
        *,
        to_change: bool = False,
    ) -> Seat:
        """Return a project and the caller's role in it. Agent keys act for their user.

        With `to_change` the project is held until the unit of work ends, and only then the role is read: of a change and the
        removal of who makes it, one comes after the other, and a change that comes after is refused.

        Raises:
            NotFound: There is no such project, or the caller may not know of it.
            PermissionDenied: The caller sees the project but has too small a role.
        """
        project = await session.get(ProjectRow, project_id, with_for_update=to_change, populate_existing=to_change)
        if project is None:
            raise project_not_found(project_id)
        role = await self._role(session, project, caller.user_id)
        known = caller.user_id is not None and project.visibility != "private"
        if role == Role.NONE and not known:
            raise project_not_found(project_id)
        if role < least:
            raise PermissionDenied(f"{least.word} role required", role=least.word, project=project_id)
        return Seat(project, role)

    async def _role(self, session: AsyncSession, project: ProjectRow, user_id: str | None) -> Role:
        if user_id is None:
            return Role.NONE
        if project.owner_id == user_id:
            return Role.OWNER
        roles = [(await self.roles(session, [project.id], user_id)).get(project.id, Role.NONE)]
        if roles[0] == Role.NONE:
            roles += [await grant(session, project.id, user_id) for grant in self._grants]
        return max(roles)

    async def roles(self, session: AsyncSession, project_ids: Iterable[str], user_id: str) -> dict[str, Role]:
        """Return a user's roles as collaborator, by project; those where they are none are left out."""
        rows = select(CollaboratorRow.project_id, CollaboratorRow.role).where(
            col(CollaboratorRow.user_id) == user_id, col(CollaboratorRow.project_id).in_(set(project_ids))
        )
        return {project_id: Role[role.upper()] for project_id, role in (await session.exec(rows)).all()}


def project_not_found(project_id: str) -> NotFound:
    """Return the refusal for a project that does not exist for the caller."""
    return NotFound(f"project {project_id} not found", project=project_id)
