"""Finds runs in storage: of a branch, of projects, and what one told whose process is not this one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence

from sqlmodel import col, or_, select

from core.kernel.call import Principal
from core.kernel.clock import MICROSECONDS, Clock, to_exact_timestamp
from core.kernel.errors import NotFound
from core.plans.access import user_of
from core.plans.run_activity import deadline_us
from core.plans.run_log import Event, RunLog
from core.plans.run_tables import PlanRunRow
from core.plans.tables import BranchRow, PlanRow
from core.plans.views import branch_view, count_branches, plan_view
from core.storage.database import Database
from gen.busbar.plans.v1.runs_pb import ListRunsResponse

RECENT_SECONDS = 3600
"""For how long a run that has ended is shown among recent ones."""
POLL_SECONDS = 0.5
"""Between two looks at a run that another process carries out, or did."""


class RunDirectory:
    """Finds runs."""

    def __init__(self, database: Database, log: RunLog, clock: Clock) -> None:
        self._database = database
        self._log = log
        self._clock = clock

    async def row(self, run_id: str) -> PlanRunRow:
        """Return a run. Raises NotFound."""
        async with self._database.read() as session:
            row = await session.get(PlanRunRow, run_id)
        if row is None:
            raise NotFound("run not found", run=run_id)
        return row

    async def of_branch(self, branch_id: str, run_id: str) -> PlanRunRow | None:
        """Return a run of a branch, `latest` for the newest; None when there is no such run."""
        query = select(PlanRunRow).where(col(PlanRunRow.branch_id) == branch_id)
        if run_id == "latest":
            query = query.order_by(col(PlanRunRow.started_us).desc()).limit(1)
        else:
            query = query.where(col(PlanRunRow.id) == run_id)
        async with self._database.read() as session:
            return (await session.exec(query)).one_or_none()

    async def follow(self, run_id: str, position: int) -> AsyncGenerator[Event]:
        """Yield the kept events of a run after a position; of one that has not ended, until whoever carries it out ends it."""
        while True:
            over = (await self.row(run_id)).finished_us is not None
            while events := await self._log.read(run_id, position):
                for event in events:
                    position = event.number
                    yield event
            if over:
                return
            await asyncio.sleep(POLL_SECONDS)

    async def list(self, caller: Principal, project_ids: Sequence[str], *, recent: bool) -> ListRunsResponse:
        """Return the branches of projects whose newest run is active, or has ended of late."""
        now_us = self._clock.now_us()
        shown = (col(PlanRunRow.finished_us).is_(None)) & (col(PlanRunRow.lease_us) >= deadline_us(now_us))
        if recent:
            shown |= col(PlanRunRow.finished_us) > now_us - RECENT_SECONDS * MICROSECONDS
        query = (
            select(PlanRunRow, BranchRow, PlanRow)
            .join(BranchRow, col(BranchRow.id) == col(PlanRunRow.branch_id))
            .join(PlanRow, col(PlanRow.id) == col(PlanRunRow.plan_id))
            .where(
                shown,
                col(PlanRow.org_id) == caller.org_id,
                col(PlanRow.project_id).in_(project_ids),
                col(PlanRow.archived_us).is_(None),
                or_(col(PlanRow.owner_id) == user_of(caller), col(PlanRow.shared_us).is_not(None)),
            )
            .order_by(col(PlanRunRow.started_us).desc())
        )
        answer = ListRunsResponse()
        async with self._database.read() as session:
            found = (await session.exec(query)).all()
            counts = await count_branches(session, {plan.id for _, _, plan in found})
        for run, branch, plan in found:
            if branch.id in answer.stream_id_by_branch_id:
                continue
            answer.branches.append(branch_view(branch))
            answer.stream_id_by_branch_id[branch.id] = run.id
            answer.stream_started_at_by_branch_id[branch.id] = to_exact_timestamp(run.started_us)
            finished = to_exact_timestamp(run.finished_us)
            if finished is not None:
                answer.stream_finished_at_by_branch_id[branch.id] = finished
            answer.plans_by_id[plan.id] = plan_view(plan, counts.get(plan.id, 1))
        return answer
