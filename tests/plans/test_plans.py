"""Projects and plans: names, drafts, archives, and who may do what."""

from __future__ import annotations

from dataclasses import replace

import pytest

from core.kernel.call import Principal
from core.kernel.errors import DomainError, InvalidArgument, NotFound, PermissionDenied, Unauthenticated
from core.plans.tables import ChosenPlanRow, PlanRow
from gen.busbar.plans.v1.plans_pb import (
    ArchivePlanRequest,
    CreatePlanRequest,
    CreatePlanResponse,
    DeletePlanRequest,
    DeleteProjectPlansRequest,
    GetPlanRequest,
    ListArchivedPlansRequest,
    ListCurrentBranchesRequest,
    ListPlansRequest,
    RenamePlanRequest,
    UnarchivePlanRequest,
)
from gen.busbar.plans.v1.projects_pb import (
    CreateProjectRequest,
    ListProjectsRequest,
    RenameProjectRequest,
    SetProjectPlanRequest,
)
from tests.plans.desk import Desk, call_of


async def project(desk: Desk, caller: Principal | None = None, name: str = "Rig") -> str:
    return (await desk.projects.create_project(CreateProjectRequest(name=name), call_of(caller or desk.alice))).id


async def create(desk: Desk, project_id: str, name: str = "", caller: Principal | None = None) -> CreatePlanResponse:
    desk.clock.forward(seconds=1)
    return await desk.plans.create_plan(CreatePlanRequest(project_id=project_id, name=name), call_of(caller or desk.alice))


async def names(desk: Desk, *projects: str, caller: Principal | None = None) -> list[str]:
    listed = await desk.plans.list_plans(ListPlansRequest(project_id=list(projects)), call_of(caller or desk.alice))
    return [plan.name for plan in listed.plans]


async def share(desk: Desk, plan_id: str) -> None:
    async with desk.database.unit_of_work() as session:
        (await session.get_one(PlanRow, plan_id)).shared_us = 1


async def test_projects_are_those_of_the_organisation(any_desk: Desk) -> None:
    desk = any_desk
    first, second = await project(desk, name="One"), await project(desk, desk.bob, "Two")
    await project(desk, desk.eve, "Hers")
    listed = await desk.projects.list_projects(ListProjectsRequest(), call_of(desk.alice))
    assert [(one.id, one.name) for one in listed.projects] == [(first, "One"), (second, "Two")]
    with pytest.raises(InvalidArgument, match="name field is required"):
        await project(desk, name=" ")


async def test_a_project_is_renamed_by_those_who_may(desk: Desk) -> None:
    mine = await project(desk)
    rename = RenameProjectRequest(project_id=mine, name="Bench")
    await desk.projects.rename_project(rename, call_of(desk.alice))
    with pytest.raises(PermissionDenied):
        await desk.projects.rename_project(rename, call_of(replace(desk.bob, role="viewer")))
    with pytest.raises(NotFound, match="project does not exist in org"):
        await desk.projects.rename_project(rename, call_of(desk.eve))
    listed = await desk.projects.list_projects(ListProjectsRequest(), call_of(desk.alice))
    assert [one.name for one in listed.projects] == ["Bench"]


async def test_the_plan_that_somebody_works_on_is_remembered(any_desk: Desk) -> None:
    desk = any_desk
    mine, other = await project(desk), await project(desk)
    plans = [(await create(desk, mine, name)).id for name in ("a", "b")]
    for plan_id in plans:
        await desk.projects.set_project_plan(SetProjectPlanRequest(project_id=mine, plan_id=plan_id), call_of(desk.alice))
    async with desk.database.read() as session:
        assert (await session.get_one(ChosenPlanRow, (mine, "alice"))).plan_id == plans[1]
    for wrong in (
        SetProjectPlanRequest(project_id=other, plan_id=plans[0]),
        SetProjectPlanRequest(project_id="x", plan_id="y"),
    ):
        with pytest.raises(NotFound):
            await desk.projects.set_project_plan(wrong, call_of(desk.alice))
    with pytest.raises(InvalidArgument, match="planId field is required"):
        await desk.projects.set_project_plan(SetProjectPlanRequest(project_id=mine), call_of(desk.alice))


async def test_a_new_draft_takes_the_place_of_the_old_one(any_desk: Desk) -> None:
    desk = any_desk
    mine = await project(desk)
    old = await create(desk, mine)
    await desk.load("a.py", plan_id=old.id)
    assert list(desk.folder.glob("*/*"))
    new = await create(desk, mine)
    assert (old.name, new.name) == ("draft", "draft")
    assert await names(desk, mine) == ["draft"]
    assert not list(desk.folder.glob("*/*"))
    with pytest.raises(NotFound):
        await desk.plans.get_plan(GetPlanRequest(plan_id=old.id), call_of(desk.alice))
    # Those of others and of other projects stay.
    await create(desk, mine, caller=desk.bob)
    await create(desk, await project(desk))
    assert await names(desk, mine) == ["draft"]


async def test_a_taken_name_gets_a_number(desk: Desk) -> None:
    mine = await project(desk)
    made = [await create(desk, mine, "parser") for _ in range(2)]
    await desk.plans.archive_plan(ArchivePlanRequest(plan_id=made[0].id), call_of(desk.alice))
    made.append(await create(desk, mine, "parser"))
    assert [one.name for one in made] == ["parser", "parser.2", "parser.3"]
    assert (await create(desk, mine, "parser", desk.bob)).name == "parser"
    await desk.plans.rename_plan(RenamePlanRequest(plan_id=made[2].id, name="parser.2"), call_of(desk.alice))
    assert await names(desk, mine) == ["parser.2", "parser.2"]


async def test_a_plan_starts_with_a_branch_and_the_owners_config(desk: Desk) -> None:
    made = await create(desk, await project(desk), "parser")
    plan = await desk.plans.get_plan(GetPlanRequest(plan_id=made.id), call_of(desk.alice))
    assert (plan.owner_id, plan.name, plan.active_branches, plan.total_replies) == ("alice", "parser", 1, 0)
    assert plan.plan_config is not None
    assert plan.plan_config.auto_mode == "semi"
    assert plan.archived_at is None
    assert (await desk.store.open(desk.alice, made.id, "main")).branch.status == "draft"


async def test_plans_are_listed_by_project_the_last_changed_first(desk: Desk) -> None:
    one, two = await project(desk), await project(desk)
    first, _ = await create(desk, one, "first"), await create(desk, two, "second")
    assert await names(desk, one, two, "unknown") == ["second", "first"]
    desk.clock.forward(seconds=1)
    await desk.load("a.py", plan_id=first.id)
    assert await names(desk, one, two) == ["first", "second"]
    assert await names(desk) == []
    assert await names(desk, one, two, caller=desk.bob) == []
    assert await names(desk, one, two, caller=desk.eve) == []


async def test_archived_plans_are_listed_apart(desk: Desk) -> None:
    mine = await project(desk)
    made = await create(desk, mine, "parser")
    archive, unarchive = ArchivePlanRequest(plan_id=made.id), UnarchivePlanRequest(plan_id=made.id)
    with pytest.raises(InvalidArgument, match="Plan isn't archived"):
        await desk.plans.unarchive_plan(unarchive, call_of(desk.alice))
    await desk.plans.archive_plan(archive, call_of(desk.alice))
    with pytest.raises(InvalidArgument, match="Plan already archived"):
        await desk.plans.archive_plan(archive, call_of(desk.alice))
    assert await names(desk, mine) == []
    archived = await desk.plans.list_archived_plans(ListArchivedPlansRequest(project_id=[mine]), call_of(desk.alice))
    assert [plan.name for plan in archived.plans] == ["parser"]
    assert archived.plans[0].archived_at is not None
    await desk.plans.unarchive_plan(unarchive, call_of(desk.alice))
    assert await names(desk, mine) == ["parser"]


async def test_only_its_owner_renames_and_deletes_a_plan(desk: Desk) -> None:
    made = await create(desk, await project(desk), "parser")
    rename, delete = RenamePlanRequest(plan_id=made.id, name="lexer"), DeletePlanRequest(plan_id=made.id)
    refusals: list[tuple[Principal, type[DomainError]]] = [(desk.eve, NotFound), (desk.bob, Unauthenticated)]
    for caller, refusal in refusals:
        with pytest.raises(refusal):
            await desk.plans.rename_plan(rename, call_of(caller))
        with pytest.raises(refusal):
            await desk.plans.delete_plan(delete, call_of(caller))
    await share(desk, made.id)
    assert (await desk.plans.get_plan(GetPlanRequest(plan_id=made.id), call_of(desk.bob))).name == "parser"
    with pytest.raises(PermissionDenied):
        await desk.plans.rename_plan(rename, call_of(desk.bob))
    with pytest.raises(PermissionDenied):
        await desk.plans.delete_plan(delete, call_of(desk.bob))
    with pytest.raises(InvalidArgument, match="Name cannot be empty"):
        await desk.plans.rename_plan(RenamePlanRequest(plan_id=made.id), call_of(desk.alice))


async def test_a_deleted_plan_leaves_nothing(any_desk: Desk) -> None:
    desk = any_desk
    mine = await project(desk)
    made, kept = await create(desk, mine, "parser"), await create(desk, mine, "kept", desk.bob)
    await desk.projects.set_project_plan(SetProjectPlanRequest(project_id=mine, plan_id=made.id), call_of(desk.alice))
    await desk.load("a.py", plan_id=made.id)
    await desk.plans.delete_plan(DeletePlanRequest(plan_id=made.id), call_of(desk.alice))
    with pytest.raises(NotFound):
        await desk.plans.get_plan(GetPlanRequest(plan_id=made.id), call_of(desk.alice))
    assert not list(desk.folder.glob("*/*"))
    async with desk.database.read() as session:
        assert await session.get(ChosenPlanRow, (mine, "alice")) is None
    again = await create(desk, mine, "parser")
    assert again.name == "parser"
    await desk.plans.delete_project_plans(DeleteProjectPlansRequest(project_id=mine), call_of(desk.alice))
    assert await names(desk, mine) == []
    assert (await desk.plans.get_plan(GetPlanRequest(plan_id=kept.id), call_of(desk.bob))).name == "kept"


async def test_current_branches_are_those_that_are_there(desk: Desk) -> None:
    mine = await project(desk)
    first, second = await create(desk, mine, "first"), await create(desk, mine, "second")

    async def current(**wanted: str) -> dict[str, str]:
        request = ListCurrentBranchesRequest(
            project_id=mine, current_branch_by_plan_id={key.replace("_", "-"): name for key, name in wanted.items()}
        )
        answer = await desk.plans.list_current_branches(request, call_of(desk.alice))
        return {plan_id: branch.name for plan_id, branch in answer.branches.items()}

    assert await current(**{first.id: "main", second.id: "other", "unknown": "main"}) == {first.id: "main"}
    assert await current() == {}
    with pytest.raises(NotFound, match="No plans found"):
        await desk.plans.list_current_branches(ListCurrentBranchesRequest(project_id=await project(desk)), call_of(desk.alice))
