"""The log book: what people and the server itself write down about the lab."""

from __future__ import annotations

from sqlalchemy import delete
from sqlmodel import col
from sqlmodel.ext.asyncio.session import AsyncSession

from core.kernel.clock import Clock
from core.lab.ids import new_public_id
from core.lab.tables import LogEntryRow

MOST_CHARACTERS = 500


class LogBook:
    """Writes entries into units of work of others."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    def write(self, session: AsyncSession, org_id: str, user_id: str | None, content: str, kind: str = "info") -> LogEntryRow:
        """Add an entry for a user to the caller's unit of work. `kind` is `error`, `warning` or `info`."""
        row = LogEntryRow(
            public_id=new_public_id(),
            org_id=org_id,
            user_id=user_id,
            content=content[:MOST_CHARACTERS],
            logging_type=kind,
            created_us=self._clock.now_us(),
        )
        session.add(row)
        return row

    async def forget_user(self, session: AsyncSession, org_id: str, user_id: str) -> None:
        """Delete the entries of a user."""
        await session.exec(delete(LogEntryRow).where(col(LogEntryRow.org_id) == org_id, col(LogEntryRow.user_id) == user_id))
