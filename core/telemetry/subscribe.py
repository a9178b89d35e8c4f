"""Points as they arrive, to readers who may come and go."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Coroutine
from typing import Any

from protobuf import Oneof

from core.identity.credentials import Credentials
from core.identity.lease import Lease
from core.kernel.call import Call
from core.kernel.clock import MICROSECONDS, Clock
from core.kernel.errors import InvalidArgument, Unauthenticated
from core.kernel.validation import validate
from core.live.events import EventBus
from core.live.mailbox import Mailbox
from core.signals.model import Column
from core.signals.series import Place
from core.signals.service import Signals
from core.telemetry.journal import Batch, ForgottenError, Journal, Journals, Position
from core.telemetry.points import MESSAGE_BYTES, Presenter, fitting, metrics_of, sources_of
from core.telemetry.resume import BEGINNING, Cursor, Gap, Refill
from gen.busbar.telemetry.v1.query_pb import StoredPoint
from gen.busbar.telemetry.v1.subscribe_pb import (
    ArrivedPoints,
    ConnectTelemetryRequest,
    ConnectTelemetryResponse,
    MissedPoints,
    SubscribePong,
    SubscribeTelemetryRequest,
    SubscribeTelemetryResponse,
)

MESSAGE_POINTS = 2000
"""Most points of a message."""
QUIET_SECONDS = 10.0
"""How often a reader whose filter lets nothing through learns its cursor, so that a break does not make it lag."""
QUEUED_FRAMES = 4
PATIENT_BATCHES = 100
"""Batches without a visible point that are passed over before others have their turn."""


class SubscribeService:
    """Tells the caller the points of its organisation."""

    def __init__(self, signals: Signals, bus: EventBus, credentials: Credentials, clock: Clock, resume_hours: float) -> None:
        self.signals = signals
        self.credentials = credentials
        self.clock = clock
        self.resume_us = int(resume_hours * 3600 * MICROSECONDS)
        self.journals = Journals(bus)

    async def subscribe_telemetry(
        self, request: SubscribeTelemetryRequest, call: Call
    ) -> AsyncIterator[SubscribeTelemetryResponse]:
        """Stream points in the order of arrival, after those that are read from storage."""
        async with contextlib.aclosing(_Reader(self, request, call).messages()) as messages:
            async for message in messages:
                yield message

    async def connect_telemetry(
        self, requests: AsyncIterator[ConnectTelemetryRequest], call: Call
    ) -> AsyncIterator[ConnectTelemetryResponse]:
        """Send points as frames, and answer pings."""
        first = await anext(requests, None)
        opening = None if first is None or first.frame is None else first.frame.value
        if not isinstance(opening, SubscribeTelemetryRequest):
            raise InvalidArgument.field("open", "must be the first frame")
        validate(opening)
        frames: Mailbox[ConnectTelemetryResponse] = Mailbox(QUEUED_FRAMES)
        reader = _Reader(self, opening, call)
        tasks = [asyncio.create_task(_guarded(work, frames)) for work in (_tell(reader, frames), _answer(requests, frames))]
        try:
            async for frame in frames:
                yield frame
        finally:
            for task in tasks:
                task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.gather(*tasks, return_exceptions=True)


class _Reader:
    """One reader: a place, a filter, and what wakes it."""

    def __init__(self, service: SubscribeService, request: SubscribeTelemetryRequest, call: Call) -> None:
        self._service = service
        self._call = call
        self._caller = call.caller
        self._resumed = Cursor.parse(request.cursor) if request.cursor else None
        self._sources = sources_of(request.source, self._caller)
        self._metrics = frozenset(metrics_of(request.metric))
        self._presenter = Presenter(service.signals, self._caller.org_id)
        self._wake = asyncio.Event()
        self._ended = False
        self._position = Position(0)
        self._arrived = 0
        self._gap: Gap | None = None
        self._told = ""
        self._waits = False

    async def messages(self) -> AsyncGenerator[SubscribeTelemetryResponse]:
        """Yield messages until the credential ends or the server does."""
        service, org_id = self._service, self._caller.org_id
        after = None if self._resumed is None else self._resumed.position.cursor - bool(self._resumed.position.done)
        journal = service.journals.join(org_id, self._wake, after)
        secret = self._call.credential or ""
        lease = Lease(service.credentials, service.clock, self._caller, secret, self._credential_ended)
        try:
            yield await self._first(journal)
            async for message in self._follow(journal):
                yield message
        finally:
            lease.close()
            service.journals.leave(org_id, journal, self._wake)

    async def _first(self, journal: Journal) -> SubscribeTelemetryResponse:
        """Find the place to begin at. What is forgotten after a cursor is read from storage, or the reader has lagged."""
        if self._resumed is None:
            journal.catch_up()
            self._position, self._arrived = journal.newest, self._service.signals.told
            return self._message()
        self._position, self._arrived, refill = self._resumed
        if refill is not None:
            return await self._go_on(journal, refill)
        try:
            journal.after(self._position)
        except ForgottenError:
            return await self._miss(journal) or self._message()
        return self._message()

    async def _go_on(self, journal: Journal, refill: Refill) -> SubscribeTelemetryResponse:
        """Go on with a refill that a break cut off."""
        if not self._stored(refill.until):
            journal.catch_up()
            return self._lagged(journal)
        await self._open_gap(refill.until, refill.place)
        return self._message()

    async def _follow(self, journal: Journal) -> AsyncIterator[SubscribeTelemetryResponse]:
        passed = 0
        while not self._ended:
            self._wake.clear()
            message = await self._next(journal)
            if message is not None:
                yield message
            elif self._waits:
                if journal.closed:
                    return
                if not await self._woken() and self._cursor != self._told:
                    yield self._message()
            else:
                passed += 1
                if passed % PATIENT_BATCHES == 0:
                    await asyncio.sleep(0)
        raise Unauthenticated("the credential has ended")

    async def _next(self, journal: Journal) -> SubscribeTelemetryResponse | None:
        """Return the next message; None when there is none, and the reader waits, or none of a batch."""
        self._waits = False
        if self._gap is not None:
            return await self._fill(self._gap)
        try:
            batch = journal.after(self._position)
        except ForgottenError:
            return await self._miss(journal)
        if batch is None:
            # The journal has all that was told, so whatever comes has this number or a higher one.
            self._arrived, self._waits = self._service.signals.told, True
            return None
        points, self._position = self._visible(batch)
        if batch.arrived is not None:
            self._arrived = batch.arrived + (self._position.done or batch.points)
        return self._message(points) if points else None

    async def _miss(self, journal: Journal) -> SubscribeTelemetryResponse | None:
        """Begin to read from storage what is forgotten in the journal; return a notice when it is not to be had there either.

        It reads what arrived up to this moment, and the journal goes on with what is told from this moment on.
        """
        if not self._stored(self._arrived):
            return self._lagged(journal)
        self._position = journal.newest
        await self._open_gap(self._service.signals.told, BEGINNING)
        return None

    def _stored(self, arrived: int) -> bool:
        """Whether what arrived since then can be read from storage: not from too long ago, nor from a clock that went back."""
        told = self._service.signals.told
        return self._service.resume_us > 0 and told - self._service.resume_us <= self._arrived <= arrived <= told

    async def _open_gap(self, until: int, after: Place) -> None:
        metrics = sorted(self._metrics) or None
        signals, org_id = self._service.signals, self._caller.org_id
        chosen = await signals.select_arrived(org_id, self._sources, metrics, self._arrived, until)
        self._gap = Gap(signals, chosen, until, after)

    async def _fill(self, gap: Gap) -> SubscribeTelemetryResponse:
        """Return the next points from storage; after the last ones, where the journal goes on."""
        points = await gap.read(MESSAGE_POINTS)
        if not points:
            self._gap, self._arrived = None, gap.until
        return self._message([self._presenter.stored(point) for point in points])

    async def _woken(self) -> bool:
        """Wait until something arrives; False when nothing did for a while."""
        try:
            async with asyncio.timeout(QUIET_SECONDS):
                await self._wake.wait()
        except TimeoutError:
            return False
        return True

    def _visible(self, batch: Batch) -> tuple[list[StoredPoint], Position]:
        """Return the next points of a batch that the reader wants, as many as fit into a message, and the position after."""
        done = self._position.done
        points: list[StoredPoint] = []
        offset, room = 0, MESSAGE_BYTES
        for column in batch.columns:
            size = len(column.values)
            first = max(0, done - offset)
            if first < size and self._wants(column):
                most = min(size, first + MESSAGE_POINTS - len(points))
                count, used = fitting((column.values[index] for index in range(first, most)), room)
                stop = first + (count if points else max(1, count))
                points += self._presenter.arrived(column, first, stop)
                room -= used
                if stop < size:
                    return points, Position(batch.cursor, offset + stop)
            offset += size
        return points, Position(batch.cursor)

    def _wants(self, column: Column) -> bool:
        return (self._sources is None or column.device in self._sources) and (
            not self._metrics or column.channel in self._metrics
        )

    @property
    def _cursor(self) -> str:
        return Cursor(self._position, self._arrived, None if self._gap is None else self._gap.refill).token

    def _message(self, points: list[StoredPoint] | None = None) -> SubscribeTelemetryResponse:
        self._told = self._cursor
        return SubscribeTelemetryResponse(cursor=self._told, points=points or [])

    def _lagged(self, journal: Journal) -> SubscribeTelemetryResponse:
        from_ms = self._arrived // 1000
        self._position, self._arrived = journal.newest, self._service.signals.told
        message = self._message()
        message.lagged, message.from_ms, message.to_ms = True, from_ms, self._arrived // 1000
        return message

    def _credential_ended(self) -> None:
        self._ended = True
        self._wake.set()


async def _guarded(work: Coroutine[Any, Any, None], frames: Mailbox[ConnectTelemetryResponse]) -> None:
    """Run one side; its failure ends the connection with that error, its end without one."""
    try:
        await work
    except Exception as error:  # noqa: BLE001 - handed to the reader, where the pipeline maps it
        frames.close(error)
    else:
        frames.close()


async def _tell(reader: _Reader, frames: Mailbox[ConnectTelemetryResponse]) -> None:
    async with contextlib.aclosing(reader.messages()) as messages:
        async for message in messages:
            await frames.put(_frame(message))


def _frame(message: SubscribeTelemetryResponse) -> ConnectTelemetryResponse:
    if message.lagged:
        missed = MissedPoints(cursor=message.cursor, from_ms=message.from_ms, to_ms=message.to_ms)
        return ConnectTelemetryResponse(frame=Oneof(field="lagged", value=missed))
    arrived = ArrivedPoints(cursor=message.cursor, points=message.points)
    return ConnectTelemetryResponse(frame=Oneof(field="telemetry", value=arrived))


async def _answer(requests: AsyncIterator[ConnectTelemetryRequest], frames: Mailbox[ConnectTelemetryResponse]) -> None:
    async for request in requests:
        if request.frame is not None and isinstance(request.frame.value, SubscribeTelemetryRequest):
            raise InvalidArgument.field("open", "the connection is open")
        await frames.put(ConnectTelemetryResponse(frame=Oneof(field="pong", value=SubscribePong())))
