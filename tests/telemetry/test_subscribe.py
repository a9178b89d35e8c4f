"""Points as they arrive: over gRPC, REST and the WebSocket, with breaks in between."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import grpc
import httpx
import pytest
import websockets
from websockets.asyncio.client import ClientConnection

from core.signals.model import Column
from core.telemetry import journal, subscribe
from gen.busbar.api.v1.options_pb import CredentialKind
from tests.conftest import Person, Running, Start
from tests.telemetry.test_export import device_token

SUBSCRIBE = "SubscribeService.SubscribeTelemetry"
PATH = "/api/v1/telemetry/subscribe"


@pytest.fixture
async def key(busbar: Running, alice: Person) -> str:
    return await busbar.key(alice, CredentialKind.TELEMETRY_KEY, "write", "read")


class Rig:
    """Writes numbered points, out of order in time."""

    def __init__(self, busbar: Running, org_id: str) -> None:
        self._signals = busbar.app.signals
        self._org_id = org_id
        self.sent: list[float] = []

    async def send(self, count: int = 1, metric: str = "m", source: str = "rig-1") -> None:
        """Write one batch."""
        numbers = [float(len(self.sent) + n) for n in range(count)]
        times = [1_700_000_000_000_000 - int(number) * 7_000 for number in numbers]
        await self._signals.write(self._org_id, [Column(source, metric, times, numbers)])
        self.sent += numbers


@pytest.fixture
def rig(busbar: Running, alice: Person) -> Rig:
    return Rig(busbar, alice.org_id)


async def take(messages: AsyncIterator[Any], count: int) -> tuple[list[float], str]:
    """Read until there are so many points; return their values and the last cursor."""
    values: list[float] = []
    cursor = ""
    async with asyncio.timeout(20):
        while len(values) < count:
            message = await anext(messages)
            assert not message.lagged
            values += [point.value.to_python() for point in message.points]
            cursor = message.cursor
    return values, cursor


async def test_points_come_as_they_arrive_and_the_first_message_is_a_cursor(busbar: Running, key: str, rig: Rig) -> None:
    await rig.send()
    messages = busbar.client("grpc", key).stream(SUBSCRIBE)
    first = await anext(messages)
    assert (list(first.points), first.lagged, bool(first.cursor)) == ([], False, True)
    await rig.send(3)
    values, _ = await take(messages, 3)
    assert values == [1.0, 2.0, 3.0]


async def test_a_reader_that_comes_and_goes_sees_every_point_once(
    busbar: Running, key: str, rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subscribe, "MESSAGE_POINTS", 4)
    client = busbar.client("grpc", key)
    messages = client.stream(SUBSCRIBE)
    cursor = (await anext(messages)).cursor
    seen: list[float] = []
    for size in (10, 1, 7, 3, 12):
        await messages.aclose()
        await rig.send(size)
        messages = client.stream(SUBSCRIBE, cursor=cursor)
        await rig.send(2)
        # In the middle of a batch, wherever that happens to be.
        async with asyncio.timeout(20):
            async for message in messages:
                assert not message.lagged
                seen += [point.value.to_python() for point in message.points]
                cursor = message.cursor
                if message.points:
                    break
    await messages.aclose()
    rest, _ = await take(client.stream(SUBSCRIBE, cursor=cursor), len(rig.sent) - len(seen))
    assert seen + rest == rig.sent


async def test_only_what_was_asked_for_is_told(busbar: Running, key: str, rig: Rig) -> None:
    messages = busbar.client("grpc", key).stream(SUBSCRIBE, source="rig-2", metric="a,b")
    await anext(messages)
    for source, metric in (("rig-1", "a"), ("rig-2", "c"), ("rig-2", "b"), ("rig-2", "a")):
        await rig.send(1, metric, source)
    assert (await take(messages, 2))[0] == [2.0, 3.0]


async def test_a_quiet_reader_learns_that_its_cursor_moved(
    busbar: Running, key: str, rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subscribe, "QUIET_SECONDS", 0.01)
    messages = busbar.client("grpc", key).stream(SUBSCRIBE, source="nobody")
    first = await anext(messages)
    await rig.send()
    async with asyncio.timeout(20):
        moved = await anext(messages)
    assert list(moved.points) == []
    assert moved.cursor != first.cursor


@pytest.mark.parametrize(("hours", "later"), [(24.0, 25.0), (0.0, 0.0)])
async def test_a_cursor_that_is_too_old_is_told_so_and_reading_goes_on(
    start: Start, monkeypatch: pytest.MonkeyPatch, hours: float, later: float
) -> None:
    monkeypatch.setattr(journal, "ORG_POINTS", 10)
    busbar = await start(stream={"resume_hours": hours})
    alice = await busbar.person("alice")
    key, rig = await busbar.key(alice, CredentialKind.TELEMETRY_KEY, "read"), Rig(busbar, alice.org_id)
    client = busbar.client("grpc", key)
    messages = client.stream(SUBSCRIBE)
    cursor = (await anext(messages)).cursor
    await messages.aclose()
    gone_ms = busbar.clock.now_us() // 1000
    for _ in range(3):
        await rig.send(8)
    busbar.clock.forward(seconds=later * 3600)
    messages = client.stream(SUBSCRIBE, cursor=cursor)
    lagged = await anext(messages)
    assert lagged.lagged
    assert lagged.from_ms <= gone_ms <= lagged.to_ms
    await rig.send()
    assert (await take(messages, 1))[0] == [24.0]


@pytest.mark.parametrize(
    "cursor",
    ["1-0-1000", "99999999999999999-0-1700000000000000", "1700000000000000-5-1000", "1-0-5000-9000-1-1-0", "5-0-9" + "0" * 17],
)
async def test_a_cursor_from_too_long_ago_or_of_another_clock_has_lagged(busbar: Running, key: str, cursor: str) -> None:
    first = await anext(busbar.client("grpc", key).stream(SUBSCRIBE, cursor=cursor))
    assert (first.lagged, first.from_ms) == (True, int(cursor.split("-")[2]) // 1000)


@pytest.mark.parametrize("cursor", ["x", "1-2", "1-2--3", "٣-0-1", "1-2-3-4", "1-2-3-4-5-6--7", f"1-0-{1 << 63}"])
async def test_what_is_no_cursor_is_refused(busbar: Running, key: str, cursor: str) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await anext(busbar.client("grpc", key).stream(SUBSCRIBE, cursor=cursor))
    assert refused.value.code() == grpc.StatusCode.INVALID_ARGUMENT


async def test_a_slow_reader_holds_nothing_up_and_costs_no_memory(
    busbar: Running, key: str, rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal, "ORG_POINTS", 5000)
    url = f"{busbar.ws_url}/ws/telemetry"
    headers = {"x-api-key": key}
    async with websockets.connect(url, additional_headers=headers, max_queue=1, compression=None) as socket:
        await frame(socket)
        # Far more than sockets and queues hold on their way.
        for _ in range(120):
            await rig.send(1000)
        found = busbar.app.platform.rpcs
        handler: Any = next(rpc.handler for rpc in found if rpc.name.endswith("/SubscribeTelemetry"))
        assert handler.__self__.journals.weight <= 5000
        seen: list[float] = []
        async with asyncio.timeout(30):
            while len(seen) < len(rig.sent):
                seen += [point["value"] for point in (await frame(socket))["points"]]
                assert handler.__self__.journals.weight <= 5000
            # It goes on live where storage ends.
            assert (await frame(socket))["points"] == []
    # What was forgotten came from storage, where it lies in the order of time.
    assert seen != rig.sent
    assert sorted(seen) == rig.sent


async def test_browsers_read_events_and_come_back(busbar: Running, key: str, rig: Rig) -> None:
    http = busbar.http(**{"x-api-key": key, "Accept": "text/event-stream"})

    async def events(until: float, **headers: str) -> tuple[list[float], str]:
        values: list[float] = []
        identity = ""
        async with asyncio.timeout(20), http.stream("GET", PATH, headers=headers) as answer:
            assert answer.headers["content-type"] == "text/event-stream"
            async for line in answer.aiter_lines():
                name, _, text = line.partition(": ")
                if name == "id":
                    identity = text
                elif name == "data":
                    message = json.loads(text)
                    values += [point["value"] for point in message["points"]]
                    if not values and not headers:
                        await rig.send(5)
                    if values and values[-1] == until:
                        break
        return values, identity

    before, identity = await events(4.0)
    await rig.send(5)
    after, _ = await events(9.0, **{"Last-Event-ID": identity})
    assert before + after == rig.sent


async def test_rest_tells_lines_of_json(busbar: Running, key: str, rig: Rig) -> None:
    http = busbar.http(**{"x-api-key": key})
    async with asyncio.timeout(20), http.stream("GET", PATH, params={"source": "rig-1"}) as answer:
        lines = answer.aiter_lines()
        assert json.loads(await anext(lines))["points"] == []
        await rig.send()
        told = json.loads(await anext(lines))
    assert [(point["source_id"], point["metric"], point["value"]) for point in told["points"]] == [("rig-1", "m", 0)]
    assert told["points"][0]["timestamp"] == 1_700_000_000_000


async def frame(socket: ClientConnection) -> dict[str, Any]:
    return json.loads(await asyncio.wait_for(socket.recv(), 20))


async def test_the_socket_tells_points_answers_pings_and_resumes(busbar: Running, key: str, rig: Rig) -> None:
    url = f"{busbar.ws_url}/ws/telemetry?source=rig-1&metric=m"
    async with websockets.connect(url, additional_headers={"x-api-key": key}) as socket:
        assert {**await frame(socket), "cursor": ""} == {"type": "telemetry", "cursor": "", "points": []}
        await socket.send(json.dumps({"type": "ping"}))
        assert await frame(socket) == {"type": "pong"}
        await rig.send(2)
        told = await frame(socket)
        assert (told["type"], [point["value"] for point in told["points"]]) == ("telemetry", [0, 1])
    await rig.send(2)
    async with websockets.connect(f"{url}&cursor={told['cursor']}", additional_headers={"x-api-key": key}) as socket:
        assert (await frame(socket))["points"] == []
        assert [point["value"] for point in (await frame(socket))["points"]] == [2, 3]
    async with websockets.connect(f"{url}&cursor=1-0-5000", additional_headers={"x-api-key": key}) as socket:
        lagged = await frame(socket)
        assert (lagged["type"], lagged["from_ms"]) == ("lagged", 5)


async def test_a_value_of_any_kind_is_told_as_it_was_sent(busbar: Running, key: str) -> None:
    messages = busbar.client("grpc", key).stream(SUBSCRIBE)
    await anext(messages)
    values: list[Any] = [1.5, "text", True, {"a": [1, None]}, ["x"]]
    points = [{"metric": f"m{n}", "value": value, "tags": {"k": "v"}, "session_id": "s"} for n, value in enumerate(values)]
    http = busbar.http(**{"x-api-key": key})
    assert (await http.post("/ingest", json={"source_id": "rig", "points": points})).status_code == 200
    async with asyncio.timeout(20):
        told = (await anext(messages)).points
    assert [point.value.to_python() for point in told] == values
    assert [point.class_ for point in told] == ["metric", "event", "event", "event", "event"]
    assert {(point.session_id, point.tags["k"]) for point in told} == {("s", "v")}


async def test_others_and_tokens_of_other_sources_are_told_nothing(
    busbar: Running, alice: Person, eve: Person, rig: Rig
) -> None:
    foreign = Rig(busbar, eve.org_id)
    eves = busbar.client("grpc", await busbar.key(eve, CredentialKind.TELEMETRY_KEY)).stream(SUBSCRIBE)
    token = await device_token(busbar, alice, "rig-2")
    bound = busbar.client("grpc", token).stream(SUBSCRIBE)
    for messages in (eves, bound):
        await anext(messages)
    await rig.send(2)
    await foreign.send(1)
    await rig.send(1, source="rig-2")
    assert (await take(eves, 1))[0] == [0.0]
    assert (await take(bound, 1))[0] == [2.0]


async def test_a_revoked_key_is_told_nothing_more(busbar: Running, key: str, rig: Rig) -> None:
    messages = busbar.client("grpc", key).stream(SUBSCRIBE)
    await anext(messages)
    principal = busbar.app.credentials.known(key)
    assert principal is not None
    async with busbar.app.database.unit_of_work() as session:
        gone = await busbar.app.credentials.revoke(session, [principal.credential_id])
    busbar.app.credentials.drop(gone)
    await rig.send()
    with pytest.raises(grpc.aio.AioRpcError) as ended:
        await asyncio.wait_for(anext(messages), 20)
    assert ended.value.code() == grpc.StatusCode.UNAUTHENTICATED


async def test_a_key_without_the_scope_is_refused(busbar: Running, alice: Person) -> None:
    client: httpx.AsyncClient = busbar.http(**{"x-api-key": await busbar.key(alice, CredentialKind.TELEMETRY_KEY, "write")})
    assert (await client.get(PATH)).status_code == 403
