"""The versioned state of a branch: what one commit of its history holds."""

from __future__ import annotations

from dataclasses import dataclass, field

from gen.busbar.plans.v1.changes_pb import PlanApply, PlanFileResult
from gen.busbar.plans.v1.contexts_pb import Context
from gen.busbar.plans.v1.conversation_pb import ConvoMessage, ConvoMessageDescription, Subtask
from gen.busbar.plans.v1.models_pb import ModelPack


@dataclass
class Settings:
    """Which models a branch uses: the name of a pack, or a whole one. Neither means the default of the organisation."""

    model_pack_name: str = ""
    model_pack: ModelPack | None = None


@dataclass
class PlanState:
    """The state of a branch.

    Attributes:
        contexts: Items of the context with bodies and map parts, by id, oldest first.
        messages: The conversation, oldest first, numbered from 1.
        descriptions: What replies did to files, oldest first.
        results: Results of builds in any state, oldest first.
        applies: What was applied, oldest first.
        subtasks: Tasks of the plan, finished ones too.
        settings: Which models it uses.
    """

    contexts: dict[str, Context] = field(default_factory=dict[str, Context])
    messages: list[ConvoMessage] = field(default_factory=list[ConvoMessage])
    descriptions: list[ConvoMessageDescription] = field(default_factory=list[ConvoMessageDescription])
    results: list[PlanFileResult] = field(default_factory=list[PlanFileResult])
    applies: list[PlanApply] = field(default_factory=list[PlanApply])
    subtasks: list[Subtask] = field(default_factory=list[Subtask])
    settings: Settings = field(default_factory=Settings)
