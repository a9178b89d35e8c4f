"""The sockets of the lab, as browsers and controllers use them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
import websockets
from protobuf import Oneof
from protobuf.wkt import Struct

from gen.busbar.lab.v1.stream_pb import SendDatapointsRequest, StreamPing, WatchDatapointsRequest
from tests.conftest import Person, Running
from tests.lab.conftest import MakeEvent, person, sign_in
from tests.lab.sockets import SEND, WATCH, ask, controller, ending, hear, settle, stream, token_of
from tests.lab.test_datapoints import send


async def test_a_watcher_is_welcomed_and_its_pings_are_answered(busbar: Running, admin: httpx.AsyncClient) -> None:
    async with websockets.connect(f"{busbar.ws_url}{WATCH}?token={token_of(admin)}") as socket:
        assert await hear(socket) == {"type": "connected", "message": "Subscribed to live datapoint stream."}
        for ignored in ({"type": "subscribe"}, {"hello": 1}, {}, {"type": 5}):
            await socket.send(json.dumps(ignored))
        assert await ask(socket, {"type": "ping"}) == {"type": "pong"}


@pytest.mark.parametrize("frame", ["[]", "1", "null", "ping", b"\x00"])
async def test_what_is_no_object_ends_the_watching(busbar: Running, admin: httpx.AsyncClient, frame: str | bytes) -> None:
    async with stream(busbar, admin) as socket:
        await socket.send(frame)
        assert (await ending(socket))[0] == 1003


@pytest.mark.parametrize("path", [WATCH, SEND])
async def test_who_is_refused_is_let_in_and_told_why_by_the_close(busbar: Running, admin: httpx.AsyncClient, path: str) -> None:
    past = (await admin.post("/api/v1/tokens", json={"name": "old", "expires_at": "2020-01-01T00:00:00Z"})).json()["token"]
    out = await sign_in(busbar, "alice@example.com")
    await out.post("/api/v1/auth/logout")
    gone = await person(busbar, admin, "otto", "operator")
    key = (await gone.post("/api/v1/tokens", json={"name": "rig"})).json()["token"]
    await admin.delete(f"/api/v1/users/{(await gone.get('/api/v1/auth/me')).json()['public_id']}")
    for query, reason in (
        ("", "Authentication required"),
        ("?token=", "Authentication required"),
        ("?token=nonsense", "Invalid or expired token"),
        (f"?token={token_of(out)}", "Token has been revoked"),
        (f"?token={token_of(gone)}", "User not found"),
        ("?token=wm_nonsense", "Invalid API token"),
        (f"?token={past}", "API token expired"),
        (f"?token={key}", "User not found"),
    ):
        async with websockets.connect(f"{busbar.ws_url}{path}{query}") as socket:
            assert await ending(socket) == (1008, reason), query


async def test_an_api_token_opens_both_sockets_and_shows_its_use(
    busbar: Running, admin: httpx.AsyncClient, event: MakeEvent
) -> None:
    temperature = await event()
    token = (await admin.post("/api/v1/tokens", json={"name": "rig"})).json()["token"]
    async with websockets.connect(f"{busbar.ws_url}{WATCH}?token={token}") as watcher:
        await hear(watcher)
        async with websockets.connect(f"{busbar.ws_url}{SEND}?token={token}") as socket:
            await socket.send(json.dumps({"datapoints": [{"value": 1, "event_public_id": temperature}]}))
            assert (await hear(watcher))["datapoints"][0]["value"] == 1.0
    assert (await admin.get("/api/v1/tokens")).json()["data"][0]["last_used_at"] is not None


async def test_viewers_watch_but_do_not_send(busbar: Running, admin: httpx.AsyncClient) -> None:
    viewer = await person(busbar, admin, "vera", "viewer")
    async with stream(busbar, viewer) as socket:
        assert await ask(socket, {"type": "ping"}) == {"type": "pong"}
    async with controller(busbar, viewer) as socket:
        assert await ending(socket) == (1008, "Operator privileges required")


async def user_of(client: httpx.AsyncClient) -> str:
    """Return the id of a client's user."""
    return (await client.get("/api/v1/auth/me")).json()["public_id"]


Ends = Callable[[httpx.AsyncClient, httpx.AsyncClient, str], Awaitable[httpx.Response]]


async def sign_out(_admin: httpx.AsyncClient, mine: httpx.AsyncClient, _token: str) -> httpx.Response:
    return await mine.post("/api/v1/auth/logout")


async def delete_token(_admin: httpx.AsyncClient, mine: httpx.AsyncClient, token: str) -> httpx.Response:
    return await mine.delete(f"/api/v1/tokens/{token}")


async def delete_user(admin: httpx.AsyncClient, mine: httpx.AsyncClient, _token: str) -> httpx.Response:
    return await admin.delete(f"/api/v1/users/{await user_of(mine)}")


@pytest.mark.parametrize(
    ("with_token", "end", "reason"),
    [
        (False, sign_out, "Token has been revoked"),
        (True, delete_token, "Invalid API token"),
        (False, delete_user, "User not found"),
        (True, delete_user, "User not found"),
    ],
)
async def test_open_sockets_end_with_their_credential_and_say_why(
    busbar: Running, admin: httpx.AsyncClient, *, with_token: bool, end: Ends, reason: str
) -> None:
    otto = await person(busbar, admin, "otto", "operator")
    made = (await otto.post("/api/v1/tokens", json={"name": "rig"})).json()
    used = made["token"] if with_token else token_of(otto)
    async with (
        websockets.connect(f"{busbar.ws_url}{WATCH}?token={used}") as watching,
        websockets.connect(f"{busbar.ws_url}{SEND}?token={used}") as sending,
        stream(busbar, admin) as bystander,
    ):
        await hear(watching)
        await settle(sending)
        assert (await end(admin, otto, made["public_id"])).status_code == 200
        assert [await ending(watching), await ending(sending)] == [(1008, reason)] * 2
        assert await ask(bystander, {"type": "ping"}) == {"type": "pong"}


async def test_an_open_socket_ends_when_its_token_expires(busbar: Running, admin: httpx.AsyncClient) -> None:
    soon = datetime.now(UTC) + timedelta(seconds=1.5)
    token = (await admin.post("/api/v1/tokens", json={"name": "rig", "expires_at": soon.isoformat()})).json()["token"]
    async with websockets.connect(f"{busbar.ws_url}{SEND}?token={token}") as socket:
        assert await ending(socket) == (1008, "API token expired")


async def test_who_may_not_send_any_more_is_stopped_and_still_watches(
    busbar: Running, admin: httpx.AsyncClient, event: MakeEvent
) -> None:
    temperature = await event()
    otto = await person(busbar, admin, "otto", "operator")
    path = f"/api/v1/users/{await user_of(otto)}"
    async with controller(busbar, otto) as sending, stream(busbar, otto) as watching:
        await settle(sending)
        # What changes nothing about the right to send ends nothing.
        for change in ({"username": "otto2"}, {"role": "admin"}, {"role": "operator"}):
            assert (await admin.put(path, json=change)).status_code == 200
            await settle(sending)
        assert (await admin.put(path, json={"role": "viewer"})).status_code == 200
        assert await ending(sending) == (1008, "Operator privileges required")
        await send(admin, (temperature, 1))
        assert (await hear(watching))["datapoints"][0]["value"] == 1.0


async def test_a_batch_is_told_with_exactly_four_members(busbar: Running, admin: httpx.AsyncClient, event: MakeEvent) -> None:
    temperature, pressure = await event(), await event("Pressure")
    async with stream(busbar, admin) as socket:
        await send(admin, (temperature, 1), (pressure, 2), (temperature, 3))
        frame = await hear(socket)
    assert set(frame) == {"type", "datapoints"}
    assert frame["type"] == "datapoints_batch"
    points = frame["datapoints"]
    assert {tuple(point) for point in points} == {("value", "event_public_id", "timestamp", "experiment_public_id")}
    assert sorted((point["event_public_id"], point["value"]) for point in points) == sorted(
        [(temperature, 1.0), (temperature, 3.0), (pressure, 2.0)]
    )
    stored = (await admin.get("/api/v1/datapoints")).json()["data"][0]["timestamp"]
    assert {point["timestamp"] for point in points} == {stored.replace("Z", "+00:00")}
    assert datetime.fromisoformat(points[0]["timestamp"]).utcoffset() is not None
    assert {point["experiment_public_id"] for point in points} == {None}


async def test_an_event_is_told_every_200_milliseconds_and_what_lies_between_never(
    busbar: Running, admin: httpx.AsyncClient, event: MakeEvent, monkeypatch: pytest.MonkeyPatch
) -> None:
    temperature, pressure = await event(), await event("Pressure")
    now = busbar.clock.now_us()
    monkeypatch.setattr(busbar.clock, "now_us", lambda: now)
    async with stream(busbar, admin) as socket:
        for at, points in (
            (0, [(temperature, 1)]),
            (199_000, [(temperature, 2), (pressure, 3)]),
            (200_000, [(temperature, 4)]),
        ):
            now_us = now + at
            monkeypatch.setattr(busbar.clock, "now_us", lambda now_us=now_us: now_us)
            await send(admin, *points)
        heard = [[point["value"] for point in (await hear(socket))["datapoints"]] for _ in range(3)]
        assert await ask(socket, {"type": "ping"}) == {"type": "pong"}
    assert heard == [[1.0], [3.0], [4.0]]
    assert (await admin.get("/api/v1/datapoints")).json()["total"] == 4


async def test_others_do_not_hear_what_is_measured_here(
    busbar: Running, admin: httpx.AsyncClient, event: MakeEvent, eve: Person
) -> None:
    temperature = await event()
    async with stream(busbar, await sign_in(busbar, eve.email)) as socket:
        await send(admin, (temperature, 1))
        assert await ask(socket, {"type": "ping"}) == {"type": "pong"}


async def test_a_controller_hears_nothing_of_what_is_stored_and_why_something_is_not(
    busbar: Running, admin: httpx.AsyncClient, event: MakeEvent
) -> None:
    temperature = await event()
    good = {"value": 1, "event_public_id": temperature}

    async def total() -> int:
        return (await admin.get("/api/v1/datapoints")).json()["total"]

    async with controller(busbar, admin) as socket:
        for silent in ({}, {"datapoints": []}, {"datapoints": None}, {"type": "ping"}, {"datapoints": [good]}):
            await socket.send(json.dumps(silent))
        assert await ask(socket, {"datapoints": [good] * 501}) == {"type": "error", "message": "Batch too large (501), max 500"}
        assert await total() == 1
        bad: list[Any] = [
            1, None, "x", {}, {"value": 1}, {"event_public_id": temperature}, {"value": "hot", "event_public_id": temperature},
            {"value": None, "event_public_id": temperature}, {"value": "NaN", "event_public_id": temperature},
            {"value": "inf", "event_public_id": temperature}, {"value": 1, "event_public_id": 5},
            {"value": [1], "event_public_id": "x"}, [],
        ]  # fmt: skip
        assert await ask(socket, {"datapoints": bad}) == {"type": "error", "message": "No valid datapoints in batch"}
        await socket.send(json.dumps({"datapoints": [*bad, {**good, "value": "2.5"}, {**good, "event_public_id": "unknown"}]}))
        await settle(socket)
        assert await total() == 2
        for frame in ("[]", "nonsense", b"\x00", '{"datapoints": [{"value": NaN}]}'):
            assert (await ask(socket, frame))["type"] == "error"
        await socket.send(json.dumps({"datapoints": [good] * 500}))
        await settle(socket)
    assert await total() == 502
    oldest = (await admin.get("/api/v1/datapoints", params={"page": 251, "page_size": 2})).json()["data"]
    assert [point["value"] for point in oldest] == [2.5, 1.0]


async def test_a_batch_sent_right_before_the_end_is_stored(busbar: Running, admin: httpx.AsyncClient, event: MakeEvent) -> None:
    temperature = await event()
    async with controller(busbar, admin) as socket:
        await socket.send(json.dumps({"datapoints": [{"value": 1, "event_public_id": temperature}]}))
    async with asyncio.timeout(10):
        while not (await admin.get("/api/v1/datapoints")).json()["total"]:  # noqa: ASYNC110 - nobody is told
            await asyncio.sleep(0.01)


async def test_a_watcher_that_does_not_read_holds_up_nobody(
    busbar: Running, admin: httpx.AsyncClient, event: MakeEvent, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("core.lab.live_datapoints.EVERY_US", 0)
    events = [await event(f"event {number}") for number in range(10)]
    url = f"{busbar.ws_url}{WATCH}?token={token_of(admin)}"
    async with websockets.connect(url, max_queue=1) as deaf, stream(busbar, admin) as socket:
        await hear(deaf)
        for value in range(60):
            await send(admin, *((public_id, value) for public_id in events * 50))
            assert {point["value"] for point in (await hear(socket))["datapoints"]} == {float(value)}
        # It goes on with the present once it reads again.
        async with asyncio.timeout(20):
            while True:
                await send(admin, (events[0], 1000))
                if (await hear(deaf))["datapoints"][-1]["value"] == 1000.0:
                    break


@pytest.mark.parametrize("path", [WATCH, SEND])
async def test_a_socket_is_no_page(busbar: Running, admin: httpx.AsyncClient, path: str) -> None:
    assert (await admin.get(path)).status_code == 404


async def test_datapoints_are_watched_and_sent_over_grpc(
    busbar: Running, admin: httpx.AsyncClient, alice: Person, event: MakeEvent
) -> None:
    temperature = await event()
    client = busbar.client("grpc", alice.session)

    def call(name: str) -> Any:
        rpc = client.rpc(f"lab.StreamService.{name}")
        method = client.channel.stream_stream(
            f"/{rpc.name}",
            request_serializer=lambda message: message.to_binary(),
            response_deserializer=rpc.response.from_binary,
        )
        return method(metadata=client.metadata)

    watch, sending = call("WatchDatapoints"), call("SendDatapoints")
    assert (await watch.read()).frame.field == "connected"
    batch = Struct.from_python({"datapoints": [{"value": 1, "event_public_id": temperature}]})
    await sending.write(SendDatapointsRequest(frame=Oneof(field="batch", value=batch)))
    (point,) = (await watch.read()).frame.value.datapoints
    assert (point.value, point.event_public_id) == (1.0, temperature)
    await sending.write(SendDatapointsRequest(frame=Oneof(field="batch", value=Struct.from_python({"datapoints": [1]}))))
    assert (await sending.read()).frame.value.message == "No valid datapoints in batch"
    await sending.done_writing()
    await watch.write(WatchDatapointsRequest(frame=Oneof(field="ping", value=StreamPing())))
    assert (await watch.read()).frame.field == "pong"
    watch.cancel()
