"""The state of a branch as the files of a commit, and back.

Each item is a file of its own, so that a change stores only what changed. The number before its id keeps the order; an item
keeps its file for life.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

from protobuf import Message

from core.plans.state import PlanState, Settings
from gen.busbar.plans.v1.changes_pb import PlanApply, PlanFileResult
from gen.busbar.plans.v1.contexts_pb import Context
from gen.busbar.plans.v1.conversation_pb import ConvoMessage, ConvoMessageDescription, Subtask
from gen.busbar.plans.v1.models_pb import ModelPack

M = TypeVar("M", bound=Message[Any])

CONTEXTS, MESSAGES, DESCRIPTIONS, RESULTS, APPLIES = "contexts", "convo", "descriptions", "results", "applies"
SUBTASKS, SETTINGS = "subtasks.json", "settings.json"

_DIGITS = 8
_SUFFIX = ".json"


def to_files(state: PlanState, before: Iterable[str] = ()) -> dict[str, bytes]:
    """Return the text of each file, by path; items that had one of the paths before keep it."""
    items: dict[str, Iterable[Context | ConvoMessage | ConvoMessageDescription | PlanFileResult | PlanApply]] = {
        CONTEXTS: state.contexts.values(),
        MESSAGES: state.messages,
        DESCRIPTIONS: state.descriptions,
        RESULTS: state.results,
        APPLIES: state.applies,
    }
    known: dict[str, dict[str, str]] = {folder: {} for folder in items}
    for path in before:
        folder, _, name = path.rpartition("/")
        if folder:
            known[folder][name[_DIGITS + 1 : -len(_SUFFIX)]] = path
    files: dict[str, bytes] = {}
    for folder, members in items.items():
        paths = known[folder]
        last = max((_number(path) for path in paths.values()), default=0)
        for item in members:
            path = paths.get(item.id)
            if path is None:
                last += 1
                path = f"{folder}/{last:0{_DIGITS}d}-{item.id}{_SUFFIX}"
            files[path] = item.to_json().encode()
    if state.subtasks:
        files[SUBTASKS] = json.dumps([json.loads(task.to_json()) for task in state.subtasks], ensure_ascii=False).encode()
    if state.settings != Settings():
        files[SETTINGS] = _settings_to_json(state.settings)
    return files


def from_files(files: Mapping[str, bytes]) -> PlanState:
    """Return the state that files hold. Every message in it is new: the caller may change them."""
    subtasks = json.loads(files.get(SUBTASKS, b"[]"))
    settings = files.get(SETTINGS)
    return PlanState(
        contexts={context.id: context for context in _read(files, CONTEXTS, Context)},
        messages=_read(files, MESSAGES, ConvoMessage),
        descriptions=_read(files, DESCRIPTIONS, ConvoMessageDescription),
        results=_read(files, RESULTS, PlanFileResult),
        applies=_read(files, APPLIES, PlanApply),
        subtasks=[Subtask.from_json(json.dumps(task), ignore_unknown_fields=True) for task in subtasks],
        settings=Settings() if settings is None else _settings_from_json(settings),
    )


def _read(files: Mapping[str, bytes], folder: str, kind: type[M]) -> list[M]:
    prefix = folder + "/"
    paths = sorted(path for path in files if path.startswith(prefix))
    return [kind.from_json(files[path], ignore_unknown_fields=True) for path in paths]


def _number(path: str) -> int:
    return int(path.rpartition("/")[2][:_DIGITS])


def _settings_to_json(settings: Settings) -> bytes:
    pack = settings.model_pack
    value = {"modelPackName": settings.model_pack_name, "modelPack": None if pack is None else json.loads(pack.to_json())}
    return json.dumps(value, ensure_ascii=False).encode()


def _settings_from_json(data: bytes) -> Settings:
    value = json.loads(data)
    pack = value["modelPack"]
    return Settings(
        value["modelPackName"],
        None if pack is None else ModelPack.from_json(json.dumps(pack), ignore_unknown_fields=True),
    )
