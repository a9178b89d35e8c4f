"""Runs without doors: the service on a store, with models that say what a test has written down for them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import pytest

from core.kernel.call import Call
from core.kernel.errors import DomainError
from core.plans.active_run import ActiveRun
from core.plans.active_runs import ActiveRuns
from core.plans.completion import ModelUsage, RoleModels, Roles
from core.plans.ids import new_uuid
from core.plans.packs import Limits
from core.plans.questions import Function, Message
from core.plans.run_changes import PartialReplies
from core.plans.run_directory import RunDirectory
from core.plans.run_log import RunLog
from core.plans.run_parts import RunParts
from core.plans.runs import RunService
from core.plans.state import PlanState, Settings
from core.plans.store import Change
from core.plans.stream_messages import parts as parts_of
from core.plans.summaries import Summaries
from core.storage.database import Database
from gen.busbar.plans.v1.contexts_pb import Context, LoadContextParams, LoadContextResponse
from gen.busbar.plans.v1.conversation_pb import (
    ConvoMessage,
    ConvoMessageDescription,
    ConvoMessageFlags,
    CurrentStage,
    Operation,
)
from gen.busbar.plans.v1.runs_pb import (
    ApiError,
    AutoLoadContextRequest,
    BuildRequest,
    ConnectRunRequest,
    GetBuildStatusRequest,
    GetRunRequest,
    RespondMissingFileRequest,
    StopRunRequest,
    StreamBuildRequest,
    StreamMessage,
    StreamTellRequest,
    TellRequest,
)
from tests.plans.desk import Desk, call_of

BLOCK = """\
- {path}:
<PlandexBlock lang="text" path="{path}">
{text}
</PlandexBlock>
"""
PLAN = """\
I will write it down.

### Tasks

1. {title}
- Write it
Uses: {uses}
"""
DONE = "\n**{title}** has been completed\n"

Piece = str | asyncio.Event | Exception
Saying = str | Sequence[Piece]


def plan(title: str = "Write a", *paths: str) -> str:
    """Return a reply that plans one task."""
    return PLAN.format(title=title, uses=", ".join(f"`{path}`" for path in paths or ("a.txt",)))


def code(path: str = "a.txt", text: str = "hello", title: str = "Write a") -> str:
    """Return a reply that writes one file and completes its task."""
    return "Here it is.\n\n" + BLOCK.format(path=path, text=text) + DONE.format(title=title)


class Script(RoleModels):
    """Models that say what was written down for them, role by role; the last saying of a role is said again and again.

    A saying is text, or pieces of it. An event among the pieces is waited for, an exception is raised.
    """

    def __init__(self) -> None:
        self.says: dict[str, list[Saying]] = {
            "planner": [plan()],
            "coder": [code()],
            "architect": ["### Files\n- `a.txt`\n"],
            "summarizer": ["Summary: all is well"],
            "builder": ["<PlandexVerdict>whole-file</PlandexVerdict>"],
        }
        self.answers: dict[str, Any] = {
            "names": {"planName": "write a"},
            "commit-messages": {"commitMsg": "Write a"},
            "auto-continue": {"reasoning": "all there", "subtaskFinished": True},
        }
        self.asked: list[tuple[str, list[Message]]] = []
        self.usage = []
        self.room_left = 100_000
        self.most_convo_tokens = 10_000
        self.refusal: DomainError | None = None
        self.keys: list[dict[str, str]] = []

    def prompts(self, role: str) -> list[str]:
        """Return what a role was asked, each question as one text."""
        return ["\n\n".join(message.text for message in question) for asked, question in self.asked if asked == role]

    def limits(self, role: str) -> Limits:
        return Limits(128_000, 8_000, 8_000, self.most_convo_tokens, has_image_support=True, calls_functions=True)

    def room(self, role: str) -> int:
        return self.room_left

    def require(self, *roles: str) -> None:
        if self.refusal is not None:
            raise self.refusal

    async def stream(
        self, role: str, messages: Sequence[Message], *, stop: Sequence[str] = (), writes: int = 0, strong: bool = False
    ) -> AsyncGenerator[str]:
        self.asked.append((role, list(messages)))
        said = self.says[role]
        saying = said.pop(0) if len(said) > 1 else said[0]
        for piece in [saying] if isinstance(saying, str) else saying:
            if isinstance(piece, Exception):
                raise piece
            if isinstance(piece, asyncio.Event):
                await piece.wait()
            else:
                yield piece
        self.usage.append(ModelUsage(role, f"model of {role}", "test", 10, 5, 0.25))

    async def ask(  # pyright: ignore[reportIncompatibleMethodOverride] - one signature is enough here
        self, role: str, messages: Sequence[Message], *, function: Function | None = None, strong: bool = False
    ) -> Any:
        if function is None:
            return "".join([piece async for piece in self.stream(role, messages)])
        self.asked.append((role, list(messages)))
        answer = self.answers[role]
        if isinstance(answer, Exception):
            raise answer
        return answer


@dataclass
class ScriptRoles:
    """Hands the script out, and notes with which keys."""

    script: Script

    async def for_branch(self, org_id: str, settings: Settings, auth_vars: Mapping[str, str]) -> RoleModels:
        self.script.keys.append(dict(auth_vars))
        return self.script


class Keeper:
    """Loads files as they come."""

    async def load(
        self, change: Change, items: Iterable[LoadContextParams], *, owner: str, auto_loaded: bool = False
    ) -> LoadContextResponse:
        added = 0
        for item in items:
            loaded = Context(
                id=new_uuid(),
                owner_id=owner,
                context_type="file",
                name=item.name,
                file_path=item.file_path,
                body=item.body,
                num_tokens=len(item.body),
                auto_loaded=auto_loaded,
            )
            change.state.contexts[loaded.id] = loaded
            added += loaded.num_tokens
        change.branch.context_tokens += added
        change.message = "Loaded files into context"
        return LoadContextResponse(tokens_added=added, total_tokens=change.branch.context_tokens, msg=change.message)


@dataclass
class Bench:
    """A service of runs, and a plan of Alice's to try it on."""

    desk: Desk
    script: Script = field(default_factory=Script)
    pace_ms: int = 0
    plan_id: str = "plan-1"

    def __post_init__(self) -> None:
        self.boot()

    def boot(self) -> None:
        """Build the service anew, as a new process would."""
        desk = self.desk
        self.log = RunLog(desk.database, desk.clock)
        self.runs = ActiveRuns(
            desk.database,
            desk.clock,
            self.log,
            PartialReplies(desk.store, self.log, desk.clock).keep,
            pace_ms=self.pace_ms,
            keep_days=30,
        )
        self.parts = RunParts(
            database=desk.database,
            store=desk.store,
            log=self.log,
            keeper=Keeper(),
            roles=cast("Roles", ScriptRoles(self.script)),
            summaries=Summaries(desk.database, desk.clock),
            clock=desk.clock,
        )
        directory = RunDirectory(desk.database, self.log, desk.clock)
        self.service = RunService(self.runs, self.parts, directory, desk.clock)

    @property
    def call(self) -> Call:
        return call_of(self.desk.alice)

    def request(self, prompt: str = "write a.txt", **fields: Any) -> TellRequest:
        """Return a prompt, answered on its own unless fields say otherwise."""
        values: dict[str, Any] = {"auto_continue": True, "build_mode": "auto", "project_paths": {}} | fields
        return TellRequest(plan_id=self.plan_id, branch="main", prompt=prompt, **values)

    def tell(self, prompt: str = "write a.txt", **fields: Any) -> AsyncIterator[StreamMessage]:
        """Send a prompt and follow it."""
        return self.service.stream_tell(StreamTellRequest(tell=self.request(prompt, **fields)), self.call)

    def build(self) -> AsyncIterator[StreamMessage]:
        """Build what is not built and follow it."""
        request = StreamBuildRequest(build=BuildRequest(plan_id=self.plan_id, branch="main"))
        return self.service.stream_build(request, self.call)

    def connect(self, position: int | None = None, run_id: str = "") -> AsyncIterator[StreamMessage]:
        """Follow the run."""
        request = ConnectRunRequest(plan_id=self.plan_id, branch="main", run_id=run_id)
        if position is not None:
            request.position = position
        return self.service.connect_run(request, self.call)

    async def stop(self) -> None:
        await self.service.stop_run(StopRunRequest(plan_id=self.plan_id, branch="main"), self.call)

    async def respond(self, choice: str, path: str, body: str = "") -> None:
        request = RespondMissingFileRequest(plan_id=self.plan_id, branch="main", choice=choice, file_path=path, body=body)
        await self.service.respond_missing_file(request, self.call)

    async def auto_load(self, *files: tuple[str, str]) -> LoadContextResponse:
        items = [LoadContextParams(context_type="file", name=path, file_path=path, body=body) for path, body in files]
        request = AutoLoadContextRequest(plan_id=self.plan_id, branch="main", items=items)
        return await self.service.auto_load_context(request, self.call)

    async def build_status(self) -> Any:
        return await self.service.get_build_status(GetBuildStatusRequest(plan_id=self.plan_id, branch="main"), self.call)

    async def status(self, run_id: str = "latest", position: int = 0) -> Any:
        request = GetRunRequest(plan_id=self.plan_id, branch="main", run_id=run_id, position=position)
        return await self.service.get_run(request, self.call)

    async def state(self) -> PlanState:
        return await self.desk.state(self.plan_id)

    async def branch_status(self) -> str:
        return (await self.desk.main(self.plan_id)).branch.status

    async def entries(self) -> list[str]:
        """Return the log of the branch, oldest first."""
        entries = await self.desk.store.log(await self.desk.main(self.plan_id))
        return [entry.message for entry in reversed(entries)]

    async def active(self) -> ActiveRun:
        """Return the run that is active."""
        opened = await self.desk.main(self.plan_id)
        run = self.runs.of_branch(opened.branch.id)
        assert run is not None
        return run

    async def settled(self, run: ActiveRun) -> None:
        """Wait for what a run leaves to be done in the background."""
        if run.later:
            await asyncio.wait(set(run.later), timeout=10)

    async def described(self, *operations: Operation, built: bool = False) -> None:
        """Put a reply with operations into the state that is not built."""
        async with self.desk.store.change(self.desk.alice, self.plan_id, "main") as change:
            message_id = new_uuid()
            change.state.descriptions.append(
                ConvoMessageDescription(
                    id=new_uuid(),
                    convo_message_id=message_id,
                    wrote_files=True,
                    operations=list(operations),
                    did_build=built,
                )
            )
            change.message = "A reply"


def error_of(message: StreamMessage) -> ApiError:
    """Return the error of a message that has one."""
    assert message.error is not None
    return message.error


def flags_of(message: ConvoMessage) -> ConvoMessageFlags:
    """Return what a message did."""
    assert message.flags is not None
    return message.flags


def stage_of(message: ConvoMessage) -> CurrentStage:
    """Return the stage at which a message was written."""
    stage = flags_of(message).current_stage
    assert stage is not None
    return stage


def flat(messages: Sequence[StreamMessage]) -> list[StreamMessage]:
    """Return messages without what collects them."""
    return [part for message in messages for part in parts_of(message)]


def kinds(messages: Sequence[StreamMessage]) -> list[str]:
    """Return the kinds of messages in order, runs of the same kind as one."""
    found: list[str] = []
    for message in flat(messages):
        if found[-1:] != [message.type]:
            found.append(message.type)
    return found


def text(messages: Sequence[StreamMessage]) -> str:
    """Return the text that a client shows."""
    return "".join(message.reply_chunk for message in flat(messages))


async def collected(stream: AsyncIterator[StreamMessage], seconds: float = 20) -> list[StreamMessage]:
    """Read a stream to its end."""
    async with asyncio.timeout(seconds):
        return [message async for message in stream]


async def until(stream: AsyncIterator[StreamMessage], wanted: str, seconds: float = 20) -> list[StreamMessage]:
    """Read a stream up to a kind of message."""
    found: list[StreamMessage] = []
    async with asyncio.timeout(seconds):
        async for message in stream:
            found.append(message)
            if any(part.type == wanted for part in parts_of(message)):
                return found
    raise AssertionError(f"{wanted} never came: {kinds(found)}")


async def eventually(holds: Callable[[], Any], seconds: float = 10) -> Any:
    """Wait until something holds."""
    async with asyncio.timeout(seconds):
        while True:
            found = holds()
            if found:
                return found
            await asyncio.sleep(0.01)


@pytest.fixture
async def bench_anywhere(any_desk: Desk) -> AsyncGenerator[Bench]:
    """A bench on a database of each kind."""
    await any_desk.plan()
    made = Bench(any_desk)
    yield made
    await made.runs.stop()


@pytest.fixture
async def bench(sqlite: Database, tmp_path: Path) -> AsyncGenerator[Bench]:
    """A bench on SQLite with one empty plan."""
    desk = Desk(sqlite, tmp_path / "plans")
    await desk.people()
    await desk.plan()
    made = Bench(desk)
    yield made
    await made.runs.stop()
