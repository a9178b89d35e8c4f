"""Old points go, in steps, and nothing else does."""

from __future__ import annotations

import pytest

from core.kernel.clock import MICROSECONDS
from core.signals import removal
from core.signals.model import Column
from core.storage.tx import Tx
from tests.signals.conftest import NOW_US, Bench

DAY = 86_400 * MICROSECONDS


async def fill(bench: Bench) -> None:
    """Store a point for each of the last 200 days, and one of 1970."""
    times = [NOW_US - day * DAY for day in range(200)]
    columns = [Column("rig", name, times, [float(day) for day in range(200)]) for name in ("a", "b")]
    await bench.signals.write("org", [*columns, Column("esp", "a", [5], [1.0])])


async def test_points_older_than_the_setting_are_deleted(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(removal, "STEP_ROWS", 30)
    monkeypatch.setattr(bench.database.settings, "retention_days", 70)
    await fill(bench)
    assert await bench.signals.sweep(NOW_US) == 2 * 129 + 1
    assert await bench.values("rig", "a") == [float(day) for day in range(70, -1, -1)]
    assert await bench.values("esp", "a") == []
    assert await bench.signals.sweep(NOW_US) == 0


async def test_latest_values_stay(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench.database.settings, "retention_days", 1)
    await fill(bench)
    await bench.signals.sweep(NOW_US)
    latest = bench.signals.latest(bench.channel("esp", "a").device_id, "a")
    assert latest is not None
    assert latest.value == 1.0


async def test_rollups_of_deleted_points_go_and_late_points_are_rolled_up_again(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bench.database.settings, "retention_days", 70)
    await fill(bench)
    await bench.signals.sweep(NOW_US)

    async def oldest(tx: Tx) -> int:
        return (await tx.fetch("SELECT min(bucket_us + width_us) FROM rollup"))[0][0]

    assert await bench.database.query(oldest) > NOW_US - 70 * DAY
    channel = bench.channel("rig", "a").id
    await bench.signals.write("org", [Column("rig", "a", [NOW_US - 150 * DAY], [-7.0])])
    spans = await bench.signals.envelope(channel, NOW_US - 199 * DAY, NOW_US + 1, 20)
    assert (spans[0].low, spans[0].high) == (-7.0, -7.0)


async def test_without_the_setting_everything_is_kept(bench: Bench) -> None:
    await fill(bench)
    assert await bench.signals.sweep(NOW_US) == 0
    assert len(await bench.values("rig", "a")) == 200
