"""Devices and dashboards over gRPC: the streams do what the sockets do."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest
from protobuf import Message, Oneof
from protobuf.wkt import Struct, Value

from gen.busbar.api.v1.options_pb import CredentialKind
from gen.busbar.telemetry.v1.ingest_pb import Point
from gen.busbar.telemetry.v1.stream_pb import (
    BrowserAuth,
    ConnectDashboardRequest,
    ConnectDashboardResponse,
    ConnectDeviceRequest,
    ConnectDeviceResponse,
    DeviceAuth,
    Ready,
    ShareAuth,
    Telemetry,
)
from tests.conftest import Person, Running
from tests.telemetry.sockets import SECONDS, dashboard, device, hear, say


@pytest.fixture
async def key(busbar: Running, alice: Person) -> str:
    """A key that may do everything."""
    return await busbar.key(alice, CredentialKind.TELEMETRY_KEY)


class Stream:
    """One side of a bidirectional call."""

    def __init__(self, call: Any, request: type[Message[Any]], outbox: asyncio.Queue[Any]) -> None:
        self._answers = call.__aiter__()
        self._request: Any = request
        self._outbox = outbox

    def say(self, field: str, value: Message[Any]) -> None:
        """Send a frame."""
        self._outbox.put_nowait(self._request(frame=Oneof(field=field, value=value)))

    async def hear(self, *fields: str) -> Any:
        """Return the next frame of some kinds."""
        async with asyncio.timeout(SECONDS):
            while True:
                frame = (await anext(self._answers)).frame
                if frame.field in fields:
                    return frame.value


@asynccontextmanager
async def stream(
    busbar: Running, rpc: str, request: type[Message[Any]], response: type[Message[Any]]
) -> AsyncGenerator[Stream]:
    """Open a bidirectional call."""
    outbox: asyncio.Queue[Any] = asyncio.Queue()

    async def requests() -> AsyncIterator[Any]:
        while True:
            yield await outbox.get()

    method = busbar.client("grpc").channel.stream_stream(
        f"/busbar.telemetry.v1.StreamService/{rpc}",
        request_serializer=lambda message: message.to_binary(),
        response_deserializer=response.from_binary,
    )
    call = method(requests())
    yield Stream(call, request, outbox)
    call.cancel()


@asynccontextmanager
async def device_stream(busbar: Running, key: str, source_id: str) -> AsyncGenerator[Stream]:
    """Connect a device."""
    async with stream(busbar, "ConnectDevice", ConnectDeviceRequest, ConnectDeviceResponse) as opened:
        acks = Value.from_python(True)  # noqa: FBT003 - a value
        opened.say("device_auth", DeviceAuth(api_key=key, source_id=source_id, acks=acks))
        assert (await opened.hear("authenticated")).source_id == source_id
        yield opened


@asynccontextmanager
async def dashboard_stream(busbar: Running, field: str, auth: Message[Any]) -> AsyncGenerator[Stream]:
    """Connect a dashboard."""
    async with stream(busbar, "ConnectDashboard", ConnectDashboardRequest, ConnectDashboardResponse) as opened:
        opened.say(field, auth)
        yield opened


def telemetry(seq: int, value: float) -> Telemetry:
    """Return a frame of one point."""
    return Telemetry(seq=seq, points=[Point(metric="t", value=Value.from_python(value))])


async def test_points_commands_and_acknowledgements_pass_between_streams(busbar: Running, alice: Person, key: str) -> None:
    async with dashboard_stream(busbar, "browser_auth", BrowserAuth(token=alice.session)) as screen:
        assert not (await screen.hear("init")).online_sources
        async with device_stream(busbar, key, "rig") as rig:
            assert (await screen.hear("source_status")).status == "online"
            rig.say("telemetry", telemetry(1, 21.5))
            assert (await rig.hear("telemetry_ack")).seq == 1
            (point,) = (await screen.hear("telemetry")).points
            assert (point.source_id, point.metric, point.value.to_python()) == ("rig", "t", 21.5)
            screen.say("configure", Struct.from_python({"source_id": "rig", "sensor": "imu"}))
            assert (await rig.hear("command")).to_python() == {"type": "configure", "source_id": "rig", "sensor": "imu"}
            rig.say("command_ack", Struct.from_python({"command": "configure", "status": "ok"}))
            assert (await screen.hear("relayed")).to_python()["type"] == "command_ack"
        assert (await screen.hear("source_status")).status == "offline"


async def test_a_device_on_a_stream_and_a_dashboard_on_a_socket_see_each_other(
    busbar: Running, alice: Person, key: str
) -> None:
    async with dashboard(busbar, alice.session) as socket, device_stream(busbar, key, "rig") as rig:
        rig.say("telemetry", telemetry(1, 1))
        assert (await hear(socket, "telemetry"))["points"][0]["value"] == 1
    async with dashboard_stream(busbar, "browser_auth", BrowserAuth(token=alice.session)) as screen:
        await screen.hear("init")
        async with device(busbar, key, "rig") as socket:
            for value in (2, 3):
                screen.say("ready", Ready())
                await say(socket, "telemetry", points=[{"metric": "t", "value": value}])
                assert (await screen.hear("telemetry")).points[0].value.to_python() == value


async def test_the_newest_connection_wins_whichever_way_it_came(busbar: Running, key: str) -> None:
    async with device_stream(busbar, key, "rig") as rig, device(busbar, key, "rig"):
        with pytest.raises(grpc.aio.AioRpcError) as ended:
            await rig.hear("command")
        assert ended.value.code() == grpc.StatusCode.ABORTED
        assert busbar.app.signals.connected_devices == 1


async def test_strangers_and_shares_keep_to_their_place(busbar: Running, alice: Person, key: str) -> None:
    async with dashboard_stream(busbar, "browser_auth", BrowserAuth(token="x")) as screen:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await screen.hear("init")
        assert refused.value.code() == grpc.StatusCode.UNAUTHENTICATED
    share = await busbar.client("grpc", alice.session).call("ShareService.CreateShare", name="wall")
    async with device(busbar, key, "rig"), dashboard_stream(busbar, "share_auth", ShareAuth(token=share.token)) as screen:
        assert [source.source_id for source in (await screen.hear("init")).online_sources] == ["rig"]
        screen.say("configure", Struct.from_python({"source_id": "rig"}))
        assert (await screen.hear("error")).message == "shared view is read-only"
        await busbar.client("grpc", alice.session).call("ShareService.RevokeShare", share_id=share.share.id)
        with pytest.raises(grpc.aio.AioRpcError) as ended:
            await screen.hear("telemetry")
        assert ended.value.code() == grpc.StatusCode.UNAUTHENTICATED
