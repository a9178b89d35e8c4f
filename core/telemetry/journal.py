"""The order in which points arrived, of organisations that somebody watches, so that readers resume without a hole.

Here the last batches wait for readers: references to the columns that were written, bounded by points for each organisation and
over all. A reader is a place in a journal and holds nothing else, so a slow one costs no memory; when its place is forgotten it
reads what it missed from storage. Journals are fed by the live bus, whose cursors they use.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

from core.live.events import EventBus, Lagged, Policy
from core.signals.model import Column, PointsWritten
from core.signals.topics import points_topic
from core.signals.values import all_numbers, to_json

ORG_POINTS = 200_000
"""Points that a journal keeps; the last batch stays, however large."""
ALL_POINTS = 1_000_000
"""Points that all journals keep together."""
KEEP_SECONDS = 600.0
"""How long a journal that nobody reads goes on."""
QUEUED_BATCHES = 1024
"""Batches that may wait between the bus and a journal, which takes them at once whenever the loop is free."""
_BYTES_OF_A_POINT = 16
"""JSON of values other than numbers counts as so many bytes for a point."""


class Position(NamedTuple):
    """How far a reader is: behind a whole batch, or with `done` behind so many points of it."""

    cursor: int
    done: int = 0


class Batch(NamedTuple):
    """Points that arrived together.

    Attributes:
        arrived: Number of the first point, by which storage finds it; None for points that were only told.
        weight: How many points they count for.
    """

    cursor: int
    arrived: int | None
    columns: Sequence[Column]
    points: int
    weight: int


class ForgottenError(Exception):
    """What comes after a position is not known any more."""


class Journal:
    """The last batches of one organisation.

    Attributes:
        newest: Position behind all that arrived.
        weight: Points that it keeps.
        readers: Events by which readers are woken when something arrives, or the journal ends.
        closed: Whether nothing arrives any more.
    """

    def __init__(self, journals: Journals, org_id: str, after: int | None) -> None:
        self._journals = journals
        self._bus = journals.bus
        topic = points_topic(org_id)
        self._source = self._bus.subscribe(topic, policy=Policy.LAGGED, size=QUEUED_BATCHES, after=after)
        self._floor = self._bus.cursor if after is None else after
        self._batches: deque[Batch] = deque()
        self.newest = Position(self._floor)
        self.weight = 0
        self.readers: set[asyncio.Event] = set()
        self.closed = False
        self.catch_up()
        self._task = asyncio.create_task(self._follow(), name="points-journal")

    async def close(self) -> None:
        """Stop, and let readers end."""
        self._source.close()
        await asyncio.gather(self._task, return_exceptions=True)

    def catch_up(self) -> None:
        """Take what was told up to this moment."""
        for cursor, event in self._source.drain():
            self._take(cursor, event)

    def after(self, position: Position) -> Batch | None:
        """Return the batch that comes after a position, or the one within which it is; None when there is none yet.

        Raises:
            ForgottenError: It is not known any more.
        """
        self.catch_up()
        batches = self._batches
        if position.done:
            index = bisect_left(batches, position.cursor, key=_cursor)
            if index < len(batches) and batches[index].cursor == position.cursor:
                return batches[index]
            raise ForgottenError
        if not self._floor <= position.cursor <= max(self._bus.cursor, self.newest.cursor):
            raise ForgottenError
        # Those who are up to date look at the end only.
        if not batches or batches[-1].cursor <= position.cursor:
            return None
        return batches[bisect_right(batches, position.cursor, key=_cursor)]

    def drop_oldest(self) -> None:
        """Forget the oldest batch."""
        batch = self._batches.popleft()
        self._floor = batch.cursor
        self.weight -= batch.weight

    async def _follow(self) -> None:
        try:
            async for cursor, event in self._source:
                self._take(cursor, event)
        finally:
            self.closed = True
            self._wake()

    def _take(self, cursor: int, event: object) -> None:
        if isinstance(event, PointsWritten):
            batch = _batch(cursor, event)
            self._batches.append(batch)
            self.weight += batch.weight
        elif isinstance(event, Lagged):
            self._batches.clear()
            self._floor, self.weight = cursor, 0
        self.newest = Position(cursor)
        while self.weight > ORG_POINTS and len(self._batches) > 1:
            self.drop_oldest()
        self._journals.trim()
        self._wake()

    def _wake(self) -> None:
        for reader in self.readers:
            reader.set()


class Journals:
    """The journals of all organisations that are watched."""

    def __init__(self, bus: EventBus) -> None:
        self.bus = bus
        self._by_org: dict[str, Journal] = {}
        self._endings: set[asyncio.Task[None]] = set()

    @property
    def weight(self) -> int:
        """Points kept in all."""
        return sum(journal.weight for journal in self._by_org.values())

    def join(self, org_id: str, wake: asyncio.Event, after: int | None) -> Journal:
        """Return the journal of an organisation, opening it after a cursor when there is none, and add a reader."""
        journal = self._by_org.get(org_id)
        if journal is None or journal.closed:
            journal = self._by_org[org_id] = Journal(self, org_id, after)
        journal.readers.add(wake)
        return journal

    def leave(self, org_id: str, journal: Journal, wake: asyncio.Event) -> None:
        """Take a reader away; a journal without any ends after a while."""
        journal.readers.discard(wake)
        if not journal.readers:
            asyncio.get_running_loop().call_later(KEEP_SECONDS, self._end_idle, org_id, journal)

    def trim(self) -> None:
        """Forget the oldest batches of the largest journals until all together are small enough."""
        while self.weight > ALL_POINTS:
            max(self._by_org.values(), key=lambda journal: journal.weight).drop_oldest()

    def _end_idle(self, org_id: str, journal: Journal) -> None:
        if not journal.readers and self._by_org.get(org_id) is journal:
            del self._by_org[org_id]
            ending = asyncio.ensure_future(journal.close())
            self._endings.add(ending)
            ending.add_done_callback(self._endings.discard)


def _cursor(batch: Batch) -> int:
    return batch.cursor


def _batch(cursor: int, event: PointsWritten) -> Batch:
    points = weight = 0
    for column in event.columns:
        points += len(column.values)
        weight += len(column.values)
        if not all_numbers(column.values):
            weight += len(to_json(column.values)) // _BYTES_OF_A_POINT
    return Batch(cursor, event.arrived, event.columns, points, weight)
