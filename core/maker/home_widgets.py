"""The widgets that say what the pins of boards are."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import cast

from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from core.documents.documents import Documents
from core.homes.announcements import Json
from core.maker.home_entities import bound_widgets
from core.maker.tables import AttachmentRow


class HomeWidgets:
    """Finds the widgets of boards in the projects to which these are attached."""

    def __init__(self, documents: Documents) -> None:
        self._documents = documents

    async def bound(self, session: AsyncSession, board_ids: Sequence[str]) -> dict[str, dict[int, Json]]:
        """Return the widget of each pin that has one, by board. Each project is read once."""
        query = select(AttachmentRow.board_id, AttachmentRow.project_id).where(col(AttachmentRow.board_id).in_(board_ids))
        attached = (await session.exec(query.order_by(col(AttachmentRow.attached_us), col(AttachmentRow.project_id)))).all()
        widgets = {project_id: await self._of_project(session, project_id) for project_id in {one[1] for one in attached}}
        found: dict[str, list[Json]] = defaultdict(list)
        for board_id, project_id in attached:
            found[board_id] += widgets[project_id]
        return {board_id: bound_widgets(found[board_id], board_id) for board_id in board_ids}

    async def _of_project(self, session: AsyncSession, project_id: str) -> list[Json]:
        document = await self._documents.current(session, project_id, "widgets")
        return [] if document is None else cast("list[Json]", cast("Json", document.content)["widgets"])
