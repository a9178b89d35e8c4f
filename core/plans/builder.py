"""Builds replies into files: each operation of a reply becomes a result, which is pending until the user applies or rejects it.

What is to be built is read from the state, so a build that was cut off, or whose results a change of the context made void, is
made up for by the next one. Files are built beside each other; the operations on one file, one after the other.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import groupby

import structlog

from core.kernel.clock import Clock, to_exact_timestamp
from core.kernel.errors import Aborted, DomainError
from core.plans import stream_messages as messages
from core.plans.active_run import ActiveRun, RunFailed
from core.plans.current import current_files, pending
from core.plans.edits import NeedsWholeFile, merge
from core.plans.replacements import result_for
from core.plans.run_changes import held_change
from core.plans.state import PlanState
from core.plans.store import Change, PlanStore
from core.plans.writers import Writers
from core.plans.writing import CannotWrite, Wanted
from gen.busbar.plans.v1.changes_pb import PlanFileResult
from gen.busbar.plans.v1.conversation_pb import ConvoMessageDescription, Operation

MOST_TRIES = 5
"""How often a build is done anew because files changed under it."""

log = structlog.get_logger("busbar.plans")


@dataclass(frozen=True, slots=True)
class Step:
    """One operation to be built."""

    index: int
    message_id: str
    operation: Operation


@dataclass(slots=True)
class Draft:
    """A build on its way.

    Attributes:
        before: Text that each file had; None for one that was not there.
        texts: Text that it has now.
        results: What each step makes.
        resets: Paths whose pending changes are dropped.
        failed: Why a file could not be built.
    """

    state: PlanState
    before: dict[str, str | None] = field(default_factory=dict[str, "str | None"])
    texts: dict[str, str | None] = field(default_factory=dict[str, "str | None"])
    results: dict[int, list[PlanFileResult]] = field(default_factory=dict[int, list[PlanFileResult]])
    resets: list[str] = field(default_factory=list[str])
    failed: dict[str, str] = field(default_factory=dict[str, str])

    def text(self, path: str) -> str | None:
        """Return the present text of a file."""
        if path not in self.texts:
            self.texts[path] = self.before[path] = text_of(self.state, path)
        return self.texts[path]


def text_of(state: PlanState, path: str) -> str | None:
    """Return the text of a file with its pending changes; None where there is none."""
    current = current_files(state)
    if path in current.files:
        return current.files[path]
    if path in current.removed_by_path:
        return None
    return loaded_text(state, path)


def loaded_text(state: PlanState, path: str) -> str | None:
    """Return the text of a file as it was loaded; None where it was not."""
    found = (item.body for item in state.contexts.values() if item.context_type == "file" and item.file_path == path)
    return next(found, None)


def unbuilt(state: PlanState) -> list[tuple[ConvoMessageDescription, list[Operation]]]:
    """Return what is to be built: new replies, and files of older ones whose results became void."""
    found: list[tuple[ConvoMessageDescription, list[Operation]]] = []
    for description in state.descriptions:
        if description.applied_at is not None:
            continue
        operations = list(description.operations)
        if description.did_build:
            void = {path for path, is_void in description.build_paths_invalidated.items() if is_void}
            operations = [one for one in operations if one.path in void or one.destination in void]
        if operations:
            found.append((description, operations))
    return found


class Builder:
    """Builds for one run, one build after the other."""

    def __init__(self, store: PlanStore, run: ActiveRun, writers: Writers, clock: Clock) -> None:
        self._store = store
        self._run = run
        self._writers = writers
        self._clock = clock
        self._wanted = False
        self._task: asyncio.Task[None] | None = None

    def begin(self) -> None:
        """Build what is not built; a build under way is followed by another."""
        self._wanted = True
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._work(), name="plan-build")

    async def finish(self) -> None:
        """Wait until everything is built.

        Raises:
            RunFailed: A file could not be built; the others were.
        """
        if self._task is not None:
            await self._task

    async def cancel(self) -> None:
        """Leave what is not built to another build."""
        if self._task is not None:
            self._task.cancel()
            # Whatever became of it, it is known, or another build makes up for it.
            await asyncio.gather(self._task, return_exceptions=True)

    async def _work(self) -> None:
        while self._wanted:
            self._wanted = False
            await self._build()

    async def _build(self) -> None:
        for _ in range(MOST_TRIES):
            opened = await self._store.open(self._run.caller, self._run.plan_id, self._run.branch)
            state = await self._store.read(opened)
            todo = unbuilt(state)
            if not todo:
                return
            draft = await self._drafted(state, todo)
            if await self._stored(draft, [description.id for description, _ in todo]):
                await self._tell_finished(draft)
                if draft.failed:
                    path, reason = next(iter(draft.failed.items()))
                    raise RunFailed("other", 500, f"Could not build {path}: {reason}")
                return
        raise Aborted("files changed again and again while they were built")

    async def _drafted(self, state: PlanState, todo: list[tuple[ConvoMessageDescription, list[Operation]]]) -> Draft:
        draft = Draft(state)
        steps = [
            Step(index, message_id, operation)
            for index, (message_id, operation) in enumerate(
                (description.convo_message_id, operation) for description, operations in todo for operation in operations
            )
        ]
        for step in steps:
            self._run.building.setdefault(step.operation.path, False)
        for is_file, group in groupby(steps, key=lambda step: step.operation.type == "file"):
            if is_file:
                chains: dict[str, list[Step]] = {}
                for step in group:
                    chains.setdefault(step.operation.path, []).append(step)
                async with asyncio.TaskGroup() as tasks:
                    for chain in chains.values():
                        tasks.create_task(self._file(draft, chain))
            else:
                for step in group:
                    await self._operate(draft, step)
        return draft

    async def _file(self, draft: Draft, steps: Sequence[Step]) -> None:
        """Build the blocks that replies have for one file."""
        for step in steps:
            path, operation = step.operation.path, step.operation
            if path in draft.failed:
                return
            await self._run.feed.tell(messages.building(path))
            try:
                new = await self._merged(draft.text(path), operation)
            except (CannotWrite, DomainError) as fault:
                log.warning("plan_build_failed", run=self._run.held.run_id, reason=str(fault))
                draft.failed[path] = str(fault)
                return
            self._turn(draft, step, path, new)
            await self._run.feed.tell(messages.building(path, operation.num_tokens))

    async def _merged(self, old: str | None, operation: Operation) -> str:
        path = operation.path
        merged = await asyncio.to_thread(merge, old, operation.content, operation.description, path)
        if not isinstance(merged, NeedsWholeFile):
            return merged

        async def progress(tokens: int) -> None:
            await self._run.feed.tell(messages.building(path, tokens))

        wanted = Wanted(path, old or "", operation.description, operation.content, merged.reason)
        return await self._writers.write(wanted, progress)

    async def _operate(self, draft: Draft, step: Step) -> None:
        """Move, remove or reset a file."""
        operation, path = step.operation, step.operation.path
        old = draft.text(path)
        if operation.type == "move" and operation.destination:
            if old is None:
                draft.failed[path] = "there is no such file to move"
                return
            draft.text(operation.destination)
            self._remove(draft, step, path)
            self._turn(draft, step, operation.destination, old)
        elif operation.type == "remove":
            self._remove(draft, step, path)
        elif operation.type == "reset":
            draft.resets.append(path)
            draft.texts[path] = loaded_text(draft.state, path)
            for results in draft.results.values():
                results[:] = [result for result in results if result.path != path]

    def _turn(self, draft: Draft, step: Step, path: str, new: str) -> None:
        """Turn a file into a new text."""
        old = draft.text(path)
        if old != new:
            self._add(draft, step, path, old, new)

    def _remove(self, draft: Draft, step: Step, path: str) -> None:
        self._add(draft, step, path, draft.text(path), None)

    def _add(self, draft: Draft, step: Step, path: str, old: str | None, new: str | None) -> None:
        draft.texts[path] = new
        # Results are sorted by time, and those of one build keep the order of its operations.
        at = to_exact_timestamp(self._clock.now_us() + step.index)
        result = result_for(path, old, new, message_id=step.message_id, build_id=self._run.held.run_id, now=at)
        draft.results.setdefault(step.index, []).append(result)

    async def _stored(self, draft: Draft, description_ids: list[str]) -> bool:
        """Store a build as one entry; False when a file changed meanwhile."""
        async with held_change(self._store, self._run.held, self._run.caller, self._run.plan_id, self._run.branch) as change:
            if any(text_of(change.state, path) != before for path, before in draft.before.items()):
                return False
            self._apply(change, draft, description_ids)
        return True

    def _apply(self, change: Change, draft: Draft, description_ids: list[str]) -> None:
        now = to_exact_timestamp(self._clock.now_us())
        wanted = set(description_ids)
        rebuilt = False
        for description in change.state.descriptions:
            if description.id not in wanted:
                continue
            rebuilt = rebuilt or description.did_build
            mine = {operation.path for operation in description.operations}
            description.did_build = True
            description.build_paths_invalidated = {path: True for path in draft.failed if path in mine}
            description.updated_at = now
        for result in pending(change.state.results):
            if result.path in draft.resets:
                result.rejected_at = result.updated_at = now
        results = [result for _, made in sorted(draft.results.items()) for result in made if result.path not in draft.failed]
        change.state.results += results
        paths = sorted({result.path for result in results} | set(draft.resets))
        first = "🏗️  Rebuilt paths" if rebuilt else "🏗️  Build pending changes"
        change.message = "\n".join([first, *(f" • 📄 {path}" for path in paths)])

    async def _tell_finished(self, draft: Draft) -> None:
        for path in list(self._run.building):
            if path in draft.before and not self._run.building[path]:
                self._run.building[path] = True
                gone = draft.texts.get(path) is None
                await self._run.feed.tell(messages.building(path, finished=True, removed=gone))
