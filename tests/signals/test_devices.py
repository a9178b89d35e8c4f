"""Devices and channels: made once, changed, deleted with all they have."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from core.kernel.errors import NotFound
from core.signals import removal
from core.signals.model import Column
from core.signals.service import Signals
from core.storage.tx import Tx
from tests.signals.conftest import NOW_US, Bench


async def test_a_device_is_made_once(bench: Bench) -> None:
    devices = await asyncio.gather(*[bench.signals.ensure_device("org", "b1", name="Bench", kind="board") for _ in range(5)])
    assert all(device is devices[0] for device in devices)
    assert bench.signals.get_device(devices[0].id) is devices[0]
    assert (devices[0].name, devices[0].kind, devices[0].recording) == ("Bench", "board", True)


async def test_changes_of_device_and_channel_survive_a_restart(bench: Bench) -> None:
    device = await bench.signals.ensure_device("org", "rig")
    await bench.signals.write("org", [Column("rig", "temp", [NOW_US], [1.0])])
    await bench.signals.update_device(device.id, name="Rig", recording=False)
    await bench.signals.update_channel(bench.channel("rig", "temp").id, label="Oven", unit="K")
    await bench.signals.touch(device.id)
    again = await bench.again()
    loaded = again.find_device("org", "rig")
    channel = again.find_channel(device.id, "temp")
    assert loaded is not None
    assert channel is not None
    assert (loaded.name, loaded.recording, loaded.last_seen_us) == ("Rig", False, NOW_US)
    assert (channel.label, channel.unit) == ("Oven", "K")


async def test_changing_what_does_not_exist_is_refused(bench: Bench) -> None:
    for change in (bench.signals.update_device(404), bench.signals.update_channel(404), bench.signals.delete_device(404)):
        with pytest.raises(NotFound):
            await change


async def left(tx: Tx) -> Sequence[Any]:
    tables = "device", "channel", "point", "latest", "rollup"
    return [(await tx.fetch(f"SELECT count(*) FROM {table}"))[0][0] for table in tables]  # noqa: S608 - constants


async def test_a_deleted_device_leaves_nothing_and_its_slug_is_free(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(removal, "STEP_ROWS", 40)
    times = [NOW_US + number * 1_000_000 for number in range(250)]
    await bench.signals.write("org", [Column("rig", name, times, [1.0] * 250) for name in ("a", "b")])
    first = bench.signals.find_device("org", "rig")
    assert first is not None
    await bench.signals.delete_device(first.id)
    assert bench.signals.find_device("org", "rig") is None
    assert await bench.database.query(left) == [0, 0, 0, 0, 0]
    second = await bench.signals.ensure_device("org", "rig")
    assert second.id != first.id
    assert bench.signals.channels(second.id) == []


async def test_a_deletion_cut_short_is_finished_later(bench: Bench) -> None:
    await bench.signals.write("org", [Column("rig", "a", [NOW_US], [1.0])])
    device = bench.signals.find_device("org", "rig")
    assert device is not None
    await bench.database.submit(lambda tx: removal.hide_device(tx, device.id, NOW_US))
    assert (await bench.again()).find_device("org", "rig") is None
    await removal.finish_deletions(bench.database)
    assert await bench.database.query(left) == [0, 0, 0, 0, 0]


async def test_points_for_a_device_that_another_server_deleted_make_it_anew(bench: Bench) -> None:
    await bench.signals.write("org", [Column("rig", "a", [NOW_US], [1.0])])
    device = bench.signals.find_device("org", "rig")
    assert device is not None
    other = Signals(bench.database, bench.events.extend, bench.clock)
    await other.start()
    await other.delete_device(device.id)
    await other.stop()
    await bench.signals.write("org", [Column("rig", "a", [NOW_US], [2.0])])
    assert await bench.values("rig", "a") == [2.0]


async def test_a_device_is_online_while_any_connection_lasts(bench: Bench) -> None:
    device = await bench.signals.ensure_device("org", "b1", kind="board")
    bench.signals.device_connected(device.id)
    bench.signals.device_connected(device.id)
    bench.signals.device_disconnected(device.id)
    assert bench.signals.online(device.id)
    bench.signals.device_disconnected(device.id)
    assert not bench.signals.online(device.id)
