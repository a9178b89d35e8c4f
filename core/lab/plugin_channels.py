"""The channels of a new instance, and an event for each: as many as its plugin lets."""

from __future__ import annotations

import structlog
from sqlmodel import col, select

from core.kernel.clock import Clock
from core.kernel.errors import AlreadyExists, DomainError
from core.lab.event_keeper import EventKeeper
from core.lab.event_tables import EventRow
from core.lab.ids import new_public_id
from core.lab.plugin_api import Channel
from core.lab.plugin_catalog import PluginCatalog
from core.lab.plugin_drivers import PluginFailed
from core.lab.plugin_polling import settings_of
from core.lab.plugin_tables import PluginChannelRow, PluginInstanceRow
from core.storage.database import Database

EVENT_TYPES = {"input": "sensor", "output": "actuator", "bidirectional": "range"}
LONGEST_NAME = 255

log = structlog.get_logger("busbar.lab")


class PluginChannels:
    """Asks plugins for their channels."""

    def __init__(self, database: Database, catalog: PluginCatalog, keeper: EventKeeper, clock: Clock) -> None:
        self._database = database
        self._catalog = catalog
        self._keeper = keeper
        self._clock = clock

    async def make(self, instance: PluginInstanceRow, *, events: bool) -> None:
        """Make the channels of an instance that was just made. A failure is logged, and leaves it without any."""
        try:
            channels = await self._ask(instance)
            named = [(channel, await self._event(instance, channel) if events else None) for channel in channels]
            await self._insert(instance, named)
        except (PluginFailed, DomainError) as error:
            log.warning("plugin instance has no channels", instance=instance.public_id, error=str(error))
        except Exception:
            log.exception("plugin instance has no channels", instance=instance.public_id)

    async def _ask(self, instance: PluginInstanceRow) -> list[Channel]:
        driver = await self._catalog.driver(instance.plugin_id)
        if driver is None:
            return []
        try:
            return await driver.open(settings_of(instance.config_json), demo=instance.demo_mode)
        finally:
            await driver.close()

    async def _event(self, instance: PluginInstanceRow, channel: Channel) -> str:
        """Return the id of the event of a channel, which is made unless there is one of its name."""
        name = f"{instance.instance_name} – {channel.name}"[:LONGEST_NAME]  # noqa: RUF001 - an EN DASH is what clients look for
        query = select(EventRow.public_id).where(col(EventRow.org_id) == instance.org_id, col(EventRow.name) == name)
        values = {
            "name": name,
            "min_value": channel.low,
            "max_value": channel.high,
            "unit": channel.unit,
            "type": EVENT_TYPES[channel.direction],
        }
        async with self._database.read() as session:
            found = (await session.exec(query)).first()
        if found is not None:
            return found
        try:
            return (await self._keeper.create(instance.org_id, instance.user_id, values)).public_id
        except AlreadyExists:
            # Somebody made it just now.
            async with self._database.read() as session:
                return (await session.exec(query)).one()

    async def _insert(self, instance: PluginInstanceRow, named: list[tuple[Channel, str | None]]) -> None:
        rows = [
            PluginChannelRow(
                public_id=new_public_id(),
                instance_id=instance.id or 0,
                channel_id=channel.id,
                channel_name=channel.name,
                direction=channel.direction,
                unit=channel.unit,
                event_id=event_id,
                created_us=self._clock.now_us(),
            )
            for channel, event_id in named
        ]
        async with self._database.unit_of_work() as session:
            session.add_all(rows)
