"""No flood of events, topics or readers makes the bus grow without end."""

from __future__ import annotations

from core.live.bus import Bus
from core.live.events import Lagged, Policy


def test_a_topic_remembers_no_more_than_it_may() -> None:
    bus = Bus(replay_events=16)
    for number in range(1000):
        bus.publish(("org", "topic"), number)
    assert bus.remembered == (1, 16)


def test_the_topic_that_was_quiet_longest_is_forgotten_first() -> None:
    bus = Bus(most_topics=2)
    start = bus.cursor
    for name in ("a", "b", "a", "c"):
        bus.publish(("org", name), name)
    assert bus.remembered == (2, 3)
    kept = bus.subscribe(("org", "a"), policy=Policy.LAGGED, size=8, after=start)
    assert [event for _, event in kept.drain()] == ["a", "a"]
    forgotten = bus.subscribe(("org", "b"), policy=Policy.LAGGED, size=8, after=start)
    assert [event for _, event in forgotten.drain()] == [Lagged(None)]


def test_a_forgotten_topic_that_comes_back_does_not_hide_the_hole() -> None:
    bus = Bus(most_topics=1)
    start = bus.cursor
    bus.publish(("org", "a"), 1)
    bus.publish(("org", "b"), 2)
    bus.publish(("org", "a"), 3)
    watching = bus.subscribe(("org", "a"), policy=Policy.LAGGED, size=8, after=start)
    assert [event for _, event in watching.drain()] == [Lagged(None)]


def test_all_topics_together_remember_no_more_than_they_may() -> None:
    bus = Bus(most_events=100)
    for number in range(1000):
        bus.publish(("org", str(number % 20)), number)
        assert bus.remembered[1] <= 100


def test_one_topic_may_fill_the_whole_memory() -> None:
    bus = Bus(replay_events=50, most_events=10)
    for number in range(100):
        bus.publish(("org", "topic"), number)
    assert bus.remembered == (1, 50)


def test_readers_who_never_read_hold_no_more_than_their_queues() -> None:
    bus = Bus(replay_events=32)
    start = bus.cursor
    for number in range(20):
        bus.publish(("org", "topic"), number, key=number)
    readers = [
        bus.subscribe(("org", "topic"), policy=policy, size=10, after=after) for policy in Policy for after in (None, start)
    ]
    for number in range(10_000):
        bus.publish(("org", "topic"), number, key=number % 500)
        assert all(len(reader) <= 10 + 20 + 1 for reader in readers)
    assert all(len(reader) <= 10 + 1 for reader in readers)


def test_a_topic_without_readers_keeps_no_list_of_them() -> None:
    bus = Bus(most_topics=4)
    for number in range(1000):
        bus.subscribe(("org", str(number)), policy=Policy.LAGGED, size=1).close()
    assert bus.readers == 0
    assert bus._readers == {}
