"""Signals on SQLite and on PostgreSQL, with a clock that tests set and the events that were published."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Generator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from core.kernel.clock import MICROSECONDS, Clock
from core.kernel.settings import Storage
from core.signals.model import Channel, Event, LatestChanged, PointsWritten
from core.signals.service import Signals
from core.storage.database import Database
from tests.databases import database, database_url, postgres, sqlite

__all__ = ["database", "database_url", "postgres", "sqlite"]

NOW_US = 1_750_000_000 * MICROSECONDS


class SetClock(Clock):
    """A clock that stands where it is put."""

    def __init__(self) -> None:
        self.at_us = NOW_US

    def now_us(self) -> int:
        return self.at_us


@dataclass(repr=False)
class Bench:
    """Signals with all that a test wants to see of them."""

    signals: Signals
    database: Database
    clock: SetClock
    events: list[Event] = field(default_factory=list[Event])

    @property
    def changes(self) -> list[LatestChanged]:
        return [event for event in self.events if isinstance(event, LatestChanged)]

    @property
    def batches(self) -> list[PointsWritten]:
        return [event for event in self.events if isinstance(event, PointsWritten)]

    def channel(self, slug: str, name: str) -> Channel:
        device = self.signals.find_device("org", slug)
        assert device is not None
        channel = self.signals.find_channel(device.id, name)
        assert channel is not None
        return channel

    async def values(self, slug: str, name: str) -> list[object]:
        """Return what is stored of a channel, oldest first."""
        everything = {"start_us": -(2**62), "end_us": 2**62, "limit": 100_000}
        return [point.value for point in await self.signals.points("org", slugs=[slug], channels=[name], **everything)]

    async def again(self) -> Signals:
        """Return signals as they are after a restart."""
        signals = Signals(self.database, self.events.extend, self.clock)
        await signals.start()
        await signals.stop()
        return signals


async def bench_on(database: Database) -> Bench:
    """Return a bench on a database."""
    clock, events = SetClock(), list[Event]()
    bench = Bench(Signals(database, events.extend, clock), database, clock, events)
    await bench.signals.start()
    # Tests sweep when they want to; what is loaded stays.
    await bench.signals.stop()
    return bench


@pytest.fixture
async def bench(database: Database) -> AsyncGenerator[Bench]:
    """Signals on each kind of database."""
    bench = await bench_on(database)
    yield bench
    await bench.signals.stop()


@pytest.fixture
async def sqlite_bench(sqlite: Database) -> AsyncGenerator[Bench]:
    """Signals on SQLite only."""
    bench = await bench_on(sqlite)
    yield bench
    await bench.signals.stop()


@pytest.fixture
def loop_bench(tmp_path: Path) -> Generator[tuple[asyncio.AbstractEventLoop, Bench]]:
    """Signals on SQLite and the loop that drives them, for properties whose examples each run to their end."""
    loop = asyncio.new_event_loop()
    database = Database(f"sqlite:///{tmp_path / 'busbar.db'}", Storage())

    async def begin() -> Bench:
        await database.start()
        await database.migrate()
        return await bench_on(database)

    bench = loop.run_until_complete(begin())
    yield loop, bench
    loop.run_until_complete(bench.signals.stop())
    loop.run_until_complete(database.stop())
    loop.close()
