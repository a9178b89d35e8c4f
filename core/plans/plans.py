"""Plans: long-running tasks for a coding model."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Sequence

from protobuf.wkt import Empty
from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from core.kernel.call import Call, Principal
from core.kernel.clock import Clock
from core.kernel.errors import InvalidArgument, NotFound, PermissionDenied
from core.plans import permissions
from core.plans.access import require_plan, require_project, user_of
from core.plans.ids import new_uuid
from core.plans.removal import remove_plans
from core.plans.store import PlanStore
from core.plans.tables import BranchRow, PlanRow
from core.plans.views import branch_view, count_branches, plan_view
from core.storage.database import Database
from core.storage.locks import lock_name
from gen.busbar.plans.v1.configs_pb import PlanConfig
from gen.busbar.plans.v1.plans_pb import (
    ArchivePlanRequest,
    CreatePlanRequest,
    CreatePlanResponse,
    DeletePlanRequest,
    DeleteProjectPlansRequest,
    GetPlanRequest,
    ListArchivedPlansRequest,
    ListCurrentBranchesRequest,
    ListCurrentBranchesResponse,
    ListPlansRequest,
    ListPlansResponse,
    Plan,
    RenamePlanRequest,
    UnarchivePlanRequest,
)

DRAFT = "draft"
MAIN = "main"

_NAME_LENGTH = 200

DefaultConfig = Callable[[AsyncSession, Principal], Awaitable[PlanConfig]]
"""Returns how the plans that a user makes from now on behave."""


class PlanService:
    """Keeps plans."""

    def __init__(self, database: Database, store: PlanStore, default_config: DefaultConfig, clock: Clock) -> None:
        self._database = database
        self._store = store
        self._default_config = default_config
        self._clock = clock

    async def create_plan(self, request: CreatePlanRequest, call: Call) -> CreatePlanResponse:
        """Make a plan with a branch `main`; a draft takes the place of other drafts."""
        caller, now_us, drafts = call.caller, self._clock.now_us(), list[str]()
        name, user_id = request.name.strip() or DRAFT, user_of(caller)
        async with self._database.unit_of_work() as session:
            project = await require_project(session, caller, request.project_id)
            await lock_name(session, f"plans of {user_id} in {project.id}")
            own = await _own_plans(session, caller, [project.id])
            if name == DRAFT:
                drafts = [row.id for row in own if row.name == DRAFT]
                await remove_plans(session, drafts)
            else:
                name = _free_name(name, {row.name for row in own})
            plan = PlanRow(
                id=new_uuid(),
                org_id=caller.org_id,
                owner_id=user_id,
                project_id=project.id,
                name=name,
                config=(await self._default_config(session, caller)).to_json(),
                created_us=now_us,
                updated_us=now_us,
            )
            session.add(plan)
            await session.flush()
            session.add(
                BranchRow(
                    id=new_uuid(),
                    org_id=caller.org_id,
                    plan_id=plan.id,
                    owner_id=user_id,
                    name=MAIN,
                    created_us=now_us,
                    updated_us=now_us,
                )
            )
        await self._forget(drafts)
        return CreatePlanResponse(id=plan.id, name=name)

    async def delete_project_plans(self, request: DeleteProjectPlansRequest, call: Call) -> Empty:
        """Delete all plans of the caller in a project."""
        async with self._database.unit_of_work() as session:
            project = await require_project(session, call.caller, request.project_id)
            plans = [row.id for row in await _own_plans(session, call.caller, [project.id])]
            await remove_plans(session, plans)
        await self._forget(plans)
        return Empty()

    async def list_plans(self, request: ListPlansRequest, call: Call) -> ListPlansResponse:
        """List the caller's plans that are not archived, the last changed first."""
        return await self._list(call.caller, request.project_id, archived=False)

    async def list_archived_plans(self, request: ListArchivedPlansRequest, call: Call) -> ListPlansResponse:
        """List the caller's archived plans, the last changed first."""
        return await self._list(call.caller, request.project_id, archived=True)

    async def get_plan(self, request: GetPlanRequest, call: Call) -> Plan:
        """Read a plan."""
        async with self._database.read() as session:
            row = await require_plan(session, call.caller, request.plan_id)
            counts = await count_branches(session, [row.id])
        return plan_view(row, counts.get(row.id, 0))

    async def delete_plan(self, request: DeletePlanRequest, call: Call) -> Empty:
        """Delete a plan with everything in it."""
        async with self._database.unit_of_work() as session:
            row = await require_plan(session, call.caller, request.plan_id)
            _require_owner(row, call.caller, "delete")
            await remove_plans(session, [row.id])
        await self._forget([row.id])
        return Empty()

    async def archive_plan(self, request: ArchivePlanRequest, call: Call) -> Empty:
        """Archive a plan."""
        async with self._database.unit_of_work() as session:
            row = await self._to_archive(session, call.caller, request.plan_id)
            if row.archived_us is not None:
                raise InvalidArgument("Plan already archived", plan=row.id)
            row.archived_us = row.updated_us = self._clock.now_us()
        return Empty()

    async def unarchive_plan(self, request: UnarchivePlanRequest, call: Call) -> Empty:
        """Take a plan out of the archive."""
        async with self._database.unit_of_work() as session:
            row = await self._to_archive(session, call.caller, request.plan_id)
            if row.archived_us is None:
                raise InvalidArgument("Plan isn't archived", plan=row.id)
            row.archived_us, row.updated_us = None, self._clock.now_us()
        return Empty()

    async def rename_plan(self, request: RenamePlanRequest, call: Call) -> Empty:
        """Rename a plan, to a name that may be taken."""
        name = request.name.strip()
        async with self._database.unit_of_work() as session:
            row = await require_plan(session, call.caller, request.plan_id)
            _require_owner(row, call.caller, "rename")
            if not name:
                raise InvalidArgument("Name cannot be empty", field="name")
            row.name, row.updated_us = name, self._clock.now_us()
        return Empty()

    async def list_current_branches(self, request: ListCurrentBranchesRequest, call: Call) -> ListCurrentBranchesResponse:
        """Read one branch of each named plan."""
        wanted = request.current_branch_by_plan_id
        async with self._database.read() as session:
            project = await require_project(session, call.caller, request.project_id)
            plans = [row for row in await _own_plans(session, call.caller, [project.id]) if row.archived_us is None]
            if not plans:
                raise NotFound("No plans found", project=project.id)
            named = [row.id for row in plans if row.id in wanted]
            rows = (await session.exec(select(BranchRow).where(col(BranchRow.plan_id).in_(named)))).all()
        return ListCurrentBranchesResponse(
            branches={row.plan_id: branch_view(row) for row in rows if row.name == wanted[row.plan_id]}
        )

    async def _list(self, caller: Principal, projects: Sequence[str], *, archived: bool) -> ListPlansResponse:
        async with self._database.read() as session:
            own = await _own_plans(session, caller, projects)
            rows = [row for row in own if (row.archived_us is not None) == archived]
            counts = await count_branches(session, [row.id for row in rows])
        return ListPlansResponse(plans=[plan_view(row, counts.get(row.id, 0)) for row in rows])

    async def _to_archive(self, session: AsyncSession, caller: Principal, plan_id: str) -> PlanRow:
        row = await require_plan(session, caller, plan_id)
        if row.owner_id != caller.user_id:
            await permissions.require(caller, "archive_any_plan")
        return row

    async def _forget(self, plans: Collection[str]) -> None:
        for plan_id in plans:
            await self._store.delete(plan_id)


async def _own_plans(session: AsyncSession, caller: Principal, projects: Collection[str]) -> Sequence[PlanRow]:
    """Return the caller's plans in projects, the last changed first."""
    wanted = select(PlanRow).where(
        col(PlanRow.org_id) == caller.org_id,
        col(PlanRow.owner_id) == user_of(caller),
        col(PlanRow.project_id).in_(projects),
    )
    return (await session.exec(wanted.order_by(col(PlanRow.updated_us).desc(), col(PlanRow.id)))).all()


def _require_owner(plan: PlanRow, caller: Principal, act: str) -> None:
    if plan.owner_id != caller.user_id:
        raise PermissionDenied(f"only the owner of a plan can {act} it", plan=plan.id)


def _free_name(name: str, taken: Collection[str]) -> str:
    free, number = name, 1
    while free in taken:
        number += 1
        suffix = f".{number}"
        free = name[: _NAME_LENGTH - len(suffix)] + suffix
    return free
