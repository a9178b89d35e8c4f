"""Telemetry of all connected devices of an organisation on its way into storage.

A frame rarely holds more than a few points, and a commit costs as much as hundreds. So frames that arrive while a write is
under way wait together, whichever device they come from, and go into the next write as one batch.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Protocol

import structlog

from core.kernel.call import Call
from core.kernel.errors import DomainError, Internal, InvalidArgument, NotFound, ResourceExhausted
from core.signals.model import Column
from core.signals.service import Signals
from core.telemetry.quotas import PointQuotas

MOST_WAITING = 100_000
"""Points that may wait; then devices are left unread until some are stored."""
MOST_IN_WRITE = 20_000
"""Points after which a write takes no further frame."""

log = structlog.get_logger("busbar.stream")


class Sender(Protocol):
    """Who sent a frame, and learns what became of it.

    Attributes:
        deleted: Whether its source was deleted meanwhile, which what it sent before must not bring back.
    """

    deleted: bool

    @property
    def call(self) -> Call:
        """The call by which it came."""
        ...

    def stored(self, seq: int | None) -> None:
        """Note that a frame is committed."""
        ...

    def refused(self, seq: int | None, error: DomainError) -> None:
        """Note that a frame will never be stored."""
        ...

    def failed(self, error: DomainError) -> None:
        """Note that a frame could not be stored now."""
        ...


@dataclass(frozen=True, slots=True)
class Sent:
    """A frame that waits. Its number is None when its sender does not count."""

    sender: Sender
    seq: int | None
    columns: list[Column]
    points: int


@dataclass(slots=True)
class _Lane:
    """What waits for one organisation; `task` writes while there is something."""

    waiting: deque[Sent] = field(default_factory=deque[Sent])
    points: int = 0
    room: asyncio.Event = field(default_factory=asyncio.Event)
    task: asyncio.Task[None] | None = None


class Intake:
    """Collects and writes frames."""

    def __init__(self, signals: Signals, quotas: PointQuotas) -> None:
        self._signals = signals
        self._quotas = quotas
        self._lanes: dict[str, _Lane] = {}

    async def put(self, org_id: str, sent: Sent) -> None:
        """Add a frame, waiting for room."""
        lane = self._lanes.setdefault(org_id, _Lane())
        while lane.points >= MOST_WAITING:
            lane.room.clear()
            await lane.room.wait()
            lane = self._lanes.setdefault(org_id, lane)
        lane.waiting.append(sent)
        lane.points += sent.points
        if lane.task is None:
            lane.task = asyncio.create_task(self._write(org_id, lane), name="telemetry-writer")

    async def settle(self) -> None:
        """Wait until nothing waits."""
        tasks = [lane.task for lane in self._lanes.values() if lane.task is not None]
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _write(self, org_id: str, lane: _Lane) -> None:
        while lane.waiting:
            batch = _take(lane)
            try:
                await self._store(org_id, batch)
            except DomainError as error:
                _fail(batch, error)
            except Exception:
                log.exception("telemetry was not stored")
                _fail(batch, Internal("internal error"))
            lane.points -= sum(sent.points for sent in batch)
            lane.room.set()
        lane.task = None
        if self._lanes.get(org_id) is lane:
            del self._lanes[org_id]

    async def _store(self, org_id: str, batch: list[Sent]) -> None:
        kept: list[Sent] = []
        try:
            with ExitStack() as counted:
                kept += [sent for sent in batch if self._count(sent, counted)]
                columns = merge(column for sent in kept for column in sent.columns)
                if columns:
                    await self._signals.write(org_id, columns)
        except InvalidArgument as error:
            if len(kept) == 1:
                kept[0].sender.refused(kept[0].seq, error)
                return
            # One of the frames spoils the write for all: each on its own tells which.
            for sent in kept:
                await self._store(org_id, [sent])
        else:
            for sent in kept:
                sent.sender.stored(sent.seq)

    def _count(self, sent: Sent, counted: ExitStack) -> bool:
        if sent.sender.deleted:
            sent.sender.refused(sent.seq, NotFound("the source was deleted"))
            return False
        try:
            counted.enter_context(self._quotas.counted(sent.sender.call, sent.points))
        except ResourceExhausted as error:
            sent.sender.refused(sent.seq, error)
            return False
        return True


def _fail(batch: list[Sent], error: DomainError) -> None:
    for sent in batch:
        sent.sender.failed(error)


def _take(lane: _Lane) -> list[Sent]:
    batch = [lane.waiting.popleft()]
    points = batch[0].points
    while lane.waiting and points < MOST_IN_WRITE:
        batch.append(lane.waiting.popleft())
        points += batch[-1].points
    return batch


def merge(columns: Iterable[Column]) -> list[Column]:
    """Return the same points in one column for each device, channel, recording and kind, in their order."""
    groups: dict[tuple[str, str, str | None, str | None], list[Column]] = {}
    for column in columns:
        groups.setdefault((column.device, column.channel, column.recording, column.kind), []).append(column)
    return [parts[0] if len(parts) == 1 else _joined(parts) for parts in groups.values()]


def _joined(parts: list[Column]) -> Column:
    times = [at for part in parts for at in part.times_us]
    values = [value for part in parts for value in part.values]
    tags = None
    if any(part.tags is not None for part in parts):
        tags = [labels for part in parts for labels in (part.tags or [None] * len(part.times_us))]
    return parts[0]._replace(times_us=times, values=values, tags=tags)
