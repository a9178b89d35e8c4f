"""Writes to latest values of one device: each is numbered, and its time is the time of the write."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from core.signals.model import Channel, Column, Device, Event, Latest, LatestChanged, PointsWritten, Value
from core.signals.points import Rows
from core.signals.resolve import StaleError, upsert_channel
from core.signals.rollups import Extremes, gather
from core.signals.store import Store
from core.signals.values import encode
from core.storage.tx import Tx, fetch_one

_NUMBER = (
    "UPDATE device SET seq = seq + $2, last_seen_us = coalesce($3, last_seen_us)"
    " WHERE id = $1 AND deleted_us IS NULL RETURNING seq"
)
# A write is always newer than what it replaces, also when the clock was set back or a point came from the future.
_LATEST = (
    "INSERT INTO latest (channel_id, at_us, num, text, seq, updated_by, written_us) VALUES ($1, $2, $3, $4, $5, $6, $7)"
    " ON CONFLICT (channel_id) DO UPDATE SET"
    " at_us = CASE WHEN latest.at_us >= excluded.at_us THEN latest.at_us + 1 ELSE excluded.at_us END,"
    " num = excluded.num, text = excluded.text, seq = excluded.seq, updated_by = excluded.updated_by,"
    " written_us = excluded.written_us RETURNING at_us"
)


class PinJob:
    """Some writes, all or none."""

    def __init__(
        self,
        store: Store,
        device: Device,
        writes: Sequence[tuple[str, Value | None]],
        *,
        by: str,
        label: str | None,
        client_id: str | None,
        now_us: int,
    ) -> None:
        self._store = store
        self._directory = store.directory
        self._points = store.points
        self._rollups = store.rollups
        self._device = device
        self._writes = [(name, value, encode(value)) for name, value in writes]
        self._by = by
        self._label = label
        self._client_id = client_id
        self._now_us = now_us
        self._written: list[tuple[Channel, Latest]] = []
        self._extremes: Extremes = {}
        self._first = 0
        self._arrived: PointsWritten | None = None

    async def run(self, tx: Tx) -> list[Latest]:
        """Write them."""
        self._written, self._extremes = [], {}
        seen = self._now_us if self._by == "device" else None
        numbered = await fetch_one(tx, _NUMBER, self._device.id, len(self._writes), seen)
        if numbered is None:
            raise StaleError(self._device.id)
        rows, self._first = Rows(), self._store.arrivals.take(sum(value is not None for _, value, _ in self._writes))
        channels: dict[str, Channel] = {}
        for seq, (name, value, (num, text)) in enumerate(self._writes, numbered[0] - len(self._writes) + 1):
            channel = channels[name] = channels.get(name) or await self._channel(tx, name)
            arguments = channel.id, self._now_us, num, text, seq, self._by, self._now_us
            at_us: int = (await tx.fetch(_LATEST, *arguments))[0][0]
            self._written.append((channel, Latest(at_us, value if num is None else num, seq, self._by, self._now_us)))
            if value is not None:
                rows.add(
                    channel.id, [at_us], [num], None if text is None else [text], None, None, arrived=self._first + len(rows)
                )
            if num is not None:
                gather(self._extremes, channel.id, [at_us], [num])
        await self._points.insert(tx, rows)
        await self._rollups.widen(tx, self._extremes)
        self._arrived = await self._beside(tx)
        return [latest for _, latest in self._written]

    def remember(self) -> list[Event]:
        """Bring memory up to date after the commit; return the events."""
        device = self._directory.get(self._device.id) or self._device
        self._rollups.remember(self._extremes)
        events: list[Event] = []
        for channel, latest in self._written:
            shared = self._directory.put_channel(channel)
            if self._label is not None:
                shared.label = self._label
            self._directory.put_latest(shared.id, latest)
            device.seq = max(device.seq, latest.seq)
            events.append(LatestChanged(device.org_id, device, shared, latest, self._by, self._client_id))
        if self._by == "device":
            device.last_seen_us = self._now_us
        return events if self._arrived is None else [self._arrived, *events]

    async def _beside(self, tx: Tx) -> PointsWritten | None:
        """Let others write beside the points; return the event of those, if there are any."""
        columns = [
            Column(self._device.slug, channel.name, [latest.at_us], [latest.value])
            for channel, latest in self._written
            if latest.value is not None
        ]
        if not columns:
            return None
        arrived = PointsWritten(self._device.org_id, columns, self._by, self._client_id, arrived=self._first)
        notes = await self._store.write_beside(tx, arrived)
        return replace(arrived, notes=notes) if notes else arrived

    async def _channel(self, tx: Tx, name: str) -> Channel:
        channel = self._directory.channel(self._device.id, name)
        if channel is None:
            channel = await upsert_channel(tx, self._device.id, name, kind="pin", now_us=self._now_us)
        if self._label is not None and self._label != channel.label:
            await tx.execute("UPDATE channel SET label = $2 WHERE id = $1", channel.id, self._label)
        return channel
