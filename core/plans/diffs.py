"""Pending changes as git shows them."""

from __future__ import annotations

from collections.abc import Iterator

from core.plans.current import current_files, file_contexts
from core.plans.state import PlanState

_BOLD, _CYAN, _GREEN, _RED, _RESET = "\x1b[1m", "\x1b[36m", "\x1b[32m", "\x1b[31m", "\x1b[m"


def diff_of(state: PlanState, *, plain: bool) -> str:
    """Return the difference between the context and the pending files, in colours of a terminal unless it is to be plain."""
    contexts, files = file_contexts(state), current_files(state)
    patches: list[str] = []
    for path in sorted({*files.files, *files.removed_by_path}):
        context = contexts.get(path)
        patch = _patch(path, None if context is None else context.body, files.files.get(path))
        patches.append(patch if plain else "".join(_coloured(patch)))
    return "".join(patches)


def _patch(path: str, old: str | None, new: str | None) -> str:
    """Return a patch; of None the file does not exist."""
    import pygit2  # noqa: PLC0415 - libgit2 costs memory and start-up time that only plans should pay
    import pygit2.enums  # noqa: PLC0415

    if old is None and new is None:
        return ""
    patch = pygit2.Patch.create_from(
        None if old is None else old.encode(),
        None if new is None else new.encode(),
        path,
        path,
        flag=pygit2.enums.DiffOption.FORCE_TEXT,
    )
    return patch.data.decode()


def _coloured(patch: str) -> Iterator[str]:
    in_hunk = False
    for line in patch.split("\n"):
        if line.startswith("@@"):
            in_hunk = True
            place, _, rest = line[2:].partition("@@")
            yield f"{_CYAN}@@{place}@@{_RESET}{rest}\n"
        elif not in_hunk:
            yield f"{_BOLD}{line}{_RESET}\n" if line else ""
        elif line.startswith("+"):
            yield f"{_GREEN}{line}{_RESET}\n"
        elif line.startswith("-"):
            yield f"{_RED}{line}{_RESET}\n"
        elif line:
            yield f"{line}\n"
