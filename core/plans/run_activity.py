"""Whether a run is active on a branch, for whatever must not happen meanwhile."""

from __future__ import annotations

from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from core.kernel.clock import MICROSECONDS
from core.kernel.errors import FailedPrecondition
from core.plans.run_tables import PlanRunRow

SILENT_SECONDS = 5.0
"""After so many seconds without a sign of life a run counts as dead."""


def deadline_us(now_us: int) -> int:
    """Return the time before which a run must have given a sign of life to be dead now."""
    return now_us - int(SILENT_SECONDS * MICROSECONDS)


async def active_run(session: AsyncSession, branch_id: str, now_us: int) -> PlanRunRow | None:
    """Return the run that is active on a branch; None when there is none, or its process has died."""
    found = await session.exec(
        select(PlanRunRow).where(col(PlanRunRow.branch_id) == branch_id, col(PlanRunRow.finished_us).is_(None))
    )
    row = found.one_or_none()
    return row if row is not None and row.lease_us >= deadline_us(now_us) else None


async def require_idle(session: AsyncSession, branch_id: str, now_us: int) -> None:
    """Refuse to go on while a run is active on a branch.

    Raises:
        FailedPrecondition: One is.
    """
    if await active_run(session, branch_id, now_us) is not None:
        raise FailedPrecondition("a run is active on this branch; stop it first")
