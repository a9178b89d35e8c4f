"""Polls the enabled instances of plugins, stores what they read, and hands them what others store for their outputs."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import NamedTuple

from core.kernel.clock import Clock
from core.kernel.settings import Lab
from core.lab.event_directory import EventDirectory
from core.lab.ingest import LabIngest
from core.lab.plugin_catalog import PluginCatalog
from core.lab.plugin_directory import KnownInstance, PluginDirectory
from core.lab.plugin_polling import Polling
from core.signals.model import Column, Event, PointsWritten
from core.signals.service import Signals

WRITER = "plugin:"
"""How the names begin under which the runner stores points; the id of the instance follows."""


class Condition(NamedTuple):
    """How an instance is doing.

    Attributes:
        status: `demo` or `connected` while values arrive, `error` when the last poll failed, else `inactive`.
        error: Why the last poll failed.
    """

    status: str
    error: str | None


class PluginRunner:
    """One task for each enabled instance."""

    def __init__(
        self,
        directory: PluginDirectory,
        catalog: PluginCatalog,
        events: EventDirectory,
        ingest: LabIngest,
        signals: Signals,
        *,
        settings: Lab,
        clock: Clock,
    ) -> None:
        self._directory = directory
        self._catalog = catalog
        self._events = events
        self._ingest = ingest
        self._signals = signals
        self._settings = settings
        self._clock = clock
        self._running: dict[str, tuple[Polling, asyncio.Task[None]]] = {}
        self._stopped = False
        directory.on_change(self._changed)
        signals.on_written(self._observe)

    async def start(self) -> None:
        """Begin with what was enabled when the server stopped."""
        for instance in self._directory.all():
            self._begin(instance)

    async def stop(self) -> None:
        """Close every device."""
        self._stopped = True
        for public_id in list(self._running):
            self._running[public_id][1].cancel()
        await asyncio.gather(*(task for _, task in self._running.values()), return_exceptions=True)
        self._running.clear()

    def condition(self, public_id: str, *, demo: bool) -> Condition:
        """Return how an instance is doing."""
        if public_id not in self._running:
            return Condition("inactive", None)
        polling = self._running[public_id][0]
        if polling.error is not None:
            return Condition("error", polling.error)
        return Condition(("demo" if demo else "connected") if polling.recent else "inactive", None)

    def _begin(self, instance: KnownInstance) -> None:
        if not instance.enabled or self._stopped or not self._settings.plugin_poll_seconds:
            return
        polling = Polling(instance, self._directory, self._catalog, self._store, settings=self._settings, clock=self._clock)
        task = asyncio.create_task(polling.run(), name=f"lab-plugin-{instance.public_id}")
        self._running[instance.public_id] = polling, task

    async def _changed(self, public_id: str) -> None:
        """Follow a change: end, begin, or go on as before."""
        instance = self._directory.get(public_id)
        if public_id in self._running:
            polling, task = self._running[public_id]
            if (
                instance is not None
                and instance.enabled
                and polling.same_as(instance)
                and not await self._outdated(polling, task)
            ):
                return
            del self._running[public_id]
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        if instance is not None:
            self._begin(instance)

    async def _outdated(self, polling: Polling, task: asyncio.Task[None]) -> bool:
        """Whether the plugin of an instance came or went since its task began."""
        return task.done() or not await self._catalog.has(polling.instance.plugin_id)

    async def _store(self, instance: KnownInstance, values: dict[str, float]) -> None:
        """Store values of the channels that are read and have an event."""
        kept = [
            (channel.event_id, values[channel.channel_id])
            for channel in instance.channels
            if channel.event_id is not None and channel.direction != "output" and channel.channel_id in values
        ]
        if kept:
            await self._ingest.store(instance.org_id, kept, client_id=WRITER + instance.public_id)

    def _observe(self, events: Sequence[Event]) -> None:
        """Look at points after their commit, whichever way they came in."""
        if self._running:
            for event in events:
                if isinstance(event, PointsWritten):
                    for column in event.columns:
                        self._pass_on(event, column)

    def _pass_on(self, written: PointsWritten, column: Column) -> None:
        device = self._signals.find_device(written.org_id, column.device)
        channel = None if device is None else self._signals.find_channel(device.id, column.channel)
        value = column.values[-1] if column.values else None
        for event in () if channel is None else self._events.by_channel(channel.id):
            for instance in self._directory.of_event(written.org_id, event.public_id):
                running = self._running.get(instance.public_id)
                if running is None or written.client_id == WRITER + instance.public_id:
                    continue
                for known in instance.channels:
                    if known.event_id != event.public_id:
                        continue
                    if known.direction == "input":
                        running[0].foreign()
                    elif isinstance(value, int | float):
                        running[0].output(known.channel_id, float(value))
