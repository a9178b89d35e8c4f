"""Reads one answer of a model while it arrives."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from core.models.answers import Usage, broken_off, finish_reason, first_choice, usage_of
from core.plans.questions import Question


class StopCutter:
    """Ends a text at the first of some marks, for models and providers that do not."""

    def __init__(self, marks: Sequence[str]) -> None:
        self._marks = [mark for mark in marks if mark]
        self._longest = max(map(len, self._marks), default=0)
        self._held: str = ""
        self.stopped = False

    def feed(self, text: str) -> str:
        """Return what is certain to come before any mark."""
        if self.stopped or not self._marks:
            return "" if self.stopped else text
        text = self._held + text
        ends = [end for mark in self._marks if (end := text.find(mark)) >= 0]
        if ends:
            self.stopped, self._held = True, ""
            return text[: min(ends)]
        kept = self._partial(text)
        self._held = text[len(text) - kept :]
        return text[: len(text) - kept]

    def finish(self) -> str:
        """Return what was held back for a mark that did not come."""
        held, self._held = self._held, ""
        return held

    def _partial(self, text: str) -> int:
        """Return how many characters at the end may be the beginning of a mark."""
        for size in range(min(self._longest - 1, len(text)), 0, -1):
            if any(mark.startswith(text[-size:]) for mark in self._marks):
                return size
        return 0


class AnswerReader:
    """Reads the pieces of one answer.

    Attributes:
        began: Whether any piece came.
        length: Characters that the model wrote.
        reason: Why the answer ended; None where it did not say.
        usage: What it cost, as the provider counts; None where that does not tell.
        cost: What the provider charges, in US dollars; None where it does not say.
    """

    def __init__(self, question: Question, *, calls_function: bool) -> None:
        self._calls_function = calls_function
        self._cutter = StopCutter(question.stop)
        self._said: list[str] = []
        self._called = False
        self.began = False
        self.length = 0
        self.reason: str | None = None
        self.usage: Usage | None = None
        self.cost: float | None = None

    @property
    def stopped(self) -> bool:
        """Whether the answer came to a mark at which it ends."""
        return self._cutter.stopped

    def take(self, piece: object) -> str:
        """Take one piece in and return its text."""
        self.began = True
        self.usage = usage_of(piece) or self.usage
        cost = getattr(getattr(piece, "usage", None), "cost", None)
        if isinstance(cost, int | float) and not isinstance(cost, bool):
            self.cost = float(cost)
        choice = first_choice(piece)
        self.reason = finish_reason(choice) or self.reason
        delta = getattr(choice, "delta", None)
        text = getattr(delta, "content", None)
        text = text if isinstance(text, str) else ""
        if self._calls_function:
            return self._take_call(delta, text)
        self.length += len(text)
        return self._cutter.feed(text) if text else ""

    def finish(self) -> str:
        """Return what was held back.

        Raises:
            UpstreamFailed: The answer has no end, so its connection was cut.
        """
        if self.reason is None and not self.stopped:
            raise broken_off()
        if self._calls_function and not self._called:
            # The model answered in words, which may hold the values all the same.
            return "".join(self._said)
        return self._cutter.finish()

    def _take_call(self, delta: object, text: str) -> str:
        self._said.append(text)
        calls = getattr(delta, "tool_calls", None)
        if not isinstance(calls, Sequence) or isinstance(calls, str):
            return ""
        # Only the first call counts: one was asked for.
        parts = [
            getattr(getattr(call, "function", None), "arguments", None)
            for call in cast("Sequence[object]", calls)
            if not getattr(call, "index", 0)
        ]
        arguments = "".join(part for part in parts if isinstance(part, str))
        self._called = self._called or bool(arguments)
        self.length += len(arguments)
        return arguments
