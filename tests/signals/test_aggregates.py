"""Aggregates and pages, held against the plain answer over all points, on both databases."""

from __future__ import annotations

import asyncio
import runpy
from collections.abc import Generator, Iterable, Iterator
from itertools import count
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from core.kernel.clock import MICROSECONDS
from core.kernel.errors import InvalidArgument
from core.kernel.settings import Storage
from core.signals.checks import Scope
from core.signals.model import Column, Value
from core.signals.series import Place
from core.storage.database import Database
from core.storage.revisions import HISTORY
from core.storage.tx import PostgresTx, SqliteTx, Tx
from tests.signals.conftest import NOW_US, Bench, bench_on

SECOND = 1_000_000
_names = count()
TIMES = st.one_of(st.integers(-20, 20), st.integers(-10 * SECOND, 10 * SECOND))
NUMBERS = st.one_of(st.integers(-3, 3).map(float), st.floats(-1e6, 1e6), st.sampled_from([1.7e308, -1.7e308]))
POINTS = st.lists(st.tuples(TIMES, NUMBERS.map(lambda value: value + 0.0)), min_size=1, max_size=40)
COMMON = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
Loop = tuple[asyncio.AbstractEventLoop, Bench]


@pytest.fixture(params=["sqlite", "postgresql"])
def each(request: pytest.FixtureRequest, tmp_path: Path) -> Generator[Loop]:
    """Signals on each kind of database and the loop that drives them, for properties whose examples each run to their end."""
    loop = asyncio.new_event_loop()

    async def begin() -> tuple[Database, Bench]:
        url = f"sqlite:///{tmp_path / 'busbar.db'}"
        if request.param == "postgresql":
            url = await request.getfixturevalue("postgres").migrated()
        database = Database(url, Storage())
        await database.start()
        await database.migrate()
        return database, await bench_on(database)

    database, bench = loop.run_until_complete(begin())
    yield loop, bench
    loop.run_until_complete(bench.signals.stop())
    loop.run_until_complete(database.stop())
    loop.close()


def brute(points: list[tuple[int, float]], method: str, origin: int, width: int) -> list[tuple[int, float]]:
    """Return the aggregate of distinct points in the order of storage."""
    buckets: dict[int, list[tuple[int, float]]] = {}
    for at, value in points:
        buckets.setdefault((at - origin) // width, []).append((at, value))
    answers: dict[str, Any] = {
        # Scaled, so that the sum of the largest numbers is one.
        "avg": lambda bucket: fmean(value / 64 for _, value in bucket) * 64,
        "min": lambda bucket: min(value for _, value in bucket),
        "max": lambda bucket: max(value for _, value in bucket),
        "count": len,
        "last": lambda bucket: [value for at, value in bucket if at == max(bucket)[0]][-1],
    }
    return [(origin + number * width, answers[method](bucket)) for number, bucket in sorted(buckets.items())]


@COMMON
@given(
    points=POINTS,
    method=st.sampled_from(["avg", "min", "max", "last", "count"]),
    bounds=st.tuples(TIMES, TIMES),
    buckets=st.integers(1, 20),
    width=st.one_of(st.none(), st.integers(5_000, 10 * SECOND)),
)
def test_an_aggregate_is_that_of_the_numbers_of_each_step(
    each: Loop, points: list[tuple[int, float]], method: str, bounds: tuple[int, int], buckets: int, width: int | None
) -> None:
    loop, bench = each
    start, end = min(bounds), max(bounds) + 1
    slug = f"rig{next(_names)}"

    async def run() -> None:
        columns = [Column(slug, "m", [at for at, _ in points], [value for _, value in points])]
        await bench.signals.write("org", columns)
        # Text among the numbers counts for nothing.
        await bench.signals.write("org", [Column(slug, "m", [start], ["text"])])
        channel = bench.channel(slug, "m").id
        found = await bench.signals.aggregate(channel, start, end, method, buckets=buckets, width_us=width)
        step = width or -(-(end - start) // buckets)
        origin = start // step * step if width else start
        inside = [point for point in dict.fromkeys(points) if start <= point[0] < end]
        wanted = brute(inside, method, origin, step)
        assert [sample.at_us for sample in found] == [at for at, _ in wanted]
        values = [value for _, value in wanted]
        assert [sample.value for sample in found] == pytest.approx(
            values, rel=1e-9, abs=1e-6 + 1e-12 * max(map(abs, values), default=0)
        )

    loop.run_until_complete(run())


@pytest.mark.parametrize("method", ["avg", "last", "count"])
async def test_more_steps_than_anyone_draws_are_refused(bench: Bench, method: str) -> None:
    await bench.signals.write("org", [Column("rig", "m", [NOW_US, NOW_US + 5000 * SECOND], [1.0, 2.0])])
    channel = bench.channel("rig", "m").id
    with pytest.raises(InvalidArgument, match="5000"):
        await bench.signals.aggregate(channel, NOW_US, NOW_US + 5001 * SECOND, method, buckets=1, width_us=SECOND)
    assert len(await bench.signals.aggregate(channel, None, None, method, buckets=5000)) == 2


@COMMON
@given(
    channels=st.lists(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 2)), max_size=12), min_size=1, max_size=6),
    size=st.integers(1, 7),
)
def test_pages_hold_every_point_once_and_in_order(each: Loop, channels: list[list[tuple[int, int]]], size: int) -> None:
    loop, bench = each
    slug = f"page{next(_names)}"

    async def run() -> None:
        columns = [
            Column(slug, f"m{number}", [NOW_US + at for at, _ in points], [float(value) for _, value in points], "run")
            for number, points in enumerate(channels)
        ]
        await bench.signals.write("org", columns)
        chosen = bench.signals.select("org", [slug], None, NOW_US, NOW_US + 6)
        read: list[tuple[str, int, Value]] = []
        places: list[Place] = []
        while page := await bench.signals.page(chosen, places[-1] if places else None, size):
            assert len(page) <= size
            places += [placed.place for placed in page]
            read += [(placed.point.channel, placed.point.at_us, placed.point.value) for placed in page]
        assert places == sorted(set(places))
        wanted = {(f"m{n}", NOW_US + at, float(v)) for n, points in enumerate(channels) for at, v in points if at < 6}
        assert sorted(read, key=str) == sorted(wanted, key=str)

    loop.run_until_complete(run())


async def test_a_recording_is_its_points_wherever_they_are(bench: Bench) -> None:
    write = bench.signals.write
    await write("org", [Column("rig", "m", [NOW_US + n for n in range(10)], [float(n) for n in range(10)], "run-1")])
    await write("org", [Column("rig", "m", [NOW_US + 20], [20.0]), Column("other", "m", [NOW_US + 5], [5.5], "run-1")])
    await write("org", [Column("other", "x", [NOW_US + 5], ["no part of it"])])
    recording = await bench.signals.recordings.find("org", "run-1")
    assert recording is not None
    chosen = await bench.signals.select_recording(recording, None, None, NOW_US + 4, None)
    page = await bench.signals.page(chosen, None, 100)
    assert [placed.point.value for placed in page] == [4.0, 5.0, 5.5, 6.0, 7.0, 8.0, 9.0]
    assert {placed.point.recording for placed in page} == {"run-1"}


async def test_reading_a_recording_touches_only_its_time_and_its_channels(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    minute = 60 * MICROSECONDS
    late = NOW_US + 100 * minute
    write = bench.signals.write
    await write("org", [Column("rig", "m", [NOW_US + n * minute for n in range(200)], [float(n) for n in range(200)])])
    await write("org", [Column("rig", "m", [late + 1, late + 2], [7.0, 8.0], "run-1"), Column("rig", "x", [NOW_US], [1.0])])
    await write("org", [Column("rig", "m", [late - 3 * minute], [6.0], "run-1")])
    recording = await bench.signals.recordings.find("org", "run-1")
    assert recording is not None
    asked: list[tuple[object, ...]] = []
    for kind in (SqliteTx, PostgresTx):
        fetch = kind.fetch

        async def spy(self: Any, sql: str, *arguments: object, fetch: Any = fetch) -> Any:
            if "FROM point" in sql:
                asked.append(arguments)
            return await fetch(self, sql, *arguments)

        monkeypatch.setattr(kind, "fetch", spy)
    chosen = await bench.signals.select_recording(recording, None, None, None, None)
    page = await bench.signals.page(chosen, None, 100)
    assert [placed.point.value for placed in page] == [6.0, 7.0, 8.0]
    checked = await bench.signals.check("org", None, "m", Scope(recording.id), "<", 8)
    assert (checked.total, checked.failed) == (3, 8.0)
    channel = bench.channel("rig", "m").id
    assert list(chosen.channels) == [channel]
    assert asked
    for arguments in asked:
        times = [value for value in _flat(arguments) if isinstance(value, int) and value > NOW_US // 2]
        assert min(times) >= late - 4 * minute
        assert max(times) <= late + 2 * minute


def _flat(arguments: Iterable[object]) -> Iterator[object]:
    for argument in arguments:
        if isinstance(argument, list):
            yield from argument
        else:
            yield argument


async def test_points_of_a_recording_may_come_in_any_order_and_after_a_restart(bench: Bench) -> None:
    hour = 3600 * MICROSECONDS
    await bench.signals.write("org", [Column("rig", "m", [NOW_US], [1.0], "run-1")])
    again = await bench.again()
    await again.write("org", [Column("rig", "m", [NOW_US - hour], [0.0], "run-1")])
    await bench.signals.write("org", [Column("rig", "m", [NOW_US + hour], [2.0], "run-1")])
    await bench.signals.write("org", [Column("rig", "m", [-5, 5], [-1.0, -0.5], "run-1")])
    recording = await again.recordings.find("org", "run-1")
    assert recording is not None
    chosen = await again.select_recording(recording, None, None, None, None)
    assert [placed.point.value for placed in await again.page(chosen, None, 9)] == [-1.0, -0.5, 0.0, 1.0, 2.0]


async def test_a_recording_without_points_of_its_own_is_the_time_of_its_source(bench: Bench) -> None:
    columns = [
        Column("rig", "m", [NOW_US + n for n in range(10)], [float(n) for n in range(10)]),
        Column("b", "m", [NOW_US], [1]),
    ]
    await bench.signals.write("org", columns)
    device = bench.signals.find_device("org", "rig")
    assert device is not None
    recording = await bench.signals.recordings.create("org", "by-time", device_id=device.id, started_us=NOW_US + 2)
    recording = await bench.signals.recordings.update("org", "by-time", ended_us=NOW_US + 4)
    chosen = await bench.signals.select_recording(recording, None, None, None, None)
    assert [placed.point.value for placed in await bench.signals.page(chosen, None, 100)] == [2.0, 3.0, 4.0]


async def test_recordings_of_earlier_releases_are_found_after_the_migration(bench: Bench) -> None:
    await bench.signals.write("org", [Column("rig", "m", [-1, NOW_US], [1.0, 2.0], "run-1"), Column("rig", "n", [5], [3.0])])
    await bench.signals.write("org", [Column("rig", "o", [7], [4.0], "run-2")])
    (path,) = (Path(HISTORY) / "versions").glob("*_recording_spans.py")
    fill = str(runpy.run_path(str(path))["FILL"])

    async def migrate(tx: Tx) -> None:
        await tx.execute("DELETE FROM recording_span")
        await tx.execute(fill)

    await bench.database.submit(migrate)
    recording = await bench.signals.recordings.find("org", "run-1")
    assert recording is not None
    chosen = await bench.signals.select_recording(recording, None, None, None, None)
    assert [placed.point.value for placed in await bench.signals.page(chosen, None, 9)] == [1.0, 2.0]
