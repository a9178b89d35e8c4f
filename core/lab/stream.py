"""The sockets of the lab: browsers watch datapoints, controllers send them."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator
from functools import partial
from typing import Any, Literal, cast

from protobuf import Oneof

from core.identity.credentials import Credentials
from core.identity.lifeline import Lifeline
from core.kernel.call import Call
from core.kernel.clock import Clock
from core.kernel.errors import DomainError
from core.lab.ingest import LabIngest
from core.lab.live_datapoints import LiveDatapoints
from core.live.events import Reader
from core.live.mailbox import Mailbox
from gen.busbar.lab.v1.stream_pb import (
    DatapointBatch,
    SendDatapointsRequest,
    SendDatapointsResponse,
    StreamConnected,
    StreamPing,
    StreamPong,
    StreamRefusal,
    WatchDatapointsRequest,
    WatchDatapointsResponse,
)

WELCOME = "Subscribed to live datapoint stream."
MOST_POINTS = 500
READY_FRAMES = 8
"""Frames ready to be sent; further ones wait in the subscription, where they are counted."""

Frame = (
    Oneof[Literal["connected"], StreamConnected]
    | Oneof[Literal["pong"], StreamPong]
    | Oneof[Literal["datapoints_batch"], DatapointBatch]
)


class StreamService:
    """Talks with watchers and controllers."""

    def __init__(self, live: LiveDatapoints, ingest: LabIngest, credentials: Credentials, clock: Clock) -> None:
        self._live = live
        self._ingest = ingest
        self._credentials = credentials
        self._clock = clock

    async def watch_datapoints(
        self, requests: AsyncIterator[WatchDatapointsRequest], call: Call
    ) -> AsyncIterator[WatchDatapointsResponse]:
        """Tell datapoints until the watcher goes, or may not watch any more."""
        out: Mailbox[Frame] = Mailbox(READY_FRAMES)
        # Before the welcome: whoever has read it misses nothing.
        reader = self._live.watch(call.caller.org_id)
        lifeline = Lifeline(self._credentials, self._clock, call, out)
        lifeline.start(partial(_tell, reader, out), partial(_answer, requests, out))
        try:
            yield WatchDatapointsResponse(frame=Oneof(field="connected", value=StreamConnected(message=WELCOME)))
            async for frame in out:
                yield WatchDatapointsResponse(frame=frame)
        finally:
            reader.close()
            await lifeline.stop()

    async def send_datapoints(
        self, requests: AsyncIterator[SendDatapointsRequest], call: Call
    ) -> AsyncIterator[SendDatapointsResponse]:
        """Store batches until the controller goes, or may not send any more."""
        refusals: Mailbox[str] = Mailbox(READY_FRAMES)
        lifeline = Lifeline(self._credentials, self._clock, call, refusals)
        lifeline.start(partial(self._take, requests, call, refusals))
        try:
            async for refusal in refusals:
                yield SendDatapointsResponse(frame=Oneof(field="error", value=StreamRefusal(message=refusal)))
        finally:
            await lifeline.stop()

    async def _take(self, requests: AsyncIterator[SendDatapointsRequest], call: Call, refusals: Mailbox[str]) -> None:
        async for request in requests:
            batch: dict[str, Any] = {} if request.frame is None else request.frame.value.to_python()
            try:
                refusal = await self._store(call.caller.org_id, batch.get("datapoints"))
            except DomainError as error:
                refusal = error.message
            if refusal is not None:
                await refusals.put(refusal)
        refusals.close()

    async def _store(self, org_id: str, given: object) -> str | None:
        """Store a batch; return why it is refused."""
        items = cast("list[object]", given) if isinstance(given, list) else []
        if not items:
            return None
        if len(items) > MOST_POINTS:
            return f"Batch too large ({len(items)}), max {MOST_POINTS}"
        values = [value for item in items if (value := _datapoint(item)) is not None]
        if not values:
            return "No valid datapoints in batch"
        await self._ingest.store(org_id, values)
        return None


async def _tell(reader: Reader, out: Mailbox[Frame]) -> None:
    async for _, event in reader:
        # A watcher that was too slow, and has a notice of it here, goes on with what comes next: it sees the present.
        if isinstance(event, DatapointBatch):
            await out.put(Oneof(field="datapoints_batch", value=event))
    out.close()


async def _answer(requests: AsyncIterator[WatchDatapointsRequest], out: Mailbox[Frame]) -> None:
    async for request in requests:
        if request.frame is not None and isinstance(request.frame.value, StreamPing):
            await out.put(Oneof(field="pong", value=StreamPong()))
    out.close()


def _datapoint(item: object) -> tuple[str, float] | None:
    """Return event and value of an item; None when it is malformed."""
    members = cast("dict[str, object]", item) if isinstance(item, dict) else {}
    public_id, given = members.get("event_public_id"), members.get("value")
    if not isinstance(public_id, str) or not isinstance(given, str | int | float):
        return None
    try:
        value = float(given)
    except ValueError:
        return None
    return (public_id, value) if math.isfinite(value) else None
