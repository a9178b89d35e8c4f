"""500 points out of a long series, against the same out of a short one: the time must not grow with the length."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from benchmarks.rows import Budget, Row, compare
from core.kernel.clock import Clock
from core.kernel.settings import Storage
from core.signals.model import Column
from core.signals.service import Signals
from core.storage.database import Database

LONG, SHORT, POINTS = 5_000_000, 50_000, 500
BATCH, SPACING_US, START_US = 50_000, 100_000, 1_750_000_000_000_000
ROUNDS = 25


async def run() -> list[Row]:
    """Measure."""
    with tempfile.TemporaryDirectory() as folder:
        database = Database(f"sqlite:///{Path(folder) / 'busbar.db'}", Storage())
        await database.start()
        await database.migrate()
        signals = Signals(database, lambda _events: None, Clock())
        await signals.start()
        short, long = await _fill(signals, SHORT), await _fill(signals, LONG)
        rows = [
            await _compared(
                "uniform", short, long, lambda channel: signals.uniform(channel, None, None, POINTS), Budget(2, at_most=True)
            ),
            await _compared("envelope", short, long, lambda channel: signals.envelope(channel, None, None, POINTS), None),
        ]
        await signals.stop()
        await database.stop()
    return rows


async def _fill(signals: Signals, points: int) -> int:
    """Write a series and return its channel."""
    slug = f"rig-{points}"
    for first in range(0, points, BATCH):
        begin = START_US + first * SPACING_US
        times = list(range(begin, begin + BATCH * SPACING_US, SPACING_US))
        await signals.write("org", [Column(slug, "m", times, [float(number % 977) for number in range(BATCH)])])
    device = signals.find_device("org", slug)
    channel = None if device is None else signals.find_channel(device.id, "m")
    assert channel is not None
    return channel.id


async def _compared(
    what: str, short: int, long: int, read: Callable[[int], Awaitable[Sequence[object]]], budget: Budget | None
) -> Row:
    async def milliseconds(channel: int) -> float:
        began = time.perf_counter()
        assert len(await read(channel)) > POINTS // 3
        return (time.perf_counter() - began) * 1000

    rounds = [(await milliseconds(long), await milliseconds(short)) for _ in range(ROUNDS)]
    ours, peer = zip(*rounds, strict=True)
    return compare(f"{POINTS} points, {what}, of {LONG:,}", "ms", ours, f"of {SHORT:,}", peer, budget)
