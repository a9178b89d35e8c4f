"""Replicas on one NATS tell each other's readers everything, in one order."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import sys
from collections.abc import AsyncGenerator, AsyncIterator
from pathlib import Path

import pytest

from core.kernel.errors import Unavailable
from core.live.events import EventBus, Lagged, Policy, Reader
from core.live.nats import MOST_WAITING, NatsBus

TOPIC = ("org-1", "pins")
SERVER = Path(sys.executable).with_name("nats-server")


class Json:
    """Events as JSON."""

    def encode(self, event: object) -> bytes:
        return json.dumps(event).encode()

    def decode(self, data: bytes) -> object:
        return json.loads(data)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextlib.asynccontextmanager
async def nats_server(port: int, directory: Path) -> AsyncGenerator[None]:
    """Run a NATS server until the block ends."""
    process = await asyncio.create_subprocess_exec(
        SERVER, "-js", "-a", "127.0.0.1", "-p", str(port), "-sd", directory, stderr=asyncio.subprocess.PIPE
    )
    assert process.stderr is not None
    try:
        async with asyncio.timeout(20):
            while b"Server is ready" not in await process.stderr.readline():
                pass
        yield
    finally:
        process.kill()
        await process.communicate()


@contextlib.asynccontextmanager
async def replica(port: int) -> AsyncGenerator[NatsBus]:
    """Run one replica's bus."""
    bus = NatsBus(f"nats://127.0.0.1:{port}", Json())
    await bus.start()
    try:
        yield bus
    finally:
        await bus.close()


def watch(bus: EventBus, after: int | None = None, policy: Policy = Policy.LAGGED) -> Reader:
    return bus.subscribe(TOPIC, policy=policy, size=100, after=after)


async def take(reader: Reader, count: int) -> list[tuple[int, object]]:
    async with asyncio.timeout(20):
        return [await anext(reader) for _ in range(count)]


@pytest.fixture
def port() -> int:
    return free_port()


@pytest.fixture
async def server(port: int, tmp_path: Path) -> AsyncIterator[None]:
    async with nats_server(port, tmp_path):
        yield


@pytest.mark.usefixtures("server")
async def test_every_replica_sees_the_events_of_all_in_one_order(port: int) -> None:
    async with replica(port) as one, replica(port) as two:
        at_one, at_two = watch(one), watch(two)
        for number in range(20):
            (one, two)[number % 2].publish(TOPIC, number)
        seen = await take(at_one, 20)
        assert await take(at_two, 20) == seen
    assert sorted(str(event) for _, event in seen) == sorted(map(str, range(20)))
    assert [cursor for cursor, _ in seen] == sorted({cursor for cursor, _ in seen})
    evens = [event for _, event in seen if isinstance(event, int) and event % 2 == 0]
    assert evens == sorted(evens)


@pytest.mark.usefixtures("server")
async def test_a_reader_resumes_at_another_replica(port: int) -> None:
    async with replica(port) as one:
        first = watch(one)
        for number in range(5):
            one.publish(TOPIC, number)
        seen = await take(first, 5)
        async with replica(port) as fresh:
            resumed = watch(fresh, after=seen[2][0])
            one.publish(TOPIC, 5)
            assert [event for _, event in await take(resumed, 3)] == [3, 4, 5]


@pytest.mark.usefixtures("server")
async def test_keys_keep_their_meaning_on_the_way(port: int) -> None:
    async with replica(port) as one, replica(port) as two:
        newest, every = watch(two, policy=Policy.CONFLATE), watch(two)
        for number in range(10):
            one.publish(TOPIC, number, key=("pin", 7))
        await take(every, 10)
        assert [event for _, event in newest.drain()] == [9]


@pytest.mark.usefixtures("server")
async def test_an_event_that_is_not_remembered_is_noticed_at_every_replica(port: int) -> None:
    async with replica(port) as one, replica(port) as two:
        live, start = watch(two), two.cursor
        one.publish(TOPIC, "large", remember=False)
        assert [event for _, event in await take(live, 1)] == ["large"]
        assert [event for _, event in watch(two, after=start).drain()] == [Lagged(None)]


@pytest.mark.usefixtures("server")
async def test_an_event_too_large_for_nats_is_a_lag_and_not_the_end(port: int) -> None:
    async with replica(port) as one, replica(port) as two:
        reader = watch(two)
        one.publish(TOPIC, "x" * 2_000_000)
        one.publish(TOPIC, "small")
        assert [event for _, event in await take(reader, 2)] == [Lagged(None), "small"]


@pytest.mark.usefixtures("server")
async def test_what_was_published_before_closing_still_arrives(port: int) -> None:
    async with replica(port) as two:
        reader = watch(two)
        async with replica(port) as one:
            one.publish(TOPIC, "last words")
        assert [event for _, event in await take(reader, 1)] == ["last words"]


async def test_events_published_while_nats_is_away_arrive_after_a_notice(port: int, tmp_path: Path) -> None:
    async with contextlib.AsyncExitStack() as stack:
        async with nats_server(port, tmp_path / "first"):
            one, two = await stack.enter_async_context(replica(port)), await stack.enter_async_context(replica(port))
            reader = watch(two)
            one.publish(TOPIC, "before")
            ((before, _),) = await take(reader, 1)
        one.publish(TOPIC, "meanwhile")
        await stack.enter_async_context(nats_server(port, tmp_path / "second"))
        # The stream lay in memory and is a new one: readers are told, and cursors still grow.
        notice, (cursor, event) = await take(reader, 2)
        assert isinstance(notice[1], Lagged)
        assert event == "meanwhile"
        assert before < notice[0] < cursor


@pytest.mark.usefixtures("server")
async def test_more_than_can_wait_is_dropped_and_everybody_is_told(port: int) -> None:
    async with replica(port) as one, replica(port) as two:
        reader = watch(two)
        for number in range(MOST_WAITING + 1):
            one.publish(TOPIC, number)
        assert [event for _, event in await take(reader, 2)] == [Lagged(None), MOST_WAITING]


async def test_a_server_that_is_not_there_is_unavailable(port: int) -> None:
    bus = NatsBus(f"nats://127.0.0.1:{port}", Json(), connect_seconds=0.5)
    with pytest.raises(Unavailable):
        await bus.start()


@pytest.mark.usefixtures("server")
async def test_a_key_that_cannot_travel_is_refused_at_once(port: int) -> None:
    async with replica(port) as one:
        with pytest.raises(TypeError):
            one.publish(TOPIC, 1, key=frozenset({object()}))
