"""What applying and rejecting pending changes does to the state of a branch."""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from dataclasses import dataclass, field

from protobuf.wkt import Timestamp

from core.plans.context_items import MOST_ITEMS
from core.plans.current import FILE, current_files, file_contexts, paths_of, pending
from core.plans.ids import new_uuid
from core.plans.state import PlanState
from core.plans.tokens import count_tokens
from gen.busbar.plans.v1.changes_pb import PlanApply, PlanFileResult
from gen.busbar.plans.v1.contexts_pb import Context
from gen.busbar.plans.v1.conversation_pb import ConvoMessageDescription

SCRIPT = "_apply.sh"
"""Path of the commands that a client runs instead of writing them."""


@dataclass(slots=True)
class _Loaded:
    """What became of files in the context, and by how many tokens each kind of change altered it."""

    added: dict[str, int] = field(default_factory=dict[str, int])
    updated: dict[str, int] = field(default_factory=dict[str, int])
    removed: dict[str, int] = field(default_factory=dict[str, int])


def to_apply(state: PlanState, paths: Collection[str] | None = None) -> list[ConvoMessageDescription]:
    """Return what replies did that is built as a whole and not applied yet.

    With paths, only that of which nothing is pending anywhere else.
    """
    left = set[str]() if paths is None else {one.path for one in pending(state.results)}.difference(paths)
    return [
        one
        for one in state.descriptions
        if one.did_build
        and one.applied_at is None
        and not any(one.build_paths_invalidated.values())
        and not any(path in left for operation in one.operations for path in paths_of(operation))
    ]


def apply(state: PlanState, user_id: str, commit_message: str, now: Timestamp, paths: Collection[str] | None = None) -> str:
    """Mark what is pending as applied, bring the context up to it, and return the entry for the log.

    With paths, only what is pending there; what a reply did is applied once nothing of it is pending any more.
    """
    results = [one for one in pending(state.results) if paths is None or one.path in paths]
    left = {one.path for one in pending(state.results)} - {one.path for one in results}
    descriptions = to_apply(state, paths)
    loaded = _load(state, user_id, now, left)
    for result in results:
        result.applied_at = result.updated_at = now
    for description in descriptions:
        description.applied_at = description.updated_at = now
    messages = [one.convo_message_id for one in (*descriptions, *results)]
    state.applies.append(
        PlanApply(
            id=new_uuid(),
            user_id=user_id,
            convo_message_ids=list(dict.fromkeys(messages)),
            convo_message_description_ids=[one.id for one in descriptions],
            plan_file_result_ids=[one.id for one in results],
            commit_msg=commit_message.strip(),
            created_at=now,
        )
    )
    lines = ["✅ Marked pending results as applied", *_path_lines(results)]
    if commit_message.strip():
        lines.append(f"✏️  {commit_message.strip()}")
    return "\n".join([*lines, *_context_lines(state, loaded)])


def reject(state: PlanState, paths: Collection[str] | None, now: Timestamp) -> list[str]:
    """Mark what is pending as rejected, at some paths or at all, and return those at which something was."""
    results = [one for one in pending(state.results) if paths is None or one.path in paths]
    for result in results:
        result.rejected_at = result.updated_at = now
    return sorted({result.path for result in results})


def _load(state: PlanState, user_id: str, now: Timestamp, left: Collection[str]) -> _Loaded:
    """Let the context have the files as they are once the pending changes are applied, but for those that are left."""
    files, contexts, loaded = current_files(state), file_contexts(state), _Loaded()
    for path in files.removed_by_path:
        gone = contexts.get(path)
        if gone is not None and path not in left:
            del state.contexts[gone.id]
            loaded.removed[path] = gone.num_tokens
    for path, text in files.files.items():
        item = contexts.get(path)
        if path == SCRIPT or path in left:
            continue
        if item is not None:
            before = item.num_tokens
            _fill(item, text, now)
            loaded.updated[path] = item.num_tokens - before
        # The client has written what is applied already, so beyond the limit it is only not loaded.
        elif len(state.contexts) < MOST_ITEMS:
            item = Context(id=new_uuid(), owner_id=user_id, context_type=FILE, name=path, file_path=path, auto_loaded=True)
            item.created_at = now
            _fill(item, text, now)
            state.contexts[item.id] = item
            loaded.added[path] = item.num_tokens
    return loaded


def _fill(item: Context, text: str, now: Timestamp) -> None:
    data = text.encode()
    item.body, item.body_size, item.num_tokens = text, len(data), count_tokens(text)
    item.sha, item.updated_at = hashlib.sha256(data).hexdigest(), now


def _path_lines(results: Collection[PlanFileResult]) -> list[str]:
    return [f" • 📄 {path}" for path in sorted({result.path for result in results})]


def _context_lines(state: PlanState, loaded: _Loaded) -> list[str]:
    total = sum(item.num_tokens for item in state.contexts.values())
    lines: list[str] = []
    for did, where, paths in (
        ("Loaded", "into", loaded.added),
        ("Updated", "in", loaded.updated),
        ("Removed", "from", loaded.removed),
    ):
        if paths:
            tokens = sum(paths.values())
            sign = "removed" if did == "Removed" or tokens < 0 else "added"
            files = "1 file" if len(paths) == 1 else f"{len(paths)} files"
            lines.append(f"{did} {files} {where} context | {sign} → {abs(tokens)} 🪙 | total → {total} 🪙")
    return lines
