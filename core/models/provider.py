"""The model provider: any server that speaks the OpenAI protocol, named by the settings.

One try per question: whoever asks is told of a failure at once and decides. No prompt and no answer is logged or kept.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import aclosing
from typing import Any

from core.kernel.settings import Settings
from core.models.answers import (
    FinishReason,
    Reply,
    Turn,
    Usage,
    Wishes,
    broken_off,
    finish_reason,
    first_choice,
    model_of,
    read_chat,
    read_completion,
    unreadable,
    usage_of,
)
from core.models.failures import not_configured, translated
from core.models.library import Library, pieces

DEFAULT_WISHES = Wishes()


class Models:
    """Asks the configured provider.

    Every question may raise:
        Unavailable: No provider is configured, or it rejects what is configured.
        UpstreamFailed: It cannot be reached, fails, or sends what is no answer.
        DeadlineExceeded: It takes longer than the settings allow.
        ResourceExhausted: It is asked too often; `retry_after` is what it says.
        InvalidArgument: It does not accept the question.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._seconds = settings.ai_timeout_seconds
        self._library = Library()
        self._client: Any = None

    @property
    def completes_text(self) -> bool:
        """Whether the provider is asked for plain completions of text, besides conversations."""
        return self._settings.ai_completions == "completions"

    async def chat(self, turns: Sequence[Turn], wishes: Wishes = DEFAULT_WISHES) -> Reply:
        """Answer a conversation."""
        model = self._model(wishes)
        client = await self._ready()
        arguments = {"model": model, "messages": _messages(turns), **_arguments(wishes)}
        return read_chat(await self._ask(client.chat.completions.create, arguments, wishes), model)

    async def complete(self, prefix: str, suffix: str, wishes: Wishes = DEFAULT_WISHES) -> Reply:
        """Complete text between a prefix and a suffix; for providers of whom `completes_text` is true."""
        model = self._model(wishes)
        client = await self._ready()
        arguments = {"model": model, "prompt": prefix, **_arguments(wishes)}
        if suffix:
            arguments["suffix"] = suffix
        return read_completion(await self._ask(client.completions.create, arguments, wishes), model)

    async def stream(self, turns: Sequence[Turn], wishes: Wishes = DEFAULT_WISHES) -> AsyncGenerator[str | Reply]:
        """Answer a conversation in pieces of text; the last item is the reply, which holds the whole text."""
        model = self._model(wishes)
        client = await self._ready()
        arguments = {"model": model, "messages": _messages(turns), **_arguments(wishes)}
        arguments |= {"stream": True, "stream_options": {"include_usage": True}}
        answer = await self._ask(client.chat.completions.create, arguments, wishes)
        if not isinstance(answer, AsyncIterator):
            raise unreadable()
        gathered = _Gathered(model)
        async with aclosing(self._pieces(answer, wishes)) as found:
            async for piece in found:
                text = gathered.take(piece)
                if text:
                    yield text
        yield gathered.reply()

    async def stop(self) -> None:
        """Close open connections."""
        if self._client is not None:
            await self._client.close()

    def _model(self, wishes: Wishes) -> str:
        if not self._settings.ai_base_url:
            raise not_configured("ai_base_url")
        model = wishes.model or self._settings.ai_model
        if not model:
            raise not_configured("ai_model")
        return model

    async def _ready(self) -> Any:  # noqa: ANN401 - the library is loaded at the first question, its types with it
        """Return the client of the library."""
        sdk = await self._library.load()
        if self._client is None:
            self._client = sdk.AsyncOpenAI(
                base_url=self._settings.ai_base_url,
                # Local servers ask for no key, and the library does not go without one.
                api_key=self._settings.ai_key.get_secret_value() or "none",
                timeout=self._seconds,
                max_retries=0,
            )
        return self._client

    async def _ask(self, create: Any, arguments: Mapping[str, Any], wishes: Wishes) -> Any:  # noqa: ANN401 - as above
        try:
            async with asyncio.timeout(self._seconds):
                return await create(**arguments)
        except Exception as error:
            raise self._translated(error, wishes) from error

    async def _pieces(self, answer: Any, wishes: Wishes) -> AsyncGenerator[Any]:  # noqa: ANN401 - as above
        """Yield the pieces of an answer; each may take as long as a whole one."""
        try:
            async with aclosing(pieces(answer, self._seconds)) as found:
                async for piece in found:
                    yield piece
        except Exception as error:
            raise self._translated(error, wishes) from error

    def _translated(self, error: Exception, wishes: Wishes) -> Exception:
        sdk = self._library.loaded
        return error if sdk is None else translated(sdk, error, model_was_asked_for=bool(wishes.model))


class _Gathered:
    """What the pieces of an answer come to."""

    def __init__(self, model: str) -> None:
        self._model = model
        self._texts: list[str] = []
        self._reason: FinishReason | None = None
        self._usage: Usage | None = None

    def take(self, piece: object) -> str:
        """Take one piece in and return its text."""
        self._model = model_of(piece, self._model)
        self._usage = usage_of(piece) or self._usage
        choice = first_choice(piece)
        self._reason = finish_reason(choice) or self._reason
        text = getattr(getattr(choice, "delta", None), "content", None)
        if not isinstance(text, str):
            return ""
        self._texts.append(text)
        return text

    def reply(self) -> Reply:
        """Return the whole answer.

        Raises:
            UpstreamFailed: It has no end, so its connection was cut.
        """
        if self._reason is None:
            raise broken_off()
        return Reply("".join(self._texts), self._model, self._reason, self._usage)


def _messages(turns: Sequence[Turn]) -> list[dict[str, str]]:
    return [{"role": turn.role, "content": turn.content} for turn in turns]


def _arguments(wishes: Wishes) -> dict[str, Any]:
    wanted = {"temperature": wishes.temperature, "max_tokens": wishes.max_tokens}
    return {name: value for name, value in wanted.items() if value is not None}
