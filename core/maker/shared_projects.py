"""The firmware and the wiring of projects, for other areas."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager

from sqlmodel.ext.asyncio.session import AsyncSession

from core.documents.shared import SharedProject, SharedProjects
from core.kernel.call import Call, Principal
from core.kernel.errors import PermissionDenied
from core.kernel.validation import validate
from core.maker.document_kinds import ENTRY, firmware_content
from core.maker.documents import Change, ProjectDocuments
from gen.busbar.api.v1.error_reason_pb import ErrorReason
from gen.busbar.maker.v1.firmware_pb import FirmwareFile, SaveFirmwareRequest

FIRMWARE, WIRING = "firmware", "wiring"
READ, WRITE = "projects:read", "projects:write"
"""Scopes that the maker's own services ask for."""

_LANGUAGES = {"main.cpp": "cpp", "main.py": "micropython"}


class MakerProjects(SharedProjects):
    """Reads and saves them by the rules of the maker's own services."""

    def __init__(self, documents: ProjectDocuments) -> None:
        self._documents = documents

    async def read(self, project_id: str, caller: Principal) -> SharedProject:
        """Return both documents."""
        _require(caller, READ)
        firmware = await self._documents.read(project_id, FIRMWARE, caller)
        wiring = await self._documents.read(project_id, WIRING, caller)
        return SharedProject(
            firmware={} if firmware is None else {file["path"]: file["content"] for file in firmware.content["files"]},
            revision=0 if firmware is None else firmware.revision,
            wiring=None if wiring is None else json.dumps(wiring.content["data"], indent=2, ensure_ascii=False),
        )

    @asynccontextmanager
    async def saving(
        self, project_id: str, files: Mapping[str, str], revision: int, call: Call
    ) -> AsyncGenerator[Callable[[AsyncSession], Awaitable[int]]]:
        """Save the files under the language and the entry that the firmware has; the name of the first ones tells them."""
        _require(call.caller, WRITE)
        request = SaveFirmwareRequest(project_id=project_id, base_revision=revision)
        request.files = [FirmwareFile(path=path, content=text) for path, text in files.items()]
        present = await self._documents.read(project_id, FIRMWARE, call.caller)
        if present is not None:
            request.language, request.entry = present.content["language"], present.content["entry"]
        elif ENTRY not in files:
            request.entry, request.language = next((one for one in _LANGUAGES.items() if one[0] in files), (ENTRY, "arduino"))
        validate(request)
        change = Change(firmware_content(request), revision)

        async with self._documents.within(project_id, FIRMWARE, change, call) as save:

            async def saved(session: AsyncSession) -> int:
                return (await save(session)).revision

            yield saved


def _require(caller: Principal, scope: str) -> None:
    """Hold a caller that comes from another area to the scope that the maker's area asks for."""
    if not caller.may(scope):
        raise PermissionDenied(f"insufficient scope: {scope} required", reason=ErrorReason.SCOPE_MISSING, scope=scope)
