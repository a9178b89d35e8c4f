"""Plugin instances in memory: hot paths ask for every datapoint whether its event is mapped. Holds only what is committed."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from core.lab.plugin_tables import PluginChannelRow, PluginInstanceRow
from core.storage.database import Database


@dataclass(frozen=True, slots=True)
class KnownChannel:
    """What hot paths need of a channel; see PluginChannelRow."""

    channel_id: str
    direction: str
    event_id: str | None


@dataclass(frozen=True, slots=True)
class KnownInstance:
    """What hot paths need of an instance; see PluginInstanceRow."""

    public_id: str
    org_id: str
    plugin_id: str
    demo_mode: bool
    enabled: bool
    config_json: str | None
    channels: tuple[KnownChannel, ...]


Changed = Callable[[str], Awaitable[None]]
"""Takes the public id of an instance that was made, changed or deleted."""


class PluginDirectory:
    """Instances of all organisations."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._instances: dict[str, KnownInstance] = {}
        self._by_event: defaultdict[tuple[str, str], set[str]] = defaultdict(set)
        self._listeners: list[Changed] = []
        self._changing = asyncio.Lock()

    async def start(self) -> None:
        """Learn about all instances."""
        async with self._database.read() as session:
            for row in (await session.exec(select(PluginInstanceRow))).all():
                self._put(await _known(session, row))

    def on_change(self, listener: Changed) -> None:
        """Call a listener after each change, one at a time."""
        self._listeners.append(listener)

    def get(self, public_id: str) -> KnownInstance | None:
        """Return an instance."""
        return self._instances.get(public_id)

    def all(self) -> list[KnownInstance]:
        """Return every instance."""
        return list(self._instances.values())

    def mapped(self, org_id: str, event_id: str) -> bool:
        """Whether an event is that of a channel of an enabled instance."""
        return any(instance.enabled for instance in self.of_event(org_id, event_id))

    def of_event(self, org_id: str, event_id: str) -> list[KnownInstance]:
        """Return the instances that have a channel with an event."""
        return [self._instances[public_id] for public_id in self._by_event.get((org_id, event_id), ())]

    async def reload(self, *public_ids: str) -> None:
        """Learn what was committed about some instances, and tell the listeners."""
        async with self._changing:
            for public_id in public_ids:
                query = select(PluginInstanceRow).where(col(PluginInstanceRow.public_id) == public_id)
                async with self._database.read() as session:
                    row = (await session.exec(query)).one_or_none()
                    known = None if row is None else await _known(session, row)
                self._drop(public_id)
                if known is not None:
                    self._put(known)
                for listener in self._listeners:
                    await listener(public_id)

    async def reload_org(self, org_id: str) -> None:
        """Learn anew about the instances of an organisation."""
        await self.reload(*[instance.public_id for instance in self.all() if instance.org_id == org_id])

    def _put(self, instance: KnownInstance) -> None:
        self._instances[instance.public_id] = instance
        for channel in instance.channels:
            if channel.event_id is not None:
                self._by_event[instance.org_id, channel.event_id].add(instance.public_id)

    def _drop(self, public_id: str) -> None:
        instance = self._instances.pop(public_id, None)
        for channel in () if instance is None else instance.channels:
            if instance is not None and channel.event_id is not None:
                key = (instance.org_id, channel.event_id)
                self._by_event[key].discard(public_id)
                if not self._by_event[key]:
                    del self._by_event[key]


async def _known(session: AsyncSession, row: PluginInstanceRow) -> KnownInstance:
    query = select(PluginChannelRow).where(col(PluginChannelRow.instance_id) == row.id).order_by(col(PluginChannelRow.id))
    channels = [KnownChannel(c.channel_id, c.direction, c.event_id) for c in (await session.exec(query)).all()]
    return KnownInstance(row.public_id, row.org_id, row.plugin_id, row.demo_mode, row.enabled, row.config_json, tuple(channels))
