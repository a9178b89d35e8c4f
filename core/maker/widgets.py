"""The widgets of projects."""

from __future__ import annotations

from core.documents.documents import Document
from core.kernel.call import Call
from core.maker.document_kinds import widget_messages, widgets_content
from core.maker.documents import Change, ProjectDocuments
from gen.busbar.maker.v1.widgets_pb import (
    ListWidgetsRequest,
    ListWidgetsResponse,
    PersistedWidget,
    ReplaceWidgetsRequest,
    ReplaceWidgetsResponse,
)

KIND = "widgets"


class WidgetService:
    """Reads and replaces sets of widgets."""

    def __init__(self, documents: ProjectDocuments) -> None:
        self._documents = documents

    async def list_widgets(self, request: ListWidgetsRequest, call: Call) -> ListWidgetsResponse:
        """Return the set as it was saved."""
        document = await self._documents.read(request.project_id, KIND, call.caller)
        return ListWidgetsResponse(widgets=_shown(document, call))

    async def replace_widgets(self, request: ReplaceWidgetsRequest, call: Call) -> ReplaceWidgetsResponse:
        """Replace the set, all or nothing."""
        base = request.base_revision if request.has_field("base_revision") else None
        change = Change(widgets_content(request.widgets), base)
        document = await self._documents.save(request.project_id, KIND, change, call)
        return ReplaceWidgetsResponse(widgets=_shown(document, call))


def _shown(document: Document | None, call: Call) -> list[PersistedWidget]:
    """Return the widgets of a revision, and tell its number beside them."""
    call.headers.append(("ETag", f'"{0 if document is None else document.revision}"'))
    return [] if document is None else widget_messages(document.content)
