"""What waits for one reader. The two policies differ only here."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Hashable

    from core.live.events import Topic

Item = tuple[int, object]


class Queue(Protocol):
    """Items that wait, oldest first."""

    def put(self, topic: Topic, item: Item, key: Hashable | None) -> bool:
        """Add an item; return whether it took the place of another."""
        ...

    def fits(self, topic: Topic, key: Hashable | None, size: int) -> bool:
        """Whether one more item leaves at most `size` in the queue."""
        ...

    def take(self) -> Item:
        """Remove and return the oldest item. The queue must not be empty."""
        ...

    def clear(self) -> int:
        """Drop all items and return the newest one's cursor. The queue must not be empty."""
        ...

    def __len__(self) -> int:
        """Number of items that wait."""
        ...


class EveryEvent:
    """Keeps all events."""

    def __init__(self) -> None:
        self._items: deque[Item] = deque()

    def put(self, topic: Topic, item: Item, key: Hashable | None) -> bool:
        """Add an item at the end; it never replaces another."""
        del topic, key
        self._items.append(item)
        return False

    def fits(self, topic: Topic, key: Hashable | None, size: int) -> bool:
        """Whether there is room for one more."""
        del topic, key
        return len(self._items) < size

    def take(self) -> Item:
        """Remove and return the oldest item."""
        return self._items.popleft()

    def clear(self) -> int:
        """Drop all items and return the newest one's cursor."""
        newest = self._items[-1][0]
        self._items.clear()
        return newest

    def __len__(self) -> int:
        return len(self._items)


class NewestByKey:
    """Keeps the newest event of each key of each topic, in the order of their cursors."""

    def __init__(self) -> None:
        self._items: dict[Hashable, Item] = {}

    def put(self, topic: Topic, item: Item, key: Hashable | None) -> bool:
        """Add an item at the end, in place of an older one with its key."""
        # Cursors are ints and keys are tuples, so an event without a key never meets another.
        slot = item[0] if key is None else (topic, key)
        replaced = self._items.pop(slot, None) is not None
        self._items[slot] = item
        return replaced

    def fits(self, topic: Topic, key: Hashable | None, size: int) -> bool:
        """Whether there is room for one more, or an older item to replace."""
        return len(self._items) < size or (key is not None and (topic, key) in self._items)

    def take(self) -> Item:
        """Remove and return the oldest item."""
        return self._items.pop(next(iter(self._items)))

    def clear(self) -> int:
        """Drop all items and return the newest one's cursor."""
        newest = next(reversed(self._items.values()))[0]
        self._items.clear()
        return newest

    def __len__(self) -> int:
        return len(self._items)
