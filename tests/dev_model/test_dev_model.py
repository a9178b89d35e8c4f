"""The development model: what it is told by directives, and that plans reach it as they reach any other."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from typing import Any

import httpx
import pytest

from adapters.console.serving import dev_model
from adapters.dev_model.answers import Asked, Pause, answer
from adapters.dev_model.server import DevModel
from core.kernel.errors import Unavailable
from core.kernel.http import AddressPolicy
from core.kernel.settings import Outgoing, PlanModels, Settings
from core.models.endpoints import Endpoints
from core.plans import prompts
from core.plans.completion import RoleModels
from core.plans.own_models import own_packs
from core.plans.packs import Stock
from core.plans.questions import Function, Message, Parameter
from core.plans.replacing import put_in
from core.plans.replacing import read as read_replacements
from core.plans.reply_parser import Reply, ReplyParser
from core.plans.whole_file import extract
from core.plans.writing import Wanted

PLANNING = ("system", "Plan. Write tasks so:\n\n### Tasks\n\n1. Title\n")
PROMPT = "Please:\nwrite src/a.py: print(1)\\nprint(2)\nremove b.txt\nwrite src/a.py: two\nand look at `c.py`"
FINISH = "<PlandexFinish/>"


def said(role: str, prompt: str, *before: tuple[str, str]) -> str:
    return "".join(step for step in answer(Asked(role, [*before, ("user", prompt)])) if isinstance(step, str))


def read(role: str, prompt: str, *before: tuple[str, str]) -> Reply:
    parser = ReplyParser()
    parser.feed(said(role, prompt, *before))
    return parser.finish()[1]


def test_a_planner_makes_a_task_of_each_directive() -> None:
    reply = read("planner", PROMPT, PLANNING)
    assert [task.title for task in reply.tasks] == ["Write src/a.py", "Remove b.txt", "Write src/a.py (2)"]
    assert [task.uses_files for task in reply.tasks] == [["src/a.py"], ["b.txt"], ["src/a.py"]]
    assert reply.finished


def test_a_planner_without_directives_makes_no_tasks() -> None:
    reply = read("planner", "Please write the docs: they are missing. remove what is old", PLANNING)
    assert not reply.has_tasks
    assert reply.shown


def test_a_planner_that_is_not_taught_tasks_talks() -> None:
    reply = read("planner", PROMPT, ("system", "Talk."))
    assert not reply.has_tasks
    assert PROMPT in reply.shown


def test_a_coder_carries_out_the_task_that_it_is_told() -> None:
    for task in read("planner", PROMPT, PLANNING).tasks:
        reply = read("coder", f"Implement this.\n\nTask: **{task.title}**\n\n{task.description}\n", ("user", PROMPT))
        (operation,) = reply.operations
        assert reply.completes(task.title)
        wanted = {"Write src/a.py": "print(1)\nprint(2)\n", "Remove b.txt": "", "Write src/a.py (2)": "two\n"}
        assert operation.content == wanted[task.title]
        assert operation.type == ("remove" if "Remove" in task.title else "file")


def test_a_coder_that_is_told_a_title_finds_its_directive_in_the_conversation() -> None:
    reply = read("coder", "Task: **Write src/a.py (2)**\n", ("user", PROMPT), ("assistant", "The plan."))
    assert reply.operations[0].content == "two\n"


def test_a_coder_that_is_told_nothing_takes_the_first_open_task() -> None:
    done = ("assistant", "**Write src/a.py** has been completed")
    reply = read("coder", "Go on.", ("user", PROMPT), done)
    assert reply.operations[0].type == "remove"
    assert reply.completes("Remove b.txt")


def test_a_coder_goes_on_where_its_reply_was_broken_off() -> None:
    task = "Task: **Write a.py**\n\nwrite a.py: x\n"
    whole = said("coder", task)
    begun = whole[:40]
    resumed = said("coder", f"{task}\n\n### BEGINNING OF YOUR REPLY ###\n{begun}\n### END OF THE BEGINNING ###")
    assert begun + resumed == whole


def test_an_architect_lists_what_stands_in_backticks() -> None:
    assert read("architect", "Change `a.py` and `b.py`, `a.py` first").files == ["a.py", "b.py"]
    assert not read("architect", "Change all").has_files


def test_sleeping_stops_the_reply_without_an_end_of_it() -> None:
    steps = answer(Asked("planner", [PLANNING, ("user", "sleep 2\nsleep 0.5\nwrite a: b")]))
    assert steps[1] == Pause(2.5)
    assert isinstance(steps[0], str)


def test_the_small_roles_answer_by_rule() -> None:
    assert said("names", "anything") == "dev-plan"
    assert said("commit-messages", "Files: `a.py`, `b.py`\n\nThe reply:\n\n`c.py`") == "Update a.py, b.py"
    assert said("commit-messages", "Condense:\n\n- Update a.py\n- Update b.py, a.py") == "Update a.py, b.py"
    assert said("summarizer", "x" * 300) == "Summary: " + "x" * 200
    change = "<Change>\na\n# ... existing code ...\nb\n</Change>"
    assert said("whole-file-builder", change) == "<PlandexWholeFile>\na\nb\n</PlandexWholeFile>\n"


def test_a_builder_replaces_from_the_first_line_of_a_change_to_its_last() -> None:
    system = ("system", prompts.builder())
    wanted = Wanted("a.txt", "one\ntwo\nthree\ntwo\n", "", "# ... existing code ...\none\n1.5\ntwo\n", "it is not certain")
    pieces = read_replacements(said("builder", prompts.for_edit(wanted), system))
    assert pieces is not None
    assert put_in(wanted.original, pieces) == "one\n1.5\ntwo\nthree\ntwo\n"
    unclear = replace(wanted, block="two\nnew\nthree\n")
    assert read_replacements(said("builder", prompts.for_edit(unclear), system)) is None
    whole = said("builder", prompts.for_edit(unclear), ("system", prompts.whole_file()))
    assert extract(whole, unclear.original) == "one\ntwo\nthree\ntwo\nnew\n"


@pytest.fixture
async def url() -> AsyncIterator[str]:
    model = DevModel()
    yield await model.start()
    await model.stop()


@asynccontextmanager
async def asking(url: str) -> AsyncGenerator[RoleModels]:
    settings = Settings(plan_models=PlanModels(dev_url=url, retries=0))
    (own,) = own_packs(settings)
    stock = Stock({one.model_id: one for one in own.models}, {own.name: own.provider}, {own.name: own.pack}, {own.name: own})
    # An address of the operator is called although those of users would not be.
    endpoints = Endpoints(AddressPolicy.of(Outgoing(local=False)))
    try:
        yield RoleModels(settings, stock, own.pack, {}, endpoints)
    finally:
        await endpoints.stop()


@pytest.fixture
async def models(url: str) -> AsyncIterator[RoleModels]:
    async with asking(url) as made:
        yield made


async def test_plans_reach_it_as_they_reach_any_other(models: RoleModels) -> None:
    function = Function(
        "didFinishSubtask", "Tells.", {"reasoning": Parameter("Why"), "subtaskFinished": Parameter("If", "boolean")}
    )
    messages = [Message("system", PLANNING[1]), Message("user", PROMPT)]
    text = "".join([piece async for piece in models.stream("planner", messages, stop=[FINISH])])
    assert text == said("planner", PROMPT, PLANNING).partition(FINISH)[0]
    assert (await models.ask("auto-continue", messages, function=function))["subtaskFinished"] is True
    assert await models.ask("names", messages, function=Function("n", "", {"planName": Parameter("Name")})) == {
        "planName": "dev-plan"
    }
    assert [(used.role, used.provider, used.estimated) for used in models.usage] == [
        ("planner", "dev", False),
        ("auto-continue", "dev", False),
        ("names", "dev", False),
    ]


async def test_an_answer_can_be_left_while_it_sleeps(models: RoleModels) -> None:
    async with aclosing(models.stream("planner", [Message("user", "sleep 600")])) as texts:
        assert await anext(texts)


async def test_it_stops_while_an_answer_sleeps() -> None:
    model = DevModel()
    url = await model.start()
    body = {"model": "planner", "messages": [{"role": "user", "content": "sleep 600"}]}
    async with httpx.AsyncClient() as client:
        asked = asyncio.create_task(client.post(f"{url}/chat/completions", json=body, timeout=30))
        await asyncio.sleep(0.1)
        await asyncio.wait_for(model.stop(), 10)
        await asyncio.gather(asked, return_exceptions=True)


@pytest.mark.parametrize("body", [{}, {"model": 3, "messages": []}, {"model": "planner"}, []])
async def test_a_request_that_asks_nothing_is_refused(body: Any, url: str) -> None:
    async with httpx.AsyncClient() as client:
        assert (await client.post(f"{url}/chat/completions", json=body)).status_code == 400


async def test_it_can_be_asked_without_a_stream_and_in_parts(url: str) -> None:
    content = [{"type": "text", "text": "hello"}, {"type": "image_url", "image_url": {"url": "data:,"}}]
    body = {"model": "planner", "messages": [{"role": "user", "content": content}], "stop": FINISH}
    async with httpx.AsyncClient() as client:
        answered = (await client.post(f"{url}/chat/completions", json=body)).json()
    assert answered["choices"][0]["message"]["content"].endswith("You said:\n\nhello\n\n")
    assert answered["usage"]["prompt_tokens"] == 2


async def test_serving_starts_it_only_when_asked_to() -> None:
    async with dev_model(Settings()) as plain:
        assert not plain.plan_models.dev_url
    async with dev_model(Settings(plan_models=PlanModels(dev_model=True))) as settings:
        url = settings.plan_models.dev_url
        async with httpx.AsyncClient() as client:
            assert (await client.get(f"{url}/models")).status_code == 200
            port = int(url.rpartition(":")[2].partition("/")[0])
            with pytest.raises(Unavailable, match="development model cannot listen"):
                async with dev_model(Settings(plan_models=PlanModels(dev_model=True, dev_port=port))):
                    pass
    async with httpx.AsyncClient() as client:
        with pytest.raises(httpx.ConnectError):
            await client.get(f"{url}/models")
