"""Events in memory, by every key that somebody asks for. Holds only what is committed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from sqlmodel import col, select

from core.lab.event_tables import EventRow
from core.signals.service import Signals
from core.storage.database import Database


@dataclass(frozen=True, slots=True)
class KnownEvent:
    """What hot paths need of an event; see EventRow."""

    public_id: str
    org_id: str
    channel_id: int
    device_id: int
    linked: bool
    name: str
    unit: str
    user_id: str | None


Mapped = Callable[[str, str], bool]
"""Tells whether an organisation has mapped an event, given by its public id, to a channel of an enabled plugin instance."""


class EventDirectory:
    """Events of all organisations."""

    def __init__(self, database: Database, signals: Signals) -> None:
        self._database = database
        self._signals = signals
        self._by_org: dict[str, dict[str, KnownEvent]] = {}
        self._by_channel: dict[int, KnownEvent] = {}
        self._mapped: list[Mapped] = []

    async def start(self) -> None:
        """Learn about all events."""
        async with self._database.read() as session:
            for row in (await session.exec(select(EventRow).order_by(col(EventRow.id)))).all():
                self.put(row)

    def on_mapping(self, mapped: Mapped) -> None:
        """Say what else makes datapoints of an event count."""
        self._mapped.append(mapped)

    def put(self, row: EventRow) -> KnownEvent:
        """Add an event, or change one that is known."""
        event = KnownEvent(
            row.public_id, row.org_id, row.channel_id, row.device_id, row.linked, row.name, row.unit, row.user_id
        )
        self._by_org.setdefault(row.org_id, {})[row.public_id] = event
        self._by_channel[row.channel_id] = event
        return event

    def remove(self, event: KnownEvent) -> None:
        """Drop an event that is gone."""
        self._by_org.get(event.org_id, {}).pop(event.public_id, None)
        self._by_channel.pop(event.channel_id, None)

    def by_public_id(self, org_id: str, public_id: str) -> KnownEvent | None:
        """Return an event of an organisation."""
        return self._by_org.get(org_id, {}).get(public_id)

    def by_channel(self, channel_id: int) -> tuple[KnownEvent, ...]:
        """Return the events of a channel, of which there is one at most."""
        event = self._by_channel.get(channel_id)
        return () if event is None else (event,)

    def of_org(self, org_id: str) -> list[KnownEvent]:
        """Return the events of an organisation in the order in which they were made."""
        return list(self._by_org.get(org_id, {}).values())

    def mapped(self, event: KnownEvent) -> bool:
        """Whether datapoints of an event count: it is mapped, or linked to a channel that is still there and records."""
        if event.linked:
            device = self._signals.get_device(event.device_id)
            return device is not None and device.recording
        return any(mapped(event.org_id, event.public_id) for mapped in self._mapped)
