"""The store: what is acknowledged is committed, git and database stay in step, and nobody sees the plans of others."""

from __future__ import annotations

import asyncio

import pytest

from core.kernel.errors import NotFound, Unauthenticated
from core.plans.access import Opened
from gen.busbar.plans.v1.conversation_pb import ConvoMessage
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


async def test_changes_of_one_branch_come_one_after_the_other(desk: Desk) -> None:
    await desk.plan()

    async def say(number: int) -> None:
        async with desk.store.change(desk.alice, "plan-1", "main") as change:
            before = len(change.state.messages)
            await asyncio.sleep(0)
            change.state.messages.append(ConvoMessage(id=f"m{number}", num=before + 1))
            change.message = f"Message #{before + 1}"

    await asyncio.gather(*(say(number) for number in range(10)))
    assert [message.num for message in (await desk.state()).messages] == list(range(1, 11))
    assert len(await desk.store.log(await desk.main())) == 10


async def test_strangers_and_colleagues_are_kept_out(desk: Desk) -> None:
    await desk.plan()
    with pytest.raises(NotFound):
        await desk.store.open(desk.eve, "plan-1", "main")
    with pytest.raises(Unauthenticated, match="no access to plan"):
        await desk.store.open(desk.bob, "plan-1", "main")
    with pytest.raises(NotFound):
        await desk.store.open(desk.alice, "plan-1", "other")
    with pytest.raises(NotFound):
        async with desk.store.change(desk.eve, "plan-1", "main"):
            pytest.fail("a stranger may not change a plan")
    assert isinstance(await desk.main(), Opened)
