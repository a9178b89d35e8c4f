"""Events: the measurement channels of a lab."""

from __future__ import annotations

from sqlmodel import col, select

from core.kernel.call import Call
from core.kernel.errors import NotFound
from core.kernel.patches import named_values
from core.lab.event_directory import EventDirectory
from core.lab.event_keeper import KIND, EventKeeper
from core.lab.event_tables import EventRow
from core.lab.ids import not_found
from core.lab.paging import page_of, read_page
from core.signals.model import Channel, Device
from core.signals.service import Signals
from core.storage.database import Database
from gen.busbar.lab.v1.common_pb import StatusResponse
from gen.busbar.lab.v1.events_pb import (
    CreateEventRequest,
    DeleteEventRequest,
    Event,
    GetEventRequest,
    LinkEventRequest,
    ListEventsRequest,
    ListEventsResponse,
    UpdateEventRequest,
)

FIELDS = ("name", "min_value", "max_value", "unit", "type")
LOWEST, HIGHEST = 0.0, 100.0
"""Range of a linked event that states none."""
LONGEST_NAME = 255


class EventService:
    """Keeps events."""

    def __init__(self, database: Database, signals: Signals, directory: EventDirectory, keeper: EventKeeper) -> None:
        self._database = database
        self._signals = signals
        self._directory = directory
        self._keeper = keeper

    async def list_events(self, request: ListEventsRequest, call: Call) -> ListEventsResponse:
        """List events in the order in which they were made."""
        page = page_of(request)
        query = select(EventRow).where(col(EventRow.org_id) == call.caller.org_id).order_by(col(EventRow.id))
        async with self._database.read() as session:
            rows, total = await read_page(session, query, page)
        return ListEventsResponse(page=page.number, page_size=page.size, total=total, data=[_message(row) for row in rows])

    async def create_event(self, request: CreateEventRequest, call: Call) -> StatusResponse:
        """Make an event."""
        values = {name: getattr(request, name) for name in FIELDS}
        await self._keeper.create(call.caller.org_id, call.caller.user_id, values)
        return StatusResponse(status="success", message="Event successfully created.")

    async def get_event(self, request: GetEventRequest, call: Call) -> Event:
        """Read an event."""
        return _message(await self._keeper.require(call.caller.org_id, request.public_id))

    async def update_event(self, request: UpdateEventRequest, call: Call) -> StatusResponse:
        """Change the named fields; none may be null."""
        await self._keeper.change(call.caller.org_id, request.public_id, named_values(request, *FIELDS))
        return StatusResponse(status="success", message="Event successfully updated.")

    async def delete_event(self, request: DeleteEventRequest, call: Call) -> StatusResponse:
        """Delete an event with all that names it."""
        if self._directory.by_public_id(call.caller.org_id, request.public_id) is None:
            raise not_found("Event", request.public_id)
        await self._keeper.delete(call.caller.org_id, [request.public_id])
        return StatusResponse(status="success", message="Event successfully deleted.")

    async def link_event(self, request: LinkEventRequest, call: Call) -> Event:
        """Make an event of a channel that exists."""
        device, channel = self._channel(call.caller.org_id, request)
        row = await self._keeper.link(
            call.caller.org_id,
            call.caller.user_id,
            channel,
            {
                "name": request.name or f"{device.name} – {request.metric}"[:LONGEST_NAME],  # noqa: RUF001 - as plugins name theirs
                "min_value": request.min_value if request.has_field("min_value") else LOWEST,
                "max_value": request.max_value if request.has_field("max_value") else HIGHEST,
                "unit": request.unit or channel.unit or "",
                "type": request.type or "sensor",
            },
        )
        return _message(row)

    def _channel(self, org_id: str, request: LinkEventRequest) -> tuple[Device, Channel]:
        device = self._signals.find_device(org_id, request.source_id)
        if device is None or device.kind == KIND:
            raise NotFound(f"Source '{request.source_id}' not found.", entity="Source", id=request.source_id)
        channel = self._signals.find_channel(device.id, request.metric)
        if channel is None:
            raise NotFound(f"Metric '{request.metric}' not found.", entity="Metric", id=request.metric)
        return device, channel


def _message(row: EventRow) -> Event:
    return Event(
        public_id=row.public_id,
        name=row.name,
        min_value=row.min_value,
        max_value=row.max_value,
        unit=row.unit,
        type=row.type,
        user_public_id=row.user_id,
    )
