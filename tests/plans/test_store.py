"""The store: what is acknowledged is committed, git and database stay in step, and nobody sees the plans of others."""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
from copy import deepcopy
from pathlib import Path

import pygit2
import pytest
from protobuf.wkt import Timestamp

from core.kernel.errors import Aborted, NotFound, Unauthenticated, Unavailable
from core.plans import git_packs
from core.plans.access import Opened
from core.plans.repository import Repository, Snapshot
from core.plans.state import Settings
from core.plans.store import PlanStore
from core.plans.tables import BranchRow, PlanRow
from core.storage.database import Database
from gen.busbar.plans.v1.changes_pb import PlanApply, PlanFileResult, Replacement
from gen.busbar.plans.v1.conversation_pb import ConvoMessage, ConvoMessageDescription, ConvoMessageFlags, Subtask
from gen.busbar.plans.v1.models_pb import ModelPack
from tests.plans.desk import Desk


async def test_a_change_is_read_back_by_a_new_process(desk: Desk) -> None:
    await desk.plan()
    await desk.load("a.py", "one\n")
    await desk.load("b.py", "zwei ü\n")
    desk.restart()
    state = await desk.state()
    assert [(item.name, item.body) for item in state.contexts.values()] == [("a.py", "one\n"), ("b.py", "zwei ü\n")]
    assert (await desk.main()).branch.context_tokens == len("one\n") + len("zwei ü\n")


async def test_a_change_that_fails_leaves_nothing(desk: Desk) -> None:
    await desk.plan()
    sha = await desk.load("a.py")

    async def fail() -> None:
        async with desk.store.change(desk.alice, "plan-1", "main") as change:
            change.state.contexts.clear()
            change.branch.context_tokens = 0
            change.message = "Removed everything"
            raise RuntimeError("boom")

    with pytest.raises(RuntimeError, match="boom"):
        await fail()
    opened = await desk.main()
    assert (opened.branch.head, opened.branch.context_tokens) == (sha, len("text\n"))
    assert len((await desk.state()).contexts) == 1


async def test_what_a_reader_does_to_a_state_stays_with_the_reader(desk: Desk) -> None:
    await desk.plan()
    await desk.load("a.py")
    next(iter((await desk.state()).contexts.values())).body = "changed"
    assert next(iter((await desk.state()).contexts.values())).body == "text\n"


async def test_changes_of_one_branch_come_one_after_the_other(any_desk: Desk) -> None:
    await any_desk.plan()

    async def say(number: int) -> None:
        async with any_desk.store.change(any_desk.alice, "plan-1", "main") as change:
            before = len(change.state.messages)
            await asyncio.sleep(0)
            change.state.messages.append(ConvoMessage(id=f"m{number}", num=before + 1))
            change.message = f"Message #{before + 1}"

    await asyncio.gather(*(say(number) for number in range(10)))
    assert [message.num for message in (await any_desk.state()).messages] == list(range(1, 11))
    assert len(await any_desk.store.log(await any_desk.main())) == 10


async def test_strangers_and_colleagues_are_kept_out(any_desk: Desk) -> None:
    await any_desk.plan()
    with pytest.raises(NotFound):
        await any_desk.store.open(any_desk.eve, "plan-1", "main")
    with pytest.raises(Unauthenticated, match="no access to plan"):
        await any_desk.store.open(any_desk.bob, "plan-1", "main")
    with pytest.raises(NotFound):
        await any_desk.store.open(any_desk.alice, "plan-1", "other")
    with pytest.raises(NotFound):
        async with any_desk.store.change(any_desk.eve, "plan-1", "main"):
            pytest.fail("a stranger may not change a plan")
    assert isinstance(await any_desk.main(), Opened)


def references(any_desk: Desk, plan_id: str = "plan-1") -> dict[str, str]:
    """Return what git itself sees."""
    repository = pygit2.Repository(str(any_desk.folder / plan_id[:2] / f"{plan_id}.git"))
    return {name.removeprefix("refs/heads/"): str(repository.references[name].target) for name in repository.references}


STEPS = ("pack without index", "objects without rows", "rows without commit", "rows without references")


async def test_a_plan_survives_a_server_that_is_killed_at_any_step(sqlite: Database, tmp_path: Path) -> None:
    desk = Desk(sqlite, tmp_path / "plans")
    await desk.people()
    await desk.plan()
    before = await desk.load("a.py")
    child = await asyncio.create_subprocess_exec(sys.executable, "-m", "tests.plans.killed", str(tmp_path), *STEPS)
    assert await asyncio.wait_for(child.wait(), 60) == 0

    desk.restart()
    opened = await desk.main()
    log = await desk.store.log(opened)
    # Only the last one had stored its rows.
    assert [entry.message for entry in log] == ["rows without references", "Loaded a.py into context"]
    assert opened.branch.context_tokens == len("text\n") + 1
    assert references(desk) == {"main-of-plan-1": opened.branch.head}

    after = await desk.load("b.py")
    assert [entry.sha for entry in await desk.store.log(await desk.main())] == [after, opened.branch.head, before]
    assert references(desk) == {"main-of-plan-1": after}


@pytest.mark.parametrize(("where", "what", "stored"), [(PlanStore, "_store", False), (Repository, "point", True)])
async def test_a_failure_between_git_and_database_heals_at_the_next_access(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, where: type, what: str, stored: bool
) -> None:
    def fail(*_arguments: object) -> None:
        raise OSError("the disk is full")

    await desk.plan()
    before = await desk.load("a.py")
    with monkeypatch.context() as patch:
        patch.setattr(where, what, fail)
        try:
            await desk.load("b.py")
        except OSError:
            assert not stored
    assert references(desk) == {"main-of-plan-1": before}
    opened = await desk.main()
    assert (opened.branch.head != before) == stored
    await desk.store.read(opened)
    assert references(desk) == {"main-of-plan-1": opened.branch.head}


async def test_a_change_that_cannot_be_written_is_refused_and_changes_nothing(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_arguments: object) -> None:
        raise OSError("the disk is full")

    await desk.plan()
    before = await desk.load("a.py")
    with monkeypatch.context() as patch:
        patch.setattr(git_packs, "_place", fail)
        with pytest.raises(Unavailable):
            await desk.load("b.py")
    assert (await desk.main()).branch.head == before
    await desk.load("b.py")
    assert len((await desk.state()).contexts) == 2


async def test_two_processes_do_not_overwrite_each_other(any_desk: Desk) -> None:
    await any_desk.plan()
    await any_desk.load("a.py")
    other = Desk(any_desk.database, any_desk.folder)

    async def overtaken() -> None:
        async with any_desk.store.change(any_desk.alice, "plan-1", "main") as change:
            change.message = "Too late"
            await other.load("b.py")

    with pytest.raises(Aborted):
        await overtaken()
    assert len((await any_desk.state()).contexts) == 2


async def test_a_change_leaves_what_others_change_of_its_plan_meanwhile(any_desk: Desk) -> None:
    await any_desk.plan()
    async with any_desk.store.change(any_desk.alice, "plan-1", "main") as change:
        change.plan.replies += 1
        async with any_desk.database.unit_of_work() as session:
            plan = await session.get(PlanRow, "plan-1")
            assert plan is not None
            plan.name = "renamed"
    opened = await any_desk.main()
    assert (opened.plan.name, opened.plan.replies) == ("renamed", 1)


async def test_rows_change_without_an_entry_when_there_is_nothing_to_tell(desk: Desk) -> None:
    await desk.plan()
    head = await desk.load("a.py")
    async with desk.store.change(desk.alice, "plan-1", "main") as change:
        change.state.contexts.clear()
        change.branch.status = "replying"
    opened = await desk.main()
    assert (opened.branch.head, opened.branch.status, len((await desk.state()).contexts)) == (head, "replying", 1)


async def test_equal_changes_are_different_entries(desk: Desk) -> None:
    await desk.plan()
    shas: set[str] = set()
    for _ in range(2):
        shas.add(await desk.load("a.py"))
        async with desk.database.unit_of_work() as session:
            branch = await session.get(BranchRow, "main-of-plan-1")
            assert branch is not None
            branch.head = ""
    assert len(shas) == 2


async def test_many_changes_stay_few_files_and_all_readable(desk: Desk) -> None:
    await desk.plan()
    changes = git_packs.MANY + 2
    for number in range(changes):
        await desk.load(f"{number}.py")
    desk.restart()
    assert len(list((desk.folder / "pl" / "plan-1.git" / "objects" / "pack").iterdir())) < 10
    log = await desk.store.log(await desk.main())
    opened = await desk.main()
    sizes = [len((await desk.store.read_at(opened.plan, entry.sha)).contexts) for entry in log[:: changes // 3]]
    assert sizes == list(range(changes, 0, -(changes // 3)))


async def test_packs_that_a_crash_left_beside_what_they_became_do_no_harm(desk: Desk, tmp_path: Path) -> None:
    await desk.plan()
    for number in range(git_packs.MANY - 1):
        await desk.load(f"{number}.py")
    packs = desk.folder / "pl" / "plan-1.git" / "objects" / "pack"
    shutil.copytree(packs, tmp_path / "left")
    await desk.load("last.py")
    assert len(list(packs.glob("*.idx"))) == 1
    for name in ("tmp_1", "pack-0.pack"):
        (packs / name).write_bytes(b"")
        os.utime(packs / name, (1, 1))
    for _ in range(2):
        shutil.copytree(tmp_path / "left", packs, dirs_exist_ok=True)
        Repository(packs.parent.parent).tidy()
        assert len(list(packs.iterdir())) == 2
    desk.restart()
    assert len((await desk.state()).contexts) == git_packs.MANY
    os.utime(next(packs.glob("*.idx")), (1, 1))
    await desk.store.prune("plan-1")
    desk.restart()
    assert len((await desk.state()).contexts) == git_packs.MANY


async def test_a_reader_does_not_notice_that_packs_move(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    await desk.plan()
    await desk.load("a.py")
    desk.restart()
    read, moved = Repository.read, [True]

    def read_while_moving(repository: Repository, sha: str) -> Snapshot:
        if moved:
            moved.clear()
            raise KeyError(sha)
        return read(repository, sha)

    monkeypatch.setattr(Repository, "read", read_while_moving)
    assert len((await desk.state()).contexts) == 1


async def test_a_history_that_is_lost_is_told_as_trouble_with_storage(desk: Desk) -> None:
    await desk.plan()
    await desk.load("a.py")
    await desk.repositories.delete("plan-1")
    desk.restart()
    with pytest.raises(Unavailable):
        await desk.state()


async def test_what_is_pruned_is_gone_and_the_rest_is_not(desk: Desk) -> None:
    await desk.plan()
    first = await desk.load("a.py", "kept\n")
    second = await desk.load("b.py", "secret\n")
    async with desk.database.unit_of_work() as session:
        branch = await session.get(BranchRow, "main-of-plan-1")
        assert branch is not None
        branch.head = first
    for path in desk.folder.rglob("pack-*"):
        os.utime(path, (1, 1))
    await desk.store.prune("plan-1")
    desk.restart()
    assert [item.body for item in (await desk.state()).contexts.values()] == ["kept\n"]
    repository = pygit2.Repository(str(desk.folder / "pl" / "plan-1.git"))
    assert first in repository
    assert second not in repository


async def test_repositories_without_a_plan_are_swept(desk: Desk) -> None:
    await desk.plan()
    await desk.load("a.py")
    await desk.plan(plan_id="plan-2")
    await desk.load("a.py", plan_id="plan-2")
    async with desk.database.unit_of_work() as session:
        for kind, key in ((BranchRow, "main-of-plan-2"), (PlanRow, "plan-2")):
            await session.delete(await session.get_one(kind, key))
            await session.flush()
    for name in ("plan-3.git.gone_1", "plan-3.git.new_1"):
        (desk.folder / "pl" / name / "objects").mkdir(parents=True)
    os.utime(desk.folder / "pl" / "plan-3.git.gone_1", (1, 1))
    await desk.store.opened()
    assert sorted(path.name for path in desk.folder.glob("*/*")) == ["plan-1.git", "plan-3.git.new_1"]
    assert len((await desk.state()).contexts) == 1


async def test_every_part_of_a_state_is_kept(desk: Desk) -> None:
    await desk.plan()
    async with desk.store.change(desk.alice, "plan-1", "main") as change:
        change.state.messages.append(ConvoMessage(id="m", num=1, message="a\0b", flags=ConvoMessageFlags(is_chat=True)))
        change.state.descriptions.append(ConvoMessageDescription(id="d", build_paths_invalidated={"a.py": True}))
        change.state.results.append(PlanFileResult(id="r", path="a.py", replacements=[Replacement(old="a", new="b")]))
        change.state.applies.append(PlanApply(id="a", commit_msg="Apply", created_at=Timestamp(seconds=1, nanos=2000)))
        change.state.subtasks.append(Subtask(title="Do it", uses_files=["a.py"], is_finished=True))
        change.state.settings = Settings("", ModelPack(name="own"))
        change.message = "Everything\0 at once"
        kept = deepcopy(change.state)
    desk.restart()
    assert await desk.state() == kept
    assert [entry.message for entry in await desk.store.log(await desk.main())] == ["Everything at once"]
