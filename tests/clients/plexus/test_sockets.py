"""Real releases of the SDK keep their WebSocket to the whole server, unchanged."""

from __future__ import annotations

import asyncio
import base64
import struct
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.asyncio.client import ClientConnection

from tests.clients.plexus.conftest import VERSIONS, Driving, Raised, Sdk
from tests.clients.plexus.test_http import EPOCH_MS, RIG, key, stored
from tests.conftest import Person, Running
from tests.faults.process import Account, ServerProcess, prepare, serving
from tests.telemetry.sockets import dashboard, hear, nothing_before_pong, say

__all__ = ["key"]

AGENT, *SDKS = VERSIONS
DECLARING = SDKS[2:]
ACKNOWLEDGED = SDKS[3:]
IN_JSON = SDKS[0]
"""The release whose pictures are JSON; later ones send binary frames."""
CAMERA, STILL = "front:0", b"\xff\xd8a still\xff\xd9"
WAIT_SECONDS = 60.0
ENOUGH = 5

over_socket = pytest.mark.parametrize("python", SDKS, indirect=True)
with_declared_commands = pytest.mark.parametrize("python", DECLARING, indirect=True)
with_acknowledgements = pytest.mark.parametrize("python", ACKNOWLEDGED, indirect=True)
as_agent = pytest.mark.parametrize("python", [AGENT], indirect=True)


async def until(holds: Callable[[], Awaitable[bool]]) -> None:
    """Wait until something holds."""
    async with asyncio.timeout(WAIT_SECONDS):
        while not await holds():  # noqa: ASYNC110 - what it asks is in another process
            await asyncio.sleep(0.05)


async def until_stored(url: str, key: str, count: int) -> list[dict[str, Any]]:
    """Wait for that many points and return all."""
    points: list[dict[str, Any]] = []

    async def there() -> bool:
        points[:] = await stored(url, key)
        return len(points) >= count

    await until(there)
    return points


async def online(url: str, key: str) -> list[str]:
    """Return the sources that are online."""
    async with httpx.AsyncClient(base_url=url, headers={"x-api-key": key}, timeout=20) as http:
        answer = await http.get("/api/sources", params={"status": "online"})
    return [source["slug"] for source in answer.json()["sources"]]


async def measure(sdk: Sdk, values: range, *, in_vain: bool = False) -> None:
    """Send values; the time of each tells it, too."""
    for value in values:
        with suppress(Raised) if in_vain else nullcontext():
            await sdk.do("send", metric="m", value=value, timestamp=EPOCH_MS + value)


def values_of(points: list[dict[str, Any]]) -> Counter[int]:
    """Count how often each value is there, which has to have its own time."""
    assert all(point["timestamp"] - EPOCH_MS == point["value"] for point in points)
    return Counter(point["value"] for point in points)


@over_socket
async def test_points_and_events_arrive_once_and_the_source_is_online(busbar: Running, key: str, driving: Driving) -> None:
    many = [(f"metric.{number}", number) for number in range(300)]
    async with driving(busbar.url, key) as sdk:
        assert await sdk.do("open_socket", source_id=RIG)
        assert await online(busbar.url, key) == [RIG]
        await sdk.do("send", metric="single", value=21.5, timestamp=EPOCH_MS)
        await sdk.do("send_batch", points=many, timestamp=EPOCH_MS)
        await sdk.do("event", metric="fault", value={"code": 7}, timestamp=EPOCH_MS)
        points = await until_stored(busbar.url, key, 302)
        assert await sdk.do("buffered") == 0
        await sdk.do("close")
    assert sorted((point["metric"], point["value"]) for point in points if point["class"] == "metric") == sorted(
        [("single", 21.5), *many]
    )
    assert [(point["metric"], point["value"]) for point in points if point["class"] == "event"] == [("fault", {"code": 7})]
    assert {(point["source_id"], point["timestamp"]) for point in points} == {(RIG, EPOCH_MS)}


@over_socket
async def test_a_run_is_kept_with_what_was_measured_in_it(
    busbar: Running, alice: Person, key: str, driving: Driving, python: Path
) -> None:
    async with driving(busbar.url, key) as sdk:
        await sdk.do("open_socket", source_id=RIG)
        if not await sdk.do("record", run="hotfire", metric="m", values=[1, 2, 3]):
            pytest.skip("this release has no runs")
        points = await until_stored(busbar.url, key, 3)
        await sdk.do("close")
    (run,) = (await busbar.http(alice.session).get("/api/runs")).json()["runs"]
    assert (run["name"], run["source_id"], run["status"]) == ("hotfire", RIG, "completed")
    assert sorted(point["value"] for point in points) == [1, 2, 3]
    if python.parent.parent.name.endswith(SDKS[0]):
        assert {point["session_id"] for point in points} == {"hotfire"}


@over_socket
async def test_a_handler_answers_the_command_of_a_dashboard(busbar: Running, alice: Person, key: str, driving: Driving) -> None:
    async with driving(busbar.url, key) as sdk, dashboard(busbar, alice.session) as screen:
        await sdk.do("open_socket", source_id=RIG)
        for number, command in ((4, "double"), (5, "nonsense")):
            await say(screen, "typed_command", source_id=RIG, id=f"c{number}", command=command, params={"number": number})
            acknowledged, ended = [await hear(screen, "command_result") for _ in range(2)]
            assert (acknowledged["id"], acknowledged["event"]) == (f"c{number}", "ack")
            if command == "double":
                assert (ended["event"], ended["result"], ended["source_id"]) == ("result", {"doubled": 8}, RIG)
            else:
                assert (ended["event"], ended["error"]) == ("error", "unknown command: nonsense")
        await sdk.do("close")
    commands = (await busbar.http(alice.session).get("/api/commands")).json()["commands"]
    assert [(sent["command"], sent["outcome"]) for sent in commands] == [("nonsense", "failed"), ("double", "succeeded")]


@with_declared_commands
async def test_a_declared_command_tells_how_it_goes(busbar: Running, alice: Person, key: str, driving: Driving) -> None:
    async with driving(busbar.url, key) as sdk, dashboard(busbar, alice.session) as screen:
        await sdk.do("open_socket", source_id=RIG)
        command = {"run_id": "r1", "command": "triple", "params": {"number": 5}, "ttl_ms": 20_000, "attempt": 1}
        await say(screen, "command_run", source_id=RIG, **command)
        told = [await hear(screen, "command_status") for _ in range(3)]
        await sdk.do("close")
    assert [status["state"] for status in told] == ["acknowledged", "running", "succeeded"]
    assert (told[-1]["result"], told[-1]["run_id"], told[-1]["source_id"]) == ({"tripled": 15}, "r1", RIG)


@over_socket
async def test_what_is_measured_while_the_server_is_dead_comes_over_the_socket_later(tmp_path: Path, driving: Driving) -> None:
    data = tmp_path / "data"
    account = await prepare(data)
    async with serving(data) as server, driving(server.http, account.telemetry_key) as sdk:
        await sdk.do("open_socket", source_id=RIG)
        await measure(sdk, range(ENOUGH))
        await until_stored(server.http, account.telemetry_key, ENOUGH)
        await server.kill()
        await until(lambda: noticed(sdk))
        await sdk.do("impatient")
        await measure(sdk, range(ENOUGH, 2 * ENOUGH), in_vain=True)
        assert await sdk.do("buffered") == ENOUGH
        assert await all_there(data, server, account, sdk, 2 * ENOUGH) == Counter(range(2 * ENOUGH))


async def noticed(sdk: Sdk) -> bool:
    """Return whether the SDK knows that its server is gone."""
    return not await sdk.do("connected")


async def all_there(data: Path, server: ServerProcess, account: Account, sdk: Sdk, count: int) -> Counter[int]:
    """Start a server again in the same place, let the SDK send what it kept, and return what is stored then."""
    async with serving(data, http=f"127.0.0.1:{server.port}") as again:
        await until(lambda: sdk.do("connected"))
        await sdk.do("flush")
        points = await until_stored(again.http, account.telemetry_key, count)
        assert await sdk.do("buffered") == 0
        await sdk.do("close")
    return values_of(points)


@with_acknowledgements
async def test_points_are_acknowledged(busbar: Running, key: str, driving: Driving) -> None:
    async with driving(busbar.url, key) as sdk:
        await sdk.do("open_socket", source_id=RIG)
        # Fewer than the release holds unacknowledged; the next would go over HTTP, where nobody is.
        await measure(sdk, range(30))
        assert await sdk.do("unacknowledged", seconds=10) == 0
        assert values_of(await stored(busbar.url, key)) == Counter(range(30))
        await sdk.do("close")


@with_acknowledgements
@pytest.mark.parametrize("signal", [9, 15])
async def test_a_server_that_ends_while_points_are_under_way_loses_none(tmp_path: Path, driving: Driving, signal: int) -> None:
    data = tmp_path / "data"
    account = await prepare(data)
    async with serving(data) as server, driving(server.http, account.telemetry_key) as sdk:
        await sdk.do("open_socket", source_id=RIG)
        await sdk.do("impatient")
        await measure(sdk, range(20))
        ending = asyncio.create_task(server.end(signal))
        await measure(sdk, range(20, 40), in_vain=True)
        await ending
        assert await all_there(data, server, account, sdk, 40) == Counter(range(40))


@as_agent
async def test_a_dashboard_starts_the_agent_and_sees_what_it_stores(
    busbar: Running, alice: Person, key: str, driving: Driving
) -> None:
    async with driving(busbar.url, key) as sdk, dashboard(busbar, alice.session) as screen:
        await sdk.do("open_agent", source_id=RIG)
        status = await hear(screen, "source_status")
        assert (status["source_id"], status["status"], status["sensors"][0]["metrics"]) == (RIG, "online", ["count"])
        await say(screen, "start_stream", source_id=RIG, metrics=[f"{RIG}:count"], interval_ms=20, id="s1")
        seen: dict[int, int] = {}
        while len(seen) < ENOUGH:
            seen |= {point["value"]: point["timestamp"] for point in (await hear(screen, "telemetry"))["points"]}
        await say(screen, "stop_stream", source_id=RIG, id="s1")
        assert not (await hear(screen, "source_stream_state", where=lambda frame: not frame["is_streaming"]))["is_streaming"]
        await say(screen, "ping", source_id=RIG)
        await hear(screen, "pong")
        points = await until_stored(busbar.url, key, len(seen))
    kept = Counter((point["value"], point["timestamp"]) for point in points)
    assert set(seen.items()) <= kept.keys()
    assert set(kept.values()) == {1}


@over_socket
async def test_a_picture_reaches_the_dashboards_in_the_form_in_which_the_release_sends_it(
    busbar: Running, alice: Person, key: str, driving: Driving, python: Path
) -> None:
    async with driving(busbar.url, key) as sdk, dashboard(busbar, alice.session) as screen:
        await say(screen, "subscribe", cameras=[CAMERA])
        await nothing_before_pong(screen, "video_frame")
        await sdk.do("open_socket", source_id=RIG)
        assert await sdk.do("show", timestamp=EPOCH_MS / 1000)
        if python.parts[-3].endswith(IN_JSON):
            frame = await hear(screen, "video_frame")
            assert (base64.b64decode(frame["frame"]), frame["timestamp"]) == (STILL, EPOCH_MS)
        else:
            head = b"\x01" + bytes([len(RIG)]) + RIG.encode() + bytes([len(CAMERA)]) + CAMERA.encode()
            assert await picture(screen) == head + struct.pack(">IIq", 8, 6, EPOCH_MS) + STILL
            assert await sdk.do("show_heat", timestamp=EPOCH_MS / 1000)
            frame = await hear(screen, "video_frame")
            assert (frame["video_type"], frame["temps"], frame["temp_max"]) == ("thermal", [20.5, 80.25], 80.25)
        assert (frame["source_id"], frame["camera_id"], frame["width"], frame["height"]) == (RIG, CAMERA, 8, 6)
        await sdk.do("close")


async def picture(screen: ClientConnection) -> bytes:
    """Return the next binary frame."""
    async with asyncio.timeout(WAIT_SECONDS):
        while not isinstance(data := await screen.recv(), bytes):
            pass
    return data


@as_agent
async def test_the_agent_shows_its_camera_until_told_to_stop(
    busbar: Running, alice: Person, key: str, driving: Driving
) -> None:
    async with driving(busbar.url, key) as sdk, dashboard(busbar, alice.session) as screen:
        await sdk.do("open_agent", source_id=RIG)
        status = await hear(screen, "source_status")
        assert [camera["camera_id"] for camera in status["cameras"]] == [CAMERA]
        await say(screen, "start_camera", source_id=RIG, camera_id=CAMERA, frame_rate=50)
        for _ in range(3):
            frame = await hear(screen, "video_frame")
            assert (frame["source_id"], frame["camera_id"], base64.b64decode(frame["frame"])) == (RIG, CAMERA, STILL)
        await say(screen, "stop_camera", source_id=RIG, camera_id=CAMERA)
        await say(screen, "ping", source_id=RIG)
        await hear(screen, "pong")
        await nothing_before_pong(screen, "video_frame")


@as_agent
async def test_the_agent_sends_what_it_kept_while_the_server_was_dead(tmp_path: Path, driving: Driving) -> None:
    data = tmp_path / "data"
    account = await prepare(data)
    async with serving(data) as server, driving(server.http, account.telemetry_key) as sdk:
        await sdk.do("open_agent", source_id=RIG)
        url, key = server.http, account.telemetry_key
        await until(lambda: is_online(url, key))
        await start_stream(url, account)
        await until_stored(url, key, ENOUGH)
        await server.kill()
        await until(lambda: keeps(sdk, ENOUGH))
        kept = await sdk.do("kept")
        async with serving(data, http=f"127.0.0.1:{server.port}"):

            async def arrived() -> bool:
                return set(kept) <= {point["value"] for point in await stored(url, key)}

            await until(arrived)
            points = await stored(url, key)
    assert set(Counter(point["value"] for point in points).values()) == {1}


async def is_online(url: str, key: str) -> bool:
    """Return whether the rig is there."""
    return RIG in await online(url, key)


async def keeps(sdk: Sdk, count: int) -> bool:
    """Return whether the agent keeps that many points."""
    return len(await sdk.do("kept")) >= count


async def start_stream(url: str, account: Account) -> None:
    """Let the agent send."""
    command = {"command": "start_stream", "id": "s1", "params": {"metrics": [], "interval_ms": 20}}
    async with httpx.AsyncClient(base_url=url, headers={"Authorization": f"Bearer {account.session}"}, timeout=20) as http:
        answer = await http.post(f"/api/sources/{RIG}/commands", json=command)
    assert answer.json() == {"delivered": True, "id": "s1", "outcome": "delivered"}
