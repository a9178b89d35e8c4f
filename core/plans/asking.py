"""What models are asked at each stage of a run: instructions, context, conversation, and the request itself."""

from __future__ import annotations

import mimetypes
from collections.abc import Sequence

from core.plans import prompts
from core.plans.active_runs import RunFailed
from core.plans.completion import RoleModels
from core.plans.current import current_files
from core.plans.prompt_context import Choice, Shown, show, window
from core.plans.questions import Function, Image, Message, Parameter
from core.plans.stages import CONTEXT, IMPLEMENTATION, TASKS, Stage, has_map
from core.plans.state import PlanState
from core.plans.summary_tables import PlanSummaryRow
from gen.busbar.plans.v1.contexts_pb import Context
from gen.busbar.plans.v1.conversation_pb import ConvoMessage, Subtask
from gen.busbar.plans.v1.runs_pb import TellRequest

NAME = Function(
    "namePlan", "Names a plan.", {"planName": Parameter("The name: two or three lower-case words joined by dashes.")}
)
DESCRIBE = Function("describePlan", "Describes changes.", {"commitMsg": Parameter("The commit message, one line.")})
FINISHED = Function(
    "didFinishSubtask",
    "Tells whether a task is finished.",
    {
        "reasoning": Parameter("Why, in a sentence or two."),
        "subtaskFinished": Parameter("Whether the task is finished.", "boolean"),
    },
)


def choice_of(request: TellRequest, stage: Stage, state: PlanState, task: Subtask | None) -> Choice:
    """Return which context a stage shows."""
    if stage == CONTEXT:
        return Choice(maps=True, script=request.exec_enabled)
    # Who plans after choosing files has them; who plans without that may need the map.
    maps = stage == TASKS and not (request.auto_context and has_map(state.contexts.values()))
    only = None
    if stage == IMPLEMENTATION and request.smart_context and task is not None and task.uses_files:
        only = frozenset(task.uses_files)
    return Choice(maps=maps, only=only, script=request.exec_enabled)


def shown_context(request: TellRequest, stage: Stage, state: PlanState, task: Subtask | None) -> Shown:
    """Return the context that a stage shows."""
    return show(state, current_files(state), choice_of(request, stage, state, task))


def instructions(request: TellRequest, stage: Stage) -> str:
    """Return what a stage is about."""
    if stage == CONTEXT:
        return prompts.architect(chat=request.is_chat_only)
    if request.is_chat_only:
        return prompts.chat()
    if stage == TASKS:
        return prompts.planner(can_exec=request.exec_enabled)
    return prompts.coder(can_exec=request.exec_enabled)


def asked(request: TellRequest, stage: Stage, task: Subtask | None, replies_before: int, begun: str) -> str:
    """Return the request itself, the last message of a question."""
    if stage == IMPLEMENTATION and task is not None:
        text = prompts.task_prompt(task, replies_before=replies_before)
    else:
        text = prompts.user_prompt(
            request.prompt,
            os_details=request.os_details if request.exec_enabled else "",
            chat=request.is_chat_only,
            debug=request.is_user_debug,
            apply_debug=request.is_apply_debug,
            implement_chat=request.is_implementation_of_chat,
            in_git=request.is_git_repo,
        )
    return "\n\n".join([text, prompts.resumed(begun)]) if begun else text


def question(
    *,
    system: str,
    tasks: Sequence[Subtask],
    shown: Shown,
    conversation: Sequence[ConvoMessage],
    summary: PlanSummaryRow | None,
    last: str,
) -> list[Message]:
    """Return the messages of a question: instructions with tasks and context, the conversation, the request."""
    parts = [system, prompts.task_list(tasks), shown.text]
    images = tuple(image_of(item) for item in shown.images)
    messages = [Message("system", "\n\n".join(part for part in parts if part))]
    if images:
        # Few models take images from the system.
        names = ", ".join(item.name for item in shown.images)
        messages.append(Message("user", f"Images of the context, in this order: {names}", images))
    if summary is not None:
        messages.append(Message("user", f"Summary of the conversation so far:\n\n{summary.text}"))
    messages += [
        Message("assistant" if message.role == "assistant" else "user", message.message)
        for message in conversation
        if message.message.strip()
    ]
    messages.append(Message("user", last))
    return messages


def conversation_for(
    messages: Sequence[ConvoMessage], summary: PlanSummaryRow | None, models: RoleModels, *, prompt_is_last: bool
) -> tuple[PlanSummaryRow | None, list[ConvoMessage]]:
    """Return what goes with a question of the conversation: without the prompt itself where the request repeats it."""
    before = list(messages)
    if prompt_is_last and before and before[-1].role == "user":
        before = before[:-1]
    return window(before, summary, models.limits("planner").max_convo_tokens)


def require_room(models: RoleModels, role: str, messages: Sequence[Message]) -> None:
    """Refuse a question that no model of a role can read.

    Raises:
        RunFailed: It is too long.
    """
    tokens = sum(message.tokens for message in messages)
    room = models.room(role)
    if room and tokens > room:
        raise RunFailed(
            "other",
            400,
            f"The context and the conversation take about {tokens} tokens, and the {role} can read {room}. "
            "Remove some context, or choose a model that reads more.",
        )


def image_of(item: Context) -> Image:
    """Return an image of the context for a model."""
    kind = mimetypes.guess_type(item.file_path or item.name)[0] or "image/png"
    return Image(f"data:{kind};base64,{item.body}", item.image_detail or "auto", item.num_tokens)
