"""Copies of projects, for templates and for what was bought."""

from __future__ import annotations

from typing import Protocol

from sqlmodel.ext.asyncio.session import AsyncSession

from core.kernel.clock import Clock
from core.kernel.ids import new_id
from core.maker.access import project_not_found
from core.maker.slugs import free_slug
from core.maker.tables import ProjectRow
from core.storage.locks import lock_name


class Owner(Protocol):
    """Who gets the copy: a principal, or whatever else names a user and their organisation."""

    @property
    def org_id(self) -> str:
        """Organisation that the copy belongs to."""
        ...

    @property
    def user_id(self) -> str | None:
        """User who owns the copy."""
        ...


class CopiesDocuments(Protocol):
    """The part of the documents foundation that a copy needs."""

    async def copy_all(
        self, session: AsyncSession, from_subject: str, to_subject: str, by: str | None, *, org_id: str
    ) -> object:
        """Save the current content of every document of a subject as a document of another."""
        ...

    async def forget(self, session: AsyncSession, subject: str, kind: str | None = None) -> None:
        """Delete every revision of a document, or of all documents of a subject."""
        ...


class ProjectCopies:
    """Copies projects within the caller's unit of work."""

    def __init__(self, clock: Clock, documents: CopiesDocuments | None = None) -> None:
        self._clock = clock
        self._documents = documents

    async def copy(
        self, session: AsyncSession, source_id: str, owner: Owner, name: str, *, firmware: bool = True
    ) -> ProjectRow:
        """Make a private project of the owner's with the description, the widgets, firmware and designs of another.

        Neither boards, collaborators, likes nor earlier revisions are copied. Whether the owner may read the source, and has
        room for another project, is for the caller to check.

        Args:
            session: Unit of work that commits the copy.
            source_id: Project to copy.
            owner: Who gets the copy.
            name: Name of the copy.
            firmware: Whether the firmware is copied too; a reader who is no member may not have it.

        Raises:
            NotFound: There is no such project.
        """
        source = await session.get(ProjectRow, source_id)
        if source is None:
            raise project_not_found(source_id)
        copy = await new_project(session, owner, name, self._clock)
        copy.description, copy.board_type, copy.theme = source.description, source.board_type, source.theme
        copy.tags, copy.cover_url = source.tags, source.cover_url
        await session.flush()
        if self._documents is not None:
            await self._documents.copy_all(session, source_id, copy.id, owner.user_id, org_id=owner.org_id)
            if not firmware:
                await self._documents.forget(session, copy.id, "firmware")
        return copy


async def new_project(session: AsyncSession, owner: Owner, name: str, clock: Clock) -> ProjectRow:
    """Add a private project to the caller's unit of work, under a slug that is free.

    Raises:
        ValueError: The owner is no user.
    """
    if owner.user_id is None:
        raise ValueError("only a user can own a project")
    await lock_projects(session, owner.user_id)
    now = clock.now_us()
    project = ProjectRow(
        id=new_id("prj_"),
        org_id=owner.org_id,
        owner_id=owner.user_id,
        name=name,
        slug=await free_slug(session, owner.user_id, name),
        created_us=now,
        updated_us=now,
    )
    session.add(project)
    return project


async def lock_projects(session: AsyncSession, user_id: str) -> None:
    """Let no other unit of work add projects to a user until this one ends, so that quota and slugs hold."""
    await lock_name(session, f"projects of {user_id}")
