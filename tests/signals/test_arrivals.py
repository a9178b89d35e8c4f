"""What arrived since a moment is found again, whatever times it carries."""

from __future__ import annotations

import random

import pytest

from core.kernel.clock import MICROSECONDS
from core.kernel.errors import InvalidArgument
from core.signals import arrivals
from core.signals.model import Column, PointsWritten
from core.signals.series import Place
from core.signals.service import Signals
from core.storage.tx import Tx
from tests.signals.conftest import NOW_US, Bench

HOUR = 3600 * MICROSECONDS
SHIFTS = (0, 0, -3, -90 * MICROSECONDS, -HOUR, HOUR, -400 * 24 * HOUR, -NOW_US - 7)


async def arrived(signals: Signals, first: int, until: int, limit: int = 7, **question: list[str]) -> list[object]:
    """Return the values that have numbers of arrival in a range, page after page."""
    slugs, channels = question.get("slugs"), question.get("channels")
    chosen = await signals.select_arrived("org", slugs, channels, first, until)
    places: list[Place] = []
    values: list[object] = []
    while page := await signals.page(chosen, places[-1] if places else None, limit):
        places += [placed.place for placed in page]
        values += [placed.point.value for placed in page]
    assert places == sorted(set(places))
    return values


@pytest.mark.parametrize("seed", range(3))
async def test_every_stored_point_is_found_by_its_number_and_no_other(bench: Bench, seed: int) -> None:
    chance = random.Random(seed)  # noqa: S311 - a test
    numbers: dict[int, object] = {}
    moments = [bench.signals.told]
    for batch in range(40):
        bench.clock.at_us += chance.choice((0, 1, 40, 70 * MICROSECONDS, 700 * MICROSECONDS))
        columns: list[Column] = []
        for column in range(chance.randint(1, 3)):
            size = chance.randint(1, 5)
            # Several values of one instant among them.
            times = [bench.clock.now_us() + chance.choice(SHIFTS) + chance.choice((0, 0, n)) for n in range(size)]
            values = [float(1000 * batch + 10 * column + n) for n in range(size)]
            kind = chance.randint(0, 2)
            texts = [f"{value}" for value in values]
            tags = [{"k": f"{value}"} for value in values] if kind == 1 else None
            columns.append(Column(f"rig-{column}", f"m{kind}", times, texts if kind == 2 else values, tags=tags))
        bench.events.clear()
        await bench.signals.write("org", columns)
        (event,) = [event for event in bench.events if isinstance(event, PointsWritten)]
        assert event.arrived is not None
        told = [value for column in event.columns for value in column.values]
        numbers |= {event.arrived + index: value for index, value in enumerate(told)}
        # At the end of a batch, and in the middle of it.
        moments += [bench.signals.told, event.arrived + len(told) // 2]
    assert list(numbers) == sorted(numbers)
    moments.sort()
    again = await bench.again()
    for _ in range(25):
        first, until = sorted((chance.choice(moments), chance.choice(moments)))
        wanted = [value for number, value in numbers.items() if first <= number < until]
        assert sorted(map(str, await arrived(again, first, until))) == sorted(map(str, wanted))


async def test_pins_are_found_by_their_numbers_and_a_repeat_keeps_its_first(bench: Bench) -> None:
    board = await bench.signals.ensure_device("org", "brd-1", kind="board")
    start = bench.signals.told
    await bench.signals.write_latest(board, [("V1", 1.0), ("V2", None), ("V3", "x")], by="user")
    middle = bench.signals.told
    await bench.signals.write_latest(board, [("V1", 2.0)], by="user")
    await bench.signals.write("org", [Column("rig", "m", [NOW_US], [5.0])])
    end = bench.signals.told
    await bench.signals.write("org", [Column("rig", "m", [NOW_US], [5.0])])
    assert await arrived(bench.signals, start, middle) == [1.0, "x"]
    assert sorted(map(str, await arrived(bench.signals, middle, end))) == ["2.0", "5.0"]
    assert await arrived(bench.signals, middle, end, slugs=["rig"]) == [5.0]
    assert await arrived(bench.signals, end, bench.signals.told) == []


async def test_where_late_points_lie_is_forgotten_after_a_while(bench: Bench) -> None:
    start = bench.signals.told
    await bench.signals.write("org", [Column("rig", "m", [NOW_US - HOUR], [1.0])])
    kept = bench.clock.at_us + HOUR
    bench.clock.at_us += 2 * HOUR
    await bench.signals.write("org", [Column("rig", "m", [NOW_US - HOUR - 1], [2.0])])

    async def forget(tx: Tx) -> int:
        return await arrivals.forget_before(tx, kept)

    assert await bench.database.submit(forget) == 1
    assert await arrived(bench.signals, start + HOUR, bench.signals.told) == [2.0]


async def test_a_write_that_fails_holds_no_number_back_for_long(bench: Bench) -> None:
    with pytest.raises(InvalidArgument):
        await bench.signals.write("org", [Column("rig", "m", [NOW_US], [2**2000])])
    before = bench.signals.told
    await bench.signals.write("org", [Column("rig", "m", [NOW_US], [1.0])])
    bench.clock.at_us += 5
    after = bench.signals.told
    assert after == bench.clock.at_us
    assert await arrived(bench.signals, before, after) == [1.0]
