"""Numbers of many channels as one list, on both databases, held against the plain answer over all points."""

from __future__ import annotations

import asyncio
import tracemalloc
import uuid
from collections.abc import Sequence
from itertools import count
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from core.signals import numbers
from core.signals.model import Column
from core.signals.numbers import Number
from core.signals.point_ids import PointKey, pack, unpack
from core.signals.points import InstantTakenError
from core.signals.rollups import WIDTHS_US
from core.signals.stretches import Stretch
from core.storage.tx import Tx
from tests.signals.conftest import NOW_US, Bench

SECOND = 1_000_000
DAY = 86_400 * SECOND
_names = count()
COMMON = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
SERIES = st.lists(st.lists(st.integers(0, 60 * SECOND), max_size=40), min_size=1, max_size=4)


async def fill(bench: Bench, series: Sequence[Sequence[int]]) -> list[int]:
    """Store a channel for each series of times and return their ids. Equal times are values of one instant."""
    slug = f"rig{next(_names)}"
    names = [f"m{number}" for number in range(len(series))]
    columns = [Column(slug, name, [NOW_US], ["no number"]) for name in names]
    for name, times in zip(names, series, strict=True):
        columns.append(Column(slug, name, [NOW_US + at for at in times], [float(value) for value in range(len(times))]))
    await bench.signals.write("org", columns)
    return [bench.channel(slug, name).id for name in names]


async def everything(bench: Bench, channels: Sequence[int]) -> list[Number]:
    """Return all numbers, newest first, by one plain statement for each channel."""

    async def job(tx: Tx) -> list[Any]:
        sql = "SELECT channel_id, at_us, n, num, recording_id FROM point WHERE channel_id = $1 AND num IS NOT NULL"
        return [row for channel in channels for row in await tx.fetch(sql, channel)]

    rows = [Number(*row) for row in await bench.database.query(job)]
    return sorted(rows, key=lambda row: (row.at_us, row.n, row.channel_id), reverse=True)


@given(st.integers(0, 2**31 - 1), st.integers(-(2**59), 2**59 - 1), st.integers(0, 2**31 - 1))
def test_the_id_of_a_point_is_a_uuid_of_version_8_and_leads_back(channel: int, at_us: int, n: int) -> None:
    text = pack(channel, at_us, n)
    parsed = uuid.UUID(text)
    assert (parsed.version, parsed.variant, str(parsed)) == (8, uuid.RFC_4122, text)
    assert unpack(text) == PointKey(channel, at_us, n)


@pytest.mark.parametrize(
    "text", ["", "x", "64af6526-d95e-4209-847a-b786749d0d89", pack(1, 2, 3).upper().replace("8", "A", 1), pack(1, 2, 3) + "0"]
)
def test_what_is_no_id_of_a_point_has_no_key(text: str) -> None:
    assert unpack(text) is None


@COMMON
@given(series=SERIES, page=st.tuples(st.integers(0, 30), st.integers(1, 20)), shallow=st.sampled_from([2, 2000]))
def test_a_page_is_a_slice_of_the_whole_list(
    loop_bench: tuple[Any, Bench], series: list[list[int]], page: tuple[int, int], shallow: int
) -> None:
    loop, bench = loop_bench

    async def run() -> None:
        channels = await fill(bench, series)
        whole = await everything(bench, channels)
        offset, limit = page
        with pytest.MonkeyPatch.context() as patch:
            # Small enough that pages further down are found by counting.
            patch.setattr(numbers, "SHALLOW", shallow)
            assert await bench.signals.numbers.newest(channels, offset, limit) == whole[offset : offset + limit]
        assert await bench.signals.numbers.count(channels) == len(whole)

    loop.run_until_complete(run())


@COMMON
@given(series=SERIES, most=st.integers(1, 12), cut=st.tuples(st.integers(0, 60), st.integers(0, 60)))
def test_a_sweep_reads_all_stretches_once_and_in_the_order_of_time(
    loop_bench: tuple[Any, Bench], series: list[list[int]], most: int, cut: tuple[int, int]
) -> None:
    loop, bench = loop_bench
    start, end = NOW_US + min(cut) * SECOND, NOW_US + max(cut) * SECOND

    async def run() -> None:
        channels = await fill(bench, series)
        sweep = bench.signals.numbers.sweep([Stretch(channel, start, end) for channel in channels], most)
        swept: list[Any] = []
        while part := await sweep.read():
            swept += part
        inside = [row for row in reversed(await everything(bench, channels)) if start <= row.at_us < end]
        assert swept == [(row.at_us, row.n, row.channel_id, row.value) for row in inside]

    loop.run_until_complete(run())


async def test_pages_and_sweeps_are_the_same_on_both_databases(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(numbers, "SHALLOW", 20)
    series = [[step * 7919 % (50 * SECOND) for step in range(150)], [step * 104_729 % (90 * SECOND) for step in range(90)], []]
    channels = await fill(bench, series)
    whole = await everything(bench, channels)
    assert len(whole) == 240
    for offset in (0, 19, 21, 100, 200, 239, 240, 500):
        assert await bench.signals.numbers.newest(channels, offset, 25) == whole[offset : offset + 25]
    sweep = bench.signals.numbers.sweep([Stretch(channel, NOW_US, NOW_US + DAY) for channel in channels], 16)
    swept: list[Any] = []
    while part := await sweep.read():
        assert len(part) <= 16
        swept += part
    assert [point[:3] for point in swept] == [(row.at_us, row.n, row.channel_id) for row in reversed(whole)]


async def test_one_stray_clock_does_not_make_deep_pages_wrong(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(numbers, "SHALLOW", 10)
    channels = await fill(bench, [[-NOW_US, *range(0, 200 * SECOND, SECOND)], [NOW_US]])
    whole = await everything(bench, channels)
    for offset in (11, 50, 199, 201):
        assert await bench.signals.numbers.newest(channels, offset, 5) == whole[offset : offset + 5]


async def test_counts_follow_late_points_deletions_and_retention(bench: Bench) -> None:
    (channel,) = await fill(bench, [[-3600 * SECOND, -1800 * SECOND, 0]])
    device = bench.signals.get_channel(channel)
    assert device is not None
    slug = next(found.slug for found in bench.signals.devices("org") if found.id == device.device_id)
    count_all = bench.signals.numbers.count
    assert await count_all([channel]) == 3
    await bench.signals.write("org", [Column(slug, "m0", [NOW_US + SECOND], [1.0])])
    assert await count_all([channel]) == 4
    await bench.signals.write("org", [Column(slug, "m0", [NOW_US - 2000 * SECOND], [1.0])])
    assert await count_all([channel]) == 5
    assert await bench.signals.numbers.delete(PointKey(channel, NOW_US - 3600 * SECOND, 0))
    assert await count_all([channel]) == 4
    bench.clock.at_us = NOW_US + 500 * SECOND
    assert await count_all([channel]) == 4
    bench.database.settings.retention_days = 1
    await bench.signals.sweep(NOW_US - 1000 * SECOND + DAY)
    assert await count_all([channel]) == len(await everything(bench, [channel])) == 2


async def test_a_count_that_runs_while_a_late_point_comes_is_not_remembered(bench: Bench) -> None:
    (channel,) = await fill(bench, [[0]])
    bench.clock.at_us = NOW_US + 3600 * SECOND
    slug = bench.signals.devices("org")[-1].slug
    late = [Column(slug, "m0", [NOW_US + step * SECOND], [float(step)]) for step in range(1, 30)]
    await asyncio.gather(
        *(bench.signals.write("org", [column]) for column in late), *(bench.signals.numbers.count([channel]) for _ in late)
    )
    assert await bench.signals.numbers.count([channel]) == 30


@pytest.mark.parametrize("length", [0, 1, 9, 10, 11, 25, 1000, 1003])
async def test_a_thinned_series_has_the_points_that_the_lab_contract_counts_out(bench: Bench, length: int) -> None:
    (channel,) = await fill(bench, [[step * SECOND for step in range(length)]])
    found = await bench.signals.numbers.thinned(channel, NOW_US, 10)
    places = list(range(length)) if length <= 10 else [int(i * (length / 10)) for i in range(9)] + [length - 1]
    assert [number.value for number in found] == [float(place) for place in places]


async def test_a_series_that_is_too_long_to_count_out_keeps_its_ends(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(numbers, "SCANNED", 100)
    (channel,) = await fill(bench, [[step * SECOND for step in range(1000)]])
    found = await bench.signals.numbers.thinned(channel, NOW_US + SECOND, 20)
    assert (found[0].value, found[-1].value, len(found)) == (1.0, 999.0, 20)
    assert [number.at_us for number in found] == sorted({number.at_us for number in found})


async def test_switches_are_numbers_and_texts_are_not(bench: Bench) -> None:
    await bench.signals.write("org", [Column("rig", "s", [NOW_US, NOW_US + 1, NOW_US + 2], [True, "open", False])])
    channel = bench.channel("rig", "s").id
    assert [number.value for number in await bench.signals.numbers.newest([channel], 0, 5)] == [0.0, 1.0]
    assert (await bench.signals.numbers.last([channel]))[channel].value == 0.0
    assert await bench.signals.numbers.count([channel]) == 2
    assert await bench.signals.numbers.get(PointKey(channel, NOW_US + 1, 0)) is None


async def test_values_that_come_with_their_places_are_all_kept_or_none(bench: Bench) -> None:
    same = Column("rig", "m", [NOW_US] * 3, [1.0, 1.0, 1.0], ns=range(3))
    assert (await bench.signals.write("org", [same])).new == 3
    assert await bench.values("rig", "m") == [1.0, 1.0, 1.0]
    with pytest.raises(InstantTakenError):
        await bench.signals.write("org", [Column("rig", "other", [NOW_US], [5.0], ns=[0]), same])
    assert await bench.values("rig", "other") == []


async def test_a_deleted_point_leaves_rollups_and_the_latest_value_as_if_it_had_never_been(bench: Bench) -> None:
    times = [NOW_US, NOW_US + 5 * SECOND, NOW_US + 6 * SECOND, NOW_US + 700 * SECOND, NOW_US + 701 * SECOND]
    await bench.signals.write("org", [Column("rig", "m", times, [1.0, 99.0, 2.0, -50.0, 3.0])])
    await bench.signals.write("org", [Column("plain", "m", [times[0], times[2]], [1.0, 2.0])])
    rig, plain = bench.channel("rig", "m"), bench.channel("plain", "m")
    for at in (times[1], times[3], times[4]):
        assert await bench.signals.numbers.delete(PointKey(rig.id, at, 0))
        assert not await bench.signals.numbers.delete(PointKey(rig.id, at, 0))

    async def rollups(tx: Tx) -> list[list[Any]]:
        sql = "SELECT width_us, bucket_us, low, high FROM rollup WHERE channel_id = $1 ORDER BY width_us, bucket_us"
        return [[tuple(row) for row in await tx.fetch(sql, channel.id)] for channel in (rig, plain)]

    ours, never = await bench.database.query(rollups)
    assert ours == never
    assert len(ours) == len(WIDTHS_US)
    for signals in (bench.signals, await bench.again()):
        latest = signals.latest(rig.device_id, "m")
        assert latest is not None
        assert (latest.at_us, latest.value) == (times[2], 2.0)
    # Memory must not believe that a rollup still covers what was taken out of it.
    await bench.signals.write("org", [Column("rig", "m", [times[1]], [98.0])])
    assert max(span.high for span in await bench.signals.envelope(rig.id, None, None, 5)) == 98.0


async def test_deletions_and_writes_of_one_commit_leave_no_rollup_too_narrow(sqlite_bench: Bench) -> None:
    bench = sqlite_bench
    await bench.signals.write(
        "org", [Column("rig", "m", [NOW_US + step for step in range(40)], [float(step) for step in range(40)])]
    )
    channel = bench.channel("rig", "m").id
    await asyncio.gather(
        *(bench.signals.numbers.delete(PointKey(channel, NOW_US + step, 0)) for step in range(40)),
        *(bench.signals.write("org", [Column("rig", "m", [NOW_US + 100 + step], [float(step)])]) for step in range(40)),
    )
    left = [number.value for number in await bench.signals.numbers.newest([channel], 0, 100)]
    (span,) = await bench.signals.envelope(channel, NOW_US, NOW_US + 10 * SECOND, 1)
    assert (len(left), span.low, span.high) == (40, min(left), max(left))


async def test_a_channel_that_loses_its_last_point_has_no_latest_value(bench: Bench) -> None:
    await bench.signals.write("org", [Column("rig", "m", [NOW_US], [1.0])])
    channel = bench.channel("rig", "m")
    assert await bench.signals.numbers.delete(PointKey(channel.id, NOW_US, 0))
    for signals in (bench.signals, await bench.again()):
        assert signals.latest(channel.device_id, "m") is None


async def test_the_points_of_a_recording_go_in_steps_and_others_stay(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("core.signals.repair.STEP_ROWS", 7)
    recording = await bench.signals.recordings.create("org", kind="experiment", name="x", started_us=NOW_US)
    times = [NOW_US + step * SECOND for step in range(50)]
    await bench.signals.write("org", [Column("rig", "m", times, [1.0] * 50, ns=[0] * 50, recording_id=recording.id)])
    await bench.signals.write("org", [Column("rig", "m", [at + 1 for at in times], [2.0] * 50)])
    channel = bench.channel("rig", "m").id
    assert await bench.signals.numbers.delete_recorded(channel, recording.id or 0, NOW_US) == 50
    assert await bench.values("rig", "m") == [2.0] * 50


async def test_a_deleted_channel_is_gone_with_its_points_and_the_rest_of_its_device_stays(bench: Bench) -> None:
    await bench.signals.write("org", [Column("rig", name, [NOW_US], [1.0]) for name in ("a", "b")])
    device, channel = bench.signals.find_device("org", "rig"), bench.channel("rig", "a")
    assert device is not None
    await bench.signals.delete_channel(channel.id)
    for signals in (bench.signals, await bench.again()):
        assert [found.name for found in signals.channels(device.id)] == ["b"]
    assert await everything(bench, [channel.id]) == []


async def test_a_sweep_over_many_points_holds_a_page_at_most(sqlite_bench: Bench) -> None:
    bench, rows = sqlite_bench, 120_000
    for first in range(0, rows, 20_000):
        times = range(NOW_US + first * 1000, NOW_US + (first + 20_000) * 1000, 1000)
        await bench.signals.write("org", [Column("rig", "m", times, [float(at) for at in times])])
    channel = bench.channel("rig", "m").id

    async def peak(until: int) -> tuple[int, int]:
        sweep, read = bench.signals.numbers.sweep([Stretch(channel, NOW_US, until)], 2000), 0
        tracemalloc.start()
        while part := await sweep.read():
            read += len(part)
        used = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return read, used

    few, little = await peak(NOW_US + 12_000 * 1000)
    many, much = await peak(NOW_US + DAY)
    assert (few, many) == (12_000, rows)
    assert much < 2 * little
