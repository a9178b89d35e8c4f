"""Any document of a project by its kind: read and saved as agents do, and its revisions."""

from __future__ import annotations

import asyncio

import orjson

from core.documents import patches
from core.documents.content import Json
from core.documents.documents import Document as Revision
from core.documents.documents import Revision as Summary
from core.kernel.call import Call
from core.kernel.clock import to_timestamp
from core.kernel.errors import InvalidArgument, NotFound
from core.kernel.pages import decode_cursor, encode_cursor, page_limit
from core.maker.document_kinds import DESIGNS, KINDS
from core.maker.documents import Change, ProjectDocuments
from gen.busbar.maker.v1.document_history_pb import (
    DiffRevisionsRequest,
    Document,
    DocumentDiff,
    DocumentRevision,
    ListRevisionsRequest,
    ListRevisionsResponse,
    ReadDocumentRequest,
    ReadRevisionRequest,
    RestoreRevisionRequest,
    SaveDocumentRequest,
)


class DocumentHistoryService:
    """Reads and saves documents of any kind, and shows and restores their revisions."""

    def __init__(self, documents: ProjectDocuments) -> None:
        self._projects = documents
        self._documents = documents.documents

    async def read_document(self, request: ReadDocumentRequest, call: Call) -> Document:
        """Return the newest revision, or the empty document."""
        kind = request.kind
        found = await self._projects.read(request.project_id, kind, call.caller)
        return _empty(request.project_id, kind) if found is None else _message(found)

    async def save_document(self, request: SaveDocumentRequest, call: Call) -> Document:
        """Replace a document; a design keeps its version where none is given."""
        kind, project_id = request.kind, request.project_id
        try:
            document = orjson.loads(request.content)
        except orjson.JSONDecodeError as error:
            raise InvalidArgument.field("content", "must be JSON") from error
        if not isinstance(document, dict):
            raise InvalidArgument.field("content", "must be an object")
        if request.has_field("schema_version"):
            if kind not in DESIGNS:
                raise InvalidArgument.field("schema_version", f"{kind} has none")
            version = request.schema_version
        else:
            found = await self._projects.read(project_id, kind, call.caller)
            version = _version(KINDS[kind].empty if found is None else found.content) or 1
        base = request.base_revision if request.has_field("base_revision") else None
        change = Change(KINDS[kind].content(document, version), base)
        return _message(await self._projects.save(project_id, kind, change, call))

    async def list_revisions(self, request: ListRevisionsRequest, call: Call) -> ListRevisionsResponse:
        """List revisions without their contents, newest first."""
        limit = page_limit(request.limit if request.has_field("limit") else None)
        after = decode_cursor(request.cursor, int)
        before = None if after is None else int(after[0])
        async with self._projects.history(request.project_id, call.caller) as session:
            found = await self._documents.history(session, request.project_id, request.kind, limit=limit + 1, before=before)
        cursor = encode_cursor(found[limit - 1].revision) if len(found) > limit else None
        return ListRevisionsResponse(revisions=[_summary(one) for one in found[:limit]], next_cursor=cursor)

    async def read_revision(self, request: ReadRevisionRequest, call: Call) -> Document:
        """Return a document as it was."""
        async with self._projects.history(request.project_id, call.caller) as session:
            found = await self._documents.at_revision(session, request.project_id, request.kind, request.revision)
        return _message(found)

    async def diff_revisions(self, request: DiffRevisionsRequest, call: Call) -> DocumentDiff:
        """Compare two revisions; revision 0 is the empty document."""
        kind, project_id = KINDS[request.kind], request.project_id
        base = request.base if request.has_field("base") else request.revision - 1
        if request.revision < 1:
            raise NotFound(f"{request.kind} has no revision {request.revision}", revision=request.revision)
        async with self._projects.history(project_id, call.caller) as session:
            after = (await self._documents.at_revision(session, project_id, request.kind, request.revision)).content
            before = kind.empty
            if base:
                before = (await self._documents.at_revision(session, project_id, request.kind, base)).content
        patch = await asyncio.to_thread(patches.diff, kind.document(before), kind.document(after))
        return DocumentDiff(from_revision=base, to_revision=request.revision, patch=orjson.dumps(patch).decode())

    async def restore_revision(self, request: RestoreRevisionRequest, call: Call) -> Document:
        """Make an earlier revision the newest one."""
        base = request.base_revision if request.has_field("base_revision") else None
        return _message(await self._projects.restore(request.project_id, request.kind, request.revision, base, call))


def _version(content: dict[str, Json]) -> int | None:
    return content.get("schemaVersion")


def _empty(project_id: str, kind: str) -> Document:
    content = KINDS[kind].empty
    text = orjson.dumps(KINDS[kind].document(content)).decode()
    return Document(project_id=project_id, kind=kind, content=text, schema_version=_version(content))


def _message(found: Revision) -> Document:
    content = found.content
    return Document(
        project_id=found.subject,
        kind=found.kind,
        content=orjson.dumps(KINDS[found.kind].document(content)).decode(),
        schema_version=_version(content),
        revision=found.revision,
        updated_by=found.saved_by,
        updated_at=to_timestamp(found.saved_us),
        restored_from=found.restored_from,
    )


def _summary(found: Summary) -> DocumentRevision:
    return DocumentRevision(
        revision=found.revision,
        updated_by=found.saved_by,
        updated_at=to_timestamp(found.saved_us),
        size=found.size,
        digest=found.digest,
        restored_from=found.restored_from,
    )
