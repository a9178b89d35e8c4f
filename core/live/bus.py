"""The bus within one process.

Everything runs on one event loop, so a publish and a subscribe never interleave: what is remembered and what is told live meet
without a hole and without a duplicate. Nothing here survives a restart. Cursors start at the wall clock, so that a reader who
comes back with a cursor of an earlier process is told that it has lagged, and reads the state again.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

from core.kernel.clock import Clock
from core.live.events import Lagged, Policy, Topic
from core.live.memory import Memory, Remembered
from core.live.queues import EveryEvent, Item, NewestByKey, Queue

if TYPE_CHECKING:
    from collections.abc import Hashable
    from types import TracebackType
    from typing import Self

REPLAY_EVENTS = 4096
"""Events that a topic remembers."""
MOST_TOPICS = 10_000
"""Topics remembered at once."""
MOST_EVENTS = 262_144
"""Events remembered at once over all topics."""


@dataclass(slots=True)
class Counters:
    """What a bus has done since it began.

    Attributes:
        published: Events published.
        delivered: Items handed to readers, notices included.
        conflated: Events that a newer one of their key replaced before they were read.
        lagged: Notices given.
        missed: Events that slow readers did not see.
    """

    published: int = 0
    delivered: int = 0
    conflated: int = 0
    lagged: int = 0
    missed: int = 0


class Subscription:
    """A reader of one bus. See `Reader` for what it does; made by `Bus.subscribe` only."""

    def __init__(self, bus: Bus, topics: list[Topic], policy: Policy, size: int, cursor: int) -> None:
        self.topics = topics
        self.cursor = cursor
        self._bus = bus
        self._queue: Queue = NewestByKey() if policy is Policy.CONFLATE else EveryEvent()
        self._size = size
        self._room = size
        self._notice: tuple[int, Lagged] | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._ended = False

    def __len__(self) -> int:
        """Number of items that wait."""
        return len(self._queue) + (self._notice is not None)

    def replay(self, entries: list[Remembered]) -> None:
        """Put remembered events before the live ones. They get room of their own, given up as they are read."""
        for entry in entries:
            self._queue.put(entry.topic, (entry.cursor, entry.event), entry.key)
        self._room = self._size + len(self._queue)

    def lag(self, cursor: int, missed: int | None) -> None:
        """Give notice that events up to a cursor are missed, together with those of a notice that still waits."""
        counters = self._bus.counters
        if self._notice is None:
            counters.lagged += 1
        else:
            before = self._notice[1].missed
            missed = None if missed is None or before is None else missed + before
        self._notice = (cursor, Lagged(missed))

    def offer(self, topic: Topic, item: Item, key: Hashable | None) -> None:
        """Take a live event. Never waits; a full queue is dropped and noticed."""
        queue = self._queue
        if not queue.fits(topic, key, self._room):
            missed = len(queue)
            self._bus.counters.missed += missed
            self.lag(queue.clear(), missed)
            self._room = self._size
        if queue.put(topic, item, key):
            self._bus.counters.conflated += 1
        self._alert()

    def _alert(self) -> None:
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    def miss(self, cursor: int) -> None:
        """Drop what waits, since events up to a cursor are lost to everybody."""
        missed = len(self._queue)
        if missed:
            self._bus.counters.missed += missed
            self._queue.clear()
        self._room = self._size
        self.lag(cursor, None)
        self._alert()

    def drain(self) -> list[Item]:
        """Return all that waits now, without waiting."""
        items: list[Item] = []
        while (item := self._take()) is not None:
            items.append(item)
        return items

    def _take(self) -> Item | None:
        if self._notice is not None:
            item, self._notice = self._notice, None
        elif len(self._queue):
            item = self._queue.take()
            self._room = max(self._size, self._room - 1)
        else:
            return None
        self.cursor = item[0]
        self._bus.counters.delivered += 1
        return item

    def follow(self, topic: Topic) -> None:
        """Read a further topic from now on; does nothing for one that is read already."""
        if topic not in self.topics and not self._ended:
            self.topics.append(topic)
            self._bus.add(self, topic)

    def leave(self, topic: Topic) -> None:
        """Read a topic no more; what waits of it stays. Does nothing for one that is not read."""
        if topic in self.topics:
            self.topics.remove(topic)
            self._bus.remove(self, [topic])

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Item:
        while (item := self._take()) is None:
            if self._ended:
                raise StopAsyncIteration
            await self._wait()
        return item

    async def _wait(self) -> None:
        if self._waiter is not None:
            raise RuntimeError("another task already waits for this subscription")
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def end(self) -> None:
        """Take no more events; the iterator ends after those that wait."""
        self._ended = True
        self._bus.remove(self, self.topics)
        self._alert()

    def close(self) -> None:
        """Stop reading and drop what waits."""
        self.end()
        self._notice = None
        if len(self._queue):
            self._queue.clear()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Bus:
    """Tells readers in this process, and remembers what it told. Use it from the event loop's thread only."""

    def __init__(
        self,
        *,
        replay_events: int = REPLAY_EVENTS,
        most_topics: int = MOST_TOPICS,
        most_events: int = MOST_EVENTS,
        clock: Clock | None = None,
    ) -> None:
        # Microseconds grow faster than anything publishes, and stay exact in a JSON number until the year 2255.
        self.cursor = (clock or Clock()).now_us()
        self.counters = Counters()
        self._started = self.cursor
        self._limits = (replay_events, most_topics, most_events)
        self._memory = Memory(self.cursor, *self._limits)
        self._readers: dict[Topic, tuple[Subscription, ...]] = {}
        self._closed = False

    @property
    def remembered(self) -> tuple[int, int]:
        """Topics and events in memory."""
        return self._memory.topics, self._memory.events

    @property
    def readers(self) -> int:
        """Number of open subscriptions."""
        return len(self._open())

    def publish(self, topic: Topic, event: object, *, key: Hashable | None = None, remember: bool = True) -> int:
        """Tell every reader of a topic and return the event's cursor. Never waits. Call it after the commit, not before.

        Say `remember=False` for a large event that storage has: whoever resumes from before it has lagged, and reads it there.
        """
        cursor = self.cursor + 1
        self.tell(cursor, topic, event, key, remember=remember)
        return cursor

    def tell(self, cursor: int, topic: Topic, event: object, key: Hashable | None, *, remember: bool = True) -> None:
        """Publish an event whose cursor, above all earlier ones, comes from elsewhere."""
        self.cursor = cursor
        self.counters.published += 1
        if remember:
            self._memory.add(Remembered(cursor, topic, key, event))
        else:
            self._memory.pass_over(topic, cursor)
        readers = self._readers.get(topic)
        if readers:
            item = (cursor, event)
            for reader in readers:
                reader.offer(topic, item, key)

    def skip(self, cursor: int) -> None:
        """Go on after a cursor, of which nothing up to it can be told any more. Every reader has lagged."""
        self.cursor = self._started = cursor
        self._memory = Memory(cursor, *self._limits)
        for reader in self._open():
            reader.miss(cursor)

    def _open(self) -> set[Subscription]:
        return {reader for readers in self._readers.values() for reader in readers}

    def subscribe(self, topics: Topic | list[Topic], *, policy: Policy, size: int, after: int | None = None) -> Subscription:
        """Return a reader of one topic or several.

        Args:
            topics: What to read. Events of several topics come in one order, that of their cursors.
            policy: What happens when the reader is slow.
            size: Events that may wait; at least 1. What is replayed comes on top of it.
            after: Cursor of the last event that the reader saw on these topics: what came since is replayed. When not all of it
                is remembered, or the cursor is of an earlier process, the first item is a `Lagged` notice. None starts now.
        """
        if size < 1:
            raise ValueError("a subscription needs room for at least one event")
        wanted = list(dict.fromkeys(topics)) if isinstance(topics, list) else [topics]
        reader = Subscription(self, wanted, policy, size, self.cursor if after is None else after)
        if after is not None:
            self._resume(reader, wanted, after)
        if self._closed:
            reader.end()
            return reader
        for topic in wanted:
            self.add(reader, topic)
        return reader

    def add(self, reader: Subscription, topic: Topic) -> None:
        """Let a reader hear of a topic."""
        self._readers[topic] = (*self._readers.get(topic, ()), reader)

    def _resume(self, reader: Subscription, topics: list[Topic], after: int) -> None:
        entries = self._memory.since(topics, after) if self._started <= after <= self.cursor else None
        if entries is None:
            reader.lag(self.cursor, None)
        else:
            reader.replay(entries)

    def remove(self, reader: Subscription, topics: list[Topic]) -> None:
        """Let a reader hear of topics no more, and forget every topic that had no other."""
        for topic in topics:
            left = tuple(other for other in self._readers.get(topic, ()) if other is not reader)
            if left:
                self._readers[topic] = left
            else:
                self._readers.pop(topic, None)

    async def close(self) -> None:
        """End every reader once it has seen what waits for it."""
        self._closed = True
        for reader in self._open():
            reader.end()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()
