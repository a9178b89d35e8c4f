"""Datapoints of events: stored, listed, thinned, and the latest of all."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from protobuf.wkt import ListValue

from core.kernel.call import Call
from core.kernel.clock import MICROSECONDS, Clock, to_datetime
from core.kernel.errors import FailedPrecondition, NotFound
from core.lab.datapoint_messages import Presenter
from core.lab.event_directory import EventDirectory, KnownEvent
from core.lab.ids import not_found
from core.lab.ingest import LabIngest
from core.lab.latest import LatestDatapoints
from core.lab.paging import page_of
from core.signals.numbers import Number
from core.signals.point_ids import PointKey, unpack
from core.signals.service import Signals
from gen.busbar.lab.v1.common_pb import StatusResponse
from gen.busbar.lab.v1.datapoints_pb import (
    CreateDatapointRequest,
    CreateDatapointsRequest,
    Datapoint,
    DeleteDatapointRequest,
    GetDatapointRequest,
    ListDatapointsRequest,
    ListDatapointsResponse,
    ListLatestDatapointsRequest,
    ListLatestDatapointsResponse,
    ReadSeriesRequest,
    ReadSeriesResponse,
)

MINUTES, MAX_POINTS = 60, 500
MINUTE_US = 60 * MICROSECONDS


class DatapointService:
    """Takes datapoints in and reads them."""

    def __init__(
        self,
        signals: Signals,
        events: EventDirectory,
        ingest: LabIngest,
        latest: LatestDatapoints,
        presenter: Presenter,
        clock: Clock,
    ) -> None:
        self._signals = signals
        self._numbers = signals.numbers
        self._events = events
        self._ingest = ingest
        self._latest = latest
        self._presenter = presenter
        self._clock = clock

    async def list_datapoints(self, request: ListDatapointsRequest, call: Call) -> ListDatapointsResponse:
        """List the datapoints of all events, newest first."""
        page = page_of(request)
        channels = [event.channel_id for event in self._events.of_org(call.caller.org_id)]
        total = await self._numbers.count(channels)
        numbers = await self._numbers.newest(channels, page.offset, page.size) if page.offset < total else []
        return ListDatapointsResponse(
            page=page.number, page_size=page.size, total=total, data=self._presenter.datapoints(numbers)
        )

    async def create_datapoint(self, request: CreateDatapointRequest, call: Call) -> StatusResponse:
        """Store one value."""
        org_id = call.caller.org_id
        event = self._events.by_public_id(org_id, request.event_public_id)
        if event is None:
            raise NotFound("Event not found.", entity="Event", id=request.event_public_id)
        if not await self._ingest.store(org_id, [(event.public_id, request.value)]):
            raise FailedPrecondition("Event is not linked to an enabled plugin instance.", event=event.public_id)
        return StatusResponse(status="success", message="1 datapoint successfully created.")

    async def create_datapoints(self, request: CreateDatapointsRequest, call: Call) -> StatusResponse:
        """Store a batch, but for values of events that do not count."""
        values = [(point.event_public_id, point.value) for point in request.datapoints]
        stored = await self._ingest.store(call.caller.org_id, values)
        return StatusResponse(status="success", message=f"{stored} datapoints successfully created.")

    async def read_series(self, request: ReadSeriesRequest, call: Call) -> ReadSeriesResponse:
        """Read the last minutes of some events."""
        start = self._clock.now_us() - (request.minutes or MINUTES) * MINUTE_US
        series: dict[str, ListValue] = {}
        for public_id in request.event_public_ids:
            event = self._events.by_public_id(call.caller.org_id, public_id)
            numbers = [] if event is None else await self._thinned(event, start, request.max_points or MAX_POINTS)
            members: Any = [] if event is None else self._members(event, numbers)
            series[public_id] = ListValue.from_python(members)
        return ReadSeriesResponse(series=series)

    async def list_latest_datapoints(self, request: ListLatestDatapointsRequest, call: Call) -> ListLatestDatapointsResponse:
        """Read the newest datapoint of each event."""
        return ListLatestDatapointsResponse(datapoints=await self._latest.of_org(call.caller.org_id))

    async def get_datapoint(self, request: GetDatapointRequest, call: Call) -> Datapoint:
        """Read one datapoint."""
        event, key = self._require(request.public_id, call)
        number = await self._numbers.get(key)
        if number is None:
            raise not_found("Datapoint", request.public_id)
        return self._presenter.datapoint(event, number)

    async def delete_datapoint(self, request: DeleteDatapointRequest, call: Call) -> StatusResponse:
        """Delete one datapoint."""
        event, key = self._require(request.public_id, call)
        if not await self._numbers.delete(key):
            raise not_found("Datapoint", request.public_id)
        self._latest.forget(event.channel_id)
        return StatusResponse(status="success", message="Datapoint successfully deleted.")

    async def _thinned(self, event: KnownEvent, start_us: int, most: int) -> list[Number]:
        return await self._numbers.thinned(event.channel_id, start_us, most)

    def _members(self, event: KnownEvent, numbers: Sequence[Number]) -> list[dict[str, object]]:
        """Return datapoints with the members that they have in lists."""
        return [
            {
                "public_id": found.public_id,
                "value": found.value,
                "timestamp": _zulu(number.at_us),
                "event_public_id": found.event_public_id,
                "experiment_public_id": found.experiment_public_id if found.has_field("experiment_public_id") else None,
            }
            for number in numbers
            for found in (self._presenter.datapoint(event, number),)
        ]

    def _require(self, public_id: str, call: Call) -> tuple[KnownEvent, PointKey]:
        """Return the event of a datapoint of the caller's organisation, and where the datapoint is stored."""
        key = unpack(public_id)
        if key is not None:
            for event in self._events.by_channel(key.channel_id):
                if event.org_id == call.caller.org_id:
                    return event, key
        raise not_found("Datapoint", public_id)


def _zulu(at_us: int) -> str:
    return to_datetime(at_us).isoformat().replace("+00:00", "Z")
