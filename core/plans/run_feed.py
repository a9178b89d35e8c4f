"""What one active run tells its clients: collected for a moment, stored, then shown to all who follow.

Followers hold a position and nothing else. They share the newest events in memory, and one who is slower than that reads the
log, so that no follower costs memory or holds up another, and a replay goes over to live without a hole or a duplicate.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Coroutine
from dataclasses import dataclass, field

from core.plans.run_log import Ending, Event, Held, RunLog
from core.plans.stream_messages import ALONE, AT_ONCE, QUESTIONS, parts, several
from gen.busbar.plans.v1.runs_pb import BuildInfo, StreamMessage

COLLECT_SECONDS = 0.07
"""Messages nearer than this are told together."""
MOST_COLLECTED = 512
"""Messages that may wait for storage before their sender does."""
REMEMBERED = 1024
"""Events that are shared from memory."""
REPLY_SECONDS = 0.13
"""Pause at the end of a reply, which clients need to draw it."""


@dataclass(slots=True)
class Standing:
    """How a run stands, as far as its clients were told.

    Attributes:
        number: Number of the newest event.
        replies: What the model wrote, a text for each reply, the last one perhaps unfinished.
        builds: The newest word on each file.
        question: What the client was asked last and has not answered, as far as is seen.
    """

    number: int = 0
    replies: list[str] = field(default_factory=list[str])
    builds: dict[str, BuildInfo] = field(default_factory=dict[str, BuildInfo])
    question: StreamMessage | None = None
    _between: bool = True

    def see(self, event: Event) -> None:
        """Take account of an event."""
        self.number = event.number
        self.question = event.message if event.message.type in QUESTIONS else None
        if event.cut is not None and not self._between:
            self.replies[-1] = self.replies[-1][: event.cut]
        if event.raw:
            if self._between:
                self.replies.append("")
            self._between = False
            self.replies[-1] += event.raw
        for part in parts(event.message):
            if part.type == "describing":
                self._between = True
            elif part.build_info is not None:
                self.builds[part.build_info.path] = part.build_info


class RunFeed:
    """The events of one active run."""

    def __init__(self, log: RunLog, held: Held, pace_ms: int) -> None:
        self.standing = Standing()
        self.ended = False
        self._lost = False
        self._last: StreamMessage | None = None
        self._log = log
        self._held = held
        self._pace = pace_ms / 1000
        self._told: list[StreamMessage] = []
        self._raw = ""
        self._cut: int | None = None
        self._number = 0
        self._newest: deque[Event] = deque(maxlen=REMEMBERED)
        self._changed = asyncio.Event()
        self._storing = asyncio.Lock()
        self._soon: asyncio.Task[None] | None = None
        self._failure: Exception | None = None
        loop = asyncio.get_running_loop()
        self._now = loop.time
        self._screen_at = loop.time() + self._pace
        self._flushed_at = -COLLECT_SECONDS

    async def tell(self, message: StreamMessage, *, raw: str = "") -> None:
        """Tell the clients something; returns once it is collected, or stored where it goes alone.

        Raises:
            Aborted: The run was ended by another process.
            Unavailable: Storage failed.
        """
        if message.type not in AT_ONCE and (wait := self._screen_at - self._now()) > 0:
            await asyncio.sleep(wait)
        if message.type in ALONE:
            async with self._storing:
                await self._store_alone(message, raw, None)
            return
        self._add(message, raw)
        if len(self._told) >= MOST_COLLECTED:
            await self.flush()
        elif self._soon is None:
            self._soon = asyncio.create_task(self._flush_soon(), name="plan-run-feed")
        if self._failure is not None:
            raise self._failure

    def wrote(self, raw: str) -> None:
        """Note what the model wrote that clients are not shown yet; it is stored with the next message."""
        self._raw += raw

    async def cut(self, keep: int) -> None:
        """Take back the reply from a character on; clients have seen it, and the conversation will not hold it."""
        await self.flush()
        self._raw, self._cut = "", keep

    async def end_reply(self) -> None:
        """Give clients the time to draw the end of a reply, and store all of it."""
        if self._pace:
            await asyncio.sleep(REPLY_SECONDS)
        await self.flush()

    async def flush(self) -> None:
        """Store and show what was collected."""
        async with self._storing:
            await self._store(None)

    async def end(self, message: StreamMessage, ending: Ending) -> None:
        """Tell the last message; the run ends with it, in storage and for all who follow."""
        if message.type not in AT_ONCE and (wait := self._screen_at - self._now()) > 0:
            await asyncio.sleep(wait)
        async with self._storing:
            self._failure = None
            await self._store_alone(message, "", ending)

    async def follow(self, position: int) -> AsyncGenerator[Event]:
        """Yield the events after a position, then those to come, until the run has ended."""
        while True:
            changed = self._changed
            events = self._remembered(position)
            if events is None:
                events = await self._log.read(self._held.run_id, position)
            for event in events:
                position = event.number
                yield event
            if not events:
                if self.ended:
                    if self._last is not None:
                        yield Event(position + 1, self._last)
                    return
                await changed.wait()

    def abandon(self, last: StreamMessage | None = None) -> None:
        """Show no more than what is in the log: another process has ended the run.

        Args:
            last: What followers are told at the end although it is stored nowhere, since nothing of the run is any more.
        """
        self._lost = self.ended = True
        self._last = last
        self._changed.set()

    def _add(self, message: StreamMessage, raw: str) -> None:
        self._told.append(message)
        self._raw += raw

    async def _flush_soon(self) -> None:
        try:
            wait = self._flushed_at + COLLECT_SECONDS - self._now()
            # At least one turn of the loop, so that what is told in one breath goes together.
            await asyncio.sleep(max(wait, 0))
            self._soon = None
            await self.flush()
        except Exception as error:  # noqa: BLE001 - whoever tells the next message learns of it
            self._failure = error

    async def _store_alone(self, message: StreamMessage, raw: str, ending: Ending | None) -> None:
        # Others may tell something while what was collected is stored.
        while self._told:
            await self._store(None)
        self._add(message, raw)
        await self._store(ending)

    async def _store(self, ending: Ending | None) -> None:
        if not self._told:
            return
        told, raw, cut = self._told, self._raw, self._cut
        self._told, self._raw, self._cut = [], "", None
        event = Event(self._number + 1, several(told), raw, cut)

        def committed(_result: None) -> None:
            self._number = event.number
            self._newest.append(event)
            self.standing.see(event)
            self.ended = ending is not None
            changed, self._changed = self._changed, asyncio.Event()
            changed.set()

        self._flushed_at = self._now()
        try:
            await _settled(self._log.append(self._held, [event], committed, ending))
        except BaseException:
            if self._number < event.number:
                # Not stored: it goes with the next try.
                self._told, self._raw, self._cut = told + self._told, raw + self._raw, cut
            raise

    def _remembered(self, position: int) -> list[Event] | None:
        """Return the events after a position from memory; None when they are too old for it."""
        if self._lost:
            return None
        if position >= self.standing.number:
            return []
        first = self._newest[0].number
        if position < first - 1:
            return None
        return [self._newest[index] for index in range(position + 1 - first, len(self._newest))]


async def _settled(work: Coroutine[None, None, None]) -> None:
    """Wait until work is done or has failed, also when the waiting is cancelled: half-known is worse than late."""
    task = asyncio.ensure_future(work)
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task])
        raise
