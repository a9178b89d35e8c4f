"""The device's side of the stream: who gets in, what is stored, and what is answered."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
import websockets
from protobuf import Oneof
from protobuf.wkt import Value

from core.kernel.errors import InvalidArgument, Unavailable
from core.telemetry.quotas import PointQuotas
from core.telemetry.stream import service
from gen.busbar.api.v1.options_pb import CredentialKind
from gen.busbar.telemetry.v1.ingest_pb import Point
from gen.busbar.telemetry.v1.stream_pb import ConnectDeviceRequest, ConnectDeviceResponse, DeviceAuth, Telemetry
from tests.conftest import Person, Running
from tests.telemetry.sockets import dashboard, device, end_of, greeting, hear, nothing_before_pong, say, sources
from tests.telemetry.tokens import device_token


@pytest.fixture
async def key(busbar: Running, alice: Person) -> str:
    """A key that may do everything."""
    return await busbar.key(alice, CredentialKind.TELEMETRY_KEY)


async def stored(busbar: Running, person: Person) -> list[dict[str, Any]]:
    """Return the points of an organisation."""
    answer = await busbar.http(person.session).get("/api/v1/telemetry", params={"from": "1970-01-01", "to": "2100-01-01"})
    return answer.json()["data"]


async def refused(busbar: Running, path: str = "/ws/device", **first: Any) -> tuple[dict[str, Any], int | None]:
    """Return the answer to a first frame, and the close code."""
    async with websockets.connect(f"{busbar.ws_url}{path}") as socket:
        await socket.send(json.dumps(first))
        return await hear(socket), await end_of(socket)


async def test_a_device_is_welcomed_in_the_very_first_frame(busbar: Running, key: str) -> None:
    async with device(busbar, key, "rig-1.a_b", platform="Linux") as socket:
        welcome: dict[str, Any] = greeting(socket)
        assert set(welcome) == {"type", "source_id", "server_time_ms"}
        assert welcome["source_id"] == "rig-1.a_b"
        assert abs(welcome["server_time_ms"] - busbar.clock.now_us() / 1000) < 60_000
    async with device(busbar, key, protocol=1, acks=True, hears_goodbye=True, new_member={"a": 1}) as socket:
        welcome = greeting(socket)
        assert (welcome["protocol"], welcome["max_frame_bytes"], welcome["acks"]) == (1, 65536, True)


async def test_who_may_not_connect_is_told_why_and_closed_with_1008(busbar: Running, alice: Person, key: str) -> None:
    reader = await busbar.key(alice, CredentialKind.TELEMETRY_KEY, "read")
    bound = await device_token(busbar, alice, "pump")
    auth = {"type": "device_auth", "source_id": "rig"}
    cases: list[tuple[dict[str, Any], str]] = [
        ({**auth, "api_key": "plx_" + "a" * 32}, "Invalid API key"),
        (auth, "Invalid API key"),
        ({**auth, "api_key": alice.session}, "Invalid API key"),
        ({**auth, "device_token": "plxd_x"}, "Invalid device token"),
        ({**auth, "api_key": reader}, "API key lacks write scope"),
        ({**auth, "device_token": bound}, "this token is bound to the source pump"),
        ({"type": "device_auth", "api_key": key}, "source_id required"),
        ({**auth, "api_key": key, "source_id": "Rig"}, "source_id: must be lower case"),
        ({"type": "telemetry", "points": []}, "first message must be device_auth"),
        ({"type": "dance"}, "unknown frame type dance"),
    ]
    for first, sentence in cases:
        answer, code = await refused(busbar, **first)
        assert (answer["type"], code) == ("error", 1008)
        assert answer["message"].startswith(sentence)


async def test_a_token_brings_its_source(busbar: Running, alice: Person, bench: Any) -> None:
    token = await device_token(busbar, alice, "pump")
    for secret, source_id in ((token, "pump"), (bench.device_token, bench.id)):
        async with websockets.connect(f"{busbar.ws_url}/ws/device") as socket:
            await say(socket, "device_auth", device_token=secret)
            assert (await hear(socket))["source_id"] == source_id


async def test_silence_at_the_start_ends_the_connection(busbar: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "HANDSHAKE_SECONDS", 0.05)
    async with websockets.connect(f"{busbar.ws_url}/ws/device") as socket:
        assert (await hear(socket))["message"] == "the first message did not come in time"
        assert await end_of(socket) == 1008


async def test_the_room_is_the_organisation_or_default(busbar: Running, alice: Person, eve: Person, key: str) -> None:
    for room in ("default", alice.org_id):
        async with device(busbar, key, path=f"/party/{room}"):
            pass
    first = {"type": "device_auth", "api_key": key, "source_id": "rig"}
    answer, code = await refused(busbar, f"/party/{eve.org_id}", **first)
    assert (answer["message"], code) == ("this room belongs to another organisation", 1008)


async def test_a_device_may_come_from_any_origin(busbar: Running, key: str) -> None:
    async with websockets.connect(f"{busbar.ws_url}/ws/device", origin="https://evil.example") as socket:  # pyright: ignore[reportArgumentType]
        await say(socket, "device_auth", api_key=key, source_id="rig")
        assert (await hear(socket))["type"] == "authenticated"


async def test_telemetry_is_stored_like_ingest_and_acknowledged_after_the_commit(
    busbar: Running, alice: Person, key: str
) -> None:
    points = [
        {"metric": "t", "value": 1, "timestamp": 1_700_000_000.5, "source_id": "other"},
        {"metric": "t", "value": 2, "timestamp": 1_700_000_001_000, "tags": {"n": 5, "session_id": "s2"}},
        {"metric": "state", "value": {"a": [1, None]}, "timestamp": 1_700_000_002, "class": "metric"},
    ]
    async with device(busbar, key, protocol=1, acks=True) as socket:
        await say(socket, "telemetry", seq=1, points=points, session_id="s1", v=1, trace_id="x")
        assert await hear(socket) == {"type": "telemetry_ack", "seq": 1}
    found = await stored(busbar, alice)
    assert [(p["source_id"], p["metric"], p["value"], p["timestamp"], p["class"], p["session_id"]) for p in found] == [
        ("rig", "t", 1, 1_700_000_000_500, "metric", "s1"),
        ("rig", "t", 2, 1_700_000_001_000, "metric", "s2"),
        ("rig", "state", {"a": [1, None]}, 1_700_000_002_000, "event", "s1"),
    ]
    assert found[1]["tags"] == {"n": "5", "session_id": "s2"}


async def test_acknowledgements_are_cumulative(busbar: Running, alice: Person, key: str) -> None:
    async with device(busbar, key, protocol=1, acks=True) as socket:
        for seq in range(1, 201):
            await say(socket, "telemetry", seq=seq, points=[{"metric": "t", "value": seq, "timestamp": seq}])
        seen = [0]
        while seen[-1] < 200:
            seen.append((await hear(socket, "telemetry_ack"))["seq"])
        assert seen == sorted(set(seen))
        await say(socket, "telemetry", seq=201, points=[])
        assert (await hear(socket, "telemetry_ack"))["seq"] == 201
    assert len(await stored(busbar, alice)) == 200


async def test_who_asked_for_no_acknowledgement_gets_none(busbar: Running, alice: Person, key: str) -> None:
    async with device(busbar, key) as socket:
        await say(socket, "telemetry", seq=1, points=[{"metric": "t", "value": 1}])
        await say(socket, "dance")
        assert (await hear(socket))["type"] == "error"
    assert len(await stored(busbar, alice)) == 1


@pytest.mark.parametrize(
    ("frame", "code", "sentence"),
    [
        ("nonsense", "INVALID_JSON", "frame is not valid JSON"),
        ({"type": "dance"}, "INVALID_MESSAGE", "unknown frame type dance"),
        ({"type": "start_stream", "source_id": "rig"}, "INVALID_MESSAGE", "unknown frame type start_stream"),
        ({"type": "telemetry", "seq": 7, "points": "x"}, "INVALID_MESSAGE", "points"),
        ({"type": "telemetry", "seq": 7, "points": [{"metric": "t"}]}, "INVALID_MESSAGE", "points[0].value: required"),
        ({"type": "telemetry", "seq": 7, "points": [{"metric": "t", "value": None}]}, "INVALID_MESSAGE", "points[0].value"),
        ({"type": "telemetry", "seq": 7, "points": [{"metric": "", "value": 1}]}, "INVALID_MESSAGE", "points[0].metric"),
        ({"type": "telemetry", "seq": 7, "points": [{"metric": "t", "value": 1}] * 10_001}, "INVALID_MESSAGE", "too many"),
        ({"type": "telemetry", "points": [{"metric": "", "value": 1}]}, "INVALID_MESSAGE", "points[0].metric"),
        ({"type": "device_auth", "api_key": "x"}, "INVALID_MESSAGE", "the connection is open"),
        (b"\x02nothing", "INVALID_FRAME_ENCODING", "a binary frame"),
    ],
)
async def test_a_bad_frame_is_answered_and_the_connection_goes_on(
    busbar: Running, key: str, frame: Any, code: str, sentence: str
) -> None:
    async with device(busbar, key, acks=True) as socket:
        await socket.send(json.dumps(frame) if isinstance(frame, dict) else frame)
        answer = await hear(socket)
        assert (answer["type"], answer["code"], answer.get("seq")) == (
            "error",
            code,
            7 if isinstance(frame, dict) and "seq" in frame else None,
        )
        assert answer["message"].startswith(sentence)
        assert answer["detail"] == answer["message"]
        await say(socket, "telemetry", seq=8, points=[{"metric": "t", "value": 1}])
        assert await hear(socket) == {"type": "telemetry_ack", "seq": 8}


async def test_a_party_refuses_dashboard_frames_from_devices(busbar: Running, key: str) -> None:
    async with device(busbar, key, path="/party/default") as socket:
        await say(socket, "start_stream", source_id="rig")
        assert (await hear(socket))["message"] == "start_stream is not for devices"


async def test_a_source_that_does_not_record_is_live_only(busbar: Running, alice: Person, key: str) -> None:
    made = await busbar.app.signals.ensure_device(alice.org_id, "rig")
    await busbar.app.signals.update_device(made.id, recording=False)
    async with dashboard(busbar, alice.session) as watcher, device(busbar, key, acks=True) as socket:
        await say(socket, "telemetry", seq=1, points=[{"metric": "t", "value": 1}])
        assert (await hear(socket))["seq"] == 1
        assert (await hear(watcher, "telemetry"))["points"][0]["value"] == 1
    assert await stored(busbar, alice) == []


async def test_the_newest_connection_of_a_source_wins(busbar: Running, alice: Person, key: str) -> None:
    async with dashboard(busbar, alice.session) as watcher, device(busbar, key) as older:
        await hear(watcher, "source_status")
        async with device(busbar, key, acks=True) as newer:
            assert (await hear(older))["code"] == "REPLACED"
            assert await end_of(older) == 1008
            await say(newer, "telemetry", seq=1, points=[{"metric": "t", "value": 1}])
            assert (await hear(newer))["seq"] == 1
            await hear(watcher, "telemetry")
            async with dashboard(busbar, alice.session) as second:
                assert sources(second) == ["rig"]
        assert (await hear(watcher, "source_status", where=lambda f: f["status"] == "offline"))["source_id"] == "rig"


async def test_a_device_that_comes_and_goes_leaves_no_trace(busbar: Running, alice: Person, key: str) -> None:
    before = len(asyncio.all_tasks())
    for _ in range(50):
        async with device(busbar, key), device(busbar, key):
            pass
    async with asyncio.timeout(10):
        while busbar.app.signals.connected_devices or len(asyncio.all_tasks()) > before + 2:  # noqa: ASYNC110 - nothing tells it
            await asyncio.sleep(0.01)
    async with dashboard(busbar, alice.session) as watcher:
        assert sources(watcher) == []


async def test_revocation_closes_the_socket(busbar: Running, alice: Person, key: str) -> None:
    principal = await busbar.app.credentials.authenticate(key)
    assert principal is not None
    async with device(busbar, key) as socket:
        async with busbar.app.database.unit_of_work() as session:
            ended = await busbar.app.credentials.revoke(session, [principal.credential_id])
        busbar.app.credentials.drop(ended)
        assert (await hear(socket))["message"] == "the credential has ended"
        assert await end_of(socket) == 1008


async def test_deleting_a_source_closes_its_socket_and_no_other(busbar: Running, alice: Person, key: str) -> None:
    async with (
        device(busbar, key, "doomed") as doomed,
        device(busbar, key, "other", acks=True) as other,
        dashboard(busbar, alice.session) as watcher,
    ):
        assert (await busbar.http(alice.session).delete("/api/sources/doomed")).status_code == 204
        assert (await hear(doomed, "error"))["message"] == "source doomed was deleted"
        assert await end_of(doomed) == 1008
        assert (await hear(watcher, "source_status"))["status"] == "offline"
        await say(other, "telemetry", seq=1, points=[{"metric": "t", "value": 1}])
        await hear(other, "telemetry_ack")
    listed = await busbar.http(alice.session).get("/api/sources")
    assert [source["slug"] for source in listed.json()["sources"]] == ["other"]
    async with device(busbar, key, "doomed", acks=True) as again:
        await say(again, "telemetry", seq=1, points=[{"metric": "t", "value": 2}])
        await hear(again, "telemetry_ack")
    assert [point["value"] for point in await stored(busbar, alice)] == [1, 2]


async def test_frames_that_wait_do_not_bring_a_deleted_source_back(
    busbar: Running, alice: Person, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, busy, go_on = busbar.app.signals.write, asyncio.Event(), asyncio.Event()

    async def slow(org_id: str, columns: Any) -> Any:
        busy.set()
        await go_on.wait()
        return await write(org_id, columns)

    async with device(busbar, key, "other", acks=True) as other, device(busbar, key, "doomed") as doomed:
        monkeypatch.setattr(busbar.app.signals, "write", slow)
        await say(other, "telemetry", seq=1, points=[{"metric": "t", "value": 1}])
        await asyncio.wait_for(busy.wait(), 10)
        await say(doomed, "telemetry", points=[{"metric": "t", "value": 2}])
        await say(doomed, "dance")
        await hear(doomed, "error")
        assert (await busbar.http(alice.session).delete("/api/sources/doomed")).status_code == 204
        go_on.set()
        assert await end_of(doomed) == 1008
        await say(other, "telemetry", seq=2, points=[{"metric": "t", "value": 3}])
        await hear(other, "telemetry_ack", where=lambda frame: frame["seq"] == 2)
    listed = await busbar.http(alice.session).get("/api/sources")
    assert [source["slug"] for source in listed.json()["sources"]] == ["other"]


async def test_a_key_that_expires_ends_its_connections(busbar: Running, alice: Person) -> None:
    soon = busbar.clock.now_us() + 300_000
    async with busbar.app.database.unit_of_work() as session:
        kind = CredentialKind.TELEMETRY_KEY
        issued = await busbar.app.credentials.issue(session, kind, alice.org_id, expires_us=soon)
    async with device(busbar, issued.secret) as socket:
        assert await end_of(socket) == 1008


async def test_sessions_of_a_device_open_and_close(busbar: Running, alice: Person, key: str) -> None:
    async with dashboard(busbar, alice.session) as watcher, device(busbar, key) as socket:
        await say(socket, "session_started", session_id="s1", session_name="First", extra=[1])
        told = await hear(watcher, "session_started")
        assert told == {
            "type": "session_started", "session_id": "s1", "session_name": "First", "extra": [1], "source_id": "rig"
        }  # fmt: skip
        rows = (await busbar.http(alice.session).get("/api/sessions")).json()["sessions"]
        assert [(row["session_id"], row["status"]) for row in rows] == [("s1", "active")]
        await say(socket, "session_stopped", session_id="s1")
        await hear(watcher, "session_stopped")
        rows = (await busbar.http(alice.session).get("/api/sessions")).json()["sessions"]
        assert [(row["session_id"], row["status"]) for row in rows] == [("s1", "completed")]


async def test_errors_of_a_device_are_kept_as_events_and_told(busbar: Running, alice: Person, key: str) -> None:
    async with dashboard(busbar, alice.session) as watcher, device(busbar, key) as socket:
        error = {"source": "imu", "error": "bus", "severity": "warning", "timestamp": 1_700_000_000.25}
        await say(socket, "device_error", **error)
        assert await hear(watcher, "device_error") == {"type": "device_error", **error, "source_id": "rig"}
        event = await hear(watcher, "event")
        assert (event["metric"], event["class"], event["timestamp"]) == ("device.error", "event", 1_700_000_000_250)
    (point,) = await stored(busbar, alice)
    assert (point["metric"], point["value"]["severity"], point["class"]) == ("device.error", "warning", "event")


async def test_heartbeats_refresh_and_are_told(busbar: Running, alice: Person, key: str) -> None:
    async with dashboard(busbar, alice.session) as watcher, device(busbar, key) as socket:
        busbar.clock.forward(seconds=60)
        await say(socket, "heartbeat", source_id="other", agent_version="1", uptime_s=5)
        beat = await hear(watcher, "heartbeat")
        assert (beat["source_id"], beat["status"], beat["uptime_s"], beat["agent_version"]) == ("rig", "running", 5, "1")
        found = busbar.app.signals.find_device(alice.org_id, "rig")
        assert found is not None
        assert (found.last_seen_us or 0) // 1000 <= beat["timestamp"]
        assert beat["timestamp"] - (found.last_seen_us or 0) // 1000 < 10_000


async def test_a_command_status_is_acknowledged_as_often_as_it_comes_but_told_once(
    busbar: Running, alice: Person, key: str
) -> None:
    async with dashboard(busbar, alice.session) as watcher, device(busbar, key, protocol=1) as socket:
        for _ in range(2):
            await say(socket, "command_status", run_id="r1", seq=1, state="running", progress=0.5)
            assert await hear(socket) == {"type": "command_status_ack", "run_id": "r1", "seq": 1}
        assert (await hear(watcher, "command_status"))["progress"] == 0.5
        await nothing_before_pong(watcher, "command_status")
        await say(socket, "command_sync", runs=[{"run_id": "r1", "state": "succeeded", "seq": 2}])
        assert (await hear(watcher, "command_sync"))["runs"][0]["seq"] == 2


async def test_a_frame_that_storage_refuses_spoils_no_other(
    busbar: Running, alice: Person, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = busbar.app.signals.write

    async def picky(org_id: str, columns: Any) -> Any:
        if any(13 in column.values for column in columns):
            raise InvalidArgument("unlucky")
        return await write(org_id, columns)

    monkeypatch.setattr(busbar.app.signals, "write", picky)
    async with device(busbar, key, acks=True) as socket:
        for seq in range(1, 21):
            await say(socket, "telemetry", seq=seq, points=[{"metric": "t", "value": seq, "timestamp": seq}])
        assert (await hear(socket, "error"))["seq"] == 13
        await hear(socket, "telemetry_ack", where=lambda frame: frame["seq"] == 20)
    assert [point["value"] for point in await stored(busbar, alice)] == [value for value in range(1, 21) if value != 13]


async def test_points_beyond_the_quota_of_a_key_are_refused(busbar: Running, alice: Person, key: str) -> None:
    principal = await busbar.app.credentials.authenticate(key)
    assert principal is not None
    busbar.app.found.part(PointQuotas).known(principal.credential_id, 2)
    async with device(busbar, key, acks=True) as socket:
        points = [{"metric": "t", "value": 1}, {"metric": "u", "value": 1}]
        await say(socket, "telemetry", seq=1, points=points)
        assert (await hear(socket, "telemetry_ack"))["seq"] == 1
        await say(socket, "telemetry", seq=2, points=points)
        refusal = await hear(socket)
        assert (refusal["code"], refusal["seq"]) == ("QUOTA_EXCEEDED", 2)


async def test_what_came_before_the_server_stops_is_stored(start: Any) -> None:
    first: Running = await start()
    alice = await first.person("alice")
    key = await first.key(alice, CredentialKind.TELEMETRY_KEY)
    async with device(first, key) as socket:
        await say(socket, "telemetry", points=[{"metric": "t", "value": 1}])
        await say(socket, "dance")
        await hear(socket, "error")
        stopping = asyncio.create_task(first.server.stop(5))
        assert await end_of(socket) == 1001
        await asyncio.wait_for(stopping, 20)
    await first.app.close()
    second: Running = await start()
    assert len(await stored(second, alice)) == 1


async def test_a_device_is_told_when_storage_is_away(busbar: Running, key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async with device(busbar, key, acks=True) as socket:

        async def fail(*_args: Any, **_more: Any) -> None:
            raise Unavailable("storage is unavailable")

        monkeypatch.setattr(busbar.app.signals, "write", fail)
        await say(socket, "telemetry", seq=1, points=[{"metric": "t", "value": 1}])
        assert (await hear(socket))["code"] == "REDIS_UNAVAILABLE"
        assert await end_of(socket) == 1013


async def test_a_frame_over_a_mebibyte_ends_the_connection_with_1009(busbar: Running, key: str) -> None:
    async with device(busbar, key) as socket:
        await say(socket, "telemetry", points=[{"metric": "t", "value": "x" * 1_048_577}])
        assert await end_of(socket) == 1009


async def test_the_same_stream_works_over_grpc(busbar: Running, alice: Person, key: str) -> None:
    async def frames() -> AsyncIterator[ConnectDeviceRequest]:
        yield ConnectDeviceRequest(frame=Oneof(field="device_auth", value=DeviceAuth(api_key=key, source_id="rig")))
        points = [Point(metric="t", value=Value.from_python(1))]
        yield ConnectDeviceRequest(frame=Oneof(field="telemetry", value=Telemetry(points=points)))

    call = busbar.client("grpc").channel.stream_stream(
        "/busbar.telemetry.v1.StreamService/ConnectDevice",
        request_serializer=lambda message: message.to_binary(),
        response_deserializer=ConnectDeviceResponse.from_binary,
    )
    answers = [answer.frame.field async for answer in call(frames(), timeout=20)]
    assert answers == ["authenticated"]
    assert len(await stored(busbar, alice)) == 1
