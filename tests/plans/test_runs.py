"""Runs: what a prompt leads to, step by step."""

from __future__ import annotations

import asyncio

import pytest

from core.kernel.errors import AlreadyExists, InvalidArgument, NotFound, Unauthenticated, Unavailable
from core.plans.current import current_files
from core.plans.tables import PlanRow
from gen.busbar.plans.v1.contexts_pb import Context
from gen.busbar.plans.v1.runs_pb import ConnectRunRequest, ListRunsRequest, StopRunRequest
from tests.plans.desk import call_of
from tests.plans.running import (
    BLOCK,
    Bench,
    bench,
    bench_anywhere,
    code,
    collected,
    error_of,
    eventually,
    flags_of,
    kinds,
    plan,
    stage_of,
    text,
    until,
)

__all__ = ["bench", "bench_anywhere"]


async def with_map(bench: Bench) -> None:
    async with bench.desk.store.change(bench.desk.alice, "plan-1", "main") as change:
        item = Context(id="map", context_type="map", name="cwd", map_parts={"a.txt": "words", "b.txt": "more words"})
        change.state.contexts[item.id] = item
        change.message = "Loaded a map into context"


async def test_a_prompt_is_planned_implemented_built_and_finished(bench_anywhere: Bench) -> None:
    bench = bench_anywhere
    messages = await collected(bench.tell())
    assert kinds(messages)[0] == "start"
    assert kinds(messages)[-1] == "finished"
    assert text(messages).count("```") == 2
    assert "PlandexBlock" not in text(messages)
    state = await bench.state()
    assert current_files(state).files == {"a.txt": "hello\n"}
    assert [(task.title, task.is_finished) for task in state.subtasks] == [("Write a", True)]
    assert await bench.branch_status() == "finished"


async def test_the_log_tells_each_step_in_the_words_of_the_contract(bench: Bench) -> None:
    await collected(bench.tell())
    prompt, planned, coded, built = await bench.entries()
    assert prompt == "Message #1 | 💬 User prompt | 3 🪙"
    assert planned.splitlines()[0].startswith("Message #2 | 🤖 Plandex reply | ")
    assert planned.splitlines()[0].endswith(" 🪙")
    assert "Write a" in planned.splitlines()[1]
    assert coded.splitlines()[0].startswith("Message #3 | 🤖 Plandex reply | ")
    assert coded.splitlines()[-1].strip() == "🏁 Completed Plan"
    assert built == "🏗️  Build pending changes\n • 📄 a.txt"


async def test_messages_say_what_they_did(bench: Bench) -> None:
    await collected(bench.tell())
    user, planned, coded = (await bench.state()).messages
    assert (user.role, user.num, flags_of(user).is_chat) == ("user", 1, False)
    assert flags_of(planned).did_make_plan
    assert flags_of(planned).has_unfinished_subtasks
    assert (stage_of(planned).tell_stage, stage_of(planned).planning_phase) == ("planning", "tasks")
    assert [task.title for task in planned.added_subtasks] == ["Write a"]
    assert flags_of(coded).did_write_code
    assert flags_of(coded).did_complete_task
    assert flags_of(coded).did_complete_plan
    assert not flags_of(coded).has_unfinished_subtasks
    assert coded.subtask is not None
    assert coded.subtask.title == "Write a"
    assert "<PlandexBlock" in coded.message


async def test_counts_of_the_branch_and_the_plan_grow(bench: Bench) -> None:
    await collected(bench.tell())
    opened = await bench.desk.main()
    assert opened.plan.replies == 2
    assert opened.branch.convo_tokens == sum(message.tokens for message in (await bench.state()).messages)


async def test_a_second_run_on_the_branch_is_refused(bench: Bench) -> None:
    gate = asyncio.Event()
    bench.script.says["planner"] = [["On it.\n", gate, plan()]]
    stream = bench.tell()
    await until(stream, "reply")
    with pytest.raises(AlreadyExists, match=r"^Error telling plan: .* already has an active stream"):
        await bench.service.tell(bench.request(), bench.call)
    gate.set()
    assert kinds(await collected(stream))[-1] == "finished"
    assert kinds(await collected(bench.tell("again")))[-1] == "finished"


async def test_a_client_that_leaves_stops_nothing(bench: Bench) -> None:
    gate = asyncio.Event()
    bench.script.says["planner"] = [["On it.\n", gate, plan()]]
    stream = bench.tell()
    await until(stream, "reply")
    run = await bench.active()
    await stream.aclose()  # pyright: ignore[reportAttributeAccessIssue] - it is a generator
    gate.set()
    assert run.task is not None
    await asyncio.wait_for(run.task, 10)
    assert current_files(await bench.state()).files == {"a.txt": "hello\n"}


async def test_an_agent_asks_for_what_is_new(bench: Bench) -> None:
    gate = asyncio.Event()
    bench.script.says["planner"] = [["First words.\n", gate, plan()]]
    started = await bench.service.tell(bench.request(), bench.call)
    assert started.status == "active"
    await until(bench.connect(0), "reply")
    seen = await bench.status(started.id)
    gate.set()
    run = await bench.active()
    assert run.task is not None
    await asyncio.wait_for(run.task, 10)
    rest = await bench.status("latest", seen.position)
    assert rest.status == "finished"
    assert rest.finished_at is not None
    assert "First words." not in rest.text
    assert "I will write it down." in rest.text
    assert (await bench.status(started.id, rest.position)).text == ""


async def test_what_a_run_costs_is_told(bench: Bench) -> None:
    await collected(bench.tell())
    usage = {one.role: one for one in (await bench.status()).usage}
    assert usage["planner"].calls == 1
    assert usage["coder"].prompt_tokens == 10
    assert usage["coder"].cost_usd == 0.25


async def test_keys_reach_the_models_and_nothing_else(bench: Bench) -> None:
    await collected(bench.tell(auth_vars={"OPENAI_API_KEY": "sk-very-secret"}))
    assert bench.script.keys == [{"OPENAI_API_KEY": "sk-very-secret"}]
    await bench.runs.stop()
    folder = bench.desk.folder.parent
    for file in folder.rglob("*"):
        assert not file.is_file() or b"sk-very-secret" not in file.read_bytes()


async def test_without_auto_continue_the_plan_waits_for_its_user(bench: Bench) -> None:
    messages = await collected(bench.tell(auto_continue=False))
    assert kinds(messages)[-1] == "finished"
    assert [role for role, _ in bench.script.asked if role in ("planner", "coder")] == ["planner"]
    await collected(bench.tell("", is_user_continue=True, auto_continue=False))
    state = await bench.state()
    assert [message.role for message in state.messages] == ["user", "assistant", "assistant"]
    assert current_files(state).files == {"a.txt": "hello\n"}


async def test_continuing_without_a_message_is_an_error_that_the_client_knows(bench: Bench) -> None:
    last = (await collected(bench.tell("", is_user_continue=True)))[-1]
    assert last.type == "error"
    assert (error_of(last).type, error_of(last).status) == ("continue_no_messages", 400)
    assert error_of(last).msg == "No messages yet. Can't continue plan."
    assert await bench.branch_status() == "error"


async def test_a_chat_changes_nothing(bench: Bench) -> None:
    bench.script.says["planner"] = ["It is a file.\n\n" + BLOCK.format(path="a.txt", text="no") + plan()]
    await collected(bench.tell("what is a.txt?", is_chat_only=True, build_mode="none"))
    state = await bench.state()
    assert flags_of(state.messages[0]).is_chat
    assert flags_of(state.messages[1]).is_chat
    assert not flags_of(state.messages[1]).did_make_plan
    assert (state.subtasks, state.descriptions, state.results) == ([], [], [])


async def test_tasks_are_done_one_after_the_other_with_their_titles(bench: Bench) -> None:
    bench.script.says["planner"] = [
        "### Tasks\n\n1. Write a\n- it\nUses: `a.txt`\n\n2. Write b\n- it\nUses: `b.txt`\n",
    ]
    bench.script.says["coder"] = [code("a.txt", "a", "Write a"), code("b.txt", "b", "Write b")]
    await collected(bench.tell())
    first, second = bench.script.prompts("coder")
    assert "Task: **Write a**" in first
    assert "Task: **Write b**" in second
    assert "1. Write a (finished)" in second
    assert current_files(await bench.state()).files == {"a.txt": "a\n", "b.txt": "b\n"}


async def test_a_task_sees_only_the_files_that_it_uses(bench: Bench) -> None:
    await bench.desk.load("a.txt", "alpha\n")
    await bench.desk.load("b.txt", "beta\n")
    bench.script.says["coder"] = [code("a.txt", "new")]
    await collected(bench.tell(smart_context=True))
    (asked,) = bench.script.prompts("coder")
    assert "alpha" in asked
    assert "beta" not in asked
    (planned,) = bench.script.prompts("planner")
    assert "beta" in planned


async def test_pending_text_goes_before_what_was_loaded(bench: Bench) -> None:
    await bench.desk.load("a.txt", "old words\n")
    bench.script.says["planner"] = ["### Tasks\n\n1. One\nUses: `a.txt`\n\n2. Two\nUses: `a.txt`\n"]
    bench.script.says["coder"] = [code("a.txt", "new words", "One"), code("a.txt", "newest", "Two")]
    await collected(bench.tell())
    second = bench.script.prompts("coder")[1]
    assert "- a.txt:\n\n```\nnew words\n\n```" in second
    assert current_files(await bench.state()).files == {"a.txt": "newest\n"}


async def test_a_task_without_its_sentence_is_judged_and_gone_on_with(bench: Bench) -> None:
    bench.script.answers["auto-continue"] = {"reasoning": "half", "subtaskFinished": False}
    bench.script.says["coder"] = ["I begin.\n", code()]
    await collected(bench.tell())
    state = await bench.state()
    assert [flags_of(message).did_complete_task for message in state.messages[2:]] == [False, True]
    assert "Go on with this task" in bench.script.prompts("coder")[1]


async def test_a_task_counts_as_done_after_four_replies(bench: Bench) -> None:
    bench.script.answers["auto-continue"] = {"reasoning": "no", "subtaskFinished": False}
    bench.script.says["coder"] = ["Still at it.\n"]
    messages = await collected(bench.tell())
    assert kinds(messages)[-1] == "finished"
    assert len(bench.script.prompts("coder")) == 4
    assert (await bench.state()).subtasks[0].is_finished


async def test_new_tasks_take_the_place_of_unfinished_ones(bench: Bench) -> None:
    await collected(bench.tell(auto_continue=False))
    bench.script.says["planner"] = [plan("Write better")]
    await collected(bench.tell("otherwise", auto_continue=False))
    assert [task.title for task in (await bench.state()).subtasks] == ["Write better"]


async def test_tasks_can_be_removed(bench: Bench) -> None:
    await collected(bench.tell(auto_continue=False))
    bench.script.says["planner"] = ["Never mind.\n\n### Remove Tasks\n- Write a\n"]
    await collected(bench.tell("forget it"))
    state = await bench.state()
    assert state.subtasks == []
    assert state.messages[-1].removed_subtasks == ["Write a"]
    assert flags_of(state.messages[-1]).did_remove_tasks


async def test_files_that_the_model_chooses_are_asked_for_and_read(bench: Bench) -> None:
    await with_map(bench)
    bench.script.says["architect"] = ["We need `a.txt` and `other.txt`.\n\n### Files\n- `a.txt`\n- `b.txt`\n"]
    stream = bench.tell(auto_context=True, project_paths={"a.txt": True, "b.txt": True})
    asked = (await until(stream, "loadContext"))[-1]
    assert list(asked.load_context_files) == ["a.txt", "b.txt"]
    assert (await bench.status()).status == "waiting"
    answer = await bench.auto_load(("a.txt", "alpha\n"), ("b.txt", "beta\n"))
    assert answer.tokens_added == 11
    assert kinds(await collected(stream))[-1] == "finished"
    assert "alpha" in bench.script.prompts("planner")[0]
    chose = (await bench.state()).messages[1]
    assert flags_of(chose).did_load_context
    assert stage_of(chose).planning_phase == "context"


async def test_a_client_that_loads_nothing_has_answered_too(bench: Bench) -> None:
    await with_map(bench)
    stream = bench.tell(auto_context=True, project_paths={"a.txt": True})
    await until(stream, "loadContext")
    answer = await bench.auto_load()
    assert (answer.tokens_added, answer.total_tokens, answer.msg) == (0, 0, "")
    await until(stream, "promptMissingFile")
    await bench.respond("overwrite", "a.txt")
    assert kinds(await collected(stream))[-1] == "finished"


async def test_a_client_that_never_loads_ends_the_run(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("core.plans.client_questions.BEGIN_SECONDS", 0.05)
    await with_map(bench)
    last = (await collected(bench.tell(auto_context=True, project_paths={"a.txt": True})))[-1]
    assert last.type == "error"
    assert "Timed out" in error_of(last).msg
    assert flags_of((await bench.state()).messages[-1]).has_error


async def test_nobody_can_load_context_for_a_run_that_asks_for_none(bench: Bench) -> None:
    with pytest.raises(NotFound):
        await bench.auto_load(("a.txt", "alpha"))


async def test_a_chat_answers_at_once_when_it_needs_no_files(bench: Bench) -> None:
    await with_map(bench)
    bench.script.says["architect"] = ["Hello to you too.\n"]
    await collected(bench.tell("hello", is_chat_only=True, auto_context=True, project_paths={"a.txt": True}))
    assert [message.message for message in (await bench.state()).messages] == ["hello", "Hello to you too.\n"]
    assert bench.script.prompts("planner") == []


async def test_a_draft_is_named_after_its_first_prompt(bench: Bench) -> None:
    async with bench.desk.database.unit_of_work() as session:
        row = await session.get(PlanRow, "plan-1")
        assert row is not None
        row.name = "draft"
    bench.script.answers["names"] = {"planName": "Write The File!"}
    await collected(bench.tell())
    assert (await bench.desk.main()).plan.name == "write-the-file"


async def test_a_plan_with_a_name_keeps_it(bench: Bench) -> None:
    await collected(bench.tell())
    assert (await bench.desk.main()).plan.name == "plan"


async def test_a_commit_message_that_no_model_writes_names_the_files(bench: Bench) -> None:
    bench.script.answers["commit-messages"] = Unavailable("the model is down")
    await collected(bench.tell())
    (description,) = (await bench.state()).descriptions
    assert description.commit_msg == "Update a.txt"
    assert description.error == "the model is down"


async def test_a_run_without_a_usable_model_ends_with_an_error_and_keeps_nothing(bench: Bench) -> None:
    bench.script.refusal = Unavailable("no provider of the coder is usable: OPENAI_API_KEY is missing")
    last = (await collected(bench.tell()))[-1]
    assert (last.type, error_of(last).status) == ("error", 503)
    assert "OPENAI_API_KEY is missing" in error_of(last).msg
    assert (await bench.state()).messages == []


async def test_a_model_that_breaks_off_leaves_what_it_said(bench: Bench) -> None:
    bench.script.says["planner"] = [["I will", Unavailable("the provider failed")]]
    last = (await collected(bench.tell()))[-1]
    assert (last.type, error_of(last).msg) == ("error", "the provider failed")
    reply = (await bench.state()).messages[-1]
    assert (reply.message, flags_of(reply).has_error, reply.stopped) == ("I will", True, False)
    assert await bench.branch_status() == "error"
    assert (await bench.status()).error == "the provider failed"


async def test_a_defect_tells_nothing_of_itself(bench: Bench) -> None:
    bench.script.says["planner"] = [[RuntimeError("secret detail")]]
    last = (await collected(bench.tell()))[-1]
    assert last.type == "error"
    assert "secret detail" not in error_of(last).msg


async def test_too_much_context_is_refused_with_numbers(bench: Bench) -> None:
    bench.script.room_left = 20
    last = (await collected(bench.tell()))[-1]
    assert error_of(last).status == 400
    assert "20" in error_of(last).msg


async def test_a_stopped_run_keeps_what_was_said(bench: Bench) -> None:
    bench.script.says["planner"] = [["I will write", asyncio.Event()]]
    stream = bench.tell()
    await until(stream, "reply")
    await bench.stop()
    assert kinds(await collected(stream))[-1] == "aborted"
    reply = (await bench.state()).messages[-1]
    assert (reply.message, reply.stopped) == ("I will write", True)
    assert "🛑 stopped" in (await bench.entries())[-1]
    assert await bench.branch_status() == "stopped"
    assert (await bench.status()).status == "stopped"
    with pytest.raises(NotFound, match=r"^No active model stream for plan$"):
        await bench.stop()


async def test_a_stopped_reply_does_not_count_for_what_comes_next(bench: Bench) -> None:
    bench.script.says["planner"] = [[plan(), asyncio.Event()], plan()]
    stream = bench.tell()
    await until(stream, "reply")
    await bench.stop()
    await collected(stream)
    await collected(bench.tell("", is_user_continue=True, auto_continue=False))
    assert len(bench.script.prompts("planner")) == 2
    assert bench.script.prompts("coder") == []


async def test_a_long_conversation_is_summarised(bench: Bench) -> None:
    gate = asyncio.Event()
    bench.script.says["planner"] = [["Just words. " * 40, gate], "Short.\n"]
    stream = bench.tell("tell me a lot")
    await until(stream, "reply")
    run = await bench.active()
    gate.set()
    await collected(stream)
    await bench.settled(run)
    bench.script.most_convo_tokens = 50
    await collected(bench.tell("and now?"))
    asked = bench.script.prompts("planner")[-1]
    assert "Summary: all is well" in asked
    assert "Just words." not in asked
    assert "and now?" in asked


async def test_runs_of_projects_are_listed(bench_anywhere: Bench) -> None:
    bench = bench_anywhere
    gate = asyncio.Event()
    bench.script.says["planner"] = [["On it.\n", gate, plan()]]
    stream = bench.tell()
    await until(stream, "reply")
    project = (await bench.desk.main()).plan.project_id
    branch_id = (await bench.desk.main()).branch.id
    request = ListRunsRequest(project_id=[project])
    listed = await bench.service.list_runs(request, bench.call)
    assert [branch.name for branch in listed.branches] == ["main"]
    assert len(listed.stream_id_by_branch_id[branch_id]) >= 4
    assert list(listed.plans_by_id) == ["plan-1"]
    assert branch_id not in listed.stream_finished_at_by_branch_id
    eve = await bench.service.list_runs(request, call_of(bench.desk.eve))
    assert list(eve.branches) == []
    gate.set()
    await collected(stream)
    assert list((await bench.service.list_runs(request, bench.call)).branches) == []
    recent = await bench.service.list_runs(ListRunsRequest(project_id=[project], recent=True), bench.call)
    assert branch_id in recent.stream_finished_at_by_branch_id
    bench.desk.clock.forward(seconds=3601)
    gone = await bench.service.list_runs(ListRunsRequest(project_id=[project], recent=True), bench.call)
    assert list(gone.branches) == []


async def test_runs_are_listed_for_named_projects_only(bench: Bench) -> None:
    with pytest.raises(InvalidArgument, match="No project ids provided"):
        await bench.service.list_runs(ListRunsRequest(), bench.call)


async def test_runs_of_others_are_out_of_reach(bench: Bench) -> None:
    gate = asyncio.Event()
    bench.script.says["planner"] = [["On it.\n", gate, plan()]]
    stream = bench.tell()
    await until(stream, "reply")
    stop = StopRunRequest(plan_id="plan-1", branch="main")
    with pytest.raises(NotFound):
        await bench.service.stop_run(stop, call_of(bench.desk.eve))
    with pytest.raises(Unauthenticated, match="no access to plan"):
        await bench.service.stop_run(stop, call_of(bench.desk.bob))
    with pytest.raises(NotFound):
        await collected(bench.service.connect_run(ConnectRunRequest(plan_id="plan-1", branch="main"), call_of(bench.desk.eve)))
    gate.set()
    await collected(stream)


async def test_a_run_ends_after_two_hours(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("core.plans.active_runs.MOST_SECONDS", 0.2)
    bench.script.says["planner"] = [["On it.\n", asyncio.Event()]]
    last = (await collected(bench.tell()))[-1]
    assert (last.type, error_of(last).msg) == ("error", "The run took longer than two hours")
    assert (await bench.state()).messages[-1].stopped


async def test_a_plan_that_is_deleted_meanwhile_ends_its_run(bench: Bench) -> None:
    gate = asyncio.Event()
    bench.script.says["planner"] = [["On it.\n", gate, plan()]]
    stream = bench.tell()
    await until(stream, "reply")
    run = await bench.active()
    async with bench.desk.database.unit_of_work() as session:
        opened = await bench.desk.main()
        await session.delete(opened.branch)
        await session.flush()
        await session.delete(opened.plan)
    gate.set()
    assert run.task is not None
    await asyncio.wait_for(run.task, 10)
    assert await eventually(lambda: bench.runs.of_branch(run.held.branch_id) is None)
