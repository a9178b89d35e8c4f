"""The client library of the OpenAI protocol: loaded at the first question, which takes half a second, and read in time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from importlib import import_module
from types import ModuleType
from typing import Any


class Library:
    """Loads the library once."""

    def __init__(self) -> None:
        self._loading = asyncio.Lock()
        self._loaded: ModuleType | None = None

    @property
    def loaded(self) -> ModuleType | None:
        """The library; None before the first question."""
        return self._loaded

    async def load(self) -> ModuleType:
        """Return the library, loading it in a thread where it is not."""
        async with self._loading:
            if self._loaded is None:
                self._loaded = await asyncio.to_thread(import_module, "openai")
            return self._loaded


async def pieces(answer: Any, seconds: float, first_seconds: float | None = None) -> AsyncGenerator[Any]:  # noqa: ANN401
    """Yield the pieces of a streamed answer, and close it however that ends.

    Args:
        answer: A stream of the library, which has no type before it is loaded.
        seconds: For how long the answer may pause.
        first_seconds: For how long it may pause before its first piece; as long as later where None.

    Raises:
        TimeoutError: It paused for longer.
    """
    limit = seconds if first_seconds is None else first_seconds
    try:
        while True:
            async with asyncio.timeout(limit):
                piece = await anext(answer, None)
            if piece is None:
                return
            yield piece
            limit = seconds
    finally:
        await answer.close()
