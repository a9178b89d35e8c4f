"""The end of plans: rows of everything that belongs to them. What is versioned is deleted after the commit, by the store."""

from __future__ import annotations

from collections.abc import Collection

from sqlmodel import col, delete
from sqlmodel.ext.asyncio.session import AsyncSession

from core.plans.tables import BranchRow, ChosenPlanRow, PlanRow


async def remove_plans(session: AsyncSession, plan_ids: Collection[str]) -> None:
    """Delete the rows of plans; those of runs, summaries and the like go with them."""
    await session.exec(delete(ChosenPlanRow).where(col(ChosenPlanRow.plan_id).in_(plan_ids)))
    await session.exec(delete(BranchRow).where(col(BranchRow.plan_id).in_(plan_ids)))
    await session.exec(delete(PlanRow).where(col(PlanRow.id).in_(plan_ids)))
