"""The designs of projects: wiring, circuit board and case."""

from __future__ import annotations

import orjson

from core.documents.documents import Document
from core.kernel.call import Call
from core.kernel.clock import to_timestamp
from core.kernel.errors import InvalidArgument
from core.maker.document_kinds import design_content
from core.maker.documents import Change, ProjectDocuments
from gen.busbar.maker.v1.designs_pb import (
    DesignDocument,
    GetCaseRequest,
    GetPcbRequest,
    GetWiringRequest,
    SaveCaseRequest,
    SavePcbRequest,
    SaveWiringRequest,
)


class DesignService:
    """Reads and saves designs. The three kinds differ in nothing but their name."""

    def __init__(self, documents: ProjectDocuments) -> None:
        self._documents = documents

    async def get_wiring(self, request: GetWiringRequest, call: Call) -> DesignDocument:
        """Return the wiring."""
        return await self._get(request.project_id, "wiring", call)

    async def save_wiring(self, request: SaveWiringRequest, call: Call) -> DesignDocument:
        """Replace the wiring."""
        return await self._save("wiring", request, call)

    async def get_pcb(self, request: GetPcbRequest, call: Call) -> DesignDocument:
        """Return the circuit board."""
        return await self._get(request.project_id, "pcb", call)

    async def save_pcb(self, request: SavePcbRequest, call: Call) -> DesignDocument:
        """Replace the circuit board."""
        return await self._save("pcb", request, call)

    async def get_case(self, request: GetCaseRequest, call: Call) -> DesignDocument:
        """Return the case."""
        return await self._get(request.project_id, "case", call)

    async def save_case(self, request: SaveCaseRequest, call: Call) -> DesignDocument:
        """Replace the case."""
        return await self._save("case", request, call)

    async def _get(self, project_id: str, kind: str, call: Call) -> DesignDocument:
        document = await self._documents.read(project_id, kind, call.caller)
        if document is None:
            return DesignDocument(project_id=project_id, kind=kind, schema_version=1, data="{}")
        return _message(document)

    async def _save(
        self, kind: str, request: SaveWiringRequest | SavePcbRequest | SaveCaseRequest, call: Call
    ) -> DesignDocument:
        version = request.schema_version if request.has_field("schema_version") else 1
        base = request.base_revision if request.has_field("base_revision") else None
        try:
            data = orjson.loads(request.data or "{}")
        except orjson.JSONDecodeError as error:
            raise InvalidArgument.field("data", "must be JSON") from error
        change = Change(design_content(data, version), base)
        return _message(await self._documents.save(request.project_id, kind, change, call))


def _message(document: Document) -> DesignDocument:
    content = document.content
    return DesignDocument(
        project_id=document.subject,
        kind=document.kind,
        schema_version=content["schemaVersion"],
        data=orjson.dumps(content["data"]).decode(),
        revision=document.revision,
        updated_by=document.saved_by,
        updated_at=to_timestamp(document.saved_us),
    )
