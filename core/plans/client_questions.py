"""What a run asks its client: what to do about a file that it has not read, and for files that it wants to read."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import TypeVar

from core.plans import stream_messages as messages
from core.plans.active_runs import ActiveRun, Choice, RunFailed
from core.plans.reply_stream import FileGuard
from core.plans.run_log import RunLog

T = TypeVar("T")

MISSING_FILE_SECONDS = 30 * 60.0
BEGIN_SECONDS = 30.0
LOAD_SECONDS = 5 * 60.0
"""A client has to begin to load within the first, and has for the loading itself as long as it waits for that."""
LATE = "Timed out waiting for the files that the plan needs"


class AskingGuard(FileGuard):
    """Asks the client about each file of the project that the model has not read, once in a run.

    Attributes:
        allowed: Paths that the client let be overwritten.
    """

    def __init__(
        self,
        run: ActiveRun,
        run_log: RunLog,
        project_paths: frozenset[str],
        knows: Callable[[str], Awaitable[bool]],
        *,
        auto_context: bool,
    ) -> None:
        self.allowed: set[str] = set()
        self._run = run
        self._log = run_log
        self._paths = project_paths
        self._knows = knows
        self._auto_context = auto_context

    async def decide(self, path: str) -> Choice | None:
        """Ask about a file, unless the model knows it."""
        if path not in self._paths or path in self.allowed or await self._knows(path):
            return None
        run = self._run
        run.answer = asyncio.get_running_loop().create_future()
        run.missing_file = path
        try:
            await self._log.set_waiting(run.held, missing_file=path)
            await self._log.set_status(run.held.branch_id, "missingFile")
            await run.feed.tell(messages.missing_file(path, auto_context=self._auto_context))
            choice = await _answered(run.answer, MISSING_FILE_SECONDS, f"Nobody said what to do about {path}")
        finally:
            run.answer, run.missing_file = None, ""
        await self._log.set_waiting(run.held)
        await self._log.set_status(run.held.branch_id, "replying")
        if choice == "overwrite":
            self.allowed.add(path)
        return choice


async def ask_for_files(run: ActiveRun, run_log: RunLog, paths: list[str]) -> None:
    """Ask the client for files, and wait until it has loaded those that it wants to.

    Raises:
        RunFailed: It does not answer.
    """
    run.loading, run.loaded = asyncio.Event(), asyncio.get_running_loop().create_future()
    run.load_files = tuple(paths)
    try:
        await run_log.set_waiting(run.held, load_files=json.dumps(paths))
        await run.feed.tell(messages.load_context(paths))
        await _answered(run.loading.wait(), BEGIN_SECONDS, LATE)
        await _answered(run.loaded, LOAD_SECONDS, LATE)
    finally:
        run.loading, run.loaded, run.load_files = None, None, ()
    await run_log.set_waiting(run.held)


async def _answered(answer: Awaitable[T], seconds: float, otherwise: str) -> T:
    try:
        async with asyncio.timeout(seconds):
            return await answer
    except TimeoutError as error:
        raise RunFailed("other", 408, otherwise) from error
