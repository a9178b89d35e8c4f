"""Making, changing and deleting events, for the services and for whatever makes events by itself."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from sqlalchemy import delete
from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from core.kernel.clock import Clock
from core.lab.erasing import Erasing
from core.lab.event_directory import EventDirectory, KnownEvent
from core.lab.event_tables import EventRow
from core.lab.events_gone import EventsGone
from core.lab.ids import already_exists, new_public_id, not_found
from core.signals.model import Channel
from core.signals.service import Signals
from core.storage.database import Database
from core.storage.errors import is_unique_violation

DEVICE = "lab-events~"
"""Slug of the device of an organisation that has the channels of its events. No client can write a tilde into a slug."""
KIND = "lab"


class EventKeeper:
    """Keeps rows, memory and channels of events together."""

    def __init__(
        self,
        database: Database,
        signals: Signals,
        directory: EventDirectory,
        gone: EventsGone,
        erasing: Erasing,
        clock: Clock,
    ) -> None:
        self._database = database
        self._signals = signals
        self._directory = directory
        self._gone = gone
        self._clock = clock
        self._erasing = erasing
        self._forgotten: dict[tuple[str, str], list[KnownEvent]] = {}

    async def start(self) -> None:
        """Finish deletions that a stop interrupted: the lab's devices have no channel but those of events."""
        for device in self._signals.devices_of_kind(KIND):
            for channel in self._signals.channels(device.id):
                if not self._directory.by_channel(channel.id):
                    self._erase(channel.id)

    async def create(self, org_id: str, user_id: str | None, values: Mapping[str, Any]) -> KnownEvent:
        """Make an event with a channel of its own.

        Raises:
            AlreadyExists: The name is taken.
        """
        self._refuse_taken(org_id, values["name"])
        public_id = new_public_id()
        device = await self._signals.ensure_device(org_id, DEVICE, name="Lab", kind=KIND)
        channel = await self._signals.ensure_channel(device.id, public_id)
        try:
            return await self._insert(org_id, user_id, channel, public_id, linked=False, values=values)
        except BaseException:
            self._erase(channel.id)
            raise

    async def link(self, org_id: str, user_id: str | None, channel: Channel, values: Mapping[str, Any]) -> EventRow:
        """Make an event of a channel that exists.

        Raises:
            AlreadyExists: The name is taken, or the channel is an event already.
        """
        self._refuse_taken(org_id, values["name"])
        event = await self._insert(org_id, user_id, channel, new_public_id(), linked=True, values=values)
        return await self.require(org_id, event.public_id)

    async def require(self, org_id: str, public_id: str) -> EventRow:
        """Return an event.

        Raises:
            NotFound: The organisation has no such event.
        """
        async with self._database.read() as session:
            return await self._require(session, org_id, public_id)

    async def change(self, org_id: str, public_id: str, values: Mapping[str, Any]) -> None:
        """Set fields of an event.

        Raises:
            NotFound: The organisation has no such event.
            AlreadyExists: The name is taken.
        """
        try:
            async with self._database.unit_of_work() as session:
                row = await self._require(session, org_id, public_id)
                row.sqlmodel_update(dict(values))
        except Exception as error:
            if is_unique_violation(error):
                raise already_exists("Event") from error
            raise
        self._directory.put(row)

    async def delete(self, org_id: str, public_ids: Collection[str]) -> None:
        """Delete events with all that names them; their points go right afterwards, out of everybody's sight."""
        known = [self._directory.by_public_id(org_id, public_id) for public_id in public_ids]
        events = [event for event in known if event is not None]
        async with self._database.unit_of_work() as session:
            await self.delete_in(session, org_id, events)
        await self.committed(org_id, events)

    async def delete_in(self, session: AsyncSession, org_id: str, events: Collection[KnownEvent]) -> None:
        """Delete events within the caller's unit of work; call `committed` after it."""
        public_ids = [event.public_id for event in events]
        await self._gone.forget(session, org_id, public_ids)
        await session.exec(delete(EventRow).where(col(EventRow.public_id).in_(public_ids), col(EventRow.org_id) == org_id))

    async def committed(self, org_id: str, events: Collection[KnownEvent]) -> None:
        """Bring memory up to date after a commit that deleted events, and begin to delete their points."""
        for event in events:
            self._directory.remove(event)
            if not event.linked:
                self._erase(event.channel_id)
        await self._gone.committed(org_id)

    async def forget_user(self, session: AsyncSession, org_id: str, user_id: str) -> None:
        """Delete the events of a user."""
        owned = [event for event in self._directory.of_org(org_id) if event.user_id == user_id]
        await self.delete_in(session, org_id, owned)
        self._forgotten[org_id, user_id] = owned

    async def user_forgotten(self, org_id: str, user_id: str) -> None:
        """Bring memory up to date once a user is gone."""
        await self.committed(org_id, self._forgotten.pop((org_id, user_id), []))

    def _refuse_taken(self, org_id: str, name: str) -> None:
        if any(event.name == name for event in self._directory.of_org(org_id)):
            raise already_exists("Event")

    async def _insert(
        self, org_id: str, user_id: str | None, channel: Channel, public_id: str, *, linked: bool, values: Mapping[str, Any]
    ) -> KnownEvent:
        row = EventRow(
            public_id=public_id,
            org_id=org_id,
            channel_id=channel.id,
            device_id=channel.device_id,
            linked=linked,
            user_id=user_id,
            created_us=self._clock.now_us(),
            **values,
        )
        try:
            async with self._database.unit_of_work() as session:
                session.add(row)
        except Exception as error:
            if is_unique_violation(error):
                raise already_exists("Event") from error
            raise
        return self._directory.put(row)

    async def _require(self, session: AsyncSession, org_id: str, public_id: str) -> EventRow:
        query = select(EventRow).where(col(EventRow.public_id) == public_id, col(EventRow.org_id) == org_id)
        row = (await session.exec(query)).one_or_none()
        if row is None:
            raise not_found("Event", public_id)
        return row

    def _erase(self, channel_id: int) -> None:
        self._signals.hide_channel(channel_id)
        self._erasing.begin(self._signals.delete_channel(channel_id))
