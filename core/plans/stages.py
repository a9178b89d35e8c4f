"""At which stage a plan stands, and what comes next."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from gen.busbar.plans.v1.contexts_pb import Context
from gen.busbar.plans.v1.conversation_pb import ConvoMessage, CurrentStage, Subtask


@dataclass(frozen=True, slots=True)
class Stage:
    """What the next reply is for.

    Attributes:
        tell: `planning` or `implementation`.
        phase: Of planning: `context`, when the model chooses files, or `tasks`.
    """

    tell: str
    phase: str = ""

    @property
    def role(self) -> str:
        """Role of the model that is asked."""
        if self == CONTEXT:
            return "architect"
        return "planner" if self == TASKS else "coder"

    def message(self) -> CurrentStage:
        """Return how messages note it."""
        return CurrentStage(tell_stage=self.tell, planning_phase=self.phase)


CONTEXT = Stage("planning", "context")
TASKS = Stage("planning", "tasks")
IMPLEMENTATION = Stage("implementation")


def counts(message: ConvoMessage) -> bool:
    """Whether a message counts when the stage is chosen."""
    return not message.stopped and not (message.flags is not None and message.flags.has_error)


def last_good(messages: Sequence[ConvoMessage]) -> ConvoMessage | None:
    """Return the last message that counts."""
    return next((message for message in reversed(messages) if counts(message)), None)


def has_map(contexts: Iterable[Context]) -> bool:
    """Whether there is a map from which files can be chosen."""
    return any(item.context_type == "map" and any(item.map_parts.values()) for item in contexts)


def first_stage(messages: Sequence[ConvoMessage], *, may_choose_files: bool) -> Stage:
    """Return the stage with which a run begins.

    Args:
        messages: The conversation, with the prompt of the run.
        may_choose_files: Whether the model may choose files, and there is a map to choose from.
    """
    last = last_good(messages)
    if last is not None and last.role == "assistant" and last.flags is not None:
        stage = last.flags.current_stage
        if last.flags.did_make_plan or (stage is not None and stage.tell_stage == IMPLEMENTATION.tell):
            return IMPLEMENTATION
        if stage is not None and stage.planning_phase == CONTEXT.phase:
            return TASKS
    return CONTEXT if may_choose_files else TASKS


def current_task(tasks: Sequence[Subtask]) -> Subtask | None:
    """Return the task that is next."""
    return next((task for task in tasks if not task.is_finished), None)


def replanned(tasks: Sequence[Subtask], removed: Sequence[str], added: Sequence[Subtask] | None) -> list[Subtask]:
    """Return the tasks after a reply: what is finished stays; a new section of tasks takes the place of what is open."""
    gone = set(removed)
    kept = [task for task in tasks if task.is_finished or (added is None and task.title not in gone)]
    return kept + list(added or [])
