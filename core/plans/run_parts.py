"""What runs are carried out with."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

from core.kernel.clock import Clock
from core.plans.active_runs import ActiveRun
from core.plans.completion import RoleModels, Roles
from core.plans.run_log import RunLog
from core.plans.run_usage import usage_json
from core.plans.state import PlanState
from core.plans.store import Change, PlanStore
from core.plans.summaries import Summaries
from core.storage.database import Database
from gen.busbar.plans.v1.contexts_pb import LoadContextParams, LoadContextResponse


class LoadsContext(Protocol):
    """Loads context."""

    async def load(
        self,
        change: Change,
        items: Iterable[LoadContextParams],
        *,
        owner: str,
        auto_loaded: bool = False,
    ) -> LoadContextResponse:
        """Load items within a change of a branch; the change gets its message, unless nothing was loaded."""
        ...


@dataclass(frozen=True, slots=True)
class RunParts:
    """What runs are carried out with.

    Attributes:
        keeper: Loads context.
        roles: Makes models ready to be asked.
    """

    database: Database
    store: PlanStore
    log: RunLog
    keeper: LoadsContext
    roles: Roles
    summaries: Summaries
    clock: Clock

    async def state(self, run: ActiveRun) -> PlanState:
        """Return the present state of the branch of a run."""
        return await self.store.read(await self.store.open(run.caller, run.plan_id, run.branch))

    async def models(self, run: ActiveRun, state: PlanState) -> RoleModels:
        """Return the models of a run, whose cost is counted from now on. The keys stay in the memory of the run."""
        models = await self.roles.for_branch(run.caller.org_id, state.settings, run.auth_vars)
        run.usage = lambda: usage_json(models.usage)
        return models
