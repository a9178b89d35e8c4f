"""Maps that a project has had, so that its next plan need not make them again."""

from __future__ import annotations

from collections.abc import Iterable

from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from core.kernel.clock import Clock
from core.plans.map_tables import PlanMapRow
from core.storage.database import Database
from core.storage.locks import lock_name
from gen.busbar.plans.v1.contexts_pb import Context, LoadContextParams

MOST_PATH = 1000
"""Bytes of a path that an index takes on every database; maps of longer ones are made anew for each plan."""


class MapCache:
    """Keeps the newest map of each directory of a project."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def keep(self, session: AsyncSession, project_id: str, item: Context) -> None:
        """Keep a map in the caller's unit of work."""
        if len(item.file_path.encode()) > MOST_PATH:
            return
        await lock_name(session, f"maps of {project_id}")
        row = await session.get(PlanMapRow, (project_id, item.file_path))
        if row is None:
            row = PlanMapRow(project_id=project_id, path=item.file_path, content="", updated_us=0)
            session.add(row)
        row.content = item.to_json()
        row.updated_us = self._clock.now_us()

    async def find(self, project_id: str, paths: Iterable[str]) -> dict[str, LoadContextParams]:
        """Return the maps of some directories as a client would load them, by path; those without one are left out."""
        wanted = select(PlanMapRow).where(col(PlanMapRow.project_id) == project_id, col(PlanMapRow.path).in_(set(paths)))
        async with self._database.read() as session:
            rows = (await session.exec(wanted)).all()
        return {row.path: _params(Context.from_json(row.content, ignore_unknown_fields=True)) for row in rows}


def _params(item: Context) -> LoadContextParams:
    return LoadContextParams(
        context_type=item.context_type,
        name=item.name,
        file_path=item.file_path,
        map_bodies=item.map_parts,
        input_shas=item.map_shas,
        input_tokens=item.map_tokens,
        input_sizes=item.map_sizes,
    )
