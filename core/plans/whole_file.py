"""Has a model write a changed file whole, where the change cannot be put in by rule."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import aclosing

from core.plans import prompts
from core.plans.completion import RoleModels
from core.plans.edits import is_reference, is_valid
from core.plans.questions import Message
from core.plans.tokens import count_tokens
from gen.busbar.plans.v1.conversation_pb import Operation

OPEN = "<PlandexWholeFile>"
CLOSE = "</PlandexWholeFile>"
MOST_TRIES = 2
PROGRESS_TOKENS = 40
"""Tokens after which progress is told again."""


class CannotWrite(Exception):
    """No model wrote a file that can be used."""


class WholeFiles:
    """Asks for whole files."""

    def __init__(self, models: RoleModels) -> None:
        self._models = models

    async def write(
        self, path: str, original: str, operation: Operation, why: str, progress: Callable[[int], Awaitable[None]]
    ) -> str:
        """Return the new text of a file.

        Raises:
            CannotWrite: No answer can be used.
            Unavailable: No provider can be asked.
        """
        asked = [
            Message("system", prompts.whole_file()),
            Message("user", prompts.for_whole_file(path, original, operation.description, operation.content, why)),
        ]
        fault = why
        for _ in range(MOST_TRIES):
            text = await _answer(self._models, asked, count_tokens(original), progress)
            new = extract(text, original)
            fault = _fault(path, original, new)
            if new is not None and not fault:
                return new
        raise CannotWrite(fault)


async def _answer(models: RoleModels, asked: list[Message], writes: int, progress: Callable[[int], Awaitable[None]]) -> str:
    text, told = "", 0
    async with aclosing(models.stream("whole-file-builder", asked, writes=writes)) as pieces:
        async for piece in pieces:
            text += piece
            tokens = count_tokens(text)
            if tokens - told >= PROGRESS_TOKENS:
                told = tokens
                await progress(tokens)
    return text


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


def _fault(path: str, original: str, new: str | None) -> str:
    """Return what is wrong with a file; empty when nothing is."""
    if new is None:
        return "the model did not write the whole file"
    before = set(original.splitlines())
    if any(is_reference(line) and line not in before for line in new.splitlines()):
        return "the model left parts of the file out"
    if is_valid(path, original) and not is_valid(path, new):
        return "the file that the model wrote is not valid"
    return ""
