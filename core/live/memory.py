"""What a bus remembers for readers who resume: bounded for each topic, in the number of topics, and in all."""

from __future__ import annotations

from collections import OrderedDict, deque
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Hashable

    from core.live.events import Topic


class Remembered(NamedTuple):
    """One event that can be replayed."""

    cursor: int
    topic: Topic
    key: Hashable | None
    event: object


class _Trail:
    """The last events of one topic. Every event of the topic with a cursor above `floor` is in it."""

    __slots__ = ("events", "floor")

    def __init__(self, floor: int) -> None:
        self.floor = floor
        self.events: deque[Remembered] = deque()


class Memory:
    """The last events of many topics. The topic published to longest ago is forgotten first."""

    def __init__(self, floor: int, per_topic: int, topics: int, events: int) -> None:
        self._floor = floor
        self._per_topic = per_topic
        self._most_topics = topics
        self._most_events = events
        self._trails: OrderedDict[Topic, _Trail] = OrderedDict()
        self.events = 0

    @property
    def topics(self) -> int:
        """Number of topics remembered."""
        return len(self._trails)

    def add(self, entry: Remembered) -> None:
        """Remember one event, whose cursor must be above all others."""
        trail = self._trail(entry.topic)
        trail.events.append(entry)
        if len(trail.events) > self._per_topic:
            trail.floor = trail.events.popleft().cursor
        else:
            self.events += 1
        self._shrink()

    def pass_over(self, topic: Topic, cursor: int) -> None:
        """Note an event that is not remembered: nobody can resume the topic from before it."""
        trail = self._trail(topic)
        self.events -= len(trail.events)
        trail.events.clear()
        trail.floor = cursor
        self._shrink()

    def _trail(self, topic: Topic) -> _Trail:
        trail = self._trails.get(topic)
        if trail is None:
            trail = self._trails[topic] = _Trail(self._floor)
        else:
            self._trails.move_to_end(topic)
        return trail

    def _shrink(self) -> None:
        while len(self._trails) > self._most_topics or (self.events > self._most_events and len(self._trails) > 1):
            self._forget_oldest()

    def _forget_oldest(self) -> None:
        _, trail = self._trails.popitem(last=False)
        self.events -= len(trail.events)
        newest = trail.events[-1].cursor if trail.events else trail.floor
        # A forgotten topic may come back: whoever resumes it from before its last event has missed something.
        self._floor = max(self._floor, newest)

    def since(self, topics: list[Topic], after: int) -> list[Remembered] | None:
        """Return the events of some topics after a cursor, oldest first; None when some of them are forgotten."""
        found: list[Remembered] = []
        for topic in topics:
            trail = self._trails.get(topic)
            if after < (self._floor if trail is None else trail.floor):
                return None
            if trail is not None:
                found += _after(trail.events, after)
        return sorted(found, key=lambda entry: entry.cursor) if len(topics) > 1 else found


def _after(events: deque[Remembered], cursor: int) -> list[Remembered]:
    """Return the tail of a trail. Walks back from the newest, since most who resume were away for a moment only."""
    tail: list[Remembered] = []
    for entry in reversed(events):
        if entry.cursor <= cursor:
            break
        tail.append(entry)
    tail.reverse()
    return tail
