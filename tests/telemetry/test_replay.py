"""Recordings as they happened, again."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import grpc
import pytest

from core.telemetry import replay
from gen.busbar.api.v1.options_pb import CredentialKind
from tests.conftest import Person, Running
from tests.telemetry.test_export import device_token

EPOCH_MS = 1_700_000_000_000
PATH = "/api/v1/recordings/run-1/replay"
SECONDS = 60.0
REPLAY = "ReplayService.ReplayRecording"


@pytest.fixture
async def key(busbar: Running, alice: Person) -> str:
    """A key of somebody who recorded three metrics at a hundred instants, one second apart."""
    key = await busbar.key(alice, CredentialKind.TELEMETRY_KEY, "write", "read")
    points = [
        {"metric": metric, "value": n, "timestamp": EPOCH_MS + n * 1000, "session_id": "run-1"}
        for metric in ("a", "b", "c")
        for n in range(100)
    ]
    points += [{"metric": "a", "value": -1, "timestamp": EPOCH_MS + 5, "session_id": "another"}]
    client = busbar.http(**{"x-api-key": key})
    assert (await client.post("/ingest", json={"source_id": "rig-1", "points": points})).status_code == 200
    return key


async def collect(messages: AsyncIterator[Any]) -> list[Any]:
    async with asyncio.timeout(SECONDS):
        return [message async for message in messages]


def values(messages: list[Any]) -> list[tuple[str, Any]]:
    return [(point.metric, point.value.to_python()) for message in messages for point in message.points]


RUN = [(metric, float(n)) for n in range(100) for metric in ("a", "b", "c")]


@pytest.mark.parametrize("speed", ["max", "0", "1000"])
async def test_a_replay_has_every_point_once_in_the_order_of_time(busbar: Running, key: str, speed: str) -> None:
    messages = await collect(busbar.client("grpc", key).stream(REPLAY, recording_id="run-1", speed=speed))
    assert values(messages) == RUN
    assert [message.done for message in messages] == [False] * (len(messages) - 1) + [True]


class Pace:
    """Stands in for time, for replays only: sleeping puts it forward at once. The server around them keeps its own."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        self.sleeps: list[float] = []
        loop = SimpleNamespace(time=lambda: self.now)
        monkeypatch.setattr(replay, "asyncio", SimpleNamespace(sleep=self.sleep, get_running_loop=lambda: loop))

    async def sleep(self, seconds: float) -> None:
        self.sleeps.append(seconds)
        self.now += seconds


async def test_points_are_as_far_apart_as_they_were_divided_by_the_speed(
    busbar: Running, alice: Person, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    signals = busbar.app.signals
    recording = await signals.recordings.find(alice.org_id, "run-1")
    assert (recording, bool(key)) != (None, False)
    assert recording is not None
    chosen = await signals.select_recording(recording, None, None, None, None)
    page = await signals.page(chosen, None, 1000)
    pages = iter([page, []])

    class Stored:
        async def page(self, *_: object) -> Any:
            return next(pages)

    pace = Pace(monkeypatch)
    run = replay._Run(Stored(), chosen, None, 4.0)  # pyright: ignore[reportPrivateUsage, reportArgumentType]
    batches = [batch async for batch in run.batches()]
    assert [len(batch) for batch in batches] == [3] * 100
    assert pace.sleeps == [0.25] * 99


async def test_a_replay_goes_on_after_its_cursor(busbar: Running, key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replay, "PAGE", 7)
    client = busbar.client("grpc", key)
    messages = await collect(client.stream(REPLAY, recording_id="run-1", speed="max"))
    assert len(messages) > 20
    for index in (0, 7, len(messages) - 2):
        rest = await collect(client.stream(REPLAY, recording_id="run-1", speed="max", cursor=messages[index].cursor))
        assert values(messages[: index + 1]) + values(rest) == RUN


async def test_points_of_one_instant_come_together(busbar: Running, key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replay, "PAGE", 7)
    messages = await collect(busbar.client("grpc", key).stream(REPLAY, recording_id="run-1", speed="max"))
    instants = [{point.timestamp for point in message.points} for message in messages]
    assert sum(map(len, instants)) == len(set().union(*instants)) == 100


async def test_browsers_read_events_and_come_back(busbar: Running, key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replay, "PAGE", 40)
    http = busbar.http(**{"x-api-key": key, "Accept": "text/event-stream"})

    async def events(**headers: str) -> list[tuple[str, dict[str, Any]]]:
        text = (await http.get(PATH, params={"speed": "max"}, headers=headers)).text
        blocks = [dict(line.split(": ", 1) for line in block.splitlines()) for block in text.split("\n\n") if block]
        return [(block["id"], json.loads(block["data"])) for block in blocks]

    found = await events()
    assert found[-1][1]["done"] is True
    rest = await events(**{"Last-Event-ID": found[1][0]})
    seen = [point for _, message in [*found[:2], *rest] for point in message["points"]]
    assert [(point["metric"], point["value"]) for point in seen] == RUN


async def test_a_replay_may_begin_later(busbar: Running, key: str) -> None:
    http = busbar.http(**{"x-api-key": key})
    text = (await http.get(PATH, params={"speed": "max", "from": "2023-11-14T22:14:58Z"})).text
    points = [point for line in text.splitlines() for point in json.loads(line)["points"]]
    assert {point["value"] for point in points} == {98, 99}


@pytest.mark.parametrize("speed", ["0.01", "1001", "-1", "fast", "nan"])
async def test_a_speed_that_nobody_wants_is_refused(busbar: Running, key: str, speed: str) -> None:
    answer = await busbar.http(**{"x-api-key": key}).get(PATH, params={"speed": speed})
    assert answer.status_code == 400
    assert "speed" in answer.text


async def test_a_reader_that_leaves_ends_the_replay(busbar: Running, key: str) -> None:
    http = busbar.http(**{"x-api-key": key})
    async with asyncio.timeout(SECONDS):
        async with http.stream("GET", PATH, params={"speed": "0.1"}) as answer:
            assert len(json.loads(await anext(answer.aiter_lines()))["points"]) == 3
            assert busbar.app.platform.active == 1
        # There is no event to wait for.
        while busbar.app.platform.active:  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def test_others_and_tokens_of_other_sources_see_nothing(busbar: Running, alice: Person, eve: Person, key: str) -> None:
    stranger = busbar.http(**{"x-api-key": await busbar.key(eve, CredentialKind.TELEMETRY_KEY)})
    assert key
    assert (await stranger.get(PATH)).status_code == 404
    assert (await stranger.post(PATH, json={})).status_code == 404
    token = await device_token(busbar, alice, "rig-2")
    bound = busbar.client("grpc", token)
    assert values(await collect(bound.stream(REPLAY, recording_id="run-1", speed="max"))) == []
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await collect(bound.stream("ReplayService.PublishRecording", recording_id="run-1", speed="max"))
    assert refused.value.code() == grpc.StatusCode.PERMISSION_DENIED


async def test_a_published_replay_reaches_those_who_watch_and_is_not_stored(busbar: Running, key: str) -> None:
    client = busbar.client("grpc", key)
    watching = client.stream("SubscribeService.SubscribeTelemetry", source="replay-run-1")
    async with asyncio.timeout(SECONDS):
        await anext(watching)
        played = await collect(client.stream("ReplayService.PublishRecording", recording_id="run-1", speed="max"))
        assert (played[-1].done, played[-1].published, played[-1].source_id) == (True, 300, "replay-run-1")
        seen: list[Any] = []
        while len(seen) < 300:
            seen += (await anext(watching)).points
    assert sorted((point.metric, point.value.to_python()) for point in seen) == sorted(RUN)
    assert {(point.source_id, point.tags["source_id"]) for point in seen} == {("replay-run-1", "rig-1")}
    assert min(point.timestamp for point in seen) > EPOCH_MS + 100_000
    assert (await client.call("QueryService.QueryTelemetry", source="replay-run-1")).count == 0
