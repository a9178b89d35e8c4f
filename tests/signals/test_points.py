"""Batches of points: what is stored, what is a repeat, and what watchers hear."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest

from core.kernel.errors import InvalidArgument
from core.signals.model import Column, StoredPoint, Written
from tests.signals.conftest import NOW_US, Bench


def temperatures(values: list[Any], *, first_us: int = NOW_US, **more: Any) -> Column:
    """Return a column with one value each second."""
    return Column("rig", "temp", [first_us + second * 1_000_000 for second in range(len(values))], values, **more)


async def test_a_batch_brings_its_device_channels_and_points_into_being(bench: Bench) -> None:
    written = await bench.signals.write("org", [temperatures([20.0, 21.5]), Column("rig", "note", [NOW_US], ["on"])])
    assert written == Written(received=3, stored=3, new=3)
    device = bench.signals.find_device("org", "rig")
    assert device is not None
    assert (device.kind, device.last_seen_us) == ("source", NOW_US)
    assert [(channel.name, channel.kind) for channel in bench.signals.channels(device.id)] == [
        ("note", "event"),
        ("temp", "metric"),
    ]
    assert await bench.values("rig", "temp") == [20.0, 21.5]


@pytest.mark.parametrize(
    "value",
    [
        21.5,
        -3,
        0,
        "on",
        "",
        "21.5",
        True,
        False,
        {"a": [1, None, "x"]},
        [1, 2.5, {"b": True}],
        [],
        {},
        "naïve ☀",
        2**70,
        [2**70],
    ],
)
async def test_a_value_of_any_type_comes_back_as_it_was(bench: Bench, value: Any) -> None:
    await bench.signals.write("org", [Column("rig", "any", [NOW_US], [value])])
    (stored,) = await bench.values("rig", "any")
    assert stored == value
    assert isinstance(stored, bool) == isinstance(value, bool)
    latest = (await bench.again()).latest(bench.channel("rig", "any").device_id, "any")
    assert latest is not None
    assert latest.value == value


async def test_a_number_too_large_for_a_double_is_refused(bench: Bench) -> None:
    with pytest.raises(InvalidArgument):
        await bench.signals.write("org", [Column("rig", "temp", [NOW_US], [10**400])])


async def test_an_exact_repeat_is_stored_once(bench: Bench) -> None:
    batch = [temperatures([1.0, 2.0, 3.0]), Column("rig", "note", [NOW_US, NOW_US + 1], ["a", {"b": 1, "c": 2}])]
    await bench.signals.write("org", batch)
    assert await bench.signals.write("org", batch) == Written(received=5, stored=5, new=0)
    assert await bench.signals.write("org", [Column("rig", "note", [NOW_US + 1], [{"c": 2, "b": 1}])]) == Written(1, 1, 0)
    assert await bench.values("rig", "temp") == [1.0, 2.0, 3.0]


async def test_different_values_of_one_instant_are_all_kept(bench: Bench) -> None:
    values: list[Any] = [1.0, 2.0, 1.0, "on", True, "on", 3.0]
    written = await bench.signals.write("org", [Column("rig", "mixed", [NOW_US] * len(values), values)])
    assert written == Written(received=7, stored=7, new=5)
    assert await bench.signals.write("org", [Column("rig", "mixed", [NOW_US], [4.0])]) == Written(1, 1, 1)
    assert sorted(map(repr, await bench.values("rig", "mixed"))) == ["'on'", "1.0", "2.0", "3.0", "4.0", "True"]


async def test_only_the_new_rows_of_a_batch_count_as_new(bench: Bench) -> None:
    await bench.signals.write("org", [temperatures([float(number) for number in range(700)])])
    changed = [float(number) for number in range(1000)]
    changed[300] = -1.0
    assert await bench.signals.write("org", [temperatures(changed)]) == Written(received=1000, stored=1000, new=301)
    stored = await bench.values("rig", "temp")
    assert len(stored) == 1001
    assert stored[300:302] == [300.0, -1.0]


async def test_points_may_come_in_any_order(bench: Bench) -> None:
    times = [NOW_US + number * 1000 for number in range(500)]
    random.Random(7).shuffle(times)  # noqa: S311 - no secret
    for part in (times[:200], times[200:]):
        await bench.signals.write("org", [Column("rig", "temp", part, [float(at) for at in part])])
    assert await bench.values("rig", "temp") == sorted(map(float, times))


async def test_times_without_a_clock_and_from_the_future_are_accepted(bench: Bench) -> None:
    times = [-5, 0, 12_000_000, NOW_US, NOW_US + 10**17]
    await bench.signals.write("org", [Column("esp", "temp", times, [1.0, 2.0, 3.0, 4.0, 5.0])])
    assert await bench.values("esp", "temp") == [1.0, 2.0, 3.0, 4.0, 5.0]


async def test_tags_and_recordings_come_back_with_their_points(bench: Bench) -> None:
    tags = [{"room": "a"}, None, {"room": "b", "floor": "1"}]
    await bench.signals.write(
        "org", [temperatures([1.0, 2.0, 3.0], tags=tags, recording="run-1"), temperatures([9.0], first_us=0)]
    )
    points = await bench.signals.points("org", start_us=0, end_us=NOW_US + 10**9, limit=10)
    assert [(point.value, point.tags, point.recording) for point in points] == [
        (9.0, None, None),
        (1.0, {"room": "a"}, "run-1"),
        (2.0, None, "run-1"),
        (3.0, {"room": "b", "floor": "1"}, "run-1"),
    ]


async def test_reading_is_limited_to_the_oldest_of_all_channels(bench: Bench) -> None:
    columns = [
        Column(f"rig{k}", "temp", [NOW_US + k + 10 * i for i in range(100)], [float(i) for i in range(100)]) for k in range(8)
    ]
    await bench.signals.write("org", columns)
    points = await bench.signals.points("org", start_us=NOW_US + 5, end_us=NOW_US + 900, limit=20)
    every = sorted((at, column.device) for column in columns for at in column.times_us if NOW_US + 5 <= at < NOW_US + 900)
    assert [(point.at_us, point.device) for point in points] == every[:20]
    assert points[0] == StoredPoint("rig5", "temp", NOW_US + 5, 0.0, None, None)


async def test_unknown_names_and_other_organisations_have_no_points(bench: Bench) -> None:
    await bench.signals.write("org", [temperatures([1.0])])
    everything: dict[str, Any] = {"start_us": 0, "end_us": 2**62, "limit": 10}
    assert await bench.signals.points("org", slugs=["none"], **everything) == []
    assert await bench.signals.points("org", channels=["none"], **everything) == []
    assert await bench.signals.points("other", **everything) == []


async def test_organisations_may_use_the_same_names(bench: Bench) -> None:
    await asyncio.gather(*[bench.signals.write(org, [temperatures([value])]) for org, value in (("org", 1.0), ("other", 2.0))])
    assert await bench.values("rig", "temp") == [1.0]


async def test_batches_that_make_the_same_things_at_once_share_them(bench: Bench) -> None:
    batches = [
        [temperatures([float(number)], first_us=NOW_US + number, recording="run", tags=[{"a": "b"}])] for number in range(10)
    ]
    await asyncio.gather(*[bench.signals.write("org", batch) for batch in batches])
    assert len(bench.signals.devices("org")) == 1
    assert len(await bench.values("rig", "temp")) == 10
    assert (await bench.signals.recordings.list("org"))[1] == 1


async def test_a_batch_is_one_event_and_comes_after_the_commit(bench: Bench) -> None:
    batch = [temperatures([1.0, 2.0])]
    await bench.signals.write("org", batch, client_id="me")
    (event,) = bench.events
    assert event == bench.batches[0]
    assert (list(bench.batches[0].columns), bench.batches[0].client_id) == (batch, "me")


async def test_a_device_that_does_not_record_is_live_only(bench: Bench) -> None:
    device = await bench.signals.ensure_device("org", "rig")
    await bench.signals.update_device(device.id, recording=False)
    assert await bench.signals.write("org", [temperatures([1.0])]) == Written(received=1, stored=0, new=0)
    assert bench.signals.channels(device.id) == []
    assert len(bench.batches) == 1


async def test_an_empty_batch_is_no_error(bench: Bench) -> None:
    assert await bench.signals.write("org", []) == Written(0, 0, 0)
    assert await bench.signals.write("org", [Column("rig", "temp", [], [])]) == Written(0, 0, 0)
