"""Keeps documents. It knows neither what they hold nor who may see them: that is for the area that saves them."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace

import orjson
from sqlalchemy import delete, func, insert
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import defer
from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from core.documents.content import Content, Json
from core.documents.tables import DocumentRow
from core.kernel.clock import Clock
from core.kernel.errors import Aborted, InvalidArgument, NotFound, PreconditionFailed
from core.storage.errors import is_unique_violation

ANY_REVISION = "*"
ATTEMPTS = 20
"""Tries of a save that names no revision, when others keep saving at the same moment."""


@dataclass(frozen=True, slots=True)
class Revision:
    """What is known of one revision without reading its content; see `DocumentRow`."""

    org_id: str
    subject: str
    kind: str
    revision: int
    digest: str
    size: int
    saved_by: str | None
    saved_us: int
    restored_from: int | None


@dataclass(frozen=True, slots=True)
class Document(Revision):
    """One revision with its content.

    Attributes:
        text: Content as canonical JSON.
        changed: Whether the save that returned it made the revision; False when the content was the current one already.
    """

    text: str
    changed: bool = False

    @property
    def content(self) -> Json:
        """The content, read anew at each use."""
        return orjson.loads(self.text)

    def as_content(self) -> Content:
        """Return the content as another save takes it."""
        return Content(self.text, self.digest, self.size)


class Documents:
    """Documents of all subjects. Every function runs within the caller's session, so that a save commits with its cause."""

    def __init__(self, clock: Clock | None = None) -> None:
        self._clock = clock or Clock()

    async def current(self, session: AsyncSession, subject: str, kind: str) -> Document | None:
        """Return the newest revision; None when nothing was ever saved."""
        query = _of(subject, kind).order_by(col(DocumentRow.revision).desc()).limit(1)
        row = (await session.exec(query)).first()
        return None if row is None else _document(row)

    async def at_revision(self, session: AsyncSession, subject: str, kind: str, revision: int) -> Document:
        """Return one revision.

        Raises:
            NotFound: There is no such revision.
        """
        row = (await session.exec(_of(subject, kind).where(col(DocumentRow.revision) == revision))).first()
        if row is None:
            raise NotFound(f"{kind} has no revision {revision}", revision=revision)
        return _document(row)

    async def revisions(self, session: AsyncSession, subject: str) -> dict[str, int]:
        """Return the current revision of each document of a subject that was ever saved, by kind."""
        newest = func.max(DocumentRow.revision)
        query = select(DocumentRow.kind, newest).where(col(DocumentRow.subject) == subject).group_by(DocumentRow.kind)
        return dict((await session.exec(query)).all())

    async def history(
        self, session: AsyncSession, subject: str, kind: str, *, limit: int, before: int | None = None
    ) -> list[Revision]:
        """Return revisions without their contents, newest first; only those below `before` when it is given."""
        query = _of(subject, kind).options(defer(DocumentRow.content, raiseload=True))  # pyright: ignore[reportArgumentType] - a column, whatever its annotation
        if before is not None:
            query = query.where(col(DocumentRow.revision) < before)
        rows = await session.exec(query.order_by(col(DocumentRow.revision).desc()).limit(limit))
        return [Revision(**row.model_dump(exclude={"content"})) for row in rows.all()]

    async def save(
        self,
        session: AsyncSession,
        org_id: str,
        subject: str,
        kind: str,
        content: Json | Content,
        *,
        by: str | None,
        base_revision: int | None = None,
        if_match: str | None = None,
    ) -> Document:
        """Save a content as the next revision, or return the current one when it holds the same.

        Args:
            session: Unit of work that commits the save.
            org_id: Organisation to which the subject belongs.
            subject: What the document belongs to.
            kind: Which document it is.
            content: A JSON value, or the `Content` made of one before the unit of work began, which large ones should be.
            by: User who saves.
            base_revision: Revision that the caller has read, 0 for none; without it the last writer wins.
            if_match: Entity tags of an If-Match header: revisions, or `*` for any that was ever saved.

        Raises:
            PreconditionFailed: None of the entity tags is the current revision.
            Aborted: `base_revision` is not the current one, or too many others save at the same moment.
            InvalidArgument: The content is not JSON.
        """
        made = content if isinstance(content, Content) else _made(content)
        for _ in range(ATTEMPTS):
            head = next(iter(await self.history(session, subject, kind, limit=1)), None)
            _check(kind, 0 if head is None else head.revision, base_revision, if_match)
            if head is not None and head.digest == made.digest:
                return Document(**asdict(head), text=made.text)
            number = 1 if head is None else head.revision + 1
            revision = self._next(made, org_id, subject, kind, number, by)
            if await _insert(session, revision, made.text):
                return Document(**asdict(revision), text=made.text, changed=True)
        raise Aborted(f"{kind} is being saved by too many at once")

    def _next(self, made: Content, org_id: str, subject: str, kind: str, number: int, by: str | None) -> Revision:
        return Revision(
            org_id=org_id,
            subject=subject,
            kind=kind,
            revision=number,
            digest=made.digest,
            size=made.size,
            saved_by=by,
            saved_us=self._clock.now_us(),
            restored_from=made.restored_from,
        )

    async def restore(
        self,
        session: AsyncSession,
        subject: str,
        kind: str,
        revision: int,
        *,
        by: str | None,
        base_revision: int | None = None,
        if_match: str | None = None,
    ) -> Document:
        """Save the content of an earlier revision as the newest one. What lies between stays in the history.

        Raises:
            NotFound: There is no such revision.
            PreconditionFailed, Aborted: As `save`.
        """
        old = await self.at_revision(session, subject, kind, revision)
        return await self.save(
            session,
            old.org_id,
            subject,
            kind,
            replace(old.as_content(), restored_from=revision),
            by=by,
            base_revision=base_revision,
            if_match=if_match,
        )

    async def copy_all(
        self, session: AsyncSession, from_subject: str, to_subject: str, by: str | None, *, org_id: str
    ) -> list[Document]:
        """Save the current content of every document of a subject as a document of another, which belongs to `org_id`."""
        copies: list[Document] = []
        for kind in sorted(await self.revisions(session, from_subject)):
            document = await self.current(session, from_subject, kind)
            if document is not None:
                copies.append(await self.save(session, org_id, to_subject, kind, document.as_content(), by=by))
        return copies

    async def forget(self, session: AsyncSession, subject: str, kind: str | None = None) -> None:
        """Delete every revision of a document, or of all documents of a subject."""
        statement = delete(DocumentRow).where(col(DocumentRow.subject) == subject)
        if kind is not None:
            statement = statement.where(col(DocumentRow.kind) == kind)
        await session.exec(statement)


def _of(subject: str, kind: str):  # noqa: ANN202 - the type of a query has no short name
    return select(DocumentRow).where(col(DocumentRow.subject) == subject, col(DocumentRow.kind) == kind)


def _document(row: DocumentRow) -> Document:
    return Document(**row.model_dump(exclude={"content"}), text=row.content)


def _made(content: Json) -> Content:
    try:
        return Content.of(content)
    except ValueError as error:
        raise InvalidArgument(f"the document {error}") from error


def _check(kind: str, revision: int, base_revision: int | None, if_match: str | None) -> None:
    """Refuse a save that is made from another revision than the current one."""
    if if_match is not None and not _matches(if_match, revision):
        raise PreconditionFailed(f"{kind} is at revision {revision}, which If-Match does not name", revision=revision)
    if base_revision is not None and base_revision != revision:
        raise Aborted(f"{kind} is at revision {revision}, not {base_revision}", revision=revision)


def _matches(if_match: str, revision: int) -> bool:
    tags = [tag.strip().removeprefix("W/").strip('"') for tag in if_match.split(",")]
    return str(revision) in tags or (ANY_REVISION in tags and revision > 0)


async def _insert(session: AsyncSession, revision: Revision, text: str) -> bool:
    """Add a revision; return False when somebody else took its number, which undoes nothing else of the unit of work."""
    try:
        async with session.begin_nested():
            await session.exec(insert(DocumentRow).values(**asdict(revision), content=text))
    except IntegrityError as error:
        if not is_unique_violation(error):
            raise
        return False
    return True
