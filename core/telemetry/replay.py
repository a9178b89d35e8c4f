"""Recordings as they happened, again: to one reader, or to everyone who watches."""

from __future__ import annotations

import asyncio
import re
from bisect import bisect_left, bisect_right
from collections.abc import AsyncIterator, Sequence
from operator import attrgetter
from typing import Protocol

from core.kernel.call import Call
from core.kernel.clock import MICROSECONDS, Clock
from core.kernel.errors import InvalidArgument, NotFound, PermissionDenied
from core.kernel.pages import decode_cursor, encode_cursor
from core.live.events import EventBus
from core.signals.model import Column, PointsWritten, StoredPoint
from core.signals.series import Place, Placed, Selection
from core.signals.service import Signals
from core.signals.tables import RecordingRow
from core.signals.topics import publish_on
from core.telemetry.points import MESSAGE_BYTES, Presenter, fitting, milliseconds, sources_of
from core.telemetry.times import parse_time
from gen.busbar.telemetry.v1.replay_pb import (
    PublishRecordingRequest,
    PublishRecordingResponse,
    ReplayRecordingRequest,
    ReplayRecordingResponse,
)

PAGE = 1000
"""Points read at a time, and most points of a message."""
SLOWEST, FASTEST = 0.1, 1000.0
_NO_SOURCE = re.compile(r"[^a-z0-9._-]+")
_LONGEST_SOURCE = 256
_time = attrgetter("place.at_us")


class _Request(Protocol):
    """What the two requests share."""

    recording_id: str
    speed: str
    from_: str
    cursor: str


class ReplayService:
    """Plays recordings of the caller's organisation."""

    def __init__(self, signals: Signals, bus: EventBus, clock: Clock) -> None:
        self._signals = signals
        self._bus = bus
        self._clock = clock

    async def replay_recording(self, request: ReplayRecordingRequest, call: Call) -> AsyncIterator[ReplayRecordingResponse]:
        """Stream the points of a recording at its pace."""
        _, run = await self._open(request, call)
        presenter = Presenter(self._signals, call.caller.org_id)
        cursor = request.cursor
        async for due in run.batches():
            cursor = encode_cursor(*due[-1].place)
            yield ReplayRecordingResponse(cursor=cursor, points=[presenter.stored(placed.point) for placed in due])
        yield ReplayRecordingResponse(cursor=cursor, done=True)

    async def publish_recording(self, request: PublishRecordingRequest, call: Call) -> AsyncIterator[PublishRecordingResponse]:
        """Tell the points of a recording to all who watch, and the caller how far it is."""
        caller = call.caller
        if caller.bound_to is not None or caller.board_ids is not None:
            raise PermissionDenied("a credential that is bound to one source cannot play to all")
        recording, run = await self._open(request, call)
        presenter = Presenter(self._signals, caller.org_id)
        answer = PublishRecordingResponse(cursor=request.cursor, source_id=_source_of(recording.external_id))
        async for due in run.batches():
            points = [placed.point for placed in due]
            now = None if request.keep_times else self._clock.now_us()
            columns = _columns(points, answer.source_id, now, presenter)
            publish_on(self._bus, [PointsWritten(caller.org_id, columns, "replay", call.client_id)])
            answer.cursor = encode_cursor(*due[-1].place)
            answer.published += len(due)
            answer.timestamp = milliseconds(points[-1].at_us)
            yield _copy(answer)
            # A fast replay with a quick reader must not keep the loop from those who watch.
            await asyncio.sleep(0)
        answer.done = True
        yield answer

    async def _open(self, request: _Request, call: Call) -> tuple[RecordingRow, _Run]:
        speed, start = _speed(request.speed), parse_time("from", request.from_)
        after = decode_cursor(request.cursor, int, int, int)
        org_id = call.caller.org_id
        recording = await self._signals.recordings.find(org_id, request.recording_id)
        if recording is None:
            raise NotFound(f"recording {request.recording_id} not found", recording=request.recording_id)
        chosen = await self._signals.select_recording(recording, sources_of("", call.caller), None, start, None)
        return recording, _Run(self._signals, chosen, None if after is None else Place(*map(int, after)), speed)


class _Run:
    """One replay on its way. Holds one page, and nothing open in storage while it waits."""

    def __init__(self, signals: Signals, chosen: Selection, after: Place | None, speed: float) -> None:
        self._signals = signals
        self._chosen = chosen
        self._after = after
        self._speed = speed
        self._loop = asyncio.get_running_loop()
        self._began: tuple[float, int] | None = None

    async def batches(self) -> AsyncIterator[Sequence[Placed]]:
        """Yield points as they are due, oldest first."""
        while page := await self._page():
            start = 0
            while start < len(page):
                stop = min(await self._due(page, start), start + PAGE)
                count, _ = fitting((placed.point.value for placed in page[start:stop]), MESSAGE_BYTES)
                stop = start + max(1, count)
                yield page[start:stop]
                start = stop

    async def _page(self) -> list[Placed]:
        """Return the next points; those of the last instant are left to the next page, where all of them are together."""
        page = await self._signals.page(self._chosen, self._after, PAGE)
        if len(page) == PAGE:
            page = page[: bisect_left(page, page[-1].place.at_us, key=_time)] or page
        if page:
            self._after = page[-1].place
        return page

    async def _due(self, page: list[Placed], start: int) -> int:
        """Wait until the next point is due; return the index after the last point that is due by then."""
        if not self._speed:
            return len(page)
        at_us = page[start].place.at_us
        if self._began is None:
            self._began = self._loop.time(), at_us
        began, first_us = self._began
        wait = began + (at_us - first_us) / MICROSECONDS / self._speed - self._loop.time()
        if wait > 0:
            await asyncio.sleep(wait)
        reached = first_us + int((self._loop.time() - began) * self._speed * MICROSECONDS)
        return bisect_right(page, max(at_us, reached), start, key=_time)


def _speed(text: str) -> float:
    """Return how many times as fast a replay goes; 0 for as fast as possible."""
    if text in ("", "max"):
        return 1.0 if not text else 0.0
    try:
        speed = float(text)
    except ValueError:
        speed = -1.0
    if speed != 0 and not SLOWEST <= speed <= FASTEST:
        raise InvalidArgument.field("speed", f"must be a number from {SLOWEST:g} to {FASTEST:g}, or max")
    return speed


def _source_of(recording: str) -> str:
    """Return the source as which a recording is played."""
    return f"replay-{_NO_SOURCE.sub('-', recording.lower())}"[:_LONGEST_SOURCE]


def _columns(points: Sequence[StoredPoint], source: str, now_us: int | None, presenter: Presenter) -> list[Column]:
    columns: dict[tuple[str, str, str | None], list[StoredPoint]] = {}
    for point in points:
        columns.setdefault((point.device, point.channel, point.recording), []).append(point)
    return [
        Column(
            source,
            metric,
            [point.at_us if now_us is None else now_us for point in column],
            [point.value for point in column],
            recording,
            [{**(point.tags or {}), "source_id": device} for point in column],
            presenter.class_of(device, metric, column[0].value),
        )
        for (device, metric, recording), column in columns.items()
    ]


def _copy(answer: PublishRecordingResponse) -> PublishRecordingResponse:
    return PublishRecordingResponse(
        cursor=answer.cursor, source_id=answer.source_id, published=answer.published, timestamp=answer.timestamp
    )
