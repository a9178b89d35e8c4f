"""Pending changes: shown, applied, rejected."""

from __future__ import annotations

import asyncio
from collections.abc import Collection

from protobuf.wkt import Empty, Timestamp
from sqlmodel.ext.asyncio.session import AsyncSession

from core.kernel.call import Call
from core.kernel.clock import Clock, to_datetime
from core.kernel.errors import Aborted, NotFound
from core.plans.access import require_branch, require_plan, user_of
from core.plans.applying import apply, reject
from core.plans.commit_messages import Condense, commit_message
from core.plans.current import current_state, pending
from core.plans.diffs import diff_of
from core.plans.history import count_tokens
from core.plans.run_activity import require_idle
from core.plans.state import PlanState
from core.plans.store import PlanStore
from core.storage.database import Database
from gen.busbar.plans.v1.changes_pb import (
    ApplyPlanRequest,
    ApplyPlanResponse,
    CurrentPlanState,
    Diffs,
    GetCurrentPlanRequest,
    GetDiffsRequest,
    GetPlanAtRequest,
    RejectAllRequest,
    RejectFileRequest,
    RejectFilesRequest,
)

_TRIES = 3


class ChangeService:
    """Shows, applies and rejects pending changes."""

    def __init__(self, database: Database, store: PlanStore, condense: Condense, clock: Clock) -> None:
        self._database = database
        self._store = store
        self._condense = condense
        self._clock = clock

    async def get_current_plan(self, request: GetCurrentPlanRequest, call: Call) -> CurrentPlanState:
        """Read the state of a branch."""
        opened = await self._store.open(call.caller, request.plan_id, request.branch)
        return await asyncio.to_thread(current_state, await self._store.read(opened))

    async def get_plan_at(self, request: GetPlanAtRequest, call: Call) -> CurrentPlanState:
        """Read the state that a plan had at an entry of its log."""
        async with self._database.read() as session:
            plan = await require_plan(session, call.caller, request.plan_id)
        return await asyncio.to_thread(current_state, await self._store.read_at(plan, request.sha))

    async def get_diffs(self, request: GetDiffsRequest, call: Call) -> Diffs:
        """Read the pending changes as a unified diff."""
        opened = await self._store.open(call.caller, request.plan_id, request.branch)
        state = await self._store.read(opened)
        return Diffs(diff=await asyncio.to_thread(diff_of, state, plain=request.plain))

    async def apply_plan(self, request: ApplyPlanRequest, call: Call) -> ApplyPlanResponse:
        """Mark what is pending as applied, after the client has written it."""
        for _ in range(_TRIES):
            async with self._database.read() as session:
                opened = await require_branch(session, call.caller, request.plan_id, request.branch)
                await require_idle(session, opened.branch.id, self._clock.now_us())
            state = await self._store.read(opened)
            if not pending(state.results):
                return ApplyPlanResponse()
            # A model may take its time, so nobody is kept waiting meanwhile.
            message = await commit_message(self._condense, opened.plan.org_id, state, request.auth_vars)
            if await self._apply(request, call, opened.branch.head, message):
                return ApplyPlanResponse(commit_msg=message)
        raise Aborted("the plan keeps changing, try again", plan=request.plan_id)

    async def reject_all(self, request: RejectAllRequest, call: Call) -> Empty:
        """Reject all pending changes."""
        async with self._store.change(call.caller, request.plan_id, request.branch) as change:
            if reject(change.state, None, self._now()):
                change.message = "🚫 Rejected all pending changes"
        return Empty()

    async def reject_file(self, request: RejectFileRequest, call: Call) -> Empty:
        """Reject the pending changes of a file."""
        async with self._store.change(call.caller, request.plan_id, request.branch) as change:
            (path,) = self._reject(change.state, [request.file_path])
            change.message = f"🚫 Rejected pending changes to file: {path}"
        return Empty()

    async def reject_files(self, request: RejectFilesRequest, call: Call) -> Empty:
        """Reject the pending changes of some files."""
        async with self._store.change(call.caller, request.plan_id, request.branch) as change:
            paths = self._reject(change.state, request.paths)
            change.message = "\n".join(["🚫 Rejected pending changes to files:", *(f" • 📄 {path}" for path in paths)])
        return Empty()

    def _reject(self, state: PlanState, paths: Collection[str]) -> list[str]:
        rejected = reject(state, set(paths), self._now())
        if not rejected:
            raise NotFound("no pending changes to reject", paths=", ".join(paths))
        return rejected

    async def _apply(self, request: ApplyPlanRequest, call: Call, head: str, message: str) -> bool:
        """Apply what is pending; tells whether the branch still stood where the message was made for."""
        async with self._store.change(call.caller, request.plan_id, request.branch) as change:
            branch, now_us = change.branch, self._clock.now_us()
            if branch.head != head:
                return False

            async def still_idle(session: AsyncSession) -> None:
                await require_idle(session, branch.id, now_us)

            change.also = still_idle
            change.message = await asyncio.to_thread(apply, change.state, user_of(call.caller), message, self._now())
            count_tokens(branch, change.state)
        return True

    def _now(self) -> Timestamp:
        return Timestamp.from_datetime(to_datetime(self._clock.now_us()))
