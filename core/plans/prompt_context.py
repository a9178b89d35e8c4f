"""The context of a plan as models read it, and how much of the conversation goes with it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from core.plans.state import PlanState
from core.plans.summary_tables import PlanSummaryRow
from core.plans.tokens import count_tokens
from gen.busbar.plans.v1.changes_pb import CurrentPlanFiles
from gen.busbar.plans.v1.contexts_pb import Context
from gen.busbar.plans.v1.conversation_pb import ConvoMessage

APPLY_SCRIPT = "_apply.sh"
BEGIN = "### LATEST PLAN CONTEXT ###"
END = "### END OF CONTEXT ###"
_FENCE = "```"
_ESCAPED = r"\`\`\`"


@dataclass(frozen=True, slots=True)
class Choice:
    """Which context a prompt shows.

    Attributes:
        maps: Whether maps are shown.
        files: Whether files are shown.
        only: Paths of the files that are shown; None for all.
        script: Whether what was run so far is shown.
    """

    maps: bool = True
    files: bool = True
    only: frozenset[str] | None = None
    script: bool = False


@dataclass(slots=True)
class Shown:
    """What a prompt shows.

    Attributes:
        text: The context.
        images: Images of it, as items of the context.
        ids: Ids of all items that are shown.
    """

    text: str = ""
    images: list[Context] = field(default_factory=list[Context])
    ids: list[str] = field(default_factory=list[str])


def show(state: PlanState, current: CurrentPlanFiles, choice: Choice) -> Shown:
    """Return the context for a prompt. The pending text of a file goes before what was loaded."""
    shown = Shown()
    parts: list[str] = []
    seen: set[str] = set()
    for item in state.contexts.values():
        if item.context_type == "file":
            seen.add(item.file_path)
            if not choice.files or not _wanted(item.file_path, choice.only) or item.file_path in current.removed_by_path:
                continue
            parts.append(_file(item.file_path, current.files.get(item.file_path, item.body)))
        elif item.context_type == "image":
            shown.images.append(item)
        elif item.context_type == "map":
            if not choice.maps:
                continue
            parts += [_labelled(f"{path} | map", text) for path, text in item.map_parts.items()]
        else:
            parts.append(_other(item))
        shown.ids.append(item.id)
    if choice.files:
        pending = {path: text for path, text in current.files.items() if path not in seen and path != APPLY_SCRIPT}
        parts += [_file(path, text) for path, text in pending.items() if _wanted(path, choice.only)]
    if current.removed_by_path:
        parts.append("Removed by this plan:\n" + "\n".join(f"- {path}" for path in sorted(current.removed_by_path)))
    if choice.script:
        parts += _script(state, current.files)
    shown.text = "\n\n".join([BEGIN, *parts, END]) if parts else ""
    return shown


def _wanted(path: str, only: frozenset[str] | None) -> bool:
    return only is None or path in only


def _labelled(label: str, body: str) -> str:
    return f"- {label}:\n\n{_FENCE}\n{body.replace(_FENCE, _ESCAPED)}\n{_FENCE}"


def _file(path: str, body: str) -> str:
    return _labelled(path, body)


def _other(item: Context) -> str:
    if item.context_type == "directory tree":
        return _labelled(f"{item.file_path or item.name} | directory tree", item.body)
    if item.context_type == "url":
        return _labelled(f"{item.url} | page", item.body)
    return _labelled(f"{item.name} | {item.context_type}", item.body)


def _script(state: PlanState, files: Mapping[str, str]) -> list[str]:
    """Return the commands that wait to be run, and those that were."""
    parts: list[str] = []
    done = [result for result in state.results if result.path == APPLY_SCRIPT and result.applied_at is not None]
    if done:
        parts.append(f"{APPLY_SCRIPT} was run {len(done)} times; what it holds from now on is run next time.")
    if APPLY_SCRIPT in files:
        parts.append(_labelled(f"{APPLY_SCRIPT} (waits to be run)", files[APPLY_SCRIPT]))
    return parts


def window(
    messages: Sequence[ConvoMessage], summary: PlanSummaryRow | None, most_tokens: int
) -> tuple[PlanSummaryRow | None, list[ConvoMessage]]:
    """Return the part of a conversation that a model reads: all of it, or a summary and the messages after it.

    Where even those are too many, the oldest of them are left out; the last one always stays.
    """
    kept = list(messages)
    if most_tokens <= 0 or sum(message.tokens for message in kept) <= most_tokens:
        return None, kept
    left = most_tokens
    if summary is not None:
        covered = next((at for at, message in enumerate(kept, 1) if message.id == summary.message_id), 0)
        kept = kept[covered:]
        left -= count_tokens(summary.text)
    total = sum(message.tokens for message in kept)
    while len(kept) > 1 and total > left:
        total -= kept[0].tokens
        kept = kept[1:]
    return summary, kept
