"""Where a live connection collects what it will send, from several tasks, without growing."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Generic, Self, TypeVar

T = TypeVar("T")


class Mailbox(Generic[T]):
    """A bounded queue with one reader that can be closed for a reason.

    Closing with an error reaches the reader at once, before what still waits: a connection that lost its right to read must
    not read on. Closing without one lets the reader finish what waits.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._items: deque[T] = deque()
        self._error: BaseException | None = None
        self._closed = False
        self._changed = asyncio.Event()
        self._space = asyncio.Event()

    async def put(self, item: T) -> None:
        """Add an item, waiting for space. Does nothing once the mailbox is closed."""
        while len(self._items) >= self._size and not self._closed:
            self._space.clear()
            await self._space.wait()
        if not self._closed:
            self._items.append(item)
            self._changed.set()

    def offer(self, item: T, *, beyond: int = 0) -> bool:
        """Add an item if there is space now, or at most `beyond` items too many; return whether it was added."""
        if self._closed or len(self._items) >= self._size + beyond:
            return False
        self._items.append(item)
        self._changed.set()
        return True

    def close(self, error: BaseException | None = None) -> None:
        """End the reading, at once when there is an error. The first close counts."""
        if not self._closed:
            self._closed, self._error = True, error
            self._changed.set()
            self._space.set()

    def __aiter__(self) -> Self:
        """Return the reader."""
        return self

    async def __anext__(self) -> T:
        """Return the next item, or raise the error of `close`."""
        while True:
            if self._error is not None:
                raise self._error
            if self._items:
                self._space.set()
                return self._items.popleft()
            if self._closed:
                raise StopAsyncIteration
            self._changed.clear()
            await self._changed.wait()
