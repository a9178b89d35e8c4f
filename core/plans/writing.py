"""How roles are asked that write a change which cannot be merged by rule, and what must not become of a file by it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import aclosing
from dataclasses import dataclass

from core.plans.completion import RoleModels
from core.plans.edits import is_reference, is_valid, kinds_of
from core.plans.questions import Message
from core.plans.tokens import count_tokens

PROGRESS_TOKENS = 40
"""Tokens after which progress is told again."""

_SMALL_LOSS = 20
"""Lines, besides two for each one of the change, that may always be lost by it."""

_RANGE = re.compile(r"\blines?\s+(\d{1,9})(?:\s*(?:-|\u2013|to)\s*(\d{1,9}))?", re.IGNORECASE)

Progress = Callable[[int], Awaitable[None]]


class CannotWrite(Exception):
    """No model wrote what can be used."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """A change of a file that is to be written.

    Attributes:
        path: The file.
        original: Its present text.
        description: What a reply says of the change.
        block: What it has for the file.
        why: Why it cannot be merged by rule.
    """

    path: str
    original: str
    description: str
    block: str
    why: str


async def answer(
    models: RoleModels, role: str, asked: Sequence[Message], progress: Progress, *, writes: int = 0, strong: bool = False
) -> str:
    """Return what a role answers, and tell how many tokens have come on the way."""
    text, told = "", 0
    async with aclosing(models.stream(role, asked, writes=writes, strong=strong)) as pieces:
        async for piece in pieces:
            text += piece
            tokens = count_tokens(text)
            if tokens - told >= PROGRESS_TOKENS:
                told = tokens
                await progress(tokens)
    return text


def fault_of(wanted: Wanted, new: str) -> str:
    """Return what is wrong with the text that a model made of a file; empty when nothing is."""
    before = set(wanted.original.splitlines())
    if any(is_reference(line) and line not in before for line in new.splitlines()):
        return "the model left parts of the file out"
    if _lost(wanted.original, new) > _most_lost(wanted):
        return "lines that have nothing to do with the change would be lost"
    if is_valid(wanted.path, wanted.original) and not is_valid(wanted.path, new):
        return "the file that the model wrote is not valid"
    return ""


def _lost(original: str, new: str) -> int:
    """Return how many lines a text has no more; moved, or indented in another way, they are not lost."""
    return (_counted(original.splitlines()) - _counted(new.splitlines())).total()


def _most_lost(wanted: Wanted) -> int:
    """Return how many lines a change may cost a file."""
    total = _counted(wanted.original.splitlines()).total()
    kinds = set(kinds_of(wanted.description))
    if kinds & {"remove", "overwrite"}:
        return total
    written = _counted(line for line in wanted.block.splitlines() if not is_reference(line)).total()
    if kinds and kinds <= {"add", "append", "prepend"}:
        # What is added may change its neighbours a little, such as by a comma.
        return written
    named = sum(max(int(last or first) - int(first), 0) + 1 for first, last in _RANGE.findall(wanted.description))
    return max(2 * written + _SMALL_LOSS + named, total // 2)


def _counted(lines: Iterable[str]) -> Counter[str]:
    return Counter(line.strip() for line in lines if line.strip())
