"""What publishers and readers of live events agree on, whichever bus carries the events."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Hashable
    from types import TracebackType
    from typing import Self

Topic = tuple[str, str]
"""Organisation and name. The organisation is part of the topic, so no reader can ask for another one's events by mistake."""


class Policy(enum.Enum):
    """What happens to a reader whose queue is full. Neither policy makes the publisher wait.

    Attributes:
        LAGGED: Every event counts. All that waited is dropped, a `Lagged` notice takes its place, and reading goes on after it.
        CONFLATE: Only the newest event of each key counts; it takes the place of an older one that still waits. More keys than
            fit in the queue are treated as with LAGGED. Events without a key are never replaced.
    """

    LAGGED = enum.auto()
    CONFLATE = enum.auto()


@dataclass(frozen=True, slots=True)
class Lagged:
    """Stands in a stream for events that the reader will not see.

    The cursor beside the notice is that of the last missed event: state that is read after the notice came covers everything up
    to it, and the events after it follow.

    Attributes:
        missed: How many events were missed; None when that is not known, as after a restart.
    """

    missed: int | None


class Reader(Protocol):
    """One reader's stream of (cursor, event), oldest first. Only one task at a time may wait for it."""

    @property
    def cursor(self) -> int:
        """Cursor of the last item handed out; where to resume with `after`."""
        ...

    def __aiter__(self) -> AsyncIterator[tuple[int, object]]:
        """Iterate until the reader or the bus is closed."""
        ...

    async def __anext__(self) -> tuple[int, object]:
        """Return the next item, a `Lagged` notice among them, as soon as there is one."""
        ...

    def follow(self, topic: Topic) -> None:
        """Read a further topic from now on; does nothing for one that is read already."""
        ...

    def leave(self, topic: Topic) -> None:
        """Read a topic no more; what waits of it stays. Does nothing for one that is not read."""
        ...

    def drain(self) -> list[tuple[int, object]]:
        """Return all that waits now, without waiting; for readers that send in batches."""
        ...

    def close(self) -> None:
        """Stop reading and drop what waits. May be called more than once."""
        ...

    async def __aenter__(self) -> Self:
        """Return the reader itself."""
        ...

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the reader."""
        ...


class EventBus(Protocol):
    """Carries events from those who cause them to those who watch."""

    @property
    def cursor(self) -> int:
        """Cursor of the newest event."""
        ...

    def publish(self, topic: Topic, event: object, *, key: Hashable | None = None, remember: bool = True) -> int:
        """Tell every reader of a topic. Never waits. Call it after the commit, not before.

        Say `remember=False` for a large event that storage has: whoever resumes from before it has lagged, and reads it there.
        Returns the newest cursor that the publisher knows: in one process the event's own, else that of an event before it.
        """
        ...

    def subscribe(self, topics: Topic | list[Topic], *, policy: Policy, size: int, after: int | None = None) -> Reader:
        """Return a reader of one topic or several."""
        ...

    async def close(self) -> None:
        """End every reader once it has seen what waits for it."""
        ...
