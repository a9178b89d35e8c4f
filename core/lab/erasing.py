"""Work that goes on after its caller was answered: deleting what nobody sees any more."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import structlog

from core.kernel.errors import DomainError

log = structlog.get_logger("busbar.lab")


class Erasing:
    """Deletions under way. One that is cut off by a stop or a failure of storage is made good at the next start."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()

    def begin(self, work: Coroutine[Any, Any, None]) -> None:
        """Begin a deletion."""
        task = asyncio.create_task(_quietly(work), name="lab-erasing")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def settled(self) -> None:
        """Wait until nothing is under way."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    async def stop(self) -> None:
        """Leave the rest to the next start."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


async def _quietly(work: Coroutine[Any, Any, None]) -> None:
    try:
        await work
    except DomainError as error:
        log.warning("a deletion waits for the next start", error=error.message)
