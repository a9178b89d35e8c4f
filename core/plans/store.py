"""The store of plans: git for what is versioned, rows for the rest, and the two in step.

The row of a branch says at which commit it stands, and is right. A change makes its commit first, which nothing refers to yet,
then stores the rows, then moves the reference in git. What a crash cuts off after the rows, the next access makes up for; what
it cuts off before them never happened.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from weakref import WeakValueDictionary

from sqlmodel import SQLModel, col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from core.kernel.call import Principal
from core.kernel.clock import MICROSECONDS, Clock
from core.kernel.errors import Aborted, NotFound
from core.plans.access import Opened, require_branch, user_of
from core.plans.files import from_files, to_files
from core.plans.repositories import Repositories
from core.plans.repository import Entry
from core.plans.shas import named
from core.plans.state import PlanState
from core.plans.tables import BranchRow, PlanRow
from core.storage.database import Database
from core.storage.locks import lock_name


async def _nothing(_session: AsyncSession) -> None:
    """Do nothing more."""


@dataclass
class Change:
    """A change of a branch that is being made.

    Attributes:
        plan: The plan; what is set here is stored with the commit.
        branch: The branch; what is set here is stored with the commit.
        state: Its state, to be changed in place.
        message: First line and rest of the entry in the log. Empty makes no entry: the state stays as it was, rows are stored.
        also: Does more in the unit of work that stores the change; replaced by who makes it.
        sha: The new entry, once it is made; empty when there is none.
    """

    plan: PlanRow
    branch: BranchRow
    state: PlanState
    message: str = ""
    also: Callable[[AsyncSession], Awaitable[None]] = _nothing
    sha: str = ""


class PlanStore:
    """Reads and changes branches."""

    def __init__(self, database: Database, repositories: Repositories, clock: Clock) -> None:
        self._database = database
        self._repositories = repositories
        self._clock = clock
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._in_step: set[str] = set()

    async def opened(self) -> None:
        """Sweep what deletions and crashes left on the disk."""
        # Looked for before the rows are read: a repository is made after the row of its plan.
        left = await self._repositories.left()
        async with self._database.read() as session:
            plans = set((await session.exec(select(PlanRow.id))).all())
        # A database without any plan is more likely the wrong one.
        if plans:
            await self._repositories.sweep(left[plan_id] for plan_id in left.keys() - plans)

    async def open(self, caller: Principal, plan_id: str, branch: str) -> Opened:
        """Return a branch for reading. Raises as `require_branch` does."""
        async with self._database.read() as session:
            return await require_branch(session, caller, plan_id, branch)

    async def read(self, opened: Opened) -> PlanState:
        """Return the present state of a branch; the caller may do with it what it likes."""
        await self._heal(opened.plan.id)
        return await self.state_at(opened.plan.id, opened.branch.head)

    async def read_at(self, plan: PlanRow, sha: str) -> PlanState:
        """Return the state at an entry of a log of the plan, named by at least 7 characters of its sha. Raises NotFound."""
        return await self.state_at(plan.id, named(sha, await self.entries(plan.id)).sha)

    async def state_at(self, plan_id: str, sha: str) -> PlanState:
        """Return the state at a commit, named by its whole sha; the caller may do with it what it likes."""
        snapshot = await self._repositories.read(plan_id, sha)
        return await asyncio.to_thread(from_files, snapshot.files)

    async def log(self, opened: Opened) -> list[Entry]:
        """Return the entries of a branch, newest first."""
        await self._heal(opened.plan.id)
        return await self._repositories.log(opened.plan.id, [opened.branch.head])

    async def entries(self, plan_id: str) -> list[Entry]:
        """Return the entries of all branches of a plan, with those that an undone rewind would bring back."""
        branches = await self._branches(plan_id)
        return await self._repositories.log(plan_id, [head for row in branches for head in (row.head, row.undo_head)])

    @asynccontextmanager
    async def change(self, caller: Principal, plan_id: str, branch: str) -> AsyncGenerator[Change]:
        """Hold the plan, let the state be changed, then make one entry of it; an exception changes nothing.

        Changes of one plan come one after the other; a second one within the first would wait for ever.

        Raises:
            Aborted: Another process changed the branch meanwhile; nothing is stored.
            Unavailable: Storage failed; nothing is stored.
        """
        async with self.holding(plan_id):
            opened = await self.open(caller, plan_id, branch)
            plan, row = opened.plan, opened.branch
            before = plan.model_dump(), row.model_dump()
            change = Change(plan, row, await self.state_at(plan_id, row.head))
            yield change
            now_us = self._clock.now_us()
            if change.message:
                row.head = change.sha = await self._commit(change, before[1]["head"], user_of(caller), now_us)
                row.undo_head = row.undo_from = ""
                plan.updated_us = row.updated_us = now_us
            await self._store(change, *before)

    @asynccontextmanager
    async def holding(self, plan_id: str) -> AsyncGenerator[None]:
        """Keep others from changing a plan meanwhile, and let git follow the rows of its branches before and after."""
        async with self._lock(plan_id):
            await self._heal(plan_id)
            try:
                yield
            finally:
                self._in_step.discard(plan_id)
            await self._heal(plan_id)

    async def prune(self, plan_id: str) -> None:
        """Delete what no branch of a plan comes from any more; call it while holding the plan."""
        branches = await self._branches(plan_id)
        await self._repositories.prune(plan_id, [head for row in branches for head in (row.head, row.undo_head)])

    async def delete(self, plan_id: str) -> None:
        """Delete what is versioned of a plan, after its rows are gone and whoever still changes it has noticed."""
        async with self._lock(plan_id):
            self._in_step.discard(plan_id)
            await self._repositories.delete(plan_id)

    def _lock(self, plan_id: str) -> asyncio.Lock:
        return self._locks.setdefault(plan_id, asyncio.Lock())

    async def _commit(self, change: Change, head: str, author: str, now_us: int) -> str:
        before = await self._repositories.read(change.plan.id, head)
        files = await asyncio.to_thread(to_files, change.state, before.files)
        return await self._repositories.commit(
            change.plan.id, head, files, change.message, author=author, seconds=now_us // MICROSECONDS
        )

    async def _store(self, change: Change, plan: dict[str, Any], branch: dict[str, Any]) -> None:
        async with self._database.unit_of_work() as session:
            await lock_name(session, f"plan {change.plan.id}")
            stored = await session.get(BranchRow, change.branch.id)
            stored_plan = await session.get(PlanRow, change.plan.id)
            if stored is None or stored_plan is None:
                raise NotFound("the branch is gone", branch=change.branch.name)
            if stored.head != branch["head"]:
                raise Aborted("the branch changed meanwhile, try again", branch=change.branch.name)
            _set_changed(stored, branch, change.branch)
            _set_changed(stored_plan, plan, change.plan)
            await change.also(session)

    async def _heal(self, plan_id: str) -> None:
        """Let git follow the rows where it may not have done so: at first access, after a change, and after a failure."""
        if plan_id in self._in_step:
            return
        branches = await self._branches(plan_id)
        if not branches:
            return
        heads = {row.id: row.head for row in branches}
        if await self._repositories.point(plan_id, heads, {row.id: row.undo_head for row in branches}):
            self._in_step.add(plan_id)

    async def _branches(self, plan_id: str) -> list[BranchRow]:
        async with self._database.read() as session:
            return list((await session.exec(select(BranchRow).where(col(BranchRow.plan_id) == plan_id))).all())


def _set_changed(stored: SQLModel, before: dict[str, Any], after: SQLModel) -> None:
    """Store the fields that a change has set, and leave the others as they are now."""
    for name, value in after.model_dump().items():
        if value != before[name]:
            setattr(stored, name, value)
