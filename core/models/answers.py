"""What is asked of a model and what comes back, and how the provider's own objects are read.

The client library builds those objects without checking them, so nothing in them is believed to have the type that it states.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

from core.kernel.errors import UpstreamFailed

Speaker = Literal["system", "user", "assistant"]
FinishReason = Literal["stop", "length", "content_filter"]

MOST_TOKENS = 2**31 - 1


@dataclass(frozen=True, slots=True)
class Turn:
    """One message of a conversation."""

    role: Speaker
    content: str


@dataclass(frozen=True, slots=True)
class Wishes:
    """How to answer.

    Attributes:
        model: Model to ask; None for the configured one.
        temperature: How freely to answer; None leaves it to the provider.
        max_tokens: Most tokens of the answer; None leaves it to the provider.
    """

    model: str | None = None
    temperature: float | None = None
    max_tokens: int | None = None


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens that an answer cost."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


@dataclass(frozen=True, slots=True)
class Reply:
    """A whole answer.

    Attributes:
        text: What the model said; may be empty.
        model: Which model, as the provider names it.
        finish_reason: Why the answer ends.
        usage: What it cost; None when the provider does not tell.
    """

    text: str
    model: str
    finish_reason: FinishReason
    usage: Usage | None = None


def unreadable() -> UpstreamFailed:
    """Return the refusal of an answer that is none."""
    return UpstreamFailed("the AI provider sent an answer that cannot be read", upstream="AI provider")


def broken_off() -> UpstreamFailed:
    """Return the refusal of an answer that has no end."""
    return UpstreamFailed("the AI provider broke off its answer", upstream="AI provider")


def read_chat(answer: Any, asked: str) -> Reply:  # noqa: ANN401 - whatever the provider sent
    """Return an answer to a conversation.

    Raises:
        UpstreamFailed: It is none.
    """
    message = getattr(first_choice(answer), "message", None)
    if message is None:
        raise unreadable()
    return read_reply(answer, getattr(message, "content", None), asked)


def read_completion(answer: Any, asked: str) -> Reply:  # noqa: ANN401 - whatever the provider sent
    """Return a completion of text.

    Raises:
        UpstreamFailed: It is none.
    """
    return read_reply(answer, getattr(first_choice(answer), "text", None), asked)


def read_reply(answer: Any, text: object, asked: str) -> Reply:  # noqa: ANN401 - whatever the provider sent
    """Return an answer whose text has been found; a text that is null is an empty one."""
    if not isinstance(text, str | None):
        raise unreadable()
    ended = finish_reason(first_choice(answer)) or "stop"
    return Reply(text or "", model_of(answer, asked), ended, usage_of(answer))


def first_choice(answer: object) -> object:
    """Return the first of the answers; None where there is none."""
    choices = getattr(answer, "choices", None)
    if not isinstance(choices, Sequence) or isinstance(choices, str) or not choices:
        return None
    return cast("Sequence[object]", choices)[0]


def finish_reason(choice: object) -> FinishReason | None:
    """Return why an answer ends, in the three words that we have for it; None when it does not say that it ends."""
    reason = getattr(choice, "finish_reason", None)
    if not isinstance(reason, str) or not reason:
        return None
    return reason if reason in ("length", "content_filter") else "stop"


def model_of(answer: object, asked: str) -> str:
    """Return the model that answered, or the one that was asked where the provider does not tell."""
    model = getattr(answer, "model", None)
    return model if isinstance(model, str) and model else asked


def usage_of(answer: object) -> Usage | None:
    """Return what an answer cost."""
    usage = getattr(answer, "usage", None)
    counts = [getattr(usage, name, None) for name in ("prompt_tokens", "completion_tokens", "total_tokens")]
    if not all(isinstance(count, int) and 0 <= count <= MOST_TOKENS for count in counts):
        return None
    return Usage(*cast("list[int]", counts))
