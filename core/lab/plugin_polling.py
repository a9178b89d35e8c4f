"""One enabled instance at work: it is polled at its interval, what it reads is stored, and outputs are written to it."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import structlog

from core.kernel.clock import MICROSECONDS, Clock
from core.kernel.errors import DomainError
from core.kernel.settings import Lab
from core.lab.plugin_catalog import PluginCatalog
from core.lab.plugin_directory import KnownInstance, PluginDirectory
from core.lab.plugin_drivers import Driver, PluginFailed

Store = Callable[[KnownInstance, dict[str, float]], Awaitable[None]]
"""Stores what an instance read, by channel id."""

_LONGEST_PAUSE = 60.0
_MOST_FAILURES = 10
_LEAST_RECENT_US = 10 * MICROSECONDS
MOST_ERROR = 500

log = structlog.get_logger("busbar.lab")


class Polling:
    """Polls one instance until it is cancelled, whatever the plugin does."""

    def __init__(
        self,
        instance: KnownInstance,
        directory: PluginDirectory,
        catalog: PluginCatalog,
        store: Store,
        *,
        settings: Lab,
        clock: Clock,
    ) -> None:
        self.instance = instance
        self.error: str | None = None
        self._directory = directory
        self._catalog = catalog
        self._store = store
        self._settings = settings
        self._clock = clock
        self._seen_us: int | None = None
        self._foreign_us: int | None = None
        self._outputs: dict[str, float] = {}
        self._wake = asyncio.Event()
        self._failures = 0

    def same_as(self, instance: KnownInstance) -> bool:
        """Whether an instance would be polled as this one is."""
        mine, other = self.instance, instance
        return (mine.plugin_id, mine.demo_mode, mine.config_json) == (other.plugin_id, other.demo_mode, other.config_json)

    @property
    def recent(self) -> bool:
        """Whether values arrived recently, read here or stored by somebody else."""
        newest = max(self._seen_us or 0, self._foreign_us or 0)
        span = max(_LEAST_RECENT_US, int(3 * self._settings.plugin_poll_seconds * MICROSECONDS))
        return bool(newest) and self._clock.now_us() - newest < span

    def output(self, channel_id: str, value: float) -> None:
        """Write a value to the device as soon as it can be; of several the last one."""
        self._outputs[channel_id] = value
        self._wake.set()

    def foreign(self) -> None:
        """Leave the device alone for a while: somebody else reads it."""
        self._foreign_us = self._clock.now_us()

    @property
    def _yields(self) -> bool:
        wait = self._settings.plugin_yield_seconds * MICROSECONDS
        return self._foreign_us is not None and self._clock.now_us() - self._foreign_us < wait

    async def run(self) -> None:
        """Poll; ends by itself only where there is no such plugin."""
        while True:
            try:
                if not await self._session():
                    return
            except PluginFailed as error:
                self._failed(str(error))
            except Exception as error:
                log.exception("plugin instance broke", instance=self.instance.public_id, plugin=self.instance.plugin_id)
                self._failed(type(error).__name__)
            # Whether it failed or somebody else is at work, it begins anew after a pause.
            await asyncio.sleep(min(_LONGEST_PAUSE, self._settings.plugin_poll_seconds * 2**self._failures))

    def _failed(self, message: str) -> None:
        if self.error != message:
            log.warning("plugin instance failed", instance=self.instance.public_id, error=message)
        self.error = message[:MOST_ERROR]
        self._failures = min(self._failures + 1, _MOST_FAILURES)

    async def _session(self) -> bool:
        """Work with the device from connecting to it until somebody else does; False where there is no such plugin."""
        if self._yields:
            self._outputs.clear()
            return True
        driver = await self._catalog.driver(self.instance.plugin_id)
        if driver is None:
            return False
        try:
            await driver.open(settings_of(self.instance.config_json), demo=self.instance.demo_mode)
            await driver.connect()
            await self._work(driver)
        finally:
            await driver.close()
        return True

    async def _work(self, driver: Driver) -> None:
        loop = asyncio.get_running_loop()
        due = loop.time() + self._settings.plugin_poll_seconds
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(due):
                    await self._wake.wait()
            self._wake.clear()
            if self._yields:
                return
            await self._write(driver)
            if loop.time() >= due:
                await self._read(driver)
                due = loop.time() + self._settings.plugin_poll_seconds

    async def _write(self, driver: Driver) -> None:
        while self._outputs:
            channel_id, value = next(iter(self._outputs.items()))
            del self._outputs[channel_id]
            try:
                await driver.write(channel_id, value)
            except PluginFailed as error:
                # No reason not to read the others; a process that is gone fails the next read.
                log.warning("output was not written", instance=self.instance.public_id, channel=channel_id, error=str(error))

    async def _read(self, driver: Driver) -> None:
        values = await driver.read()
        present = self._directory.get(self.instance.public_id)
        # What somebody else stored while the device was read counts, and not this beside it.
        if present is None or self._yields:
            return
        self._failures, self.error, self._seen_us = 0, None, self._clock.now_us()
        try:
            await self._store(present, values)
        except DomainError as error:
            log.warning("values were not stored", instance=self.instance.public_id, error=error.message)


def settings_of(config_json: str | None) -> Mapping[str, Any]:
    """Return the settings of an instance.

    Raises:
        PluginFailed: They are no JSON object.
    """
    try:
        found: object = json.loads(config_json or "{}")
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise PluginFailed("config_json is no JSON object")
    return found  # pyright: ignore[reportUnknownVariableType] - any object
