"""Logs, rewinds and conversations."""

from __future__ import annotations

import re
from collections.abc import Sequence

import pytest

from core.kernel.errors import FailedPrecondition, InvalidArgument, NotFound
from core.plans.history import entry_text, time_text
from core.plans.repository import Entry
from core.plans.shas import named, shown
from gen.busbar.plans.v1.branches_pb import CreateBranchRequest
from gen.busbar.plans.v1.conversation_pb import ConvoMessage, GetSummaryRequest, ListMessagesRequest
from gen.busbar.plans.v1.history_pb import (
    ListLogsRequest,
    Logs,
    RewindPlanRequest,
    RewindPlanResponse,
    UndoRewindRequest,
)
from tests.plans.desk import Desk, call_of

HEADER = re.compile(
    r"📝 Update ([0-9a-f]{8}) \| "
    r"((?:Mon|Tue|Wed|Thu|Fri|Sat|Sun) [A-Z][a-z]{2} \d{1,2}, \d{4} \| \d{1,2}:\d\d:\d\d[ap]m UTC)"
)


async def logs(desk: Desk, branch: str = "main") -> Logs:
    return await desk.history.list_logs(ListLogsRequest(plan_id="plan-1", branch=branch), call_of(desk.alice))


async def rewind(desk: Desk, sha: str, branch: str = "main") -> RewindPlanResponse:
    request = RewindPlanRequest(plan_id="plan-1", branch=branch, sha=sha)
    return await desk.history.rewind_plan(request, call_of(desk.alice))


async def undo(desk: Desk) -> RewindPlanResponse:
    return await desk.history.undo_rewind(UndoRewindRequest(plan_id="plan-1", branch="main"), call_of(desk.alice))


async def say(desk: Desk, text: str) -> ConvoMessage:
    async with desk.store.change(desk.alice, "plan-1", "main") as change:
        number = len(change.state.messages) + 1
        message = ConvoMessage(id=f"message-{text}", num=number, role="user", message=text, tokens=10)
        change.state.messages.append(message)
        change.branch.convo_tokens += message.tokens
        change.message = f"Message #{number} | 💬 User prompt | {message.tokens} 🪙"
    return message


async def messages(desk: Desk) -> list[str]:
    request = ListMessagesRequest(plan_id="plan-1", branch="main")
    return [one.message for one in (await desk.conversation.list_messages(request, call_of(desk.alice))).messages]


async def summary(desk: Desk) -> str:
    request = GetSummaryRequest(plan_id="plan-1", branch="main")
    return (await desk.conversation.get_summary(request, call_of(desk.alice))).text


async def test_the_log_reads_as_clients_parse_it(desk: Desk) -> None:
    await desk.plan()
    assert (await logs(desk)) == Logs()
    await desk.load("a.py")
    await say(desk, "hello")
    log = await logs(desk)
    chunks = log.body.split("\n\n")
    headers = [HEADER.fullmatch(chunk.split("\n")[0]) for chunk in chunks]
    assert [header[1] for header in headers if header] == log.shas
    assert [chunk.split("\n")[1:] for chunk in chunks] == [
        ["Message #1 | 💬 User prompt | 10 🪙"],
        ["Loaded a.py into context"],
    ]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (1_752_685_443, "Wed Jul 16, 2025 | 5:04:03pm UTC"),
        (1_751_328_000, "Tue Jul 1, 2025 | 12:00:00am UTC"),
        (1_751_371_205, "Tue Jul 1, 2025 | 12:00:05pm UTC"),
        (1_767_139_199, "Tue Dec 30, 2025 | 11:59:59pm UTC"),
    ],
)
def test_times_are_written_as_clients_look_for_them(seconds: int, text: str) -> None:
    assert time_text(seconds) == text


def test_no_empty_line_is_left_inside_an_entry() -> None:
    message = "Loaded\r\n\r\n Name | Type\n\n  \n\nThe end | of it\n"
    text = entry_text(Entry("0" * 40, 0, message), "00000000")
    assert text.split("\n")[1:] == ["Loaded", " Name | Type", "The end | of it"]


def test_shas_are_as_long_as_it_takes_to_tell_them_apart() -> None:
    twins = ["0123456789" + "a" * 30, "0123456789" + "b" * 30, "f" * 40]
    entries = [Entry(sha, 0, "") for sha in twins]
    assert list(shown(entries).values()) == ["0123456789a", "0123456789b", "ffffffff"]
    assert named("fffffff", entries).sha == twins[2]
    assert named("0123456789B", entries).sha == twins[1]
    with pytest.raises(InvalidArgument):
        named("01234567", entries)
    with pytest.raises(NotFound):
        named("ffffff", entries)


async def test_a_rewind_takes_later_entries_away(any_desk: Desk) -> None:
    desk = any_desk
    await desk.plan()
    await desk.load("a.py", "12345678")
    await say(desk, "one")
    await say(desk, "two")
    log = await logs(desk)
    answer = await rewind(desk, log.shas[1][:7])
    assert answer.latest_sha == log.shas[1]
    assert answer.latest_commit == log.body.split("\n\n")[1]
    assert (await logs(desk)).shas == log.shas[1:]
    assert await messages(desk) == ["one"]
    branch = (await desk.main()).branch
    assert (branch.context_tokens, branch.convo_tokens) == (8, 10)
    await say(desk, "three")
    assert await messages(desk) == ["one", "three"]
    with pytest.raises(NotFound):
        await rewind(desk, log.shas[0])


@pytest.mark.parametrize("sha", ["abcdef", "0123456789abcdef", "nonsense", "main"])
async def test_a_rewind_to_what_is_no_entry_is_refused(desk: Desk, sha: str) -> None:
    await desk.plan()
    await desk.load("a.py")
    with pytest.raises(NotFound):
        await rewind(desk, sha)


async def test_a_rewind_reaches_only_entries_of_its_branch(desk: Desk) -> None:
    await desk.plan()
    await desk.load("a.py")
    fork = CreateBranchRequest(plan_id="plan-1", branch="main", name="wide")
    await desk.branches.create_branch(fork, call_of(desk.alice))
    await desk.load("b.py")
    await desk.load("c.py", branch="wide")
    log = await logs(desk)
    with pytest.raises(NotFound):
        await rewind(desk, log.shas[0], "wide")
    # History before the fork is shared.
    await rewind(desk, log.shas[1], "wide")
    assert len((await desk.state(branch="wide")).contexts) == 1
    assert (await logs(desk)).shas == log.shas


async def test_a_rewind_can_be_taken_back(any_desk: Desk) -> None:
    desk = any_desk
    await desk.plan()
    await say(desk, "one")
    await say(desk, "two")
    log = await logs(desk)
    await rewind(desk, log.shas[1])
    desk.restart()
    assert (await undo(desk)).latest_sha == log.shas[0]
    assert (await logs(desk)) == log
    assert await messages(desk) == ["one", "two"]
    assert (await desk.main()).branch.convo_tokens == 20
    with pytest.raises(FailedPrecondition):
        await undo(desk)
    await rewind(desk, log.shas[1])
    await say(desk, "three")
    with pytest.raises(FailedPrecondition):
        await undo(desk)


async def test_a_rewind_to_where_the_branch_stands_changes_nothing(desk: Desk) -> None:
    await desk.plan()
    await say(desk, "one")
    await say(desk, "two")
    log = await logs(desk)
    await rewind(desk, log.shas[1])
    await rewind(desk, log.shas[1])
    await undo(desk)
    assert (await logs(desk)) == log


async def test_nothing_is_rewound_under_a_run(desk: Desk) -> None:
    await desk.plan()
    await say(desk, "one")
    await say(desk, "two")
    log = await logs(desk)
    await rewind(desk, log.shas[1])
    await desk.run_on("main-of-plan-1")
    with pytest.raises(FailedPrecondition):
        await rewind(desk, log.shas[1])
    with pytest.raises(FailedPrecondition):
        await undo(desk)
    assert (await logs(desk)).shas == log.shas[1:]


async def test_a_summary_counts_while_its_last_message_is_there(any_desk: Desk) -> None:
    desk = any_desk
    await desk.plan()
    said = [await say(desk, text) for text in ("one", "two")]
    assert await summary(desk) == ""
    plan = (await desk.main()).plan
    for text, message in (("two said", said[1]), ("one said", said[0]), ("one said better", said[0])):
        desk.clock.forward(seconds=1)
        await desk.summaries.add(plan, message, text, 3)
    assert await summary(desk) == "two said"
    await rewind(desk, (await logs(desk)).shas[1])
    assert await summary(desk) == "one said better"
    await undo(desk)
    assert await summary(desk) == "two said"


async def test_histories_of_others_are_out_of_reach(desk: Desk) -> None:
    await desk.plan()
    sha = await desk.load("a.py")
    calls: Sequence[object] = (
        desk.history.list_logs(ListLogsRequest(plan_id="plan-1", branch="main"), call_of(desk.eve)),
        desk.history.rewind_plan(RewindPlanRequest(plan_id="plan-1", branch="main", sha=sha), call_of(desk.eve)),
        desk.history.undo_rewind(UndoRewindRequest(plan_id="plan-1", branch="main"), call_of(desk.eve)),
        desk.conversation.list_messages(ListMessagesRequest(plan_id="plan-1", branch="main"), call_of(desk.eve)),
        desk.conversation.get_summary(GetSummaryRequest(plan_id="plan-1", branch="main"), call_of(desk.eve)),
    )
    for call in calls:
        with pytest.raises(NotFound):
            await call  # pyright: ignore[reportGeneralTypeIssues]
