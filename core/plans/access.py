"""Whose plan it is, and who may see it."""

from __future__ import annotations

from dataclasses import dataclass

from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from core.kernel.call import Principal
from core.kernel.errors import NotFound, PermissionDenied, Unauthenticated
from core.plans.tables import BranchRow, PlanProjectRow, PlanRow


@dataclass(frozen=True, slots=True)
class Opened:
    """A branch that the caller may work on, with its plan."""

    plan: PlanRow
    branch: BranchRow


def user_of(caller: Principal) -> str:
    """Return the user who calls.

    Raises:
        PermissionDenied: The credential belongs to no user.
    """
    if caller.user_id is None:
        raise PermissionDenied("only a user can work on plans")
    return caller.user_id


async def require_project(session: AsyncSession, caller: Principal, project_id: str) -> PlanProjectRow:
    """Return a project of the caller's organisation.

    Raises:
        NotFound: There is none of that id.
    """
    project = await session.get(PlanProjectRow, project_id)
    if project is None or project.org_id != caller.org_id:
        raise NotFound("project does not exist in org", project=project_id)
    return project


async def require_plan(session: AsyncSession, caller: Principal, plan_id: str) -> PlanRow:
    """Return a plan that the caller may work on.

    Raises:
        NotFound: The organisation has none of that id.
        Unauthenticated: It belongs to somebody else, who does not share it. The contract wants 401 here.
    """
    plan = await session.get(PlanRow, plan_id)
    if plan is None or plan.org_id != caller.org_id:
        raise NotFound("plan not found", plan=plan_id)
    if plan.owner_id != user_of(caller) and plan.shared_us is None:
        raise Unauthenticated("no access to plan")
    return plan


async def require_branch(session: AsyncSession, caller: Principal, plan_id: str, name: str) -> Opened:
    """Return a branch of a plan that the caller may work on.

    Raises:
        NotFound: There is no such plan or branch.
        Unauthenticated: The plan belongs to somebody else, who does not share it.
    """
    plan = await require_plan(session, caller, plan_id)
    found = await session.exec(select(BranchRow).where(col(BranchRow.plan_id) == plan.id, col(BranchRow.name) == name))
    branch = found.one_or_none()
    if branch is None:
        raise NotFound(f"branch {name} not found", branch=name)
    return Opened(plan, branch)
