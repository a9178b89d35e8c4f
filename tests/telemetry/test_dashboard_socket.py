"""The dashboard's side of the stream: who gets in, and what they see."""

from __future__ import annotations

import asyncio
import json
import struct
from typing import Any

import pytest
import websockets
from websockets.asyncio.client import ClientConnection

from gen.busbar.api.v1.options_pb import CredentialKind
from tests.conftest import Person, Running
from tests.telemetry.sockets import dashboard, device, end_of, greeting, hear, nothing_before_pong, say, sources


@pytest.fixture
async def key(busbar: Running, alice: Person) -> str:
    """A key that may do everything."""
    return await busbar.key(alice, CredentialKind.TELEMETRY_KEY)


async def send(socket: ClientConnection, *values: Any, metric: str = "t") -> None:
    """Send telemetry of one metric."""
    await say(socket, "telemetry", points=[{"metric": metric, "value": value} for value in values])


def values_of(frame: dict[str, Any]) -> list[Any]:
    """Return the values of a batch."""
    return [point["value"] for point in frame["points"]]


async def test_who_may_not_watch_is_told_why_and_closed_with_1008(busbar: Running, alice: Person) -> None:
    writer = await busbar.key(alice, CredentialKind.TELEMETRY_KEY, "write")
    types = "browser_auth, share_auth or data_api_auth"
    for first, sentence in (
        ({"type": "browser_auth"}, "token required"),
        ({"type": "browser_auth", "token": "x"}, "Invalid session"),
        ({"type": "share_auth"}, "token required"),
        ({"type": "share_auth", "token": "x"}, "Invalid share token"),
        ({"type": "data_api_auth"}, "api_key required"),
        ({"type": "data_api_auth", "api_key": "plx_x"}, "Invalid API key"),
        ({"type": "data_api_auth", "api_key": writer}, "API key lacks read scope"),
        ({"type": "ready"}, f"first message must be {types}"),
    ):
        async with websockets.connect(f"{busbar.ws_url}/ws/browser") as socket:
            await socket.send(json.dumps(first))
            answer = await hear(socket)
            assert (answer["type"], answer["message"]) == ("error", sentence)
            assert await end_of(socket) == 1008


async def test_sessions_keys_and_dashboard_tokens_let_in(busbar: Running, alice: Person, key: str) -> None:
    minted = await busbar.http(alice.session).post("/api/auth/ws-token")
    for token in (alice.session, key, minted.json()["token"]):
        async with dashboard(busbar, token) as socket:
            assert sources(socket) == []
    async with dashboard(busbar, "", kind="data_api_auth", api_key=key), dashboard(busbar, key, "/party/default"):
        pass


async def test_a_page_of_another_site_is_turned_away(busbar: Running, alice: Person) -> None:
    for path in ("/ws/browser", "/party/default"):
        async with websockets.connect(f"{busbar.ws_url}{path}", origin="https://evil.example") as socket:  # pyright: ignore[reportArgumentType]
            await say(socket, "browser_auth", token=alice.session)
            assert (await hear(socket))["code"] == "ORIGIN_REFUSED"
            assert await end_of(socket) == 1008
    async with websockets.connect(f"{busbar.ws_url}/ws/browser", origin=busbar.url) as socket:  # pyright: ignore[reportArgumentType]
        await say(socket, "browser_auth", token=alice.session)
        assert (await hear(socket))["type"] == "init"


async def test_a_dashboard_knows_who_is_there_and_who_comes_and_goes(busbar: Running, alice: Person, key: str) -> None:
    sensors = [{"name": "imu", "metrics": ["accel.x"], "sample_rate": 100}]
    a = device(busbar, key, "a", platform="Linux", sensors=sensors)
    async with a, dashboard(busbar, alice.session) as socket:
        (online,) = greeting(socket)["online_sources"]
        assert (online["source_id"], online["platform"], online["sensors"]) == ("a", "Linux", sensors)
        assert (online["cameras"], online["is_streaming"]) == ([], False)
        async with device(busbar, key, "b"):
            assert (await hear(socket, "source_status"))["status"] == "online"
        assert await hear(socket, "source_status") == {
            "type": "source_status", "source_id": "b", "status": "offline", "platform": "", "sensors": [], "cameras": []
        }  # fmt: skip


async def test_metrics_come_in_batches_and_events_one_by_one(busbar: Running, alice: Person, key: str) -> None:
    async with dashboard(busbar, alice.session) as socket, device(busbar, key) as rig:
        points = [
            {"metric": "t", "value": 1, "timestamp": 1_700_000_000_000, "tags": {"a": "b"}},
            {"metric": "door", "value": "open", "timestamp": 1_700_000_000_001},
        ]
        await say(rig, "telemetry", points=points, session_id="s1")
        seen = {frame["type"]: frame for frame in [await hear(socket, "event", "telemetry") for _ in range(2)]}
        assert seen["telemetry"] == {
            "type": "telemetry",
            "session_id": "s1",
            "points": [{
                "v": 1, "org_id": alice.org_id, "source_id": "rig", "class": "metric", "metric": "t", "value": 1,
                "timestamp": 1_700_000_000_000, "tags": {"a": "b"},
            }],
        }  # fmt: skip
        assert (seen["event"]["metric"], seen["event"]["value"], seen["event"]["class"]) == ("door", "open", "event")


async def test_what_is_posted_is_shown_too(busbar: Running, alice: Person, key: str) -> None:
    async with dashboard(busbar, alice.session) as socket:
        body = {"source_id": "rig", "points": [{"metric": "t", "value": 7}]}
        await busbar.http(**{"x-api-key": key}).post("/ingest", json=body)
        assert values_of(await hear(socket, "telemetry")) == [7]


async def test_nobody_sees_another_organisation(busbar: Running, alice: Person, eve: Person, key: str) -> None:
    async with device(busbar, key, "rig") as rig, dashboard(busbar, eve.session) as socket:
        assert sources(socket) == []
        await send(rig, 1)
        async with device(busbar, key, "other"), dashboard(busbar, alice.session) as own:
            assert sources(own) == ["other", "rig"]
        await say(socket, "start_stream", source_id="rig", metrics=[])
        assert (await hear(socket))["message"] == "device not connected"


async def test_a_dashboard_that_asks_for_nothing_gets_every_batch(busbar: Running, alice: Person, key: str) -> None:
    async with dashboard(busbar, alice.session) as socket, device(busbar, key) as rig:
        for value in range(3):
            await send(rig, value)
            assert values_of(await hear(socket, "telemetry")) == [value]


async def test_one_that_says_ready_gets_one_merged_batch_each_time(busbar: Running, alice: Person, key: str) -> None:
    async with dashboard(busbar, alice.session) as socket, device(busbar, key, acks=True) as rig:
        await say(socket, "subscribe", stream="metrics", metrics=["t"])
        await nothing_before_pong(socket, "telemetry")
        await send(rig, 1)
        assert values_of(await hear(socket, "telemetry")) == [1]
        for seq in (1, 2):
            await say(rig, "telemetry", seq=seq, points=[{"metric": "t", "value": seq}, {"metric": "other", "value": 0}])
            await hear(rig, "telemetry_ack")
        await nothing_before_pong(socket, "telemetry")
        await say(socket, "ready")
        assert values_of(await hear(socket, "telemetry")) == [1, 2]


async def test_a_key_sees_only_what_it_subscribed_to(busbar: Running, alice: Person, key: str) -> None:
    auth = {"kind": "data_api_auth", "api_key": key}
    async with dashboard(busbar, "", **auth) as socket, device(busbar, key, "a") as one, device(busbar, key, "b") as two:
        await say(socket, "subscribe", stream="metrics", source_id="a", metrics=["t"])
        await say(socket, "subscribe", stream="logs", source_id="b")
        await nothing_before_pong(socket, "telemetry")
        await say(one, "telemetry", points=[{"metric": m, "value": v} for m, v in (("u", 1), ("t", 2), ("e", "no"))])
        assert values_of(await hear(socket, "telemetry", "event")) == [2]
        await say(two, "telemetry", points=[{"metric": "t", "value": 3}, {"metric": "e", "value": "yes"}])
        assert (await hear(socket, "telemetry", "event"))["value"] == "yes"
        await say(socket, "subscribe", stream="dance")
        assert (await hear(socket, "error"))["message"] == "stream: must be metrics or logs"


async def test_a_hidden_dashboard_may_pause(busbar: Running, alice: Person, key: str) -> None:
    async with dashboard(busbar, alice.session) as socket, device(busbar, key, acks=True) as rig:
        await say(socket, "set_throttle", enabled=True)
        await nothing_before_pong(socket, "telemetry")
        await say(rig, "telemetry", seq=1, points=[{"metric": "t", "value": 1}])
        await hear(rig, "telemetry_ack")
        await nothing_before_pong(socket, "telemetry")
        await say(socket, "set_throttle", enabled=False)
        assert values_of(await hear(socket, "telemetry")) == [1]


async def test_a_slow_dashboard_gets_the_newest_and_holds_nobody_up(busbar: Running, alice: Person, key: str) -> None:
    slow, fast = dashboard(busbar, alice.session), dashboard(busbar, alice.session)
    async with slow as socket, fast as witness, device(busbar, key, acks=True) as rig:
        await say(socket, "set_throttle", enabled=True)
        await nothing_before_pong(socket, "telemetry")
        for seq in range(1, 14):
            points = [{"metric": "t", "value": seq * 1000 + n, "timestamp": seq * 1000 + n} for n in range(1000)]
            await say(rig, "telemetry", seq=seq, points=points)
        await hear(rig, "telemetry_ack", where=lambda f: f["seq"] == 13)
        await hear(witness, "telemetry", where=lambda f: values_of(f)[-1] == 13_999)
        await say(socket, "set_throttle", enabled=False)
        assert values_of(await hear(socket, "telemetry")) == [13_999]


async def test_frames_of_devices_are_passed_on_whole(busbar: Running, alice: Person, key: str) -> None:
    async with dashboard(busbar, alice.session) as socket, device(busbar, key) as rig:
        for kind, members in (
            ("command_result", {"id": "1", "command": "x", "event": "result", "result": {"n": [1, 2.5]}, "extra": None}),
            ("command_ack", {"command": "arm", "status": "ok", "org_id": "org_of_others"}),
        ):
            await say(rig, kind, **members)
            members.pop("org_id", None)
            assert await hear(socket, kind) == {"type": kind, **members, "source_id": "rig"}
        await say(rig, "pong")
        await nothing_before_pong(socket, "command_ack")


async def test_pictures_reach_those_who_chose_the_camera(busbar: Running, alice: Person, key: str) -> None:
    async with dashboard(busbar, alice.session) as socket, device(busbar, key) as rig:
        await say(socket, "subscribe", cameras=["front"])
        await nothing_before_pong(socket, "video_frame")
        await say(rig, "video_frame", camera_id="back", frame="aGk=")
        await say(rig, "video_frame", camera_id="front", frame="aGk=", width=2, height=1)
        assert (await hear(socket, "video_frame"))["camera_id"] == "front"

        def picture(source: bytes) -> bytes:
            head = b"\x01" + bytes([len(source)]) + source + b"\x05front"
            return head + struct.pack(">IIq", 2, 1, 1_700_000_000_000) + b"jpeg"

        await rig.send(picture(b"other"))
        assert await asyncio.wait_for(socket.recv(), 10) == picture(b"rig")


async def test_a_session_that_ends_takes_its_dashboards_with_it(busbar: Running, alice: Person) -> None:
    minted = await busbar.http(alice.session).post("/api/auth/ws-token")
    async with dashboard(busbar, alice.session) as one, dashboard(busbar, minted.json()["token"]) as two:
        await busbar.http(alice.session).post("/api/auth/logout")
        assert (await end_of(one), await end_of(two)) == (1008, 1008)


async def test_device_frames_from_a_dashboard_are_refused(busbar: Running, alice: Person) -> None:
    async with dashboard(busbar, alice.session, "/party/default") as socket:
        await say(socket, "telemetry", points=[{"metric": "t", "value": 1}])
        assert (await hear(socket))["message"] == "telemetry is not for dashboards"
