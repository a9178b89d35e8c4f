"""What applying and rejecting pending changes does to the state of a branch."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field

from protobuf.wkt import Timestamp

from core.plans import context_log
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
    """What became of files in the context, and by how many tokens those that stayed have grown."""

    added: list[Context] = field(default_factory=list[Context])
    updated: list[Context] = field(default_factory=list[Context])
    removed: list[Context] = field(default_factory=list[Context])
    grown: int = 0


def to_apply(state: PlanState, paths: Collection[str] | None = None) -> list[ConvoMessageDescription]:
    """Return what replies did that is built as a whole and not applied yet.

    With paths, only that of which nothing is pending anywhere else.
    """
    left = set[str]() if paths is None else {one.path for one in pending(state.results)}.difference(paths)
    return [one for one in built(state) if left.isdisjoint(changed_by(one))]


def built(state: PlanState) -> list[ConvoMessageDescription]:
    """Return what replies did that is built as a whole and not applied as a whole yet."""
    return [
        one
        for one in state.descriptions
        if one.did_build and one.applied_at is None and not any(one.build_paths_invalidated.values())
    ]


def changed_by(description: ConvoMessageDescription) -> set[str]:
    """Return the files that a reply changed."""
    return {path for operation in description.operations for path in paths_of(operation)}


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
            loaded.removed.append(gone)
    for path, text in files.files.items():
        item = contexts.get(path)
        if path == SCRIPT or path in left:
            continue
        if item is not None:
            loaded.grown -= item.num_tokens
            _fill(item, text, now)
            loaded.grown += item.num_tokens
            loaded.updated.append(item)
        # The client has written what is applied already, so beyond the limit it is only not loaded.
        elif len(state.contexts) < MOST_ITEMS:
            item = Context(id=new_uuid(), owner_id=user_id, context_type=FILE, name=path, file_path=path, auto_loaded=True)
            item.created_at = now
            _fill(item, text, now)
            state.contexts[item.id] = item
            loaded.added.append(item)
    return loaded


def _fill(item: Context, text: str, now: Timestamp) -> None:
    data = text.encode()
    item.body, item.body_size, item.num_tokens = text, len(data), count_tokens(text)
    item.sha, item.updated_at = hashlib.sha256(data).hexdigest(), now


def _path_lines(results: Collection[PlanFileResult]) -> list[str]:
    return [f" • 📄 {path}" for path in sorted({result.path for result in results})]


def _context_lines(state: PlanState, loaded: _Loaded) -> list[str]:
    total = _tokens(state.contexts.values())
    lines: list[str] = []
    if loaded.added:
        lines.append(context_log.loaded(loaded.added, _tokens(loaded.added), total))
    if loaded.updated:
        lines.append(context_log.updated(loaded.updated, loaded.grown, total))
    if loaded.removed:
        lines.append(context_log.removed(loaded.removed, _tokens(loaded.removed), total))
    return lines


def _tokens(items: Iterable[Context]) -> int:
    """Return the tokens of some items."""
    return sum(item.num_tokens for item in items)
