"""Subscriptions that come back after memory has forgotten what they missed: it is read from storage, each point once."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import NamedTuple

import pytest
import websockets

from core.kernel.clock import MICROSECONDS
from core.signals.model import Column
from core.telemetry import journal, subscribe
from gen.busbar.api.v1.options_pb import CredentialKind
from tests.conftest import Person, Running, Start

DOORS = ["grpc", "rest", "websocket"]
HOUR = 3600 * MICROSECONDS


class Told(NamedTuple):
    """What a message says."""

    cursor: str
    values: list[float]
    lagged: bool


async def listen(busbar: Running, key: str, door: str, cursor: str = "", **filters: str) -> AsyncGenerator[Told]:
    """Subscribe at a door; the stream ends with the iterator."""
    if door == "grpc":
        async for message in busbar.client("grpc", key).stream("SubscribeService.SubscribeTelemetry", cursor=cursor, **filters):
            yield Told(message.cursor, [point.value.to_python() for point in message.points], message.lagged)
    elif door == "rest":
        http = busbar.http(**{"x-api-key": key, "Accept": "text/event-stream"})
        headers = {"Last-Event-ID": cursor} if cursor else {}
        async with http.stream("GET", "/api/v1/telemetry/subscribe", headers=headers, params=filters) as answer:
            async for line in answer.aiter_lines():
                name, _, text = line.partition(": ")
                if name == "data":
                    message = json.loads(text)
                    yield Told(message["cursor"], [point["value"] for point in message["points"]], message["lagged"])
    else:
        question = "&".join(f"{name}={value}" for name, value in {"cursor": cursor, **filters}.items())
        url = f"{busbar.ws_url}/ws/telemetry?{question}"
        async with websockets.connect(url, additional_headers={"x-api-key": key}) as socket:
            async for text in socket:
                message = json.loads(text)
                values = [point["value"] for point in message.get("points", [])]
                yield Told(message["cursor"], values, message["type"] == "lagged")


async def read(messages: AsyncIterator[Told], count: int) -> tuple[list[float], str]:
    """Read until there are so many points; return their values and the last cursor."""
    values: list[float] = []
    cursor = ""
    async with asyncio.timeout(20):
        while not cursor or len(values) < count:
            cursor, more, lagged = await anext(messages)
            assert not lagged
            values += more
    return values, cursor


class Rig:
    """Writes numbered points: some in time, some late, some from a clock that is ahead, of several sources and metrics."""

    def __init__(self, busbar: Running, org_id: str) -> None:
        self.busbar = busbar
        self.org_id = org_id
        self.sent: dict[float, int] = {}

    async def send(self, count: int, shift_us: int = 0, metric: str = "m", source: str = "rig") -> None:
        """Write one batch."""
        now = self.busbar.clock.now_us()
        numbers = [float(len(self.sent) + n) for n in range(count)]
        times = [now + shift_us - n * 1000 for n in range(count)]
        self.sent |= dict(zip(numbers, times, strict=True))
        await self.busbar.app.signals.write(self.org_id, [Column(source, metric, times, numbers)])

    def by_time(self, values: list[float]) -> list[float]:
        """Return values in the order of their times."""
        return sorted(values, key=self.sent.__getitem__)


@pytest.fixture
async def key(busbar: Running, alice: Person) -> str:
    return await busbar.key(alice, CredentialKind.TELEMETRY_KEY, "read")


@pytest.mark.parametrize("door", DOORS)
async def test_what_came_before_a_restart_is_told_after_it(start: Start, door: str) -> None:
    busbar = await start()
    alice = await busbar.person("alice")
    key, rig = await busbar.key(alice, CredentialKind.TELEMETRY_KEY, "read"), Rig(busbar, alice.org_id)
    async with aclosing(listen(busbar, key, door)) as messages:
        await anext(messages)
        for shift in (0, -2 * HOUR, HOUR):
            await rig.send(3, shift)
        seen, cursor = await read(messages, 9)
    assert seen == list(rig.sent)
    # In time, by a clock that is ahead, right now though taken long ago, and in between of what was told.
    for shift in (0, HOUR + 500, -2 * HOUR - 500, -30 * 24 * HOUR):
        await rig.send(4, shift)
    rig.busbar = again = await start()
    await rig.send(2, metric="after the restart")
    async with aclosing(listen(again, key, door, cursor)) as messages:
        missed, _ = await read(messages, 18)
        assert missed == rig.by_time(list(rig.sent)[9:])
        await rig.send(2)
        assert (await read(messages, 2))[0] == list(rig.sent)[-2:]


@pytest.mark.parametrize("door", DOORS)
async def test_more_than_memory_holds_comes_once_while_more_arrives_and_readers_break_off(
    busbar: Running, alice: Person, key: str, door: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal, "ORG_POINTS", 10)
    monkeypatch.setattr(subscribe, "MESSAGE_POINTS", 7)
    rig = Rig(busbar, alice.org_id)
    async with aclosing(listen(busbar, key, door)) as messages:
        await anext(messages)
        await rig.send(20)
        # In the middle of a batch.
        seen, cursor = await read(messages, 7)

    async def ingest() -> None:
        for number in range(60):
            await rig.send(1 + number % 9, (0, -HOUR, HOUR, -40 * 24 * HOUR)[number % 4], f"m{number % 3}", f"rig-{number % 2}")
            await asyncio.sleep(0)

    async with asyncio.timeout(30):
        await ingest()
        more = asyncio.create_task(ingest())
        tries = 0
        while not more.done() or len(seen) < len(rig.sent):
            tries += 1
            async with aclosing(listen(busbar, key, door, cursor)) as messages:
                # Some break off before the first point.
                for _ in range(1 + tries % 12):
                    if len(seen) == len(rig.sent):
                        break
                    cursor, values, lagged = await anext(messages)
                    assert not lagged
                    seen += values
        await more
    assert sorted(seen) == list(rig.sent)


async def test_only_what_was_asked_for_is_read_from_storage(
    busbar: Running, alice: Person, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal, "ORG_POINTS", 1)
    rig = Rig(busbar, alice.org_id)
    wanted = {"source": "rig-2", "metric": "a,b"}
    cursor = (await anext(listen(busbar, key, "grpc", **wanted))).cursor
    for source, metric in (("rig-1", "a"), ("rig-2", "c"), ("rig-2", "b"), ("rig-2", "a"), ("rig-2", "c")):
        await rig.send(1, 0, metric, source)
    messages = listen(busbar, key, "grpc", cursor, **wanted)
    assert (await read(messages, 2))[0] == [2.0, 3.0]
    await rig.send(1, 0, "a", "rig-2")
    assert (await read(messages, 1))[0] == [5.0]


async def test_points_that_are_not_stored_are_no_part_of_what_is_read_back(
    busbar: Running, alice: Person, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal, "ORG_POINTS", 1)
    rig = Rig(busbar, alice.org_id)
    cursor = (await anext(listen(busbar, key, "grpc"))).cursor
    device = await busbar.app.signals.ensure_device(alice.org_id, "forgetful")
    await busbar.app.signals.update_device(device.id, recording=False)
    await rig.send(3, source="forgetful")
    await rig.send(3)
    await rig.send(1, source="forgetful")
    messages = listen(busbar, key, "grpc", cursor)
    assert (await read(messages, 3))[0] == rig.by_time([3.0, 4.0, 5.0])
