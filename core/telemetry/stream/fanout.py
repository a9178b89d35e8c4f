"""From the live bus to the dashboards of this process.

One task for each organisation that is watched takes its points from the bus and sorts them, a moment's worth at a time, for all
of its dashboards together. Taking in comes first: when the event loop has more to do than it can, moments grow longer, so that
fewer and larger batches are shown, while devices are answered as before.
"""

from __future__ import annotations

import asyncio
import contextlib

from core.live.events import EventBus, Lagged, Policy
from core.live.mailbox import Mailbox
from core.signals.model import Column, PointsWritten
from core.signals.topics import points_topic
from core.telemetry.stream.batches import Lane, events, is_event
from core.telemetry.stream.frames import Frame
from core.telemetry.stream.interests import Choice, Interests

MOMENT_SECONDS = 0.025
"""How long points wait for others, so that a batch holds many."""
LONGEST_MOMENT_SECONDS = 0.5
MOMENTS_LATE = 4
"""A moment lasts at least so many times as long as the loop is late."""
WAITING_WRITES = 1024
TASK = "dashboards' points"
MOST_EVENTS = 1000
MOST_KEPT = 64
"""Frames of a choice that was changed, of which no more are kept for a dashboard that does not take them."""


class View:
    """What waits for one dashboard.

    Attributes:
        some: Set when there are points to take.
        events: Events, one by one.
        dropped: How many frames found no place.
    """

    def __init__(self, fanout: Fanout, interests: Interests) -> None:
        self.some = asyncio.Event()
        self.events: Mailbox[Frame] = Mailbox(MOST_EVENTS)
        self.dropped = 0
        self._fanout = fanout
        self._interests = interests
        self._choice = interests.choice
        self._lane = fanout.enter(self, self._choice)
        self._kept: list[Frame] = []

    def chosen(self) -> None:
        """Show from now on what the interests say now; what was chosen before and waits is still shown."""
        choice = self._interests.choice
        if choice != self._choice:
            self._fanout.flush()
            kept = [*self._kept, *self._lane.take(self.some)]
            self.dropped += max(len(kept) - MOST_KEPT, 0)
            self._kept = kept[-MOST_KEPT:]
            if kept:
                self.some.set()
            self._fanout.exit(self, self._choice)
            self._choice = choice
            self._lane = self._fanout.enter(self, choice)

    def take(self) -> list[Frame]:
        """Return points that wait, as frames."""
        self.some.clear()
        kept, self._kept = self._kept, []
        return [*kept, *self._lane.take(self.some)]

    def tell(self, column: Column, frames: list[Frame]) -> None:
        """Add events if they are wanted."""
        if self._interests.event(column.device):
            for frame in frames:
                if not self.events.offer(frame):
                    self.dropped += 1

    def close(self) -> None:
        """End."""
        self._fanout.exit(self, self._choice)


class Fanout:
    """Shows the points of one organisation."""

    def __init__(self, bus: EventBus, org_id: str) -> None:
        self._org_id = org_id
        self._lanes: dict[Choice, Lane] = {}
        self._views: set[View] = set()
        self._points = bus.subscribe(points_topic(org_id), policy=Policy.LAGGED, size=WAITING_WRITES)
        self._task = asyncio.create_task(self._run(), name=TASK)
        self._moment = MOMENT_SECONDS
        self._held: list[tuple[int, object]] = []

    @property
    def watched(self) -> bool:
        """Whether there is any dashboard."""
        return bool(self._views)

    async def close(self) -> None:
        """Stop."""
        self._points.close()
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task

    def enter(self, view: View, choice: Choice) -> Lane:
        """Show a dashboard from now on what it chose."""
        self.flush()
        lane = self._lanes.get(choice)
        if lane is None:
            lane = self._lanes[choice] = Lane(self._org_id, choice)
        lane.join(view.some)
        self._views.add(view)
        return lane

    def exit(self, view: View, choice: Choice) -> None:
        """Show a dashboard no more of what it chose."""
        lane = self._lanes[choice]
        lane.leave(view.some)
        if not lane.positions:
            del self._lanes[choice]
        self._views.discard(view)

    def flush(self) -> None:
        """Sort all points that arrived."""
        items = [*self._held, *self._points.drain()]
        self._held.clear()
        self._sort(items)

    async def _run(self) -> None:
        clock = asyncio.get_running_loop().time
        async for item in self._points:
            self._held.append(item)
            due = clock() + self._moment
            await asyncio.sleep(self._moment)
            self._moment = next_moment(self._moment, clock() - due)
            self.flush()

    def _sort(self, items: list[tuple[int, object]]) -> None:
        by_source: dict[str, list[Column]] = {}
        for _, event in items:
            if isinstance(event, Lagged):
                for view in self._views:
                    view.dropped += 1
            elif isinstance(event, PointsWritten):
                for column in event.columns:
                    if is_event(column):
                        self._tell(column)
                    else:
                        by_source.setdefault(column.device, []).append(column)
        if by_source:
            for lane in self._lanes.values():
                lane.add(by_source)

    def _tell(self, column: Column) -> None:
        frames = events(self._org_id, column)
        for view in self._views:
            view.tell(column, frames)


def next_moment(moment: float, late: float) -> float:
    """Return how long the next moment lasts, after one that ended late by so many seconds."""
    return min(max((moment + MOMENTS_LATE * late) / 2, MOMENT_SECONDS), LONGEST_MOMENT_SECONDS)


class Fanouts:
    """The fan-outs of all organisations that somebody watches."""

    def __init__(self, bus: EventBus) -> None:
        self._bus = bus
        self._by_org: dict[str, Fanout] = {}

    def open(self, org_id: str, interests: Interests) -> View:
        """Return the view of a new dashboard; close it with `close`."""
        fanout = self._by_org.get(org_id)
        if fanout is None:
            fanout = self._by_org[org_id] = Fanout(self._bus, org_id)
        return View(fanout, interests)

    async def close(self, org_id: str, view: View) -> None:
        """End a view, and with the last one the fan-out of its organisation."""
        view.close()
        fanout = self._by_org[org_id]
        if not fanout.watched:
            del self._by_org[org_id]
            await fanout.close()
