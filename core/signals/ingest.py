"""One batch of points on its way into the database: names become ids, then points, latest values and rollups are written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from core.signals.arrivals import note_late
from core.signals.model import Channel, Column, Device, Event, Latest, LatestChanged, PointsWritten, Written
from core.signals.points import Rows
from core.signals.resolve import touch_devices, upsert_channel, upsert_device, upsert_recording, upsert_tagset
from core.signals.rollups import Extremes, gather
from core.signals.spans import Stretches, add
from core.signals.store import Store
from core.signals.values import all_numbers, decode, encode, to_double, to_json
from core.storage.bulk import BulkInsert
from core.storage.tx import Row, Tx

BOARD = "board"
"""Kind of the devices whose latest values have sequence numbers."""

_LATEST = BulkInsert(
    "latest",
    {
        "channel_id": "integer",
        "at_us": "bigint",
        "num": "double precision",
        "text": "text",
        "seq": "bigint",
        "updated_by": "text",
        "written_us": "bigint",
    },
    "ON CONFLICT (channel_id) DO UPDATE SET at_us = excluded.at_us, num = excluded.num, text = excluded.text,"
    " updated_by = excluded.updated_by, written_us = excluded.written_us"
    " WHERE excluded.at_us >= latest.at_us RETURNING channel_id",
)


@dataclass(slots=True)
class _Encoded:
    """A column in its stored form."""

    column: Column
    numbers: Sequence[float | None]
    texts: Sequence[str | None] | None
    tags: Sequence[str | None] | None

    @classmethod
    def of(cls, column: Column) -> _Encoded:
        values, times = column.values, column.times_us
        if len(values) != len(times) or (column.tags is not None and len(column.tags) != len(times)):
            raise ValueError("a column must have as many times and tags as values")
        tags = None if column.tags is None else _tag_texts(column.tags)
        if all_numbers(values):
            return cls(column, list(map(to_double, values)), None, tags)
        if column.ns is not None:
            raise ValueError("values that come with their places must be numbers")
        pairs = list(map(encode, values))
        return cls(column, [number for number, _ in pairs], [text for _, text in pairs], tags)

    @property
    def newest(self) -> int:
        """Index of the newest point, of the last one where several are equally new."""
        times = self.column.times_us
        at = max(times)
        return next(index for index in range(len(times) - 1, -1, -1) if times[index] == at)


@dataclass(slots=True)
class _Found:
    """What a run resolved and changed; thrown away when the run is repeated."""

    devices: dict[str, Device] = field(default_factory=dict[str, Device])
    channels: dict[tuple[int, str], Channel] = field(default_factory=dict[tuple[int, str], Channel])
    recordings: dict[tuple[str, str], int] = field(default_factory=dict[tuple[str, str], int])
    tagsets: dict[str, int] = field(default_factory=dict[str, int])
    extremes: Extremes = field(default_factory=Extremes)
    stretches: Stretches = field(default_factory=Stretches)
    late: Stretches = field(default_factory=Stretches)
    latest: dict[int, tuple[Device, Channel, Latest]] = field(default_factory=dict[int, tuple[Device, Channel, Latest]])
    seqs: dict[int, int] = field(default_factory=dict[int, int])


class IngestJob:
    """One batch."""

    def __init__(
        self,
        store: Store,
        org_id: str,
        columns: Sequence[Column],
        *,
        by: str,
        client_id: str | None,
        now_us: int,
    ) -> None:
        self.org_id = org_id
        self.columns = columns
        self.by = by
        self.client_id = client_id
        self._store = store
        self._directory = store.directory
        self._points = store.points
        self._rollups = store.rollups
        self._spans = store.spans
        self._now_us = now_us
        self._encoded = [_Encoded.of(column) for column in columns if column.times_us]
        self.received = sum(len(encoded.numbers) for encoded in self._encoded)
        self._found = _Found()
        self._arrived = 0

    async def run(self, tx: Tx) -> Written:
        """Write the batch."""
        self._found = found = _Found()
        self._arrived = self._store.arrivals.take(self.received)
        for slug in sorted({encoded.column.device for encoded in self._encoded}):
            found.devices[slug] = await self._device(tx, slug)
        seen = self._now_us if self.by == "device" else None
        await touch_devices(tx, [device.id for device in found.devices.values()], seen)
        rows = Rows()
        newest: dict[int, tuple[Device, Channel, Row]] = {}
        next_arrived = self._arrived
        for encoded in self._encoded:
            device, arrived = found.devices[encoded.column.device], next_arrived
            next_arrived += len(encoded.numbers)
            if not device.recording:
                continue
            channel = await self._channel(tx, device, encoded)
            await self._add(tx, rows, device, channel, encoded, arrived)
            self._gather(channel, encoded)
            _keep_newest(newest, device, channel, encoded)
        new = await self._points.insert(tx, rows)
        await self._rollups.widen(tx, found.extremes)
        await self._spans.widen(tx, found.stretches)
        await self._store.late.widen(tx, found.late)
        await self._write_latest(tx, newest)
        notes = await self._store.write_beside(tx, self.event())
        return Written(self.received, len(rows), new, notes)

    def event(self, notes: tuple[object, ...] = ()) -> PointsWritten:
        """Return the event of its points."""
        return PointsWritten(self.org_id, self.columns, self.by, self.client_id, notes, self._arrived)

    def remember(self) -> list[Event]:
        """Bring memory up to date after the commit; return the events of latest values."""
        found, directory = self._found, self._directory
        for device in found.devices.values():
            shared = directory.put_device(device)
            shared.last_seen_us = self._now_us if self.by == "device" else shared.last_seen_us
            shared.seq = found.seqs.get(shared.id, shared.seq)
        for channel in found.channels.values():
            directory.put_channel(channel)
        directory.recordings.update(found.recordings)
        directory.tagsets.update(found.tagsets)
        self._rollups.remember(found.extremes)
        self._spans.remember(found.stretches)
        self._store.late.remember(found.late)
        events: list[Event] = []
        for device, channel, latest in found.latest.values():
            directory.put_latest(channel.id, latest)
            if latest.seq:
                shared_device = directory.get(device.id) or device
                shared_channel = directory.channel_by_id(channel.id) or channel
                events.append(LatestChanged(self.org_id, shared_device, shared_channel, latest, self.by, self.client_id))
        return events

    async def _device(self, tx: Tx, slug: str) -> Device:
        known = self._directory.find(self.org_id, slug)
        return known or await upsert_device(tx, self.org_id, slug, kind="source", name=slug, now_us=self._now_us)

    async def _channel(self, tx: Tx, device: Device, encoded: _Encoded) -> Channel:
        name = encoded.column.channel
        known = self._directory.channel(device.id, name) or self._found.channels.get((device.id, name))
        if known is None:
            kind = encoded.column.kind or ("event" if encoded.numbers[0] is None else "metric")
            known = await upsert_channel(tx, device.id, name, kind=kind, now_us=self._now_us)
            self._found.channels[device.id, name] = known
        return known

    async def _add(self, tx: Tx, rows: Rows, device: Device, channel: Channel, encoded: _Encoded, arrived: int) -> None:
        note_late(self._found.late, channel.id, arrived, encoded.column.times_us)
        recording = await self._recording(tx, device, encoded.column)
        if recording is not None:
            add(self._found.stretches, recording, channel.id, encoded.column.times_us)
        if encoded.column.ns is not None:
            rows.add_placed(channel.id, encoded.column.times_us, encoded.column.ns, encoded.numbers, recording, arrived=arrived)
            return
        tags = None
        if encoded.tags is not None:
            ids: dict[str | None, int | None] = {None: None}
            for body in set(encoded.tags) - {None}:
                ids[body] = await self._tagset(tx, body or "")
            tags = [ids[body] for body in encoded.tags]
        rows.add(channel.id, encoded.column.times_us, encoded.numbers, encoded.texts, recording, tags, arrived=arrived)

    async def _recording(self, tx: Tx, device: Device, column: Column) -> int | None:
        if column.recording is None:
            return column.recording_id
        key = self.org_id, column.recording
        known = self._directory.recordings.get(key) or self._found.recordings.get(key)
        if known is None:
            known = await upsert_recording(tx, *key, device_id=device.id, started_us=min(column.times_us))
            self._found.recordings[key] = known
        return known

    async def _tagset(self, tx: Tx, body: str) -> int:
        known = self._directory.tagsets.get(body) or self._found.tagsets.get(body)
        if known is None:
            known = self._found.tagsets[body] = await upsert_tagset(tx, body)
        return known

    def _gather(self, channel: Channel, encoded: _Encoded) -> None:
        times, numbers = encoded.column.times_us, encoded.numbers
        if encoded.texts is not None:
            pairs = [(at, number) for at, number in zip(times, numbers, strict=True) if number is not None]
            times, numbers = [at for at, _ in pairs], [number for _, number in pairs]
        gather(self._found.extremes, channel.id, times, numbers)  # pyright: ignore[reportArgumentType] - None is gone

    async def _write_latest(self, tx: Tx, newest: dict[int, tuple[Device, Channel, Row]]) -> None:
        flat: list[object] = []
        for channel_id in sorted(newest):
            values = newest[channel_id][2]
            known = self._directory.latest_of(channel_id)
            if known is None or values[0] >= known.at_us:
                flat += (channel_id, *values, 0, self.by, self._now_us)
        changed = sorted(row[0] for row in await _LATEST.fetch(tx, flat))
        seqs = await self._number(tx, [newest[channel_id][:2] for channel_id in changed])
        for channel_id in changed:
            device, channel, (at_us, num, text) = newest[channel_id]
            latest = Latest(at_us, decode(num, text), seqs.get(channel_id, 0), self.by, self._now_us)
            self._found.latest[channel_id] = device, channel, latest

    async def _number(self, tx: Tx, changed: list[tuple[Device, Channel]]) -> dict[int, int]:
        """Give each changed channel of a board the next number of that board; return numbers by channel."""
        seqs: dict[int, int] = {}
        for device in {device.id: device for device, _ in changed if device.kind == BOARD}.values():
            channels = [channel.id for of, channel in changed if of.id == device.id]
            sql = "UPDATE device SET seq = seq + $2 WHERE id = $1 RETURNING seq"
            last = (await tx.fetch(sql, device.id, len(channels)))[0][0]
            self._found.seqs[device.id] = last
            seqs |= zip(channels, range(last - len(channels) + 1, last + 1), strict=True)
        for channel_id, seq in seqs.items():
            await tx.execute("UPDATE latest SET seq = $2 WHERE channel_id = $1", channel_id, seq)
        return seqs


def _keep_newest(newest: dict[int, tuple[Device, Channel, Row]], device: Device, channel: Channel, encoded: _Encoded) -> None:
    index = encoded.newest
    at_us = encoded.column.times_us[index]
    known = newest.get(channel.id)
    if known is None or at_us >= known[2][0]:
        text = None if encoded.texts is None else encoded.texts[index]
        newest[channel.id] = device, channel, (at_us, encoded.numbers[index], text)


def _tag_texts(tags: Sequence[object]) -> list[str | None]:
    """Return the stored form of labels; the same object is encoded once."""
    texts: dict[int, str | None] = {id(None): None}
    for tag in tags:
        if id(tag) not in texts:
            texts[id(tag)] = to_json(tag) if tag else None
    return [texts[id(tag)] for tag in tags]
