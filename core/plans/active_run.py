"""One run, as the process that carries it out has it in memory."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Literal

from core.kernel.call import Principal
from core.plans.run_feed import RunFeed
from core.plans.run_log import Held
from gen.busbar.plans.v1.runs_pb import ApiError

Choice = Literal["load", "skip", "overwrite"]
"""What to do about a file that the model has not read."""


class RunFailed(Exception):
    """A run cannot go on, for a reason that its client knows by a word."""

    def __init__(self, kind: str, status: int, text: str) -> None:
        super().__init__(text)
        self.error = ApiError(type=kind, status=status, msg=text)


@dataclass(eq=False)
class ActiveRun:
    """A run that this process carries out.

    Attributes:
        held: Its id, its branch and this process.
        caller: Who started it; it acts for them.
        plan_id: Plan that it works on.
        branch: Name of the branch that it works on.
        prompt: What was asked for.
        builds_only: Whether no model talks in it.
        feed: What it tells.
        auth_vars: Keys of its model providers. Nowhere but here.
        usage: Returns what it has cost, as JSON.
        missing_file: File that it asks about; empty for none.
        load_files: Files that it asks for.
        building: Whether each file of its builds is built, by path.
        answer: Where the answer about that file is awaited.
        loading: Set when those files begin to be loaded.
        loaded: Where they are awaited.
        later: Work beside it that may outlive it.
        task: What carries it out.
        ending: Whether it is past being cancelled.
        why: Why its task is cancelled: empty, `stopped` by its user, that the server goes down, or that it is no longer held.
    """

    held: Held
    caller: Principal
    plan_id: str
    branch: str
    prompt: str
    builds_only: bool
    feed: RunFeed
    auth_vars: dict[str, str] = field(default_factory=dict[str, str], repr=False)
    usage: Callable[[], str] = lambda: "[]"
    missing_file: str = ""
    load_files: tuple[str, ...] = ()
    building: dict[str, bool] = field(default_factory=dict[str, bool])
    answer: asyncio.Future[Choice] | None = None
    loading: asyncio.Event | None = None
    loaded: asyncio.Future[None] | None = None
    why: str = ""
    ending: bool = False
    task: asyncio.Task[None] | None = None
    later: set[asyncio.Task[None]] = field(default_factory=set[asyncio.Task[None]])

    def afterwards(self, work: Awaitable[None], name: str) -> asyncio.Task[None]:
        """Do work beside the run that may outlive it."""

        async def carry_out() -> None:
            await work

        task = asyncio.create_task(carry_out(), name=name)
        self.later.add(task)
        task.add_done_callback(self.later.discard)
        return task


Work = Callable[[ActiveRun], Awaitable[None]]
"""Carries a run out; returns when it did what it was asked for."""
