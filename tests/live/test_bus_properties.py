"""Whatever the order of publishing, subscribing and reading: readers see all of their topics, or are told that they do not."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from core.live.bus import Bus, Subscription
from core.live.events import Lagged, Policy, Topic

NAMES = ("a", "b", "c")
KEYS = st.sampled_from([None, 1, 2, 3])


@dataclass
class Watcher:
    """A reader and what it must see next.

    Attributes:
        position: Cursor up to which everything was seen or noticed.
    """

    subscription: Subscription
    topics: list[Topic]
    position: int


class Readers(RuleBasedStateMachine):
    """Readers that count every event."""

    watchers: Bundle[Watcher] = Bundle("watchers")
    policy = Policy.LAGGED

    def __init__(self) -> None:
        super().__init__()
        self.bus = Bus(replay_events=5, most_topics=2, most_events=8)
        self.start = self.bus.cursor
        self.history: list[tuple[int, Topic, int | None]] = []

    @rule(name=st.sampled_from(NAMES), key=KEYS)
    def publish(self, name: str, key: int | None) -> None:
        topic = ("org", name)
        cursor = self.bus.publish(topic, (topic, key), key=key)
        assert cursor > (self.history[-1][0] if self.history else self.start)
        self.history.append((cursor, topic, key))

    @rule(
        target=watchers,
        names=st.lists(st.sampled_from(NAMES), min_size=1, max_size=3),
        back=st.none() | st.integers(-1, 12),
        size=st.integers(1, 4),
    )
    def subscribe(self, names: list[str], back: int | None, size: int) -> Watcher:
        topics = [("org", name) for name in names]
        after = None if back is None else self.bus.cursor - back
        subscription = self.bus.subscribe(topics, policy=self.policy, size=size, after=after)
        return Watcher(subscription, topics, self.bus.cursor if after is None else after)

    @rule(watcher=watchers, most=st.integers(1, 10))
    def read(self, watcher: Watcher, most: int) -> None:
        for _ in range(min(most, len(watcher.subscription))):
            self.check(watcher, *asyncio.run(_next(watcher.subscription)))

    @rule(watcher=watchers)
    def drain(self, watcher: Watcher) -> None:
        for cursor, event in watcher.subscription.drain():
            self.check(watcher, cursor, event)
        assert self.unseen(watcher, self.bus.cursor) == []

    @rule(watcher=consumes(watchers))
    def leave(self, watcher: Watcher) -> None:
        watcher.subscription.close()

    def check(self, watcher: Watcher, cursor: int, event: object) -> None:
        if not isinstance(event, Lagged):
            assert self.unseen(watcher, cursor) == [cursor]
        watcher.position = cursor

    def unseen(self, watcher: Watcher, upto: int) -> list[int]:
        return [c for c, topic, _ in self.history if watcher.position < c <= upto and topic in watcher.topics]

    @invariant()
    def memory_is_bounded(self) -> None:
        topics, events = self.bus.remembered
        assert topics <= 2
        assert events <= 10


class ConflatingReaders(Readers):
    """Readers that want the newest event of each key: what they do not see is older than something of its key that they do."""

    policy = Policy.CONFLATE

    def check(self, watcher: Watcher, cursor: int, event: object) -> None:
        if isinstance(event, Lagged):
            watcher.position = cursor
            return
        now = self.bus.cursor
        for skipped in self.unseen(watcher, cursor)[:-1]:
            assert self.replaced(skipped, now)
        watcher.position = cursor

    def replaced(self, cursor: int, upto: int) -> bool:
        topic, key = next((t, k) for c, t, k in self.history if c == cursor)
        return key is not None and any(c > cursor and (t, k) == (topic, key) for c, t, k in self.history if c <= upto)


async def _next(subscription: Subscription) -> tuple[int, object]:
    return await asyncio.wait_for(anext(subscription), 5)


TestReaders = Readers.TestCase
TestReaders.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestConflatingReaders = ConflatingReaders.TestCase
TestConflatingReaders.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


async def test_many_publishers_and_readers_at_once_agree_on_one_order() -> None:
    bus = Bus()
    per_publisher, publishers = 200, 5
    total = per_publisher * publishers
    readers = [bus.subscribe(("org", "t"), policy=Policy.LAGGED, size=total, after=bus.cursor) for _ in range(4)]

    async def publish(who: int) -> None:
        for number in range(per_publisher):
            bus.publish(("org", "t"), (who, number))
            await asyncio.sleep(0)

    async def collect(subscription: Subscription) -> list[tuple[int, object]]:
        return [await anext(subscription) for _ in range(total)]

    async with asyncio.timeout(30):
        seen = await asyncio.gather(*map(collect, readers), *map(publish, range(publishers)))
    first = seen[0]
    assert first is not None
    assert all(other == first for other in seen[1:4])
    assert [cursor for cursor, _ in first] == sorted({cursor for cursor, _ in first})
