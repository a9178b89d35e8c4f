"""How many frames devices may send."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection

from core.kernel.errors import ResourceExhausted
from core.telemetry.stream import dashboard as screens
from core.telemetry.stream import device as connection
from core.telemetry.stream import throttle
from gen.busbar.api.v1.options_pb import CredentialKind
from tests.conftest import Person, Running
from tests.telemetry.sockets import dashboard, device, hear, say


async def limited(start: Any) -> tuple[Running, Person, str]:
    """Start a server that limits frames, with a person and a key."""
    busbar: Running = await start(rate_limits="on")
    alice = await busbar.person("alice")
    return busbar, alice, await busbar.key(alice, CredentialKind.TELEMETRY_KEY)


async def flood(socket: ClientConnection, frames: int, kind: str = "telemetry") -> None:
    """Send frames of one point each, or of another kind."""
    for number in range(1, frames + 1):
        members: dict[str, Any] = {"command": "x", "status": "ok"}
        if kind == "telemetry":
            members = {"seq": number, "points": [{"metric": "t", "value": n, "timestamp": n + number} for n in range(50)]}
        await say(socket, kind, **members)


async def test_frames_of_each_sort_are_limited_apart_and_points_do_not_count(
    start: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "DATA", (0.001, 3.0))
    monkeypatch.setattr(connection, "CONTROL", (0.001, 2.0))
    busbar, _, key = await limited(start)
    async with device(busbar, key, acks=True) as socket:
        await flood(socket, 4)
        refusal = await hear(socket, "error")
        assert (refusal["code"], refusal["seq"]) == ("RATE_LIMITED", 4)
        await flood(socket, 2, "command_ack")
        await say(socket, "command_status", run_id="r", seq=1, state="running")
        assert "seq" not in (await hear(socket, "error", "command_status_ack"))
        await flood(socket, 1)
        assert (await hear(socket, "error"))["seq"] == 1
    async with device(busbar, key, acks=True) as socket:
        await flood(socket, 3)
        await hear(socket, "telemetry_ack", where=lambda frame: frame["seq"] == 3)


async def test_a_source_that_reconnects_has_no_more_frames_for_that(start: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(throttle, "SOURCE", (0.001, 5.0))
    busbar, alice, key = await limited(start)
    async with device(busbar, key, acks=True) as socket:
        await flood(socket, 3)
        await hear(socket, "telemetry_ack", where=lambda frame: frame["seq"] == 3)
    async with device(busbar, key, acks=True) as socket:
        await flood(socket, 3)
        refusal = await hear(socket, "error")
        assert (refusal["code"], refusal["seq"]) == ("RATE_LIMITED", 3)
        await flood(socket, 5, "command_ack")
        await nothing_before_error(socket)
    async with device(busbar, key, "other", acks=True) as other:
        await flood(other, 5)
        await hear(other, "telemetry_ack", where=lambda frame: frame["seq"] == 5)
    listed = await busbar.http(alice.session).get("/api/sources")
    assert [source["slug"] for source in listed.json()["sources"]] == ["other", "rig"]


async def nothing_before_error(socket: ClientConnection) -> None:
    """Send what nobody knows, and see that its refusal comes first."""
    await say(socket, "dance")
    assert (await hear(socket))["code"] == "INVALID_MESSAGE"


@pytest.mark.parametrize(
    ("limit", "rate", "burst"), [(throttle.DATA, 500, 2000), (throttle.CONTROL, 20, 60), (throttle.SOURCE, 2000, 2000)]
)
def test_a_burst_is_taken_and_then_so_many_frames_a_second(
    limit: tuple[float, float], rate: int, burst: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [100.0]
    monkeypatch.setattr(throttle.time, "monotonic", lambda: now[0])
    bucket = throttle.Bucket(*limit)

    def taken() -> int:
        count = 0
        with contextlib.suppress(ResourceExhausted):
            while True:
                bucket.take()
                count += 1
        return count

    assert taken() == burst
    now[0] += 1
    assert taken() == rate
    now[0] += 3600
    assert taken() == burst


async def test_a_dashboard_that_floods_is_refused_and_its_flow_goes_on(start: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(screens, "CONTROL", (0.001, 2.0))
    busbar, alice, key = await limited(start)
    async with dashboard(busbar, alice.session) as socket, device(busbar, key) as rig:
        for _ in range(3):
            await say(socket, "subscribe", stream="logs", source_id="rig")
        assert (await hear(socket, "error"))["code"] == "RATE_LIMITED"
        for value in range(3):
            await say(socket, "ready")
            await say(rig, "telemetry", points=[{"metric": "t", "value": value}])
            assert (await hear(socket, "telemetry"))["points"][0]["value"] == value
