"""What a reader of the live bus sees."""

from __future__ import annotations

import asyncio

import pytest

from core.kernel.clock import Clock
from core.live.bus import Bus, Subscription
from core.live.events import EventBus, Lagged, Policy, Reader

TOPIC = ("org-1", "pins")
OTHER = ("org-1", "status")


def reader(bus: Bus, *, after: int | None = None, policy: Policy = Policy.LAGGED, size: int = 8) -> Subscription:
    return bus.subscribe(TOPIC, policy=policy, size=size, after=after)


def events(subscription: Subscription) -> list[object]:
    return [event for _, event in subscription.drain()]


class ClockAt(Clock):
    def __init__(self, at_us: int) -> None:
        self._at_us = at_us

    def now_us(self) -> int:
        return self._at_us


async def test_a_reader_gets_what_is_published_after_it_subscribed() -> None:
    bus = Bus()
    bus.publish(TOPIC, "before")
    async with reader(bus) as watching:
        cursor = bus.publish(TOPIC, "now")
        assert await anext(watching) == (cursor, "now")
        assert watching.cursor == cursor


async def test_a_waiting_reader_wakes_when_something_is_published() -> None:
    bus = Bus()
    watching = reader(bus)
    waiting = asyncio.create_task(anext(watching))
    await asyncio.sleep(0)
    cursor = bus.publish(TOPIC, "now")
    assert await asyncio.wait_for(waiting, 5) == (cursor, "now")


async def test_a_reader_who_gives_up_waiting_misses_nothing() -> None:
    bus = Bus()
    watching = reader(bus)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(anext(watching), 0.01)
    bus.publish(TOPIC, "now")
    assert events(watching) == ["now"]


async def test_two_tasks_cannot_share_a_subscription() -> None:
    watching = reader(Bus())
    waiting = asyncio.create_task(anext(watching))
    await asyncio.sleep(0)
    with pytest.raises(RuntimeError, match="another task"):
        await anext(watching)
    watching.close()
    with pytest.raises(StopAsyncIteration):
        await asyncio.wait_for(waiting, 5)


async def test_a_reader_hears_nothing_of_other_topics_or_organisations() -> None:
    bus = Bus()
    watching = reader(bus)
    bus.publish(OTHER, "other topic")
    bus.publish(("org-2", TOPIC[1]), "other organisation")
    assert events(watching) == []


async def test_a_reader_who_comes_back_sees_what_it_missed_and_then_what_is_new() -> None:
    bus = Bus()
    seen = bus.publish(TOPIC, 1)
    bus.publish(TOPIC, 2)
    bus.publish(OTHER, "other topic")
    bus.publish(TOPIC, 3)
    watching = reader(bus, after=seen)
    bus.publish(TOPIC, 4)
    assert events(watching) == [2, 3, 4]


async def test_events_of_several_topics_are_replayed_in_the_order_in_which_they_happened() -> None:
    bus = Bus()
    start = bus.cursor
    for number in range(6):
        bus.publish((TOPIC, OTHER)[number % 2], number)
    watching = bus.subscribe([TOPIC, OTHER, TOPIC], policy=Policy.LAGGED, size=8, after=start)
    bus.publish(OTHER, 6)
    assert events(watching) == [0, 1, 2, 3, 4, 5, 6]


async def test_a_reader_from_before_what_is_remembered_is_told_to_read_the_state_again() -> None:
    bus = Bus(replay_events=2)
    start = bus.cursor
    for number in range(3):
        bus.publish(TOPIC, number)
    watching = reader(bus, after=start)
    bus.publish(TOPIC, "new")
    assert events(watching) == [Lagged(None), "new"]


async def test_exactly_what_is_remembered_can_be_resumed() -> None:
    bus = Bus(replay_events=2)
    first = bus.publish(TOPIC, 1)
    bus.publish(TOPIC, 2)
    bus.publish(TOPIC, 3)
    assert events(reader(bus, after=first)) == [2, 3]


async def test_an_event_that_is_not_remembered_cannot_be_resumed_across() -> None:
    bus = Bus()
    before = bus.publish(TOPIC, 1)
    live = reader(bus)
    large = bus.publish(TOPIC, "large", remember=False)
    bus.publish(TOPIC, 2)
    assert events(live) == ["large", 2]
    assert events(reader(bus, after=before)) == [Lagged(None)]
    assert events(reader(bus, after=large)) == [2]


async def test_a_bus_that_skips_tells_every_reader_and_goes_on() -> None:
    bus = Bus()
    watching, start = reader(bus), bus.cursor
    bus.publish(TOPIC, "unread")
    bus.skip(bus.cursor + 100)
    cursor = bus.publish(TOPIC, "new")
    assert watching.drain() == [(cursor - 1, Lagged(None)), (cursor, "new")]
    assert events(reader(bus, after=start)) == [Lagged(None)]


@pytest.mark.parametrize("offset", [-1, 1])
async def test_a_cursor_of_an_earlier_process_lags(offset: int) -> None:
    bus = Bus(clock=ClockAt(1_000_000))
    assert events(reader(bus, after=1_000_000 + offset)) == [Lagged(None)]


async def test_cursors_grow_across_a_restart() -> None:
    before = Bus(clock=ClockAt(1_000_000))
    for _ in range(100):
        before.publish(TOPIC, "event")
    after = Bus(clock=ClockAt(1_000_000 + 1000))
    assert after.publish(TOPIC, "event") > before.cursor


async def test_a_slow_reader_gets_one_notice_and_goes_on_from_the_present() -> None:
    bus = Bus()
    watching = reader(bus, size=3)
    cursors = [bus.publish(TOPIC, number) for number in range(10)]
    assert watching.drain() == [(cursors[8], Lagged(9)), (cursors[9], 9)]
    bus.publish(TOPIC, "later")
    assert events(watching) == ["later"]
    assert bus.counters.lagged == 1
    assert bus.counters.missed == 9


async def test_a_slow_reader_does_not_hold_up_a_fast_one() -> None:
    bus = Bus()
    slow, fast = reader(bus, size=2), reader(bus, size=2)
    seen: list[object] = []
    for number in range(100):
        bus.publish(TOPIC, number)
        seen += events(fast)
    assert seen == list(range(100))
    assert len(slow) <= 3


async def test_conflation_keeps_the_newest_event_of_each_key_in_order() -> None:
    bus = Bus()
    watching = reader(bus, policy=Policy.CONFLATE, size=2)
    for number in range(10):
        bus.publish(TOPIC, ("a", number), key="a")
        bus.publish(TOPIC, ("b", number), key="b")
    bus.publish(TOPIC, ("a", 10), key="a")
    assert events(watching) == [("b", 9), ("a", 10)]
    assert bus.counters.conflated == 19
    assert bus.counters.missed == 0


async def test_conflation_does_not_mix_topics() -> None:
    bus = Bus()
    watching = bus.subscribe([TOPIC, OTHER], policy=Policy.CONFLATE, size=4)
    bus.publish(TOPIC, 1, key="a")
    bus.publish(OTHER, 2, key="a")
    assert events(watching) == [1, 2]


async def test_conflation_never_replaces_events_without_a_key() -> None:
    bus = Bus()
    watching = reader(bus, policy=Policy.CONFLATE)
    bus.publish(TOPIC, 1)
    bus.publish(TOPIC, 2)
    assert events(watching) == [1, 2]


async def test_more_keys_than_fit_are_a_lag() -> None:
    bus = Bus()
    watching = reader(bus, policy=Policy.CONFLATE, size=2)
    for key in range(3):
        bus.publish(TOPIC, key, key=key)
    assert events(watching) == [Lagged(2), 2]


async def test_a_replay_is_conflated_too() -> None:
    bus = Bus()
    start = bus.cursor
    for number in range(10):
        bus.publish(TOPIC, number, key="a")
    watching = reader(bus, policy=Policy.CONFLATE, size=1, after=start)
    assert events(watching) == [9]


async def test_a_replay_longer_than_the_queue_still_arrives_whole() -> None:
    bus = Bus()
    start = bus.cursor
    for number in range(10):
        bus.publish(TOPIC, number)
    watching = reader(bus, size=2, after=start)
    bus.publish(TOPIC, 10)
    bus.publish(TOPIC, 11)
    assert events(watching) == list(range(12))


async def test_room_given_to_a_replay_is_given_up_once_it_is_read() -> None:
    bus = Bus()
    start = bus.cursor
    for number in range(10):
        bus.publish(TOPIC, number)
    watching = reader(bus, size=2, after=start)
    watching.drain()
    for number in range(3):
        bus.publish(TOPIC, number)
    assert events(watching) == [Lagged(2), 2]


async def test_a_closed_reader_ends_and_costs_nothing() -> None:
    bus = Bus()
    async with reader(bus) as watching:
        bus.publish(TOPIC, "unread")
    assert [item async for item in watching] == []
    assert bus.readers == 0
    bus.publish(TOPIC, "after")
    assert len(watching) == 0


async def test_closing_one_reader_leaves_the_others() -> None:
    bus = Bus()
    first, second = reader(bus), reader(bus)
    first.close()
    first.close()
    bus.publish(TOPIC, "event")
    assert events(second) == ["event"]


async def test_closing_the_bus_ends_every_reader_after_what_waits() -> None:
    async with Bus() as bus:
        watching = reader(bus)
        waiting = asyncio.create_task(anext(reader(bus)))
        await asyncio.sleep(0)
        bus.publish(TOPIC, "last")
    assert [event async for _, event in watching] == ["last"]
    assert (await asyncio.wait_for(waiting, 5))[1] == "last"
    assert [item async for item in reader(bus)] == []


async def test_a_subscription_needs_room() -> None:
    with pytest.raises(ValueError, match="at least one"):
        reader(Bus(), size=0)


async def test_the_bus_is_what_its_users_expect() -> None:
    bus: EventBus = Bus()
    watching: Reader = bus.subscribe(TOPIC, policy=Policy.LAGGED, size=1)
    bus.publish(TOPIC, "event")
    assert [event for _, event in watching.drain()] == ["event"]


async def test_a_reader_follows_and_leaves_topics_while_it_reads() -> None:
    bus = Bus()
    async with reader(bus) as watching:
        bus.publish(OTHER, "too early")
        watching.follow(OTHER)
        watching.follow(OTHER)
        bus.publish(OTHER, "one")
        bus.publish(TOPIC, "two")
        watching.leave(OTHER)
        watching.leave(OTHER)
        bus.publish(OTHER, "too late")
        bus.publish(TOPIC, "three")
        assert events(watching) == ["one", "two", "three"]
        watching.follow(OTHER)
    assert bus.readers == 0
    watching.follow(TOPIC)
    assert bus.readers == 0
