"""Points on PostgreSQL: a partition for each stretch of time, and COPY where rows are new."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterable, Sequence

import pytest

from core.kernel.settings import Storage
from core.signals.model import Column
from core.signals.partitions import WIDTH_US
from core.storage.database import Database
from core.storage.tx import PostgresTx, Tx
from tests.databases import Postgres
from tests.signals.conftest import NOW_US, Bench, bench_on

COUNTS = "SELECT tableoid::regclass::text, count(*) FROM point GROUP BY 1 ORDER BY 1"
PRESENT = NOW_US // WIDTH_US


@pytest.fixture
async def bench(postgres: Postgres) -> AsyncGenerator[Bench]:
    """Signals on PostgreSQL."""
    database = Database(await postgres.migrated(), Storage())
    await database.start()
    yield await bench_on(database)
    await database.stop()


async def write(bench: Bench, *times_us: int) -> None:
    """Write a point at each time."""
    await bench.signals.write("org", [Column("rig", "m", list(times_us), [float(at) for at in times_us])])


async def counts(bench: Bench) -> dict[str, int]:
    """Return how many points each partition holds."""

    async def count(tx: Tx) -> dict[str, int]:
        return {name: number for name, number in await tx.fetch(COUNTS)}  # noqa: C416 - rows are no pairs to the type checker

    return await bench.database.query(count)


async def test_points_lie_in_the_partition_of_their_time(bench: Bench) -> None:
    await write(bench, NOW_US, NOW_US + 1, NOW_US - WIDTH_US)
    assert await counts(bench) == {f"point_{PRESENT - 1}": 1, f"point_{PRESENT}": 2}
    assert await bench.values("rig", "m") == [float(at) for at in (NOW_US - WIDTH_US, NOW_US, NOW_US + 1)]


async def test_times_of_a_wrong_clock_make_no_partitions(bench: Bench) -> None:
    far = [stretch * WIDTH_US for stretch in (*range(-5, 5), *range(100_000, 100_010))]
    await write(bench, *far)
    assert await counts(bench) == {"point_default": len(far)}
    assert await bench.values("rig", "m") == [float(at) for at in far]


async def test_two_writers_who_need_a_partition_at_once_both_get_it(bench: Bench) -> None:
    other = await bench_on(bench.database)
    await asyncio.gather(*(write(one, NOW_US - stretch * WIDTH_US) for one in (bench, other) for stretch in range(6)))
    assert await counts(bench) == {f"point_{PRESENT - stretch}": 1 for stretch in range(6)}


async def test_a_new_partition_takes_over_what_waited_in_the_default_one(bench: Bench) -> None:
    await write(bench, NOW_US)

    async def detach(tx: Tx) -> None:
        await tx.execute(f"ALTER TABLE point DETACH PARTITION point_{PRESENT}")
        await tx.execute(f"INSERT INTO point_default SELECT * FROM point_{PRESENT}")  # noqa: S608 - a number
        await tx.execute(f"DROP TABLE point_{PRESENT}")

    await bench.database.submit(detach)
    assert await counts(bench) == {"point_default": 1}
    again = await bench_on(bench.database)
    await write(again, NOW_US + 1)
    assert await counts(bench) == {f"point_{PRESENT}": 2}


async def test_a_partition_that_is_too_old_is_dropped_as_a_whole(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench.database.settings, "retention_days", 45)
    old, present = NOW_US - 4 * WIDTH_US, NOW_US - 1
    await write(bench, old, old + 1, present)
    assert await bench.signals.sweep(NOW_US) == 2
    assert await counts(bench) == {f"point_{PRESENT}": 1}

    async def exists(tx: Tx) -> object:
        return (await tx.fetch("SELECT to_regclass($1)::text", f"point_{old // WIDTH_US}"))[0][0]

    assert await bench.database.query(exists) is None
    await write(bench, old)
    assert await bench.values("rig", "m") == [float(old), float(present)]


async def test_a_large_batch_of_new_points_is_copied_and_one_that_repeats_some_is_not_stored_twice(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    copied: list[bool] = []
    copy = PostgresTx.copy

    async def watched(self: PostgresTx, table: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> bool:
        done = await copy(self, table, columns, rows)
        copied.append(done)
        return done

    monkeypatch.setattr(PostgresTx, "copy", watched)
    times = [NOW_US + number for number in range(1000)]
    await write(bench, *times)
    assert copied == [True]
    await write(bench, *times, *(NOW_US + number for number in range(1000, 2000)))
    assert copied == [True, False]
    assert await bench.values("rig", "m") == [float(NOW_US + number) for number in range(2000)]
    await write(bench, NOW_US - 1)
    assert copied == [True, False], "a few rows are not worth a COPY"
