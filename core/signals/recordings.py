"""Recordings: named stretches of time, such as sessions, runs and experiments."""

from __future__ import annotations

import json
import uuid
from collections.abc import Collection, Mapping
from typing import Any

from sqlalchemy import func
from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from core.kernel.clock import Clock
from core.kernel.errors import AlreadyExists, NotFound
from core.signals.directory import RecentIds
from core.signals.tables import RecordingRow
from core.storage.database import Database
from core.storage.errors import is_unique_violation
from core.storage.tx import Tx


class Recordings:
    """Opens, changes, finds and lists recordings. Points that name an unknown one open a session by themselves."""

    def __init__(self, database: Database, clock: Clock, known: RecentIds[tuple[str, str]]) -> None:
        self._database = database
        self._clock = clock
        self._known = known

    async def create(  # noqa: PLR0913 - a recording has that many sides
        self,
        org_id: str,
        external_id: str | None = None,
        *,
        name: str = "",
        kind: str = "session",
        device_id: int | None = None,
        started_us: int | None = None,
        attributes: Mapping[str, Any] | None = None,
        status: str = "running",
        ended_us: int | None = None,
    ) -> RecordingRow:
        """Open a recording; without an external id it is named by its public id.

        Raises:
            AlreadyExists: The organisation has one with this external id.
        """
        public_id = str(uuid.uuid4())
        row = RecordingRow(
            public_id=public_id,
            org_id=org_id,
            external_id=external_id or public_id,
            name=name,
            device_id=device_id,
            kind=kind,
            status=status,
            started_us=self._clock.now_us() if started_us is None else started_us,
            ended_us=ended_us,
            attributes=json.dumps(dict(attributes or {})),
        )
        try:
            async with self._database.unit_of_work() as session:
                session.add(row)
        except Exception as error:
            if is_unique_violation(error):
                raise AlreadyExists("a recording with this id exists", id=row.external_id) from error
            raise
        return row

    async def find(self, org_id: str, identity: str) -> RecordingRow | None:
        """Return a recording by its external or public id."""
        async with self._database.read() as session:
            return await _find(session, org_id, identity)

    async def update(
        self,
        org_id: str,
        identity: str,
        *,
        name: str | None = None,
        status: str | None = None,
        ended_us: int | None = None,
        attributes: Mapping[str, Any] | None = None,
    ) -> RecordingRow:
        """Change what is given; attributes are merged into the present ones.

        Raises:
            NotFound: The organisation has no such recording.
        """
        async with self._database.unit_of_work() as session:
            row = await _find(session, org_id, identity)
            if row is None:
                raise NotFound("recording not found")
            row.name = row.name if name is None else name
            row.status = row.status if status is None else status
            row.ended_us = row.ended_us if ended_us is None else ended_us
            if attributes is not None:
                row.attributes = json.dumps({**json.loads(row.attributes), **attributes})
            session.add(row)
        return row

    async def replace(self, before: RecordingRow, **values: object) -> RecordingRow | None:
        """Set columns of a recording that was read as `before`; None when somebody else changed it meanwhile."""
        async with self._database.unit_of_work() as session:
            row = await session.get(RecordingRow, before.id, with_for_update=True)
            if row is None or row.model_dump() != before.model_dump():
                return None
            row.sqlmodel_update(values)
        return row

    async def delete(self, row: RecordingRow) -> None:
        """Delete a recording; its points stay, without it."""

        async def job(tx: Tx) -> int:
            await tx.execute("DELETE FROM recording_span WHERE recording_id = $1", row.id)
            return await tx.execute("DELETE FROM recording WHERE id = $1", row.id)

        await self._database.submit(job, committed=lambda _gone: self._known.forget((row.org_id, row.external_id)))

    async def list(
        self,
        org_id: str,
        *,
        kind: str | Collection[str] | None = None,
        device_id: int | None = None,
        status: str | None = None,
        offset: int = 0,
        limit: int = 50,
    ) -> tuple[list[RecordingRow], int]:
        """Return recordings, the last started first, and how many there are in all."""
        conditions = [col(RecordingRow.org_id) == org_id]
        if kind is not None:
            conditions.append(col(RecordingRow.kind).in_([kind] if isinstance(kind, str) else kind))
        if status is not None:
            conditions.append(col(RecordingRow.status) == status)
        if device_id is not None:
            conditions.append(col(RecordingRow.device_id) == device_id)
        order = col(RecordingRow.started_us).desc(), col(RecordingRow.id).desc()
        async with self._database.read() as session:
            rows = await session.exec(select(RecordingRow).where(*conditions).order_by(*order).offset(offset).limit(limit))
            total = await session.exec(select(func.count()).select_from(RecordingRow).where(*conditions))
            return list(rows.all()), total.one()


async def _find(session: AsyncSession, org_id: str, identity: str) -> RecordingRow | None:
    matches = (col(RecordingRow.external_id) == identity) | (col(RecordingRow.public_id) == identity)
    # An external id may be spelled like another recording's public id; the external one wins.
    order = (col(RecordingRow.external_id) == identity).desc()
    found = await session.exec(select(RecordingRow).where(col(RecordingRow.org_id) == org_id, matches).order_by(order))
    return found.first()
