"""Entries of the conversation: prompts and replies, and how the log tells of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from core.kernel.clock import to_exact_timestamp
from core.plans.ids import new_uuid
from core.plans.stages import Stage, current_task, replanned
from core.plans.store import Change
from core.plans.tokens import count_tokens
from gen.busbar.plans.v1.conversation_pb import (
    ConvoMessage,
    ConvoMessageDescription,
    ConvoMessageFlags,
    Operation,
    Subtask,
)


@dataclass(slots=True)
class Said:
    """A reply that goes into the conversation.

    Attributes:
        text: What the model wrote.
        stage: What it was for; None where that is not known any more.
        user_id: Whose conversation it is.
        context_ids: Context that the model saw.
        stopped: Whether it was broken off.
        failed: Whether it broke off by itself.
        chat: Whether it only talks.
        debugging: Whether it answers to an error.
        operations: What it does to files.
        commit_msg: Message for a commit of that.
        describe_error: Why there is no such message.
        added: Tasks of a section of tasks; None without one.
        removed: Titles of tasks that it removes.
        task: Task that it works on.
        completes: Whether that task is done.
        chose_files: Whether it chose files.
        summarized_to: Newest message that the summary before it covers.
    """

    text: str
    user_id: str
    stage: Stage | None = None
    context_ids: list[str] = field(default_factory=list[str])
    stopped: bool = False
    failed: bool = False
    chat: bool = False
    debugging: bool = False
    operations: list[Operation] = field(default_factory=list[Operation])
    commit_msg: str = ""
    describe_error: str = ""
    added: list[Subtask] | None = None
    removed: list[str] = field(default_factory=list[str])
    task: Subtask | None = None
    completes: bool = False
    chose_files: bool = False
    summarized_to: str = ""


def add_prompt(change: Change, text: str, user_id: str, flags: ConvoMessageFlags, now_us: int) -> ConvoMessage:
    """Put a prompt into the conversation."""
    message = _message(change, "user", text, user_id, now_us)
    message.flags = flags
    change.state.messages.append(message)
    change.message = f"Message #{message.num} | 💬 User prompt | {message.tokens} 🪙"
    return message


def add_reply(change: Change, said: Said, now_us: int) -> ConvoMessage:
    """Put a reply into the conversation, with what it does to files and tasks, as one entry of the log."""
    state = change.state
    message = _message(change, "assistant", said.text, said.user_id, now_us)
    if said.completes and said.task is not None:
        _finish_task(state.subtasks, said.task.title)
        said.task.is_finished = True
    if said.added is not None or said.removed:
        state.subtasks = replanned(state.subtasks, said.removed, said.added)
    unfinished = current_task(state.subtasks) is not None
    message.stopped = said.stopped
    message.flags = ConvoMessageFlags(
        did_make_plan=bool(said.added),
        did_remove_tasks=bool(said.removed),
        did_make_debugging_plan=bool(said.added) and said.debugging,
        did_load_context=said.chose_files,
        current_stage=said.stage.message() if said.stage is not None else None,
        is_chat=said.chat,
        did_write_code=bool(said.operations),
        did_complete_task=said.completes,
        did_complete_plan=said.completes and not unfinished,
        has_unfinished_subtasks=unfinished,
        has_error=said.failed,
    )
    message.subtask = said.task
    message.added_subtasks = list(said.added or [])
    message.removed_subtasks = list(said.removed)
    message.active_context_ids = list(said.context_ids)
    state.messages.append(message)
    if said.operations:
        state.descriptions.append(_description(message, said))
    change.plan.replies += 1
    change.message = _entry(message)
    return message


def _message(change: Change, role: str, text: str, user_id: str, now_us: int) -> ConvoMessage:
    tokens = count_tokens(text)
    change.branch.convo_tokens += tokens
    return ConvoMessage(
        id=new_uuid(),
        user_id=user_id,
        role=role,
        tokens=tokens,
        num=len(change.state.messages) + 1,
        message=text,
        created_at=to_exact_timestamp(now_us),
    )


def _description(message: ConvoMessage, said: Said) -> ConvoMessageDescription:
    return ConvoMessageDescription(
        id=new_uuid(),
        convo_message_id=message.id,
        summarized_to_message_id=said.summarized_to,
        wrote_files=True,
        commit_msg=said.commit_msg,
        operations=list(said.operations),
        error=said.describe_error,
        created_at=message.created_at,
        updated_at=message.created_at,
    )


def _finish_task(tasks: Sequence[Subtask], title: str) -> None:
    for task in tasks:
        if task.title == title and not task.is_finished:
            task.is_finished = True
            return


def _entry(message: ConvoMessage) -> str:
    """Return the entry of a reply in the log."""
    flags = message.flags or ConvoMessageFlags()
    tags = [
        *(["🛑 stopped"] if message.stopped else []),
        *(["❌ failed"] if flags.has_error else []),
        *(["💬 chat"] if flags.is_chat else []),
        *(["📂 chose context"] if flags.did_load_context else []),
        *(["📋 made tasks"] if flags.did_make_plan else []),
        *(["📝 wrote code"] if flags.did_write_code else []),
    ]
    lines = [" | ".join([f"Message #{message.num}", "🤖 Plandex reply", *tags, f"{message.tokens} 🪙"])]
    lines += [f"  + {task.title}" for task in message.added_subtasks]
    lines += [f"  - {title}" for title in message.removed_subtasks]
    if message.subtask is not None:
        lines.append(f"  {'✅' if flags.did_complete_task else '⏳'} {message.subtask.title}")
    if flags.did_complete_plan:
        lines.append("  🏁 Completed Plan")
    return "\n".join(lines)
