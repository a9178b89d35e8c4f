"""Thinned series, held against the plain answer over all points."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count, pairwise
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from core.signals import series
from core.signals.model import Column
from core.signals.rollups import WIDTHS_US
from core.storage.tx import Tx
from tests.signals.conftest import NOW_US, Bench

_names = count()
SECOND = 1_000_000
DAY = 86_400 * SECOND
# From a few seconds to months, before 1970 too, so that every width of rollups has its turn.
TIMES = st.one_of(
    st.integers(-30 * SECOND, 30 * SECOND),
    st.integers(0, 3 * DAY),
    st.integers(-90 * DAY, 90 * DAY),
    st.integers(0, 5000 * DAY),
)
POINTS = st.lists(st.tuples(TIMES, st.floats(-1e6, 1e6).map(lambda value: value + 0.0)), min_size=1, max_size=60)
COMMON = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


async def fill(bench: Bench, points: Sequence[tuple[int, float]]) -> int:
    """Store points in two batches and return their channel."""
    slug = f"rig{next(_names)}"
    for part in (points[: len(points) // 2], points[len(points) // 2 :]):
        await bench.signals.write("org", [Column(slug, "m", [at for at, _ in part], [value for _, value in part])])
    return bench.channel(slug, "m").id


@COMMON
@given(points=POINTS, buckets=st.integers(1, 40), bounds=st.tuples(TIMES, TIMES))
def test_an_envelope_misses_no_extreme_and_adds_none(
    loop_bench: tuple[Any, Bench], points: list[tuple[int, float]], buckets: int, bounds: tuple[int, int]
) -> None:
    loop, bench = loop_bench
    start, end = min(bounds), max(bounds) + 1

    async def run() -> None:
        spans = await bench.signals.envelope(await fill(bench, points), start, end, buckets)
        inside = [(at, value) for at, value in points if start <= at < end]
        assert len(spans) <= buckets
        assert bool(spans) == bool(inside)
        starts = [span.at_us for span in spans]
        assert starts == sorted(set(starts))
        assert all(start <= at < end for at in starts)
        for span, until in zip(spans, [*starts[1:], end], strict=False):
            values = [value for at, value in inside if span.at_us <= at < until]
            assert (span.low, span.high) == (min(values), max(values))

    loop.run_until_complete(run())


@COMMON
@given(points=POINTS, wanted=st.integers(1, 40))
def test_a_uniform_series_has_the_first_point_of_each_step(
    loop_bench: tuple[Any, Bench], points: list[tuple[int, float]], wanted: int
) -> None:
    loop, bench = loop_bench

    async def run() -> None:
        samples = await bench.signals.uniform(await fill(bench, points), None, None, wanted)
        times = sorted({at for at, _ in points})
        if len(set(points)) <= wanted:
            assert sorted((sample.at_us, sample.value) for sample in samples) == sorted(set(points))
            return
        start, end = times[0], times[-1] + 1
        step = -(-(end - start) // wanted)
        firsts = {(at - start) // step: at for at in reversed(times)}
        assert [sample.at_us for sample in samples] == sorted(firsts.values())
        assert len(samples) <= wanted
        assert all((sample.at_us, sample.value) in points for sample in samples)

    loop.run_until_complete(run())


async def test_long_series_are_thinned_alike_on_both_databases(bench: Bench) -> None:
    times = [NOW_US + number * 7 * SECOND for number in range(20_000)]
    await bench.signals.write("org", [Column("rig", "m", times, [float(number) for number in range(20_000)])])
    channel = bench.channel("rig", "m").id
    samples = await bench.signals.uniform(channel, None, None, 500)
    assert len(samples) == 500
    assert samples[0] == (NOW_US, 0.0)
    assert [sample.value for sample in samples] == [float((sample.at_us - NOW_US) // (7 * SECOND)) for sample in samples]
    spans = await bench.signals.envelope(channel, times[3], times[-3], 100)
    assert (spans[0].low, spans[-1].high) == (3.0, 19_996.0)
    assert 50 <= len(spans) <= 100
    assert all(left.high + 1 == right.low for left, right in pairwise(spans))


async def test_the_number_of_rows_read_for_an_envelope_does_not_grow_with_the_series(bench: Bench) -> None:
    rows = 0

    class Counting:
        def __init__(self, tx: Tx) -> None:
            self.tx = tx

        async def fetch(self, sql: str, *arguments: Any) -> Any:
            nonlocal rows
            if "FROM rollup" in sql:
                where = "channel_id = $1 AND bucket_us >= $2 AND bucket_us < $3 AND width_us = $4"
                found = await self.tx.fetch(f"SELECT count(*) FROM rollup WHERE {where}", *arguments[:3], arguments[5])  # noqa: S608
                rows += found[0][0]
            return await self.tx.fetch(sql, *arguments)

    times = [NOW_US + number * 60 * SECOND for number in range(30_000)]
    await bench.signals.write("org", [Column("rig", "m", times, [1.0] * len(times))])
    channel = bench.channel("rig", "m").id
    await bench.database.query(lambda tx: series.envelope(Counting(tx), channel, times[1], times[-1], 10))  # pyright: ignore[reportArgumentType]
    assert 0 < rows <= 10 * WIDTHS_US[2] // WIDTHS_US[1] + 2 * 60


@pytest.mark.parametrize("value", ["on", True, {"a": 1}])
async def test_a_uniform_series_of_events_is_possible_and_an_envelope_of_them_is_empty(bench: Bench, value: Any) -> None:
    await bench.signals.write("org", [Column("rig", "e", [NOW_US + number for number in range(50)], [value] * 50)])
    channel = bench.channel("rig", "e").id
    assert [sample.value for sample in await bench.signals.uniform(channel, None, None, 10)] == [value] * 10
    assert await bench.signals.envelope(channel, None, None, 10) == []


async def test_an_empty_range_is_empty(bench: Bench) -> None:
    await bench.signals.write("org", [Column("rig", "m", [NOW_US], [1.0])])
    channel = bench.channel("rig", "m").id
    assert await bench.signals.uniform(channel, NOW_US + 1, None, 10) == []
    assert await bench.signals.envelope(channel, NOW_US + 5, NOW_US + 5, 10) == []
    assert await bench.signals.envelope(404, None, None, 10) == []
