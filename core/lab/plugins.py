"""Instances of plugins and their channels, as people see and change them."""

from __future__ import annotations

import json
from collections.abc import Collection

from sqlalchemy import delete, func, update
from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from core.kernel.call import Call, Principal
from core.kernel.clock import Clock, to_exact_timestamp
from core.kernel.errors import AlreadyExists, FailedPrecondition, InvalidArgument, NotFound
from core.kernel.patches import named_values
from core.lab.event_directory import EventDirectory
from core.lab.event_keeper import EventKeeper
from core.lab.ids import new_public_id, not_found
from core.lab.paging import page_of, read_page
from core.lab.plugin_catalog import PluginCatalog
from core.lab.plugin_channels import PluginChannels
from core.lab.plugin_directory import PluginDirectory
from core.lab.plugin_runner import PluginRunner
from core.lab.plugin_secrets import masked
from core.lab.plugin_tables import PluginChannelRow, PluginInstanceRow
from core.storage.database import Database
from core.storage.errors import is_unique_violation
from gen.busbar.api.v1.error_reason_pb import ErrorReason
from gen.busbar.lab.v1.common_pb import StatusResponse
from gen.busbar.lab.v1.plugins_pb import (
    CreateChannelRequest,
    CreatePluginRequest,
    DeleteChannelRequest,
    DeletePluginRequest,
    GetPluginRequest,
    ListAvailablePluginsRequest,
    ListAvailablePluginsResponse,
    ListChannelsRequest,
    ListChannelsResponse,
    ListPluginsRequest,
    ListPluginsResponse,
    PluginChannel,
    PluginInstance,
    PluginMeta,
    UpdateChannelRequest,
    UpdatePluginRequest,
)

ENTITY = "Plugin instance"
FIELDS = ("instance_name", "demo_mode", "enabled", "config_json")


class PluginService:
    """Keeps instances and their channels."""

    def __init__(  # noqa: PLR0913 - the parts that an instance touches
        self,
        database: Database,
        directory: PluginDirectory,
        catalog: PluginCatalog,
        runner: PluginRunner,
        channels: PluginChannels,
        *,
        events: EventDirectory,
        keeper: EventKeeper,
        most: int,
        clock: Clock,
    ) -> None:
        self._database = database
        self._directory = directory
        self._catalog = catalog
        self._runner = runner
        self._channels = channels
        self._events = events
        self._keeper = keeper
        self._most = most
        self._clock = clock

    async def list_available_plugins(self, request: ListAvailablePluginsRequest, call: Call) -> ListAvailablePluginsResponse:
        """List plugins that can be loaded."""
        del request, call
        found = await self._catalog.available()
        return ListAvailablePluginsResponse(
            plugins=[
                PluginMeta(
                    id=meta.id,
                    name=meta.name,
                    version=meta.version,
                    vendor=meta.vendor,
                    description=meta.description,
                    url=meta.url,
                )
                for meta in found
            ]
        )

    async def list_plugins(self, request: ListPluginsRequest, call: Call) -> ListPluginsResponse:
        """List instances with their channels in the order in which they were made."""
        page = page_of(request)
        query = select(PluginInstanceRow).where(col(PluginInstanceRow.org_id) == call.caller.org_id)
        async with self._database.read() as session:
            rows, total = await read_page(session, query.order_by(col(PluginInstanceRow.id)), page)
            channels = await _channels(session, [row.id for row in rows if row.id is not None])
        data = [self._message(row, channels.get(row.id or 0, []), call.caller) for row in rows]
        return ListPluginsResponse(page=page.number, page_size=page.size, total=total, data=data)

    async def create_plugin(self, request: CreatePluginRequest, call: Call) -> StatusResponse:
        """Make an instance, and then as many of its channels and events as its plugin lets."""
        row = self._row(request, call.caller)
        try:
            async with self._database.unit_of_work() as session:
                await self._require_room(session, row.org_id)
                session.add(row)
        except Exception as error:
            raise _taken(error) from error
        wants_events = request.auto_create_events if request.has_field("auto_create_events") else True
        await self._channels.make(row, events=wants_events)
        await self._directory.reload(row.public_id)
        return _done("Plugin instance created.")

    async def get_plugin(self, request: GetPluginRequest, call: Call) -> PluginInstance:
        """Read an instance."""
        async with self._database.read() as session:
            row = await _find(session, call.caller.org_id, request.public_id)
            if row is None:
                raise NotFound("Plugin instance not found.", entity=ENTITY, id=request.public_id)
            channels = await _channels(session, [row.id or 0])
        return self._message(row, channels.get(row.id or 0, []), call.caller)

    async def update_plugin(self, request: UpdatePluginRequest, call: Call) -> StatusResponse:
        """Change the named fields; only the settings may be null."""
        values = named_values(request, *FIELDS, nullable=("config_json",))
        if values.get("config_json") is not None:
            values["config_json"] = _config(values["config_json"])
        try:
            async with self._database.unit_of_work() as session:
                row = await _require(session, call.caller.org_id, request.public_id)
                row.sqlmodel_update({**values, "updated_us": self._clock.now_us()})
        except Exception as error:
            raise _taken(error) from error
        await self._directory.reload(request.public_id)
        return _done("Plugin instance successfully updated.")

    async def delete_plugin(self, request: DeletePluginRequest, call: Call) -> StatusResponse:
        """Delete an instance with its channels and their events."""
        org_id = call.caller.org_id
        async with self._database.unit_of_work() as session:
            row = await _require(session, org_id, request.public_id)
            mine = col(PluginChannelRow.instance_id) == row.id
            named = (await session.exec(select(PluginChannelRow.event_id).where(mine).distinct())).all()
            known = [self._events.by_public_id(org_id, event_id) for event_id in named if event_id is not None]
            events = [event for event in known if event is not None]
            await self._keeper.delete_in(session, org_id, events)
            await session.exec(delete(PluginChannelRow).where(mine))
            await session.exec(delete(PluginInstanceRow).where(col(PluginInstanceRow.id) == row.id))
        await self._directory.reload(request.public_id)
        await self._keeper.committed(org_id, events)
        return _done("Plugin instance successfully deleted.")

    async def list_channels(self, request: ListChannelsRequest, call: Call) -> ListChannelsResponse:
        """List the channels of an instance."""
        async with self._database.read() as session:
            row = await _require(session, call.caller.org_id, request.public_id)
            channels = await _channels(session, [row.id or 0])
        return ListChannelsResponse(channels=[_channel_message(channel) for channel in channels.get(row.id or 0, [])])

    async def create_channel(self, request: CreateChannelRequest, call: Call) -> StatusResponse:
        """Add a channel."""
        event_id = request.event_public_id if request.has_field("event_public_id") else None
        try:
            async with self._database.unit_of_work() as session:
                row = await _require(session, call.caller.org_id, request.public_id)
                self._require_event(call.caller.org_id, event_id)
                channel = PluginChannelRow(
                    public_id=new_public_id(),
                    instance_id=row.id or 0,
                    channel_id=request.channel_id,
                    channel_name=request.channel_name,
                    direction=request.direction,
                    unit=request.unit,
                    event_id=event_id,
                    created_us=self._clock.now_us(),
                )
                session.add(channel)
        except Exception as error:
            raise _taken(error, "Channel mapping already exists.") from error
        await self._directory.reload(request.public_id)
        return _done("Channel mapping created.")

    async def update_channel(self, request: UpdateChannelRequest, call: Call) -> StatusResponse:
        """Change or unlink the event of a channel."""
        values = named_values(request, "event_public_id", nullable=("event_public_id",))
        async with self._database.unit_of_work() as session:
            channel = await _require_channel(session, call.caller.org_id, request.public_id, request.mapping_id)
            if "event_public_id" in values:
                self._require_event(call.caller.org_id, values["event_public_id"])
                channel.event_id = values["event_public_id"]
        await self._directory.reload(request.public_id)
        return _done("Channel mapping successfully updated.")

    async def delete_channel(self, request: DeleteChannelRequest, call: Call) -> StatusResponse:
        """Remove a channel."""
        async with self._database.unit_of_work() as session:
            await session.delete(await _require_channel(session, call.caller.org_id, request.public_id, request.mapping_id))
        await self._directory.reload(request.public_id)
        return _done("Channel mapping successfully deleted.")

    async def forget_user(self, session: AsyncSession, org_id: str, user_id: str) -> None:
        """Delete the instances of a user with their channels."""
        mine = (col(PluginInstanceRow.org_id) == org_id, col(PluginInstanceRow.user_id) == user_id)
        owned = select(PluginInstanceRow.id).where(*mine)
        await session.exec(delete(PluginChannelRow).where(col(PluginChannelRow.instance_id).in_(owned)))
        await session.exec(delete(PluginInstanceRow).where(*mine))

    async def user_forgotten(self, org_id: str, user_id: str) -> None:
        """Stop what runs of a user who is gone."""
        del user_id
        await self._directory.reload_org(org_id)

    async def forget_events(self, session: AsyncSession, org_id: str, event_ids: Collection[str]) -> None:
        """Unlink channels from events that are deleted."""
        here = select(PluginInstanceRow.id).where(col(PluginInstanceRow.org_id) == org_id)
        named = (col(PluginChannelRow.event_id).in_(event_ids), col(PluginChannelRow.instance_id).in_(here))
        await session.exec(update(PluginChannelRow).where(*named).values(event_id=None))

    def _row(self, request: CreatePluginRequest, caller: Principal) -> PluginInstanceRow:
        return PluginInstanceRow(
            public_id=new_public_id(),
            org_id=caller.org_id,
            user_id=caller.user_id,
            plugin_id=request.plugin_id,
            instance_name=request.instance_name,
            demo_mode=request.demo_mode,
            enabled=request.enabled if request.has_field("enabled") else True,
            config_json=_config(request.config_json) if request.has_field("config_json") else None,
            created_us=self._clock.now_us(),
        )

    async def _require_room(self, session: AsyncSession, org_id: str) -> None:
        counted = select(func.count()).select_from(PluginInstanceRow).where(col(PluginInstanceRow.org_id) == org_id)
        used = (await session.exec(counted)).one()
        if used >= self._most:
            raise FailedPrecondition(
                f"There are {used} plugin instances, the most is {self._most}.",
                reason=ErrorReason.QUOTA_EXCEEDED,
                limit=self._most,
                used=used,
            )

    def _require_event(self, org_id: str, event_id: str | None) -> None:
        if event_id is not None and self._events.by_public_id(org_id, event_id) is None:
            raise NotFound("Event not found.", entity="Event", id=event_id)

    def _message(self, row: PluginInstanceRow, channels: list[PluginChannelRow], caller: Principal) -> PluginInstance:
        condition = self._runner.condition(row.public_id, demo=row.demo_mode)
        trusted = caller.role == "admin" and caller.may("lab:admin")
        return PluginInstance(
            public_id=row.public_id,
            plugin_id=row.plugin_id,
            instance_name=row.instance_name,
            demo_mode=row.demo_mode,
            enabled=row.enabled,
            status=condition.status,
            config_json=row.config_json if trusted else masked(row.config_json),
            error_message=condition.error,
            created_on=to_exact_timestamp(row.created_us),
            updated_on=to_exact_timestamp(row.updated_us),
            user_public_id=row.user_id,
            channel_mappings=[_channel_message(channel) for channel in channels],
        )


def _config(text: str) -> str | None:
    """Return settings as they are kept: text that came as JSON text stays as it is, an object becomes its text."""
    try:
        found: object = json.loads(text)
    except ValueError:
        return text
    if found is None or isinstance(found, str):
        return found
    if not isinstance(found, dict):
        raise InvalidArgument.field("config_json", "must be JSON text or an object")
    return text


def _taken(error: Exception, message: str = "Plugin instance already exists.") -> Exception:
    """Return what a failed write means: a unique thing was taken, or the failure itself."""
    return AlreadyExists(message, entity=ENTITY) if is_unique_violation(error) else error


def _done(message: str) -> StatusResponse:
    return StatusResponse(status="success", message=message)


async def _find(session: AsyncSession, org_id: str, public_id: str) -> PluginInstanceRow | None:
    query = select(PluginInstanceRow).where(
        col(PluginInstanceRow.public_id) == public_id, col(PluginInstanceRow.org_id) == org_id
    )
    return (await session.exec(query)).one_or_none()


async def _require(session: AsyncSession, org_id: str, public_id: str) -> PluginInstanceRow:
    row = await _find(session, org_id, public_id)
    if row is None:
        raise not_found(ENTITY, public_id)
    return row


async def _require_channel(session: AsyncSession, org_id: str, public_id: str, mapping_id: str) -> PluginChannelRow:
    instance = await _require(session, org_id, public_id)
    query = select(PluginChannelRow).where(
        col(PluginChannelRow.public_id) == mapping_id, col(PluginChannelRow.instance_id) == instance.id
    )
    channel = (await session.exec(query)).one_or_none()
    if channel is None:
        raise not_found("Channel mapping", mapping_id)
    return channel


async def _channels(session: AsyncSession, instance_ids: Collection[int]) -> dict[int, list[PluginChannelRow]]:
    """Return the channels of some instances in the order in which they were made."""
    query = select(PluginChannelRow).where(col(PluginChannelRow.instance_id).in_(instance_ids))
    found: dict[int, list[PluginChannelRow]] = {}
    for channel in (await session.exec(query.order_by(col(PluginChannelRow.id)))).all():
        found.setdefault(channel.instance_id, []).append(channel)
    return found


def _channel_message(row: PluginChannelRow) -> PluginChannel:
    return PluginChannel(
        public_id=row.public_id,
        channel_id=row.channel_id,
        channel_name=row.channel_name,
        direction=row.direction,
        unit=row.unit,
        event_public_id=row.event_id,
        created_on=to_exact_timestamp(row.created_us),
    )
