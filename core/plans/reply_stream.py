"""Takes one reply of a model in: shows it while it comes, and stops to ask before it writes a file that the model has not read.

A file that the user hands over is read first: the reply is cut before the file and the model goes on from there, with the file
in its context. A file that is skipped is left out of the reply; one that is overwritten goes on as it came. The model is
read on while the user makes up their mind, since no provider holds a stream for half an hour.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import dataclass

from core.plans import stream_messages as messages
from core.plans.active_run import Choice
from core.plans.reply_parser import BlockOpened, Reply, ReplyParser, Shown
from core.plans.run_feed import RunFeed

Ask = Callable[[str], Awaitable[AsyncGenerator[str]]]
"""Asks the model, given the beginning of the reply that it has written already; empty at first."""


class FileGuard(ABC):
    """Knows which files a reply may write without asking, and asks about the others."""

    @abstractmethod
    async def decide(self, path: str) -> Choice | None:
        """Return what to do about a file; None for one that needs no question."""


@dataclass(frozen=True, slots=True)
class _Left:
    """A block that is left out: its path, and the reply before it."""

    path: str
    before: str


class ReplyStream:
    """One reply."""

    def __init__(self, feed: RunFeed, guard: FileGuard, ask: Ask) -> None:
        self._feed = feed
        self._guard = guard
        self._ask = ask
        self._parser = ReplyParser()
        self._asking: str | None = None
        self._left: _Left | None = None
        self._skipped: set[str] = set()
        self._shown_already = ""

    @property
    def text(self) -> str:
        """The reply so far, as it would be kept if it ended now."""
        if self._left is not None:
            return self._left.before
        return self._parser.text if self._asking is None else self._asking

    async def read(self) -> Reply:
        """Take the whole reply in."""
        begun: str | None = ""
        while begun is not None:
            begun = await self._read(await self._ask(begun))
        if self._left is not None:
            # The block that was left out has no end.
            self._go_back(self._left.before)
        events, reply = self._parser.finish()
        text = "".join(event.text for event in events if isinstance(event, Shown))
        if text:
            await self._feed.tell(messages.reply(text))
        return reply

    async def _read(self, pieces: AsyncGenerator[str]) -> str | None:
        """Take an answer in; return the reply so far when the model has to be asked again."""
        async with _read_ahead(pieces) as arriving:
            async for piece in arriving:
                for line in _lines(piece):
                    begun = await self._take(line)
                    if begun is not None:
                        return begun
        return None

    async def _take(self, line: str) -> str | None:
        shown = ""
        for event in self._parser.feed(line):
            if isinstance(event, BlockOpened):
                begun = await self._open(event)
                if begun is not None:
                    return begun
            elif isinstance(event, Shown):
                shown += event.text if self._left is None else ""
            elif self._left is not None and event.operation.path == self._left.path:
                self._go_back(self._left.before)
                self._left = None
                return None
        if self._left is not None:
            return None
        shown = self._unseen(shown)
        if shown:
            await self._feed.tell(messages.reply(shown), raw=line)
        else:
            self._feed.wrote(line)
        return None

    async def _open(self, event: BlockOpened) -> str | None:
        """Decide about a block; return the reply before it when the model has to read the file first."""
        choice: Choice | None = "skip"
        if event.path not in self._skipped:
            self._asking = event.before
            choice = await self._guard.decide(event.path)
            self._asking = None
        if choice == "load":
            # The label is on the client's screen, and the model writes it again.
            self._shown_already = self._parser.text[len(event.before) :].partition("<PlandexBlock")[0]
            await self._feed.cut(len(event.before))
            self._go_back(event.before)
            return event.before
        if choice == "skip":
            self._skipped.add(event.path)
            await self._feed.cut(len(event.before))
            self._left = _Left(event.path, event.before)
        return None

    def _unseen(self, shown: str) -> str:
        """Return what a client has not seen of a text that may begin with what was taken back."""
        seen = self._shown_already
        if not seen or not shown:
            return shown
        self._shown_already = seen[len(shown) :] if seen.startswith(shown) else ""
        return "" if seen.startswith(shown) else shown.removeprefix(seen)

    def _go_back(self, before: str) -> None:
        """Forget what came after the beginning of the reply."""
        self._parser = ReplyParser()
        self._parser.feed(before)


def _lines(piece: str) -> list[str]:
    """Return the lines of a piece with their ends, so that nothing behind the opening of a block is taken with it."""
    *whole, rest = piece.split("\n")
    return [*(f"{line}\n" for line in whole), *([rest] if rest else [])]


@asynccontextmanager
async def _read_ahead(pieces: AsyncGenerator[str]) -> AsyncGenerator[AsyncIterator[str]]:
    """Read an answer whether or not somebody takes it, and leave it when nobody wants the rest."""
    queue: asyncio.Queue[str | Exception | None] = asyncio.Queue()

    async def pump() -> None:
        try:
            async with aclosing(pieces):
                async for piece in pieces:
                    queue.put_nowait(messages.without_nul(piece))
            queue.put_nowait(None)
        except Exception as error:  # noqa: BLE001 - whoever takes the answer gets it
            queue.put_nowait(error)

    async def arriving() -> AsyncIterator[str]:
        while (piece := await queue.get()) is not None:
            if isinstance(piece, Exception):
                raise piece
            yield piece

    task = asyncio.create_task(pump(), name="plan-run-model")
    try:
        yield arriving()
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
