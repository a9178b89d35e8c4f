"""Where the events of signals are told."""

from __future__ import annotations

from collections.abc import Sequence

from core.live.events import EventBus, Topic
from core.signals.model import Event, LatestChanged


def device_topic(org_id: str, slug: str) -> Topic:
    """Return the topic of changes of one device's latest values."""
    return org_id, f"device:{slug}"


def points_topic(org_id: str) -> Topic:
    """Return the topic of all points that an organisation receives."""
    return org_id, "points"


def publish_on(bus: EventBus, events: Sequence[Event]) -> None:
    """Tell events to those who listen, in their order."""
    for event in events:
        if isinstance(event, LatestChanged):
            bus.publish(device_topic(event.org_id, event.device.slug), event)
        else:
            # A batch may hold thousands of points, and storage has them: who resumes reads them there.
            bus.publish(points_topic(event.org_id), event, remember=False)
