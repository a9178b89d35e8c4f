"""The store of plans: git for what is versioned, rows for the rest, and the two in step."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from sqlmodel.ext.asyncio.session import AsyncSession

from core.kernel.call import Principal
from core.plans.access import Opened
from core.plans.state import PlanState
from core.plans.tables import BranchRow, PlanRow


@dataclass
class Change:
    """A change of a branch that is being made.

    Attributes:
        plan: The plan; what is set here is stored with the commit.
        branch: The branch; what is set here is stored with the commit.
        state: Its state, to be changed in place.
        message: First line and rest of the entry in the log; empty makes no entry and leaves the state as it was.
    """

    plan: PlanRow
    branch: BranchRow
    state: PlanState
    message: str = ""

    async def also(self, session: AsyncSession) -> None:
        """Do more in the unit of work that stores the change; replaced by who makes it."""


class PlanStore:
    """Reads and changes branches."""

    async def open(self, caller: Principal, plan_id: str, branch: str) -> Opened:
        """Return a branch for reading. Raises as `require_branch` does."""
        raise NotImplementedError

    async def read(self, opened: Opened) -> PlanState:
        """Return the present state of a branch."""
        raise NotImplementedError

    async def read_at(self, plan: PlanRow, sha: str) -> PlanState:
        """Return the state at an entry of the log, named by at least 7 characters of its sha. Raises NotFound."""
        raise NotImplementedError

    @asynccontextmanager
    async def change(self, caller: Principal, plan_id: str, branch: str) -> AsyncGenerator[Change]:
        """Hold the plan, let the state be changed, then make one entry of it; an exception changes nothing."""
        raise NotImplementedError
        yield
