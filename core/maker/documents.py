"""The documents of projects: who may read and save them, and who is told when one was saved."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from weakref import WeakValueDictionary

from sqlmodel.ext.asyncio.session import AsyncSession

from core.documents.content import Content, Json
from core.documents.documents import Document, Documents
from core.kernel.call import Call, Principal
from core.kernel.clock import Clock
from core.kernel.errors import InvalidArgument
from core.live.events import EventBus
from core.maker.access import ProjectAccess, Role, Seat
from core.maker.document_kinds import KINDS
from core.maker.events import DocumentSaved, project_topic
from core.maker.people import People
from core.storage.database import Database
from gen.busbar.maker.v1.people_pb import UserCard

Save = Callable[[AsyncSession, Seat], Awaitable[Document]]


@dataclass(frozen=True, slots=True)
class Change:
    """A save as a caller wants it.

    Attributes:
        content: What to store.
        base_revision: Revision that the caller has read; None lets the last writer win.
        patch: What a live connection changed, as JSON text; None for a whole document.
    """

    content: dict[str, Json]
    base_revision: int | None = None
    patch: str | None = None


class ProjectDocuments:
    """Reads and saves documents for callers."""

    def __init__(
        self, database: Database, documents: Documents, access: ProjectAccess, people: People, bus: EventBus, clock: Clock
    ) -> None:
        self.database = database
        self.documents = documents
        self.access = access
        self._people = people
        self._bus = bus
        self._clock = clock
        self._turns: WeakValueDictionary[tuple[str, str], asyncio.Lock] = WeakValueDictionary()

    async def read(self, project_id: str, kind: str, caller: Principal) -> Document | None:
        """Return the newest revision of a document; None when it was never saved.

        Raises:
            NotFound: The caller may not know of the project.
            PermissionDenied: The caller may not read documents of this kind.
        """
        async with self.database.read() as session:
            await self.access.seat(session, project_id, caller, KINDS[kind].least)
            return await self.documents.current(session, project_id, kind)

    @asynccontextmanager
    async def history(self, project_id: str, caller: Principal) -> AsyncGenerator[AsyncSession]:
        """Open a session in which the history of a project may be read, which only members may.

        Raises:
            NotFound: The caller may not know of the project.
            PermissionDenied: The caller is no member.
        """
        async with self.database.read() as session:
            await self.access.seat(session, project_id, caller, Role.VIEWER)
            yield session

    async def save(self, project_id: str, kind: str, change: Change, call: Call) -> Document:
        """Save a document and tell those who watch the project.

        Raises:
            NotFound: The caller may not know of the project.
            PermissionDenied: The caller is neither owner nor editor.
            PreconditionFailed: The revision that the call's `if_match` names is not the current one.
            Aborted: The base revision is not the current one.
            TooLarge: The document is.
        """
        save = await self._saver(project_id, kind, change, call)
        return await self._save(project_id, kind, call, save, change.patch)

    @asynccontextmanager
    async def within(
        self, project_id: str, kind: str, change: Change, call: Call
    ) -> AsyncGenerator[Callable[[AsyncSession], Awaitable[Document]]]:
        """Hand out what saves a document in the caller's own unit of work; watchers are told when the block has ended well.

        Raises as `save` does.
        """
        save = await self._saver(project_id, kind, change, call)
        saved: list[tuple[Document, UserCard | None]] = []

        async def store(session: AsyncSession) -> Document:
            saved.append(await self._store(session, project_id, call, save))
            return saved[-1][0]

        async with self._turn(project_id, kind):
            yield store
            for document, by in saved:
                self._tell(project_id, kind, document, by, None, call)

    async def _saver(self, project_id: str, kind: str, change: Change, call: Call) -> Save:
        content = await asyncio.to_thread(_content, kind, change.content)

        async def save(session: AsyncSession, seat: Seat) -> Document:
            return await self.documents.save(
                session,
                seat.project.org_id,
                project_id,
                kind,
                content,
                by=call.caller.user_id,
                base_revision=change.base_revision,
                if_match=call.if_match,
            )

        return save

    async def restore(self, project_id: str, kind: str, revision: int, base_revision: int | None, call: Call) -> Document:
        """Save an earlier revision as the newest one, and tell those who watch the project.

        Raises:
            NotFound: There is no such revision, or the caller may not know of the project.
            PermissionDenied, PreconditionFailed, Aborted: As `save`.
        """

        async def save(session: AsyncSession, _seat: Seat) -> Document:
            return await self.documents.restore(
                session,
                project_id,
                kind,
                revision,
                by=call.caller.user_id,
                base_revision=base_revision,
                if_match=call.if_match,
            )

        return await self._save(project_id, kind, call, save, None)

    async def _save(self, project_id: str, kind: str, call: Call, save: Save, patch: str | None) -> Document:
        async with self._turn(project_id, kind):
            async with self.database.unit_of_work() as session:
                document, by = await self._store(session, project_id, call, save)
            self._tell(project_id, kind, document, by, patch, call)
        return document

    def _turn(self, project_id: str, kind: str) -> asyncio.Lock:
        """Return what is held while a document is saved, so that watchers hear of revisions in their order."""
        return self._turns.setdefault((project_id, kind), asyncio.Lock())

    async def _store(self, session: AsyncSession, project_id: str, call: Call, save: Save) -> tuple[Document, UserCard | None]:
        seat = await self.access.seat(session, project_id, call.caller, Role.EDITOR, to_change=True)
        document = await save(session, seat)
        if document.changed:
            seat.project.updated_us = self._clock.now_us()
        return document, await self._card(session, call.caller.user_id)

    def _tell(self, project_id: str, kind: str, document: Document, by: UserCard | None, patch: str | None, call: Call) -> None:
        if document.changed:
            client_id = None if patch is None else call.client_id
            event = DocumentSaved(kind, document.revision, by, patch, client_id)
            self._bus.publish(project_topic(project_id), event)

    async def _card(self, session: AsyncSession, user_id: str | None) -> UserCard | None:
        return None if user_id is None else (await self._people.cards(session, [user_id])).get(user_id)


def _content(kind: str, value: dict[str, Json]) -> Content:
    try:
        content = Content.of(value)
    except ValueError as error:
        raise InvalidArgument.field(kind, str(error)) from error
    KINDS[kind].check_size(content, value.get("schemaVersion", 1))
    return content
