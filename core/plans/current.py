"""What pending results make of files."""

from __future__ import annotations

from collections.abc import Iterable
from copy import deepcopy
from dataclasses import dataclass

from core.plans import replacements
from core.plans.state import PlanState
from gen.busbar.plans.v1.changes_pb import (
    CurrentPlanFiles,
    CurrentPlanState,
    PlanFileResult,
    PlanFileResults,
    PlanResult,
    Replacements,
)
from gen.busbar.plans.v1.contexts_pb import Context
from gen.busbar.plans.v1.conversation_pb import ConvoMessageDescription, Operation

FILE = "file"


def is_pending(result: PlanFileResult) -> bool:
    """Whether a result is neither applied nor rejected, and changes something."""
    if result.applied_at is not None or result.rejected_at is not None:
        return False
    return bool(result.content) or result.removed_file or any(map(replacements.is_pending, result.replacements))


def pending(results: Iterable[PlanFileResult]) -> list[PlanFileResult]:
    """Return the pending ones of some results."""
    return [result for result in results if is_pending(result)]


def by_path(results: Iterable[PlanFileResult]) -> dict[str, list[PlanFileResult]]:
    """Return the pending ones of some results by their path."""
    paths: dict[str, list[PlanFileResult]] = {}
    for result in pending(results):
        paths.setdefault(result.path, []).append(result)
    return paths


def is_pending_build(description: ConvoMessageDescription) -> bool:
    """Whether changes of a reply have to be built, for the first time or anew."""
    return bool((not description.did_build and description.operations) or description.build_paths_invalidated)


def file_contexts(state: PlanState) -> dict[str, Context]:
    """Return the files of the context by their path."""
    return {item.file_path: item for item in state.contexts.values() if item.context_type == FILE}


def current_files(state: PlanState) -> CurrentPlanFiles:
    """Return the files that the pending results make of the context."""
    contexts = file_contexts(state)
    made = CurrentPlanFiles()
    for path, results in by_path(state.results).items():
        context = contexts.get(path)
        outcome = _outcome("" if context is None else context.body, results)
        if outcome.removed:
            made.removed_by_path[path] = True
        else:
            made.files[path] = outcome.text
        last = results[-1].created_at
        if last is not None:
            made.updated_at_by_path[path] = last
    return made


def current_state(state: PlanState) -> CurrentPlanState:
    """Return all that a client wants to know of a branch's changes."""
    paths = by_path(state.results)
    return CurrentPlanState(
        plan_result=PlanResult(
            sorted_paths=sorted(paths),
            file_results_by_path={path: PlanFileResults(results=results) for path, results in paths.items()},
            results=state.results,
            replacements_by_path={path: _pending_replacements(results) for path, results in paths.items()},
        ),
        current_plan_files=current_files(state),
        convo_message_descriptions=[one for one in state.descriptions if one.wrote_files and one.applied_at is None],
        plan_applies=state.applies,
        contexts_by_path={item.file_path: _without_map(item) for item in state.contexts.values() if item.file_path},
    )


def invalidate(state: PlanState, path: str, new_text: str) -> bool:
    """Drop the pending results of a file that no longer fit its new text, and have them built anew; tells whether it did.

    Args:
        state: The state of the branch.
        path: The file.
        new_text: The text that it has now; empty when it is gone from the context.
    """
    results = by_path(state.results).get(path)
    if results is None or _outcome(new_text, results).fits:
        return False
    gone = {result.id for result in results}
    state.results = [result for result in state.results if result.id not in gone]
    for description in state.descriptions:
        built = description.did_build and description.applied_at is None
        if built and any(path in paths_of(operation) for operation in description.operations):
            description.build_paths_invalidated[path] = True
    return True


def paths_of(operation: Operation) -> tuple[str, ...]:
    """Return the files that an operation changes."""
    return (operation.path, operation.destination) if operation.destination else (operation.path,)


@dataclass(slots=True)
class _Outcome:
    """What results make of a text; one that does not fit is passed over."""

    text: str
    removed: bool = False
    fits: bool = True


def _outcome(text: str, results: Iterable[PlanFileResult]) -> _Outcome:
    made = _Outcome(text)
    for result in results:
        if result.removed_file:
            made.text, made.removed = "", True
            continue
        changed = _changed(made.text, result)
        if changed is None:
            made.fits = False
        else:
            made.text, made.removed = changed, False
    return made


def _changed(text: str, result: PlanFileResult) -> str | None:
    if result.replacements:
        return replacements.replace(text, result.replacements)
    # The text of a new file takes the place of nothing else.
    return None if text else result.content


def _pending_replacements(results: Iterable[PlanFileResult]) -> Replacements:
    return Replacements(replacements=[one for result in results for one in result.replacements if replacements.is_pending(one)])


def _without_map(item: Context) -> Context:
    if not item.map_parts:
        return item
    parts, item.map_parts = item.map_parts, {}
    copy = deepcopy(item)
    item.map_parts = parts
    return copy
