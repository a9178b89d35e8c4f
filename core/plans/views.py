"""How plans and branches are shown."""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import func
from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from core.kernel.clock import to_exact_timestamp
from core.plans.tables import BranchRow, PlanRow
from gen.busbar.plans.v1.branches_pb import Branch
from gen.busbar.plans.v1.configs_pb import PlanConfig
from gen.busbar.plans.v1.plans_pb import Plan


async def count_branches(session: AsyncSession, plan_ids: Iterable[str]) -> dict[str, int]:
    """Return how many branches plans have."""
    counts = select(BranchRow.plan_id, func.count()).where(col(BranchRow.plan_id).in_(list(plan_ids)))
    return dict((await session.exec(counts.group_by(col(BranchRow.plan_id)))).all())


def plan_view(row: PlanRow, branches: int) -> Plan:
    """Return a plan as clients see it."""
    return Plan(
        id=row.id,
        owner_id=row.owner_id,
        project_id=row.project_id,
        name=row.name,
        shared_with_org_at=to_exact_timestamp(row.shared_us),
        total_replies=row.replies,
        active_branches=branches,
        plan_config=PlanConfig.from_json(row.config, ignore_unknown_fields=True),
        archived_at=to_exact_timestamp(row.archived_us),
        created_at=to_exact_timestamp(row.created_us),
        updated_at=to_exact_timestamp(row.updated_us),
    )


def branch_view(row: BranchRow) -> Branch:
    """Return a branch as clients see it."""
    return Branch(
        id=row.id,
        plan_id=row.plan_id,
        owner_id=row.owner_id,
        parent_branch_id=row.parent_id,
        name=row.name,
        status=row.status,
        context_tokens=row.context_tokens,
        convo_tokens=row.convo_tokens,
        created_at=to_exact_timestamp(row.created_us),
        updated_at=to_exact_timestamp(row.updated_us),
    )
