"""Summaries of conversations: not versioned, but each counts only where the last message that it covers still is."""

from __future__ import annotations

from collections.abc import Sequence

from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from core.kernel.clock import Clock
from core.plans.ids import new_uuid
from core.plans.summary_tables import PlanSummaryRow
from core.plans.tables import PlanRow
from core.storage.database import Database
from gen.busbar.plans.v1.conversation_pb import ConvoMessage


class Summaries:
    """Keeps the summaries of all plans."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def add(self, plan: PlanRow, message: ConvoMessage, text: str, tokens: int) -> None:
        """Keep a summary of everything up to a message; of a plan that is gone meanwhile, nothing is kept."""
        row = PlanSummaryRow(
            id=new_uuid(),
            org_id=plan.org_id,
            plan_id=plan.id,
            message_id=message.id,
            text=text,
            tokens=tokens,
            created_us=self._clock.now_us(),
        )
        async with self._database.unit_of_work() as session:
            if await session.get(PlanRow, plan.id) is not None:
                session.add(row)

    async def latest(self, plan_id: str, messages: Sequence[ConvoMessage]) -> PlanSummaryRow | None:
        """Return the summary that covers most of a conversation, the newest of several; None when there is none."""
        places = {message.id: place for place, message in enumerate(messages)}
        async with self._database.read() as session:
            rows = await _rows(session, plan_id)
        counting = [row for row in rows if row.message_id in places]
        return max(counting, key=lambda row: (places[row.message_id], row.created_us), default=None)


async def _rows(session: AsyncSession, plan_id: str) -> Sequence[PlanSummaryRow]:
    return (await session.exec(select(PlanSummaryRow).where(col(PlanSummaryRow.plan_id) == plan_id))).all()
