"""Signals: the one way in and out for everything that is measured or switched.

    signals = Signals(database, publish, clock)         # publish(events) is called after each commit, in commit order
    await signals.start(); await signals.stop()

Devices and channels (from memory, but for those that change something)
    await ensure_device(org_id, slug, name=None, kind="source") -> Device
    find_device(org_id, slug) / get_device(id) -> Device | None;  devices(org_id) -> list[Device]
    await update_device(id, name=, recording=);  await touch(id);  await delete_device(id)
    channels(device_id) -> list[Channel];  find_channel(device_id, name);  await update_channel(id, label=, unit=)
    device_connected(id); device_disconnected(id); online(id) -> bool
    watch_deletion(id, callback) -> end     calls back once when the device is deleted

Writing
    await write(org_id, columns, by="device", client_id=None) -> Written      batches of points
    await write_latest(device, [("V1", 21.5)], by=, label=, client_id=) -> list[Latest]     pins, all or none
    on_writing(beside)      lets something write rows of its own with every batch;  on_written(listener)    after the commit

Reading
    latest(device_id, "V1") -> Latest | None;  latest_all(device_id) -> dict[name, Latest]      from memory
    await points(org_id, slugs=, channels=, start_us=, end_us=, limit=) -> list[StoredPoint]    oldest first
    select(org_id, slugs, channels, start_us, end_us) -> Selection;  await select_recording(row, ...)
    on_selecting(kind, selector)                        says which points recordings of a kind have
    await select_arrived(org_id, slugs, channels, first, until) -> Selection;  told     by order of arrival
    await page(selection, after, limit) -> list[Placed]     any number of points, page after page
    await uniform(channel_id, start_us, end_us, points) -> list[Sample]
    await envelope(channel_id, start_us, end_us, buckets) -> list[Span]
    await aggregate(channel_id, start_us, end_us, method, buckets=, width_us=) -> list[Sample]
    await check(org_id, slug, channel, scope, operator, value) -> Check      whether all values meet a condition

Ranges hold their start and not their end. `recordings` keeps sessions and runs. Storage failures are Unavailable everywhere.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial

import structlog

from core.kernel.clock import MICROSECONDS, Clock
from core.kernel.errors import DomainError, NotFound
from core.signals import aggregates, arrivals, checks, removal, series, spans
from core.signals.arrivals import Arrivals
from core.signals.ingest import IngestJob
from core.signals.model import (
    Channel,
    Column,
    Device,
    Event,
    Latest,
    PointsWritten,
    Publish,
    Sample,
    Span,
    StoredPoint,
    Value,
    Written,
)
from core.signals.numbers import Numbers
from core.signals.pins import PinJob
from core.signals.recordings import Recordings
from core.signals.resolve import StaleError, upsert_channel, upsert_device
from core.signals.store import Beside, Store
from core.signals.stretches import Stretch, Which
from core.signals.tables import RecordingRow
from core.storage.database import Database
from core.storage.tx import Job, Tx

log = structlog.get_logger("busbar.signals")

_SWEEP_SECONDS = 3600.0
_STALE_TRIES = 3
_FIRST_US, _LAST_US = -(2**62), 2**62
"""Before and after every point."""

Selector = Callable[[RecordingRow], Sequence[Stretch]]
"""Returns where the points of a recording are; no point is in two stretches."""


class Signals:
    """Devices, channels, points and latest values of all organisations."""

    def __init__(self, database: Database, publish: Publish, clock: Clock) -> None:
        self._database = database
        self._listeners = [publish]
        self._clock = clock
        self._store = Store(Arrivals(clock))
        self._directory = self._store.directory
        self._connections: Counter[int] = Counter()
        self._deletion_watchers: dict[int, set[Callable[[], None]]] = {}
        self._selectors: dict[str, Selector] = {}
        self._task: asyncio.Task[None] | None = None
        self.recordings = Recordings(database, clock, self._directory.recordings)
        self.numbers = Numbers(database, self._store, clock)
        self.on_written(self._count)

    def on_written(self, listener: Publish) -> None:
        """Call a listener after each commit, in commit order, after those that were there before it."""
        self._listeners.append(listener)

    def on_writing(self, beside: Beside) -> None:
        """Let something write rows of its own into every transaction that stores points, so that neither is there alone.

        What it returns comes back as `notes`, in the event of those points and to whoever wrote them.
        """
        self._store.besides.append(beside)

    def on_selecting(self, kind: str, selector: Selector) -> None:
        """Let somebody say which points the recordings of a kind have."""
        self._selectors[kind] = selector

    def _publish(self, events: Sequence[Event]) -> None:
        for listener in self._listeners:
            listener(events)
        for event in events:
            if isinstance(event, PointsWritten) and event.arrived is not None:
                self._store.arrivals.tell(event.arrived + sum(len(column.values) for column in event.columns))

    def _count(self, events: Sequence[Event]) -> None:
        for event in events:
            for column in event.columns if isinstance(event, PointsWritten) else ():
                device = self._directory.find(event.org_id, column.device)
                channel = None if device is None else self._directory.channel(device.id, column.channel)
                if channel is not None and column.times_us:
                    self.numbers.counts.note(channel.id, column.times_us)

    async def start(self) -> None:
        """Load devices, channels and latest values, and finish deletions that a stop interrupted."""
        await self._database.query(self._directory.load)
        self._task = asyncio.create_task(self._keep_house(), name="signals-housekeeping")

    async def stop(self) -> None:
        """End the housekeeping."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    # Devices and channels

    async def ensure_device(self, org_id: str, slug: str, *, name: str | None = None, kind: str = "source") -> Device:
        """Return the device with a slug, making it if there is none. An existing one stays as it is."""
        found = self._directory.find(org_id, slug)
        if found is not None:
            return found
        now = self._clock.now_us()

        async def job(tx: Tx) -> Device:
            return await upsert_device(tx, org_id, slug, kind=kind, name=name or slug, now_us=now)

        def committed(device: Device) -> None:
            self._directory.put_device(device)

        device = await self._database.submit(job, committed=committed)
        return self._directory.get(device.id) or device

    def find_device(self, org_id: str, slug: str) -> Device | None:
        """Return the device with a slug."""
        return self._directory.find(org_id, slug)

    def get_device(self, device_id: int) -> Device | None:
        """Return a device."""
        return self._directory.get(device_id)

    def devices(self, org_id: str) -> list[Device]:
        """Return the devices of an organisation by slug."""
        return self._directory.of_org(org_id)

    def devices_of_kind(self, kind: str) -> list[Device]:
        """Return the devices of a kind, of all organisations."""
        return self._directory.of_kind(kind)

    async def update_device(self, device_id: int, *, name: str | None = None, recording: bool | None = None) -> Device:
        """Change what is given.

        Raises:
            NotFound: There is no such device.
        """
        device = self._require(device_id)

        async def job(tx: Tx) -> int:
            sql = "UPDATE device SET name = coalesce($2, name), recording = coalesce($3, recording) WHERE id = $1"
            return await tx.execute(sql, device_id, name, recording)

        def committed(_touched: int) -> None:
            device.name = device.name if name is None else name
            device.recording = device.recording if recording is None else recording

        await self._database.submit(job, committed=committed)
        return device

    async def touch(self, device_id: int) -> None:
        """Note that a device was just heard of.

        Raises:
            NotFound: There is no such device.
        """
        device, now = self._require(device_id), self._clock.now_us()

        async def job(tx: Tx) -> int:
            return await tx.execute("UPDATE device SET last_seen_us = $2 WHERE id = $1", device_id, now)

        await self._database.submit(job)
        device.last_seen_us = now

    async def delete_device(self, device_id: int, *, along: Job[object] | None = None) -> None:
        """Delete a device with all that it has, `along` with what others keep about it, in one commit.

        Its slug is free at once: what is written to it from then on belongs to a new device, and what was written before is
        gone. Points go in bounded steps; a stop in between is made good at the next start.

        Raises:
            NotFound: There is no such device.
        """
        self._require(device_id)
        now = self._clock.now_us()

        async def job(tx: Tx) -> None:
            await removal.hide_device(tx, device_id, now)
            if along is not None:
                await along(tx)

        def committed(_none: None) -> None:
            self._directory.forget(device_id)
            self._connections.pop(device_id, None)
            for callback in self._deletion_watchers.pop(device_id, ()):
                callback()

        await self._database.submit(job, committed=committed)
        await removal.erase_device(self._database, device_id)

    def watch_deletion(self, device_id: int, callback: Callable[[], None]) -> Callable[[], None]:
        """Call back once when a device is deleted; returns what ends the watch.

        Raises:
            NotFound: There is no such device.
        """
        self._require(device_id)
        self._deletion_watchers.setdefault(device_id, set()).add(callback)

        def end() -> None:
            watchers = self._deletion_watchers.get(device_id)
            if watchers is not None:
                watchers.discard(callback)
                if not watchers:
                    del self._deletion_watchers[device_id]

        return end

    def channels(self, device_id: int) -> list[Channel]:
        """Return the channels of a device by name."""
        return self._directory.channels(device_id)

    def find_channel(self, device_id: int, name: str) -> Channel | None:
        """Return a channel of a device."""
        return self._directory.channel(device_id, name)

    def get_channel(self, channel_id: int) -> Channel | None:
        """Return a channel."""
        return self._directory.channel_by_id(channel_id)

    async def ensure_channel(self, device_id: int, name: str, *, kind: str = "metric") -> Channel:
        """Return a channel of a device, making it if there is none. An existing one stays as it is."""
        known = self._directory.channel(device_id, name)
        if known is not None:
            return known
        now = self._clock.now_us()

        async def job(tx: Tx) -> Channel:
            return await upsert_channel(tx, device_id, name, kind=kind, now_us=now)

        def committed(channel: Channel) -> None:
            self._directory.put_channel(channel)

        channel = await self._database.submit(job, committed=committed)
        return self._directory.channel_by_id(channel.id) or channel

    def hide_channel(self, channel_id: int) -> None:
        """Take a channel out of sight that is about to be deleted."""
        self._directory.forget_channel(channel_id)

    async def delete_channel(self, channel_id: int) -> None:
        """Delete a channel with all that it has; its points go in bounded steps."""
        self._directory.forget_channel(channel_id)
        await removal.erase_channel(self._database, channel_id)
        self._store.rollups.forget_channel(channel_id)
        self.numbers.counts.forget(channel_id)

    async def update_channel(self, channel_id: int, *, label: str | None = None, unit: str | None = None) -> Channel:
        """Change what is given.

        Raises:
            NotFound: There is no such channel.
        """
        channel = self._directory.channel_by_id(channel_id)
        if channel is None:
            raise NotFound("channel not found")

        async def job(tx: Tx) -> int:
            sql = "UPDATE channel SET label = coalesce($2, label), unit = coalesce($3, unit) WHERE id = $1"
            return await tx.execute(sql, channel_id, label, unit)

        def committed(_touched: int) -> None:
            channel.label = channel.label if label is None else label
            channel.unit = channel.unit if unit is None else unit

        await self._database.submit(job, committed=committed)
        return channel

    def device_connected(self, device_id: int) -> None:
        """Count a live connection of a device."""
        self._connections[device_id] += 1

    def device_disconnected(self, device_id: int) -> None:
        """Count a live connection less."""
        if self._connections[device_id] <= 1:
            del self._connections[device_id]
        else:
            self._connections[device_id] -= 1

    @property
    def connected_devices(self) -> int:
        """Number of devices with a live connection to this process."""
        return len(self._connections)

    @property
    def newest_us(self) -> int | None:
        """When the newest latest value was taken; None before the first."""
        return self._directory.newest_us

    def online(self, device_id: int) -> bool:
        """Whether a device has a live connection to this process."""
        return device_id in self._connections

    # Writing

    async def write(
        self, org_id: str, columns: Sequence[Column], *, by: str = "device", client_id: str | None = None
    ) -> Written:
        """Store points, all or none, in one commit. The only way in for points that carry their own time.

        Unknown devices, channels and recordings come into being. An exact repeat of channel, time and value is stored once;
        further values of one instant are all kept. The newest point of a channel becomes its latest value. Points of a device
        that does not record go to the live bus only.

        Raises:
            InvalidArgument: A number does not fit a double.
            Unavailable: Storage failed; nothing was stored.
        """
        for tries_left in range(_STALE_TRIES, 0, -1):
            job = IngestJob(self._store, org_id, columns, by=by, client_id=client_id, now_us=self._clock.now_us())
            try:
                committed = partial(self._ingested, job)
                return await self._database.submit(job.run, committed=committed, rows=job.received)
            except StaleError as error:
                self._directory.forget(error.device_id)
                if tries_left == 1:
                    raise
        raise AssertionError

    def _ingested(self, job: IngestJob, written: Written) -> None:
        events: list[Event] = [job.event(written.notes)]
        events += job.remember()
        self._publish(events)

    async def write_latest(
        self,
        device: Device,
        writes: Sequence[tuple[str, Value | None]],
        *,
        by: str,
        label: str | None = None,
        client_id: str | None = None,
    ) -> list[Latest]:
        """Set latest values of a device now, all or none, and store them as points; None clears.

        Each write gets the device's next sequence number, in commit order and without a gap, and an event of its own even when
        the value is the same. `label` is set on every channel written. Several writes to one channel all count.

        Raises:
            NotFound: The device was deleted.
            Unavailable: Storage failed; nothing was changed.
        """
        now = self._clock.now_us()
        job = PinJob(self._store, device, writes, by=by, label=label, client_id=client_id, now_us=now)
        try:
            return await self._database.submit(job.run, committed=lambda _latest: self._publish(job.remember()))
        except StaleError as error:
            self._directory.forget(error.device_id)
            raise NotFound("device not found") from error

    # Reading

    def latest(self, device_id: int, channel: str) -> Latest | None:
        """Return the latest value of a channel, from memory; None when it was never written."""
        return self._directory.latest(device_id, channel)

    def latest_of(self, channel_id: int) -> Latest | None:
        """Return the latest value of a channel by its id, from memory."""
        return self._directory.latest_of(channel_id)

    def latest_all(self, device_id: int) -> dict[str, Latest]:
        """Return the latest values of a device by the names of its channels, from memory."""
        return self._directory.latest_all(device_id)

    async def points(
        self,
        org_id: str,
        *,
        slugs: Sequence[str] | None = None,
        channels: Sequence[str] | None = None,
        start_us: int,
        end_us: int,
        limit: int,
    ) -> list[StoredPoint]:
        """Return at most `limit` points, oldest first. None as slugs or channels means all; unknown ones have no points."""
        return [placed.point for placed in await self.page(self.select(org_id, slugs, channels, start_us, end_us), None, limit)]

    def select(
        self, org_id: str, slugs: Sequence[str] | None, channels: Sequence[str] | None, start_us: int | None, end_us: int | None
    ) -> series.Selection:
        """Choose points to read by pages; None means all. Channels that come into being later are not among them."""
        chosen = self._directory.select(org_id, slugs, channels)
        return series.Selection.between(
            chosen, _FIRST_US if start_us is None else start_us, _LAST_US if end_us is None else end_us
        )

    @property
    def told(self) -> int:
        """Number of arrival: all points with lower ones were published, and all others will be."""
        return self._store.arrivals.told

    async def select_arrived(
        self, org_id: str, slugs: Sequence[str] | None, channels: Sequence[str] | None, first: int, until: int
    ) -> series.Selection:
        """Choose the stored points whose numbers of arrival are from `first` on and below `until`, whatever their times.

        They are found for a week, which is `arrivals.KEPT_US`.
        """
        chosen = self._directory.select(org_id, slugs, channels)
        stretches = await self._database.query(lambda tx: arrivals.since(tx, sorted(chosen), first, until))
        return series.Selection(chosen, stretches)

    async def select_recording(
        self,
        recording: RecordingRow,
        slugs: Sequence[str] | None,
        channels: Sequence[str] | None,
        start_us: int | None,
        end_us: int | None,
    ) -> series.Selection:
        """Choose the points of a recording.

        Those of a kind that somebody selects are what that one says; see `on_selecting`. Of any other they are those that were
        assigned to it, and of one to which none ever was, those of its device and its time. The stretch of time in which a
        recording has points is known, so nothing else of its channels is read.
        """
        known = self._directory.select(recording.org_id, slugs, channels)
        start, end = _FIRST_US if start_us is None else start_us, _LAST_US if end_us is None else end_us
        all_of_it = await self._stretches_of(recording, known)
        within = [stretch.within(start, end) for stretch in all_of_it if stretch.channel_id in known]
        found = [stretch for stretch in within if stretch.start_us < stretch.end_us]
        return series.Selection({stretch.channel_id: known[stretch.channel_id] for stretch in found}, found)

    async def _stretches_of(self, recording: RecordingRow, known: Mapping[int, tuple[str, str]]) -> Sequence[Stretch]:
        selector = self._selectors.get(recording.kind)
        if selector is not None:
            return selector(recording)
        identity = recording.id or 0
        assigned = await self._database.query(lambda tx: spans.of_recording(tx, identity))
        if assigned:
            return [Stretch(channel_id, *span, Which(identity)) for channel_id, span in assigned.items()]
        device = self._directory.get(recording.device_id or 0)
        ended = self._clock.now_us() if recording.ended_us is None else recording.ended_us
        return [
            Stretch(channel_id, recording.started_us, ended + 1)
            for channel_id, names in known.items()
            if recording.device_id is None or (device is not None and names[0] == device.slug)
        ]

    async def page(self, chosen: series.Selection, after: series.Place | None, limit: int) -> list[series.Placed]:
        """Return the next points of a selection after a place, at most `limit`; fewer only where there are no more."""
        return await self._database.query(lambda tx: series.read_page(tx, chosen, after, limit))

    async def uniform(self, channel_id: int, start_us: int | None, end_us: int | None, points: int) -> list[Sample]:
        """Return at most `points` stored points of a channel, spread evenly over a range; all of them when they are that few.

        Of each step of time it is the first point. The work grows with `points`, not with the length of the series. None as
        start or end means the first or the last point.
        """
        return await self._database.query(lambda tx: series.uniform(tx, channel_id, start_us, end_us, points))

    async def envelope(self, channel_id: int, start_us: int | None, end_us: int | None, buckets: int) -> list[Span]:
        """Return the smallest and largest number in each of at most `buckets` equal steps of a range, leaving out empty steps.

        No point of the range is missed and none from outside counts, but for stretches of which retention has deleted a part.
        Steps longer than 10 s begin at a multiple of the rollup width that serves them, so there may be half as many as asked.
        """
        return await self._database.query(lambda tx: series.envelope(tx, channel_id, start_us, end_us, buckets))

    async def aggregate(
        self,
        channel_id: int,
        start_us: int | None,
        end_us: int | None,
        method: str,
        *,
        buckets: int,
        width_us: int | None = None,
    ) -> list[Sample]:
        """Return `avg`, `min`, `max`, `last` or `count` of the numbers in each step of a range; see `aggregates.aggregate`."""
        return await self._database.query(
            lambda tx: aggregates.aggregate(tx, channel_id, start_us, end_us, method, buckets=buckets, width_us=width_us)
        )

    async def check(
        self, org_id: str, slug: str | None, channel: str, scope: checks.Scope, operator: str, value: float
    ) -> checks.Check:
        """Compare the stored values of a channel with a number; without a slug, those of all devices that have it."""
        chosen = self._directory.select(org_id, None if slug is None else [slug], [channel])

        async def job(tx: Tx) -> checks.Check:
            ranges = dict.fromkeys(chosen, (scope.start_us, scope.end_us + 1))
            if scope.recording_id is not None:
                stretches = await spans.of_recording(tx, scope.recording_id)
                ranges = {channel_id: stretches[channel_id] for channel_id in chosen if channel_id in stretches}
            return await checks.check(tx, ranges, scope.recording_id, operator, value)

        return await self._database.query(job)

    # Housekeeping

    async def sweep(self, now_us: int) -> int:
        """Delete points older than the setting `storage.retention_days`; return how many rows went, at most roughly.

        Latest values stay. The newest point of a channel goes like any other.
        """
        days = self._database.settings.retention_days
        if days <= 0:
            return 0
        cutoff = now_us - days * 86_400 * MICROSECONDS
        deleted = await removal.delete_older(self._database, cutoff, self._store.points)
        self._store.rollups.forget()
        self.numbers.counts.forget_all()
        return deleted

    async def _keep_house(self) -> None:
        while True:
            try:
                await removal.finish_deletions(self._database)
                now = self._clock.now_us()
                await self._database.submit(partial(arrivals.forget_before, before_us=now - arrivals.KEPT_US))
                await self.sweep(now)
            except DomainError as error:
                log.warning("housekeeping failed", error=error.message)
            await asyncio.sleep(_SWEEP_SECONDS)

    def _require(self, device_id: int) -> Device:
        device = self._directory.get(device_id)
        if device is None:
            raise NotFound("device not found")
        return device
