"""How entries of a log are named: by the first characters of their sha, as many as tell them apart."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise

from core.kernel.errors import InvalidArgument, NotFound
from core.plans.repository import Entry

SHOWN = 8
"""Characters that are shown, unless two entries of a plan share them."""
FEWEST = 7
"""Characters that name an entry at least."""


def named(sha: str, entries: Iterable[Entry]) -> Entry:
    """Return the entry of which a sha, or the first characters of it, is given.

    Raises:
        InvalidArgument: Several entries begin with it.
        NotFound: None does, or it is too short to tell.
    """
    wanted = sha.lower()
    found = [entry for entry in entries if entry.sha.startswith(wanted)] if len(wanted) >= FEWEST else []
    if not found:
        raise NotFound(f"no entry {sha} in the log", sha=sha)
    if len(found) > 1:
        raise InvalidArgument(f"several entries begin with {sha}", sha=sha)
    return found[0]


def shown(entries: Iterable[Entry]) -> dict[str, str]:
    """Return what is shown of each sha of a plan, by the whole one."""
    shas = sorted({entry.sha for entry in entries})
    lengths = dict.fromkeys(shas, SHOWN)
    for one, next_one in pairwise(shas):
        shared = next(place for place, (a, b) in enumerate(zip(one, next_one, strict=True), 1) if a != b)
        lengths[one] = max(lengths[one], shared)
        lengths[next_one] = max(lengths[next_one], shared)
    return {sha: sha[:length] for sha, length in lengths.items()}
