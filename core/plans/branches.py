"""Branches: a plan in several versions."""

from __future__ import annotations

from protobuf.wkt import Empty
from sqlalchemy import update
from sqlmodel import col, select

from core.kernel.call import Call
from core.kernel.clock import Clock
from core.kernel.errors import AlreadyExists, InvalidArgument
from core.plans.access import require_branch, require_plan, user_of
from core.plans.ids import new_uuid
from core.plans.plans import MAIN
from core.plans.run_activity import require_idle
from core.plans.store import PlanStore
from core.plans.tables import BranchRow
from core.plans.views import branch_view
from core.storage.database import Database
from core.storage.locks import lock_name
from gen.busbar.plans.v1.branches_pb import (
    CreateBranchRequest,
    DeleteBranchRequest,
    ListBranchesRequest,
    ListBranchesResponse,
)

_STEPS = (".", "..")
"""What clients take for a step within a path, not for a name."""


class BranchService:
    """Keeps branches."""

    def __init__(self, database: Database, store: PlanStore, clock: Clock) -> None:
        self._database = database
        self._store = store
        self._clock = clock

    async def list_branches(self, request: ListBranchesRequest, call: Call) -> ListBranchesResponse:
        """List the branches of a plan, oldest first."""
        async with self._database.read() as session:
            plan = await require_plan(session, call.caller, request.plan_id)
            wanted = select(BranchRow).where(col(BranchRow.plan_id) == plan.id)
            rows = (await session.exec(wanted.order_by(col(BranchRow.created_us), col(BranchRow.id)))).all()
        return ListBranchesResponse(branches=[branch_view(row) for row in rows])

    async def create_branch(self, request: CreateBranchRequest, call: Call) -> Empty:
        """Make a branch that begins as its parent is now."""
        if request.name in _STEPS:
            raise InvalidArgument.field("name", "must not be a step within a path")
        async with self._store.holding(request.plan_id), self._database.unit_of_work() as session:
            await lock_name(session, f"plan {request.plan_id}")
            opened = await require_branch(session, call.caller, request.plan_id, request.branch)
            plan, parent, now_us = opened.plan, opened.branch, self._clock.now_us()
            same = select(BranchRow.id).where(col(BranchRow.plan_id) == plan.id, col(BranchRow.name) == request.name)
            if (await session.exec(same)).first() is not None:
                raise AlreadyExists(f"branch {request.name} already exists", branch=request.name)
            plan.updated_us = now_us
            session.add(
                BranchRow(
                    id=new_uuid(),
                    org_id=plan.org_id,
                    plan_id=plan.id,
                    owner_id=user_of(call.caller),
                    parent_id=parent.id,
                    name=request.name,
                    head=parent.head,
                    context_tokens=parent.context_tokens,
                    convo_tokens=parent.convo_tokens,
                    created_us=now_us,
                    updated_us=now_us,
                )
            )
        return Empty()

    async def delete_branch(self, request: DeleteBranchRequest, call: Call) -> Empty:
        """Delete a branch; those that were forked from it are then forked from its parent."""
        async with self._store.holding(request.plan_id):
            async with self._database.unit_of_work() as session:
                await lock_name(session, f"plan {request.plan_id}")
                opened = await require_branch(session, call.caller, request.plan_id, request.branch)
                if opened.branch.name == MAIN:
                    raise InvalidArgument("Cannot delete main branch")
                now_us = self._clock.now_us()
                await require_idle(session, opened.branch.id, now_us)
                forks = update(BranchRow).where(col(BranchRow.parent_id) == opened.branch.id)
                await session.exec(forks.values(parent_id=opened.branch.parent_id))
                await session.delete(opened.branch)
                opened.plan.updated_us = now_us
            await self._store.prune(request.plan_id)
        return Empty()
