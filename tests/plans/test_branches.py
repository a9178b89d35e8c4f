"""Branches: forks of a plan that go their own ways."""

from __future__ import annotations

import pytest

from core.kernel.errors import AlreadyExists, FailedPrecondition, InvalidArgument, NotFound, Unauthenticated
from gen.busbar.plans.v1.branches_pb import Branch, CreateBranchRequest, DeleteBranchRequest, ListBranchesRequest
from gen.busbar.plans.v1.plans_pb import GetPlanRequest
from tests.doors import as_dict
from tests.plans.desk import Desk, call_of


async def fork(desk: Desk, name: str, parent: str = "main") -> None:
    desk.clock.forward(seconds=1)
    await desk.branches.create_branch(CreateBranchRequest(plan_id="plan-1", branch=parent, name=name), call_of(desk.alice))


async def branches(desk: Desk) -> list[Branch]:
    listed = await desk.branches.list_branches(ListBranchesRequest(plan_id="plan-1"), call_of(desk.alice))
    return listed.branches


async def paths(desk: Desk, branch: str) -> list[str]:
    return [item.file_path for item in (await desk.state(branch=branch)).contexts.values()]


async def test_a_branch_begins_as_the_parent_that_was_named(any_desk: Desk) -> None:
    desk = any_desk
    await desk.plan()
    await desk.load("a.py")
    await fork(desk, "wide")
    await desk.load("b.py", branch="wide")
    await fork(desk, "wider", "wide")
    main, wide, wider = await branches(desk)
    assert [one.name for one in (main, wide, wider)] == ["main", "wide", "wider"]
    assert [as_dict(one).get("parentBranchId") for one in (main, wide, wider)] == [None, main.id, wide.id]
    assert (wider.context_tokens, wider.status) == (wide.context_tokens, "draft")
    assert await paths(desk, "wider") == ["a.py", "b.py"]
    plan = await desk.plans.get_plan(GetPlanRequest(plan_id="plan-1"), call_of(desk.alice))
    assert plan.active_branches == 3


async def test_branches_go_their_own_ways_and_share_what_was_before(desk: Desk) -> None:
    await desk.plan()
    shared = await desk.load("a.py")
    await fork(desk, "wide")
    own = await desk.load("b.py", branch="wide")
    await desk.load("c.py")
    assert await paths(desk, "wide") == ["a.py", "b.py"]
    assert await paths(desk, "main") == ["a.py", "c.py"]
    log = await desk.store.log(await desk.store.open(desk.alice, "plan-1", "wide"))
    assert [entry.sha for entry in log] == [own, shared]


async def test_a_name_is_taken_once_and_free_again_after_deletion(any_desk: Desk) -> None:
    desk = any_desk
    await desk.plan()
    await fork(desk, "wide")
    await fork(desk, "wider", "wide")
    with pytest.raises(AlreadyExists):
        await fork(desk, "wide")
    with pytest.raises(NotFound):
        await fork(desk, "new", "unknown")
    with pytest.raises(InvalidArgument):
        await fork(desk, "..")
    delete = DeleteBranchRequest(plan_id="plan-1", branch="wide")
    await desk.branches.delete_branch(delete, call_of(desk.alice))
    with pytest.raises(NotFound):
        await desk.branches.delete_branch(delete, call_of(desk.alice))
    main, wider = await branches(desk)
    assert wider.parent_branch_id == main.id
    await fork(desk, "wide")
    assert [one.name for one in await branches(desk)] == ["main", "wider", "wide"]
    with pytest.raises(InvalidArgument, match="Cannot delete main branch"):
        await desk.branches.delete_branch(DeleteBranchRequest(plan_id="plan-1", branch="main"), call_of(desk.alice))


async def test_a_branch_is_not_deleted_under_a_run(any_desk: Desk) -> None:
    desk = any_desk
    await desk.plan()
    await fork(desk, "wide")
    await desk.run_on((await branches(desk))[1].id)
    delete = DeleteBranchRequest(plan_id="plan-1", branch="wide")
    with pytest.raises(FailedPrecondition):
        await desk.branches.delete_branch(delete, call_of(desk.alice))
    # A run whose process died does not count.
    desk.clock.forward(seconds=60)
    await desk.branches.delete_branch(delete, call_of(desk.alice))


async def test_branches_of_others_are_out_of_reach(desk: Desk) -> None:
    await desk.plan()
    with pytest.raises(NotFound):
        await desk.branches.list_branches(ListBranchesRequest(plan_id="plan-1"), call_of(desk.eve))
    with pytest.raises(Unauthenticated):
        await desk.branches.list_branches(ListBranchesRequest(plan_id="plan-1"), call_of(desk.bob))
    with pytest.raises(NotFound):
        await desk.branches.create_branch(CreateBranchRequest(plan_id="plan-1", branch="main", name="hers"), call_of(desk.eve))
