"""Events in memory, by every key that somebody asks for."""

from __future__ import annotations

from dataclasses import dataclass

from sqlmodel import select

from core.lab.event_tables import EventRow
from core.storage.database import Database


@dataclass(frozen=True, slots=True)
class KnownEvent:
    """What hot paths need of an event."""

    public_id: str
    org_id: str
    channel_id: int
    device_id: int
    linked: bool
    name: str


class EventDirectory:
    """Events of all organisations."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._events: dict[str, KnownEvent] = {}

    async def start(self) -> None:
        """Load all events."""
        async with self._database.read() as session:
            for row in (await session.exec(select(EventRow))).all():
                self.put(row)

    def put(self, row: EventRow) -> None:
        """Add an event."""
        self._events[row.public_id] = KnownEvent(
            row.public_id, row.org_id, row.channel_id, row.device_id, row.linked, row.name
        )

    def by_public_id(self, org_id: str, public_id: str) -> KnownEvent | None:
        """Return an event of an organisation."""
        event = self._events.get(public_id)
        return event if event is not None and event.org_id == org_id else None

    def by_channel(self, channel_id: int) -> tuple[KnownEvent, ...]:
        """Return the events of a channel."""
        return tuple(event for event in self._events.values() if event.channel_id == channel_id)
