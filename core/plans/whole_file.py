"""Has a model write a changed file whole, where nobody could tell which pieces of it to replace."""

from __future__ import annotations

from core.plans import prompts
from core.plans.completion import RoleModels
from core.plans.questions import Message
from core.plans.tokens import count_tokens
from core.plans.writing import CannotWrite, Progress, Wanted, answer, fault_of

ROLE = "whole-file-builder"
OPEN = "<PlandexWholeFile>"
CLOSE = "</PlandexWholeFile>"
MOST_TRIES = 2


async def write_whole(models: RoleModels, wanted: Wanted, progress: Progress) -> str:
    """Return the new text of a file.

    Raises:
        CannotWrite: No answer can be used.
        Unavailable: No provider can be asked.
    """
    asked = [Message("system", prompts.whole_file()), Message("user", prompts.for_edit(wanted))]
    fault = wanted.why
    for number in range(MOST_TRIES):
        text = await answer(models, ROLE, asked, progress, writes=count_tokens(wanted.original), strong=number > 0)
        new = extract(text, wanted.original)
        fault = "the model did not write the whole file" if new is None else fault_of(wanted, new)
        if new is not None and not fault:
            return new
    raise CannotWrite(fault)


def extract(answer: str, original: str) -> str | None:
    """Return the file in an answer, which ends with a line break where the original does; None when it holds no whole one."""
    _, opened, rest = answer.partition(OPEN)
    body, closed, _ = rest.rpartition(CLOSE)
    if not opened or not closed:
        return None
    body = body.removeprefix("\r\n").removeprefix("\n")
    if original.endswith("\n") or not original:
        return body if body.endswith("\n") or not body else body + "\n"
    return body.removesuffix("\n")
