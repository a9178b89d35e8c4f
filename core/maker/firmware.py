"""The firmware of projects."""

from __future__ import annotations

from core.documents.documents import Document
from core.kernel.call import Call
from core.kernel.clock import to_timestamp
from core.kernel.errors import NotFound
from core.maker.document_kinds import firmware_content
from core.maker.documents import Change, ProjectDocuments
from gen.busbar.maker.v1.firmware_pb import FirmwareDocument, FirmwareFile, GetFirmwareRequest, SaveFirmwareRequest

KIND = "firmware"


class FirmwareService:
    """Reads and saves firmware."""

    def __init__(self, documents: ProjectDocuments) -> None:
        self._documents = documents

    async def get_firmware(self, request: GetFirmwareRequest, call: Call) -> FirmwareDocument:
        """Return the newest revision."""
        document = await self._documents.read(request.project_id, KIND, call.caller)
        if document is None:
            raise NotFound("no firmware saved", project=request.project_id)
        return _message(document)

    async def save_firmware(self, request: SaveFirmwareRequest, call: Call) -> FirmwareDocument:
        """Replace the firmware."""
        base = request.base_revision if request.has_field("base_revision") else None
        change = Change(firmware_content(request), base)
        return _message(await self._documents.save(request.project_id, KIND, change, call))


def _message(document: Document) -> FirmwareDocument:
    content = document.content
    files = {file["path"]: file["content"] for file in content["files"]}
    return FirmwareDocument(
        project_id=document.subject,
        language=content["language"],
        entry=content["entry"],
        files=[FirmwareFile(path=path, content=text) for path, text in files.items()],
        source=files[content["entry"]],
        revision=document.revision,
        updated_by=document.saved_by,
        updated_at=to_timestamp(document.saved_us),
    )
