"""Carries out a prompt: choose files, plan, then one task after the other, until nothing is left to do."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator
from contextlib import suppress
from dataclasses import dataclass, field

import structlog
from sqlalchemy import update
from sqlmodel import col

from core.kernel.errors import DomainError
from core.plans import asking, prompts
from core.plans import stream_messages as messages
from core.plans.access import user_of
from core.plans.active_run import ActiveRun, RunFailed
from core.plans.builder import Builder, text_of
from core.plans.client_questions import AskingGuard, ask_for_files
from core.plans.completion import RoleModels
from core.plans.questions import Message
from core.plans.replies import Said, add_prompt
from core.plans.reply_parser import Reply
from core.plans.reply_stream import ReplyStream
from core.plans.run_changes import held_change, keep_reply
from core.plans.run_parts import RunParts
from core.plans.stages import CONTEXT, IMPLEMENTATION, TASKS, Stage, current_task, first_stage, has_map
from core.plans.state import PlanState
from core.plans.summarizing import Summarizer
from core.plans.tables import PlanRow
from core.plans.writers import Writers
from gen.busbar.plans.v1.conversation_pb import ConvoMessageFlags, CurrentStage, Subtask
from gen.busbar.plans.v1.runs_pb import TellRequest

MOST_REPLIES = 200
"""Replies of one run."""
MOST_REPLIES_OF_TASK = 4
"""After so many replies a task counts as done."""
DRAFT = "draft"
NAME_LENGTH = 60

log = structlog.get_logger("busbar.plans")


@dataclass(slots=True)
class _Now:
    """What one reply is about.

    Attributes:
        state: The state from which it begins.
        context_ids: Context that the model saw last.
        summarized_to: Newest message that the summary before it covers.
    """

    stage: Stage
    state: PlanState
    task: Subtask | None = None
    context_ids: list[str] = field(default_factory=list[str])
    summarized_to: str = ""


class Tell:
    """Carries out one prompt."""

    def __init__(self, parts: RunParts, request: TellRequest) -> None:
        self._parts = parts
        self._request = request
        self._replies_of_task = 0

    async def carry_out(self, run: ActiveRun) -> None:
        """Do what the prompt asks for.

        Raises:
            RunFailed: It cannot be done.
        """
        parts, request = self._parts, self._request
        state = await parts.state(run)
        if request.is_user_continue and not state.messages:
            raise RunFailed("continue_no_messages", 400, "No messages yet. Can't continue plan.")
        models = await parts.models(run, state)
        models.require("planner", *([] if request.is_chat_only else ["coder"]))
        builder = Builder(parts.store, run, Writers(models), parts.clock)
        summarizer = Summarizer(parts, run, models)
        naming = asyncio.create_task(self._name(run, models), name="plan-run-name")
        try:
            if not request.is_user_continue:
                await self._add_prompt(run)
            await self._talk(run, models, builder, summarizer)
            if request.build_mode != "none" and any(not built for built in run.building.values()):
                await run.feed.tell(messages.replies_finished())
                await parts.log.set_status(run.held.branch_id, "building")
            await builder.finish()
            await naming
        finally:
            naming.cancel()
            with suppress(asyncio.CancelledError):
                await naming
            await builder.cancel()

    async def _add_prompt(self, run: ActiveRun) -> None:
        request, parts = self._request, self._parts
        flags = ConvoMessageFlags(
            current_stage=CurrentStage(),
            is_chat=request.is_chat_only,
            is_user_debug=request.is_user_debug,
            is_apply_debug=request.is_apply_debug,
        )
        async with held_change(parts.store, run.held, run.caller, run.plan_id, run.branch) as change:
            add_prompt(change, request.prompt, user_of(run.caller), flags, parts.clock.now_us())

    async def _talk(self, run: ActiveRun, models: RoleModels, builder: Builder, summarizer: Summarizer) -> None:
        """Let the model reply until there is nothing left to do."""
        state = await self._parts.state(run)
        may_choose = self._request.auto_context and has_map(state.contexts.values())
        stage: Stage | None = first_stage(state.messages, may_choose_files=may_choose)
        if stage == IMPLEMENTATION and (self._request.is_chat_only or current_task(state.subtasks) is None):
            stage = CONTEXT if may_choose else TASKS
        for _ in range(MOST_REPLIES):
            # The next request shows files as the replies before it have made them.
            await builder.finish()
            said = await self._reply(run, models, stage)
            if said.operations and self._request.build_mode != "none":
                run.building.update(dict.fromkeys(_paths(said), False))
                builder.begin()
            summarizer.begin()
            stage = await self._next(run, stage, said)
            if stage is None:
                return

    async def _next(self, run: ActiveRun, stage: Stage, said: Said) -> Stage | None:
        """Return what comes after a reply; None when the model has nothing more to say."""
        request = self._request
        if stage == CONTEXT:
            return TASKS if said.chose_files or not request.is_chat_only else None
        if request.is_chat_only or (stage == TASKS and not request.auto_continue):
            return None
        state = await self._parts.state(run)
        return IMPLEMENTATION if current_task(state.subtasks) is not None else None

    async def _reply(self, run: ActiveRun, models: RoleModels, stage: Stage) -> Said:
        """Ask for one reply, show it, and keep it."""
        state = await self._parts.state(run)
        now = _Now(stage, state, current_task(state.subtasks) if stage == IMPLEMENTATION else None)
        await self._parts.log.set_status(run.held.branch_id, "replying")
        guard = AskingGuard(
            run,
            self._parts.log,
            frozenset() if self._request.is_chat_only else frozenset(self._request.project_paths),
            lambda path: self._knows(run, path),
            auto_context=self._request.auto_context,
        )
        stream = ReplyStream(run.feed, guard, lambda begun: self._ask(run, models, now, begun))
        try:
            reply = await stream.read()
            await run.feed.end_reply()
            await run.feed.tell(messages.describing())
            await self._parts.log.set_status(run.held.branch_id, "describing")
            said = await self._understood(run, models, now, reply)
        except BaseException as error:
            await self._keep_broken(run, now, stream.text, error)
            raise
        await self._keep(run, said)
        return said

    async def _knows(self, run: ActiveRun, path: str) -> bool:
        """Whether the model can have read a file, as it was loaded or as this plan has made it."""
        return text_of(await self._parts.state(run), path) is not None

    async def _ask(self, run: ActiveRun, models: RoleModels, now: _Now, begun: str) -> AsyncGenerator[str]:
        request = self._request
        # Files may have been loaded meanwhile.
        state = await self._parts.state(run) if begun else now.state
        shown = asking.shown_context(request, now.stage, state, now.task)
        newest = await self._parts.summaries.latest(run.plan_id, state.messages)
        repeats = now.stage != IMPLEMENTATION and not request.is_user_continue
        summary, conversation = asking.conversation_for(state.messages, newest, models, prompt_is_last=repeats)
        question = asking.question(
            system=asking.instructions(request, now.stage),
            tasks=state.subtasks,
            shown=shown,
            conversation=conversation,
            summary=summary,
            last=asking.asked(request, now.stage, now.task, self._replies_of_task, begun),
        )
        asking.require_room(models, now.stage.role, question)
        now.context_ids = shown.ids
        now.summarized_to = summary.message_id if summary is not None else ""
        return models.stream(now.stage.role, question, stop=(prompts.FINISH,))

    async def _understood(self, run: ActiveRun, models: RoleModels, now: _Now, reply: Reply) -> Said:
        """Return what a reply comes to at its stage."""
        request = self._request
        said = self._said(run, now, reply.text)
        if now.stage == CONTEXT:
            said.chose_files = reply.has_files
            if reply.has_files or not request.is_chat_only:
                await self._load_chosen(run, now.state, reply)
        elif now.stage == TASKS and not request.is_chat_only:
            said.added = reply.tasks if reply.has_tasks and reply.tasks else None
            said.removed = reply.removed_tasks
        elif now.stage == IMPLEMENTATION and now.task is not None:
            said.completes = await self._completes(models, now.task, reply)
            self._replies_of_task = 0 if said.completes else self._replies_of_task + 1
        if not request.is_chat_only and now.stage == IMPLEMENTATION:
            said.operations = reply.operations
            if said.operations:
                await self._describe(models, said)
        return said

    def _said(self, run: ActiveRun, now: _Now, text: str) -> Said:
        return Said(
            text,
            user_of(run.caller),
            stage=now.stage,
            context_ids=now.context_ids,
            chat=self._request.is_chat_only,
            debugging=self._request.is_user_debug or self._request.is_apply_debug,
            task=now.task,
            summarized_to=now.summarized_to,
        )

    async def _load_chosen(self, run: ActiveRun, state: PlanState, reply: Reply) -> None:
        """Have the client load the files that the model has chosen."""
        loaded = {item.file_path for item in state.contexts.values() if item.file_path and item.context_type != "map"}
        chosen = dict.fromkeys([*reply.files, *reply.mentioned])
        wanted = [path for path in chosen if path in self._request.project_paths and path not in loaded]
        if wanted:
            await ask_for_files(run, self._parts.log, wanted)

    async def _completes(self, models: RoleModels, task: Subtask, reply: Reply) -> bool:
        """Whether a task is done after a reply."""
        if reply.completes(task.title) or self._replies_of_task + 1 >= MOST_REPLIES_OF_TASK:
            return True
        question = [Message("system", prompts.auto_continue()), Message("user", prompts.for_continue(task, reply.text))]
        answer = await models.ask("auto-continue", question, function=asking.FINISHED)
        return bool(answer["subtaskFinished"])

    async def _describe(self, models: RoleModels, said: Said) -> None:
        """Have a commit message written; a reply without one is worth keeping too."""
        paths = _paths(said)
        question = [Message("system", prompts.commit_messages()), Message("user", prompts.for_commit(said.text, paths))]
        try:
            answer = await models.ask("commit-messages", question, function=asking.DESCRIBE)
            said.commit_msg = str(answer["commitMsg"]).strip()
        except DomainError as error:
            log.warning("plan_reply_not_described", error=error.message)
            said.describe_error = error.message
        said.commit_msg = said.commit_msg or f"Update {', '.join(paths)}"

    async def _keep(self, run: ActiveRun, said: Said) -> None:
        parts = self._parts
        await run.feed.flush()
        kept, now_us = run.feed.standing.number, parts.clock.now_us()
        await keep_reply(parts.store, run.held, run.caller, run.plan_id, run.branch, said, kept=kept, now_us=now_us)

    async def _keep_broken(self, run: ActiveRun, now: _Now, text: str, error: BaseException) -> None:
        """Keep what was said of a reply that did not come to its end."""
        if not text.strip():
            return
        said = self._said(run, now, text)
        said.stopped = isinstance(error, asyncio.CancelledError)
        said.failed = not said.stopped
        try:
            await self._keep(run, said)
        except DomainError as failure:
            log.warning("plan_reply_not_kept", run=run.held.run_id, error=failure.message)

    async def _name(self, run: ActiveRun, models: RoleModels) -> None:
        """Name a plan that has no name yet by what is asked for; without one it stays a draft."""
        opened = await self._parts.store.open(run.caller, run.plan_id, run.branch)
        if opened.plan.name != DRAFT or not self._request.prompt.strip():
            return
        question = [Message("system", prompts.names()), Message("user", prompts.for_name(self._request.prompt))]
        try:
            answer = await models.ask("names", question, function=asking.NAME)
        except DomainError as error:
            log.warning("plan_not_named", plan=run.plan_id, error=error.message)
            return
        name = dashed(str(answer["planName"]))
        if not name:
            return
        async with self._parts.database.unit_of_work() as session:
            draft = (col(PlanRow.id) == run.plan_id, col(PlanRow.name) == DRAFT)
            await session.exec(update(PlanRow).where(*draft).values(name=name))


def dashed(name: str) -> str:
    """Return a name in lower-case words joined by dashes; empty when it has none."""
    return "-".join(re.findall(r"[a-z0-9]+", name.lower()))[:NAME_LENGTH].strip("-")


def _paths(said: Said) -> list[str]:
    return list(dict.fromkeys(operation.path for operation in said.operations))
