"""How the change of a text is written down: pieces of it, in order, with what takes their place."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from protobuf.wkt import Timestamp

from core.plans.ids import new_uuid
from gen.busbar.plans.v1.changes_pb import PlanFileResult, Replacement

CONTEXT_LINES = 3


def replacements_between(old: str, new: str) -> list[Replacement]:
    """Return what makes a new text of an old one: a replacement for each hunk of their difference, with three lines around it.

    Each is looked for after the end of the one before, so it begins further up where the same lines occur earlier.
    """
    before, after = _lines(old), _lines(new)
    # Offset of each line, and of the end.
    starts = _offsets(before)
    made: list[Replacement] = []
    # The line of the old text up to which everything is written down.
    done = 0
    for start, end, new_start, new_end in _hunks(old, new):
        first, further = start, 1
        while old.find(old[starts[first] : starts[end]], starts[done]) != starts[first]:
            first, further = max(done, first - further), further * 2
        # The lines that were taken in are equal in both texts.
        new_text = "".join(after[new_start - (start - first) : new_end])
        made.append(Replacement(id=new_uuid(), old=old[starts[first] : starts[end]], new=new_text))
        done = end
    return made


def replace(text: str, replacements: Iterable[Replacement]) -> str | None:
    """Return a text with its pieces replaced; None when one does not fit. Those that failed or were rejected do not count."""
    done = 0
    for one in replacements:
        if not is_pending(one):
            continue
        if one.entire_file:
            text, done = one.new, len(one.new)
            continue
        start = text.find(one.old, done)
        if start < 0:
            return None
        text = text[:start] + one.new + text[start + len(one.old) :]
        done = start + len(one.new)
    return text


def is_pending(replacement: Replacement) -> bool:
    """Whether a replacement counts: it fitted and was not rejected."""
    return not replacement.failed and replacement.rejected_at is None


def result_for(
    path: str, old: str | None, new: str | None, *, message_id: str, build_id: str, now: Timestamp
) -> PlanFileResult:
    """Return the result that makes a new text of an old one.

    Args:
        path: The file.
        old: Its text; None when it is a new file.
        new: The text that it gets; None when it is removed.
        message_id: The reply that wants it.
        build_id: The build that makes it.
        now: When it is made.
    """
    result = PlanFileResult(
        id=new_uuid(),
        type_version=1,
        convo_message_id=message_id,
        plan_build_id=build_id,
        path=path,
        created_at=now,
        updated_at=now,
    )
    if new is None:
        result.removed_file = True
    elif old is not None:
        result.replacements = replacements_between(old, new)
    elif new:
        result.content = new
    else:
        # A result of neither content nor replacements would count for nothing, and the empty file would never be made.
        result.replacements = [Replacement(id=new_uuid(), entire_file=True)]
    return result


def _hunks(old: str, new: str) -> Iterator[tuple[int, int, int, int]]:
    """Yield where texts differ, with lines around it: first line and the one after the last, of the old and of the new text."""
    import pygit2  # noqa: PLC0415 - libgit2 costs memory and start-up time that only plans should pay
    import pygit2.enums  # noqa: PLC0415

    patch = pygit2.Patch.create_from(
        old.encode(), new.encode(), flag=pygit2.enums.DiffOption.FORCE_TEXT, context_lines=CONTEXT_LINES
    )
    for hunk in patch.hunks:
        # Of no lines at all, git names the line before.
        start = hunk.old_start - (1 if hunk.old_lines else 0)
        new_start = hunk.new_start - (1 if hunk.new_lines else 0)
        yield start, start + hunk.old_lines, new_start, new_start + hunk.new_lines


def _lines(text: str) -> list[str]:
    """Return the lines of a text with their ends, as git counts them: only a line feed ends one."""
    lines = [line + "\n" for line in text.split("\n")]
    last = lines.pop()[:-1]
    return [*lines, last] if last else lines


def _offsets(lines: Iterable[str]) -> list[int]:
    offsets = [0]
    for line in lines:
        offsets.append(offsets[-1] + len(line))
    return offsets
