"""Pending changes: what they make of files, and what applying and rejecting them leaves."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping

import pytest
from protobuf.wkt import Timestamp

from core.kernel.errors import FailedPrecondition, NotFound
from core.plans.current import invalidate
from core.plans.replacements import result_for
from core.plans.state import PlanState
from core.plans.store import PlanStore
from gen.busbar.plans.v1.changes_pb import (
    ApplyPlanRequest,
    CurrentPlanState,
    GetCurrentPlanRequest,
    GetDiffsRequest,
    GetPlanAtRequest,
    RejectAllRequest,
    RejectFileRequest,
    RejectFilesRequest,
)
from gen.busbar.plans.v1.contexts_pb import Context
from gen.busbar.plans.v1.conversation_pb import ConvoMessageDescription, Operation
from gen.busbar.plans.v1.history_pb import ListLogsRequest, RewindPlanRequest
from tests.doors import as_dict
from tests.plans.desk import Desk, call_of

NOW = Timestamp(seconds=1_750_000_000)
BRANCH = {"plan_id": "plan-1", "branch": "main"}
Files = Mapping[str, tuple[str | None, str | None]]
"""Old and new text of files, by path."""


def reply(state: PlanState, name: str, files: Files, *, commit_msg: str = "", built: bool = True) -> None:
    """Let a reply change files, and a build make results of that."""
    state.descriptions.append(
        ConvoMessageDescription(
            id=f"description-{name}",
            convo_message_id=f"message-{name}",
            wrote_files=True,
            commit_msg=commit_msg,
            operations=[Operation(type="remove" if new is None else "file", path=path) for path, (_, new) in files.items()],
            did_build=built,
        )
    )
    if built:
        state.results += [
            result_for(path, old, new, message_id=f"message-{name}", build_id=f"build-{name}", now=NOW)
            for path, (old, new) in files.items()
        ]


async def build(desk: Desk, name: str, files: Files, *, commit_msg: str = "", built: bool = True) -> None:
    async with desk.store.change(desk.alice, "plan-1", "main") as change:
        reply(change.state, name, files, commit_msg=commit_msg, built=built)
        change.message = "🏗️  Build pending changes"


async def current(desk: Desk) -> CurrentPlanState:
    return await desk.changes.get_current_plan(GetCurrentPlanRequest(**BRANCH), call_of(desk.alice))


async def diffs(desk: Desk, *, plain: bool = True) -> str:
    return (await desk.changes.get_diffs(GetDiffsRequest(**BRANCH, plain=plain), call_of(desk.alice))).diff


async def apply(desk: Desk, **auth_vars: str) -> str:
    answer = await desk.changes.apply_plan(ApplyPlanRequest(**BRANCH, auth_vars=auth_vars), call_of(desk.alice))
    return answer.commit_msg


async def log(desk: Desk) -> list[str]:
    """Return the messages of all entries, the newest first."""
    return [entry.message for entry in await desk.store.log(await desk.main())]


async def test_the_current_state_shows_what_is_pending(desk: Desk) -> None:
    await desk.plan()
    await desk.load("a.py", "one\n")
    await desk.load("gone.py", "x\n")
    await build(desk, "r1", {"a.py": ("one\n", "two\n"), "new.py": (None, "new\n"), "gone.py": ("x\n", None)})
    await build(desk, "r2", {"a.py": ("two\n", "three\n")})
    state = await current(desk)
    assert state.plan_result is not None
    assert state.plan_result.sorted_paths == ["a.py", "gone.py", "new.py"]
    assert [len(one.results) for one in state.plan_result.file_results_by_path.values()] == [2, 1, 1]
    assert [one.old for one in state.plan_result.replacements_by_path["a.py"].replacements] == ["one\n", "two\n"]
    assert as_dict(state)["currentPlanFiles"] == {
        "files": {"a.py": "three\n", "new.py": "new\n"},
        "removedByPath": {"gone.py": True},
        "updatedAtByPath": dict.fromkeys(("a.py", "gone.py", "new.py"), "2025-06-15T15:06:40Z"),
    }
    assert [one.id for one in state.convo_message_descriptions] == ["description-r1", "description-r2"]
    assert {path: item.body for path, item in state.contexts_by_path.items()} == {"a.py": "one\n", "gone.py": "x\n"}


async def test_an_empty_branch_has_a_whole_state(desk: Desk) -> None:
    await desk.plan()
    assert as_dict(await current(desk)) == {"planResult": {}, "currentPlanFiles": {}}
    assert await diffs(desk) == ""


async def test_an_earlier_state_is_read_by_its_sha(desk: Desk) -> None:
    await desk.plan()
    first = await desk.load("a.py", "one\n")
    await desk.load("b.py")
    request = GetPlanAtRequest(plan_id="plan-1", sha=first[:8])
    assert list((await desk.changes.get_plan_at(request, call_of(desk.alice))).contexts_by_path) == ["a.py"]
    with pytest.raises(NotFound):
        await desk.changes.get_plan_at(request, call_of(desk.eve))
    with pytest.raises(NotFound):
        await desk.changes.get_plan_at(GetPlanAtRequest(plan_id="plan-1", sha="0" * 8), call_of(desk.alice))


async def test_diffs_are_those_of_git(desk: Desk) -> None:
    await desk.plan()
    await desk.load("a.py", "one\ntwo\n")
    await desk.load("gone.py", "x\n")
    await build(desk, "r1", {"a.py": ("one\ntwo\n", "one\n2\n"), "new.py": (None, "new"), "gone.py": ("x\n", None)})
    plain = await diffs(desk)
    assert plain.startswith("diff --git a/a.py b/a.py\nindex ")
    assert "--- a/a.py\n+++ b/a.py\n@@ -1,2 +1,2 @@\n one\n-two\n+2\n" in plain
    assert "deleted file mode 100644\n" in plain
    assert "--- /dev/null\n+++ b/new.py\n@@ -0,0 +1 @@\n+new\n\\ No newline at end of file\n" in plain
    coloured = await diffs(desk, plain=False)
    assert "\x1b[36m@@ -1,2 +1,2 @@\x1b[m\n one\n\x1b[31m-two\x1b[m\n\x1b[32m+2\x1b[m\n" in coloured
    assert "\x1b[1m--- a/a.py\x1b[m\n" in coloured
    assert re.sub("\x1b\\[[0-9]*m", "", coloured) == plain


async def test_applying_brings_the_context_up_to_the_files(any_desk: Desk) -> None:
    desk = any_desk
    await desk.plan()
    await desk.load("a.py", "one\n")
    await desk.load("gone.py", "x\n")
    await desk.load("other.py", "same\n")
    files: Files = {
        "a.py": ("one\n", "two ü\n"),
        "new.py": (None, "new\n"),
        "gone.py": ("x\n", None),
        "never.py": (None, None),
        "_apply.sh": (None, "make\n"),
    }
    await build(desk, "r1", files, commit_msg="Change it all")
    assert await apply(desk) == "Change it all\n"

    state = await desk.state()
    items = {item.file_path: item for item in state.contexts.values()}
    assert {path: item.body for path, item in items.items()} == {"a.py": "two ü\n", "other.py": "same\n", "new.py": "new\n"}
    assert items["a.py"].sha == hashlib.sha256("two ü\n".encode()).hexdigest()
    assert (items["a.py"].body_size, items["a.py"].num_tokens, items["a.py"].auto_loaded) == (7, 2, False)
    new = items["new.py"]
    assert (new.context_type, new.name, new.owner_id, new.auto_loaded) == ("file", "new.py", "alice", True)
    branch = (await desk.main()).branch
    assert branch.context_tokens == sum(item.num_tokens for item in items.values())

    assert all(result.applied_at is not None for result in state.results)
    assert [one.applied_at is not None for one in state.descriptions] == [True]
    (applied,) = state.applies
    assert (applied.user_id, applied.commit_msg) == ("alice", "Change it all")
    assert applied.convo_message_ids == ["message-r1"]
    assert applied.convo_message_description_ids == ["description-r1"]
    assert applied.plan_file_result_ids == [result.id for result in state.results]

    shown = await current(desk)
    assert as_dict(shown)["currentPlanFiles"] == {}
    assert shown.convo_message_descriptions == []
    lines = (await log(desk))[0].split("\n")
    assert lines[0] == "✅ Marked pending results as applied"
    assert " • 📄 a.py" in lines
    assert "✏️  Change it all" in lines
    assert "Loaded a file into context | added → 1 🪙 |  total → 8 🪙" in lines
    assert "Removed 1 piece of context | removed → 2 🪙 | total → 8 🪙" in lines


async def test_applying_nothing_is_no_entry(desk: Desk) -> None:
    await desk.plan()
    await build(desk, "r1", {"a.py": (None, "one\n")}, commit_msg="Add a")
    await apply(desk)
    before = await log(desk)
    assert await apply(desk) == ""
    assert await log(desk) == before


async def test_a_model_makes_one_line_of_several_messages(desk: Desk) -> None:
    await desk.plan()
    await build(desk, "r1", {"a.py": (None, "one\n")}, commit_msg="Add a")
    await build(desk, "r2", {"b.py": (None, "two\n")}, commit_msg="Add b")
    await build(desk, "r3", {"c.py": (None, "three\n")}, commit_msg="Add c", built=False)
    assert await apply(desk, KEY="secret") == "2 changes"
    # What is not built yet stays to be built.
    assert [one.id for one in (await current(desk)).convo_message_descriptions] == ["description-r3"]


async def test_changes_are_applied_though_the_model_of_commit_messages_fails(desk: Desk) -> None:
    await desk.plan()
    await build(desk, "r1", {"a.py": (None, "one\n")}, commit_msg="Add a")
    await build(desk, "r2", {"b.py": (None, "two\n")}, commit_msg="Add b")
    # The client has written the files before it asks.
    assert await apply(desk) == "Add a\nAdd b\n"
    assert as_dict(await current(desk))["currentPlanFiles"] == {}
    assert "✏️  Add a\nAdd b" in (await log(desk))[0]


async def test_a_change_meanwhile_is_applied_too(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    await desk.plan()
    await build(desk, "r1", {"a.py": (None, "one\n")}, commit_msg="Add a")
    late = [True]
    read = PlanStore.read

    async def read_and_change(store: PlanStore, opened: object) -> PlanState:
        state = await read(store, opened)  # pyright: ignore[reportArgumentType]
        if late:
            late.clear()
            await build(desk, "r2", {"b.py": (None, "two\n")}, commit_msg="Add b")
        return state

    monkeypatch.setattr(PlanStore, "read", read_and_change)
    assert await apply(desk, KEY="secret") == "2 changes"
    assert as_dict(await current(desk))["currentPlanFiles"] == {}


async def test_nothing_is_applied_under_a_run(desk: Desk) -> None:
    await desk.plan()
    await build(desk, "r1", {"a.py": (None, "one\n")}, commit_msg="Add a")
    await desk.run_on("main-of-plan-1")
    with pytest.raises(FailedPrecondition):
        await apply(desk)
    assert "a.py" in as_dict(await current(desk))["currentPlanFiles"]["files"]


async def test_a_rewind_brings_applied_changes_back(desk: Desk) -> None:
    await desk.plan()
    await desk.load("a.py", "one\n")
    await build(desk, "r1", {"a.py": ("one\n", "two\n")}, commit_msg="Change a")
    await apply(desk)
    shas = (await desk.history.list_logs(ListLogsRequest(**BRANCH), call_of(desk.alice))).shas
    await desk.history.rewind_plan(RewindPlanRequest(**BRANCH, sha=shas[1]), call_of(desk.alice))
    state = await current(desk)
    assert as_dict(state)["currentPlanFiles"]["files"] == {"a.py": "two\n"}
    assert (state.plan_applies, state.contexts_by_path["a.py"].body) == ([], "one\n")


async def test_rejected_changes_are_pending_no_more(any_desk: Desk) -> None:
    desk = any_desk
    await desk.plan()
    await desk.load("a.py", "one\n")
    files: Files = {path: (None, f"{path}\n") for path in ("b.py", "c.py", "d.py", "e.py")}
    await build(desk, "r1", {"a.py": ("one\n", "two\n"), **files})
    call = call_of(desk.alice)
    await desk.changes.reject_file(RejectFileRequest(**BRANCH, file_path="a.py"), call)
    await desk.changes.reject_files(RejectFilesRequest(**BRANCH, paths=["c.py", "b.py", "unknown.py"]), call)
    assert list(as_dict(await current(desk))["currentPlanFiles"]["files"]) == ["d.py", "e.py"]
    with pytest.raises(NotFound):
        await desk.changes.reject_file(RejectFileRequest(**BRANCH, file_path="a.py"), call)
    with pytest.raises(NotFound):
        await desk.changes.reject_files(RejectFilesRequest(**BRANCH, paths=["a.py", "unknown.py"]), call)
    await desk.changes.reject_all(RejectAllRequest(**BRANCH), call)
    entries = await log(desk)
    await desk.changes.reject_all(RejectAllRequest(**BRANCH), call)
    assert await log(desk) == entries
    assert entries[:3] == [
        "🚫 Rejected all pending changes",
        "🚫 Rejected pending changes to files:\n • 📄 b.py\n • 📄 c.py",
        "🚫 Rejected pending changes to file: a.py",
    ]
    state = await desk.state()
    assert all(result.rejected_at is not None for result in state.results)
    assert [one.did_build for one in state.descriptions] == [True]
    assert await apply(desk) == ""


def with_file(text: str) -> PlanState:
    """Return a state with a file of some lines, of which a reply changes the last one."""
    state = PlanState(contexts={"c": Context(id="c", context_type="file", file_path="a.py", body=text)})
    reply(state, "r1", {"a.py": (text, text + "more\n"), "b.py": (None, "new\n")})
    return state


def test_pending_changes_that_still_fit_a_new_text_stay() -> None:
    state = with_file("one\ntwo\nthree\nfour\nfive\n")
    assert not invalidate(state, "a.py", "zero\none\ntwo\nthree\nfour\nfive\n")
    assert len(state.results) == 2


def test_pending_changes_that_no_longer_fit_are_built_anew() -> None:
    state = with_file("one\ntwo\n")
    reply(state, "r2", {"a.py": ("one\ntwo\nmore\n", "one\ntwo\n")})
    reply(state, "r3", {"a.py": ("one\ntwo\n", "2\n")}, built=False)
    assert invalidate(state, "a.py", "")
    assert [result.path for result in state.results] == ["b.py"]
    assert [one.build_paths_invalidated for one in state.descriptions] == [{"a.py": True}, {"a.py": True}, {}]


def test_a_pending_new_file_survives_removal_but_not_a_file_of_its_name() -> None:
    state = with_file("one\n")
    assert not invalidate(state, "b.py", "")
    assert invalidate(state, "b.py", "somebody wrote it\n")
    assert [result.path for result in state.results] == ["a.py"]
