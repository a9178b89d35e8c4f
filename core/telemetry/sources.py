"""Sources: the devices that send telemetry. Their devices are of the signals foundation, which makes one with a first point."""

from __future__ import annotations

import json
from typing import Any

from protobuf.wkt import Struct, Value
from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from core.identity.credentials import Credentials
from core.identity.tables import CredentialRow
from core.kernel.call import Call, Principal
from core.kernel.clock import MICROSECONDS, Clock
from core.kernel.errors import AlreadyExists, FailedPrecondition, InvalidArgument, NotFound, PermissionDenied
from core.kernel.pages import MOST, decode_cursor, encode_cursor, page_limit
from core.kernel.settings import Live
from core.signals.model import Channel, Device
from core.signals.service import Signals
from core.signals.tables import DeviceRow
from core.storage.database import Database
from core.storage.errors import is_unique_violation
from core.storage.tx import Tx
from core.telemetry.access import may_see
from core.telemetry.tables import SourceRow
from core.telemetry.times import format_time
from gen.busbar.api.v1.options_pb import CredentialKind
from gen.busbar.telemetry.v1.sources_pb import (
    CreateSourceRequest,
    DeleteSourceRequest,
    DeleteSourceResponse,
    GetSourceRequest,
    ListMetricsRequest,
    ListMetricsResponse,
    ListSourcesRequest,
    ListSourcesResponse,
    Metric,
    Source,
    SourceEnvelope,
    UpdateSourceRequest,
)

BOARD = "board"
LAB = "lab"
DEVICE = "device"


class SourceService:
    """Keeps sources."""

    def __init__(self, database: Database, credentials: Credentials, signals: Signals, clock: Clock, live: Live) -> None:
        self._database = database
        self._credentials = credentials
        self._signals = signals
        self._clock = clock
        self._offline_after_us = int(live.offline_after_seconds * MICROSECONDS)

    async def create_source(self, request: CreateSourceRequest, call: Call) -> SourceEnvelope:
        """Make a source before its first point."""
        org_id, slug = call.caller.org_id, request.slug
        if not may_see(call.caller, slug):
            raise PermissionDenied("this credential is for other sources")
        if self._signals.find_device(org_id, slug) is not None:
            raise AlreadyExists(f"source {slug} already exists", source=slug)
        device = await self._signals.ensure_device(org_id, slug, name=request.name or None)
        row = SourceRow(
            device_id=device.id,
            org_id=org_id,
            source_type=request.source_type or DEVICE,
            device_type=request.device_type or None,
            description=request.description or None,
            metadata_json=_text(request.metadata),
            config_json=_text(request.config),
        )
        try:
            async with self._database.unit_of_work() as session:
                await _hold(session, device)
                session.add(row)
        except Exception as error:
            if is_unique_violation(error):
                raise AlreadyExists(f"source {slug} already exists", source=slug) from error
            raise
        call.headers.append(("Location", f"/api/sources/{slug}"))
        return SourceEnvelope(source=self._message(device, row))

    async def list_sources(self, request: ListSourcesRequest, call: Call) -> ListSourcesResponse:
        """List sources by slug, boards included."""
        limit = page_limit(request.limit if request.has_field("limit") else None, default=MOST)
        after = decode_cursor(request.cursor, str)
        async with self._database.read() as session:
            found = await session.exec(select(SourceRow).where(col(SourceRow.org_id) == call.caller.org_id))
            rows = {row.device_id: row for row in found}
        sources = [
            self._message(device, rows.get(device.id))
            for device in self._signals.devices(call.caller.org_id)
            if may_see(call.caller, device.slug) and (after is None or device.slug > str(after[0]))
        ]
        fits = [source for source in sources if _fits(source, request)]
        cursor = encode_cursor(fits[limit - 1].slug) if len(fits) > limit else None
        return ListSourcesResponse(sources=fits[:limit], next_cursor=cursor)

    async def get_source(self, request: GetSourceRequest, call: Call) -> SourceEnvelope:
        """Read one source."""
        device = self._require(request.source_id, call.caller)
        async with self._database.read() as session:
            return SourceEnvelope(source=self._message(device, await session.get(SourceRow, device.id)))

    async def update_source(self, request: UpdateSourceRequest, call: Call) -> SourceEnvelope:
        """Change the fields that are named."""
        device, named = self._require(request.source_id, call.caller), _named(request)
        if "name" in named and device.kind == BOARD:
            raise FailedPrecondition("a board is renamed as a board")
        if device.kind == LAB:
            raise FailedPrecondition("events of the lab are changed in the lab")
        if named & {"description", "metadata"}:
            async with self._database.unit_of_work() as session:
                await _hold(session, device)
                row = await session.get(SourceRow, device.id)
                if row is None:
                    row = SourceRow(device_id=device.id, org_id=device.org_id)
                    session.add(row)
                if "description" in named:
                    row.description = request.description or None
                if "metadata" in named:
                    row.metadata_json = _text(request.metadata)
        if named & {"name", "recording"}:
            name = request.name if "name" in named else None
            recording = request.recording if "recording" in named else None
            await self._signals.update_device(device.id, name=name, recording=recording)
        return await self.get_source(GetSourceRequest(source_id=request.source_id), call)

    async def delete_source(self, request: DeleteSourceRequest, call: Call) -> DeleteSourceResponse:
        """Delete a source with everything it sent, and end the credentials that are bound to it."""
        device = self._require(request.source_id, call.caller)
        if device.kind == BOARD:
            raise FailedPrecondition("a board is deleted as a board")
        if device.kind == LAB:
            raise FailedPrecondition("events of the lab are deleted in the lab")
        async with self._database.unit_of_work() as session:
            ended = await self._credentials.revoke(session, await _tokens(session, device))
        self._credentials.drop(ended)

        async def forget(tx: Tx) -> None:
            await tx.execute("DELETE FROM source WHERE device_id = $1", device.id)

        await self._signals.delete_device(device.id, along=forget)
        return DeleteSourceResponse()

    async def list_metrics(self, request: ListMetricsRequest, call: Call) -> ListMetricsResponse:
        """List the metrics of a source by name, each with its newest value."""
        device = self._require(request.source_id, call.caller)
        return ListMetricsResponse(metrics=[self._metric(device, c) for c in self._signals.channels(device.id)])

    def _require(self, slug: str, caller: Principal) -> Device:
        device = self._signals.find_device(caller.org_id, slug)
        if device is None or not may_see(caller, slug):
            raise NotFound(f"source {slug} not found", source=slug)
        return device

    def _status(self, device: Device) -> str:
        if self._signals.online(device.id):
            return "online"
        if device.last_seen_us is None:
            return "pending"
        return "online" if self._clock.now_us() - device.last_seen_us < self._offline_after_us else "offline"

    def _message(self, device: Device, row: SourceRow | None) -> Source:
        # What is no plain source tells by its own kind what it is: a board stays one, whatever is noted about it.
        kind = (DEVICE if row is None else row.source_type) if device.kind == "source" else device.kind
        row = row or SourceRow(device_id=device.id, org_id=device.org_id)
        return Source(
            id=device.slug,
            slug=device.slug,
            name=device.name,
            source_type=kind,
            device_type=row.device_type,
            description=row.description,
            status=self._status(device),
            recording=device.recording,
            last_seen_at=None if device.last_seen_us is None else format_time(device.last_seen_us),
            created_at=format_time(device.created_us),
            metadata=_struct(row.metadata_json),
            config=_struct(row.config_json),
        )

    def _metric(self, device: Device, channel: Channel) -> Metric:
        latest = self._signals.latest(device.id, channel.name)
        value = None if latest is None else latest.value
        number = value is None or (isinstance(value, float | int) and not isinstance(value, bool))
        return Metric(
            name=channel.name,
            class_="metric" if number and channel.kind != "event" else "event",
            unit=channel.unit,
            value=None if value is None else Value.from_python(value),
            timestamp=None if latest is None else latest.at_us / 1000,
        )


async def _hold(session: AsyncSession, device: Device) -> None:
    """Keep a device until the unit of work ends, so that nothing is noted about one that is gone, nor twice at once."""
    alive = select(DeviceRow.id).where(col(DeviceRow.id) == device.id, col(DeviceRow.deleted_us).is_(None))
    if (await session.exec(alive.with_for_update())).first() is None:
        raise NotFound(f"source {device.slug} not found", source=device.slug)


def _fits(source: Source, request: ListSourcesRequest) -> bool:
    search = request.search.lower()
    return (
        request.type in ("", source.source_type)
        and request.status in ("", source.status)
        and request.slug in ("", source.slug)
        and (search in source.slug or search in source.name.lower())
    )


def _named(request: UpdateSourceRequest) -> set[str]:
    """Return the fields to change: those of the mask, or without one those that are present."""
    present = {name for name in ("name", "recording", "description") if request.has_field(name)}
    if request.update_mask is None:
        return present if request.metadata is None else present | {"metadata"}
    named = set(request.update_mask.paths)
    for name in ("name", "recording"):
        if name in named and name not in present:
            raise InvalidArgument.field(name, "must not be null")
    return named


async def _tokens(session: AsyncSession, device: Device) -> list[str]:
    """Return the live credentials that are bound to a source."""
    tokens = select(CredentialRow.id).where(
        col(CredentialRow.org_id) == device.org_id,
        col(CredentialRow.bound_to) == device.slug,
        col(CredentialRow.kind) == int(CredentialKind.DEVICE_TOKEN),
        col(CredentialRow.revoked_us).is_(None),
    )
    return list((await session.exec(tokens)).all())


def _text(struct: Struct | None) -> str | None:
    kept: dict[str, Any] | None = None if struct is None else struct.to_python()
    return json.dumps(kept) if kept else None


def _struct(text: str | None) -> Struct:
    return Struct.from_python({} if text is None else json.loads(text))
