"""What the server does with enabled instances: it polls them, stores what they read, and writes to their outputs."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path
from typing import Any

import httpx
import pytest

from core.lab import plugin_drivers
from tests.conftest import Running, Start
from tests.lab.conftest import make_event, person, sign_in
from tests.lab.test_packages import upload, uploaded
from tests.lab.test_plugins import SIMULATED, SYSTEM, instance
from tests.lab.things import until
from tests.lab.wheel import PLUGIN, wheel

POLL = 0.05


@pytest.fixture
async def busbar(start: Start) -> Running:
    """A server that polls often."""
    return await start(lab={"plugin_poll_seconds": POLL, "plugin_timeout_seconds": 5.0})


async def status_of(client: httpx.AsyncClient, name: str = "Rig") -> dict[str, Any]:
    """Return an instance of a name as the list shows it."""
    data = (await client.get("/api/v1/plugins", params={"page_size": 100})).json()["data"]
    return next(one for one in data if one["instance_name"] == name)


async def becomes(client: httpx.AsyncClient, status: str, name: str = "Rig") -> dict[str, Any]:
    """Wait until an instance has a status, and return it."""

    async def check() -> dict[str, Any] | None:
        found = await status_of(client, name)
        return found if found["status"] == status else None

    return await until(check)


async def latest(client: httpx.AsyncClient) -> dict[str, float]:
    """Return the newest values by event."""
    return {one["event_public_id"]: one["value"] for one in (await client.get("/api/v1/datapoints/latest")).json()}


def event_of(made: dict[str, Any], channel: str) -> str:
    """Return the event of a channel of an instance."""
    return next(one["event_public_id"] for one in made["channel_mappings"] if one["channel_id"] == channel)


async def total(client: httpx.AsyncClient) -> int:
    """Return how many datapoints there are."""
    return (await client.get("/api/v1/datapoints")).json()["total"]


async def test_an_enabled_instance_is_polled_and_what_it_reads_is_stored(admin: httpx.AsyncClient) -> None:
    made = await instance(admin, demo_mode=True)
    await becomes(admin, "demo")
    values = await until(lambda: latest(admin))
    inputs = [channel for channel, about in SIMULATED.items() if about[0] == "input"]
    assert set(values) == {event_of(made, channel) for channel in inputs}
    for channel in inputs:
        _, _, low, high = SIMULATED[channel]
        assert low <= values[event_of(made, channel)] <= high
    newest = (await admin.get("/api/v1/datapoints", params={"page_size": len(inputs)})).json()["data"]
    assert len({one["timestamp"] for one in newest}) == 1


async def test_the_system_monitor_tells_how_the_machine_is_doing(admin: httpx.AsyncClient) -> None:
    made = await instance(admin, plugin_id="system")
    await becomes(admin, "connected")
    values = await until(lambda: latest(admin))
    assert 0 < values[event_of(made, "memory_percent")] <= 100
    assert values[event_of(made, "disk_used_gb")] > 0


async def test_the_system_monitor_makes_everything_up_in_demo_mode(admin: httpx.AsyncClient) -> None:
    made = await instance(admin, plugin_id="system", demo_mode=True)
    await becomes(admin, "demo")
    assert set(await until(lambda: latest(admin))) == {event_of(made, channel) for channel in SYSTEM}


async def test_disabling_and_enabling_take_effect_at_once(admin: httpx.AsyncClient) -> None:
    made = await instance(admin)
    path = f"/api/v1/plugins/{made['public_id']}"
    await becomes(admin, "connected")
    await admin.put(path, json={"enabled": False})
    before = await total(admin)
    assert (await status_of(admin))["status"] == "inactive"
    await asyncio.sleep(4 * POLL)
    assert await total(admin) == before
    await admin.put(path, json={"enabled": True})
    await becomes(admin, "connected")
    assert await total(admin) > before


async def test_what_was_enabled_is_polled_after_a_restart(start: Start) -> None:
    first = await start(lab={"plugin_poll_seconds": 0})
    await instance(await sign_in(first, (await first.person("alice")).email))
    second = await start(lab={"plugin_poll_seconds": POLL})
    await becomes(await sign_in(second, "alice@example.com"), "connected")


async def test_a_value_from_elsewhere_is_written_to_an_output_and_not_read_back(admin: httpx.AsyncClient) -> None:
    assert (await upload(admin)).status_code == 201
    made = await instance(admin, plugin_id="oven")
    await becomes(admin, "connected")
    heater, echo = event_of(made, "heater"), event_of(made, "echo")
    for value in (10, 75.5):
        assert (await admin.post("/api/v1/datapoints", json={"value": value, "event_public_id": heater})).status_code == 201

    async def written() -> bool:
        return (await latest(admin)).get(echo) == 75.5

    await until(written)
    rows = (await admin.get("/api/v1/datapoints", params={"page_size": 100})).json()["data"]
    assert sorted(one["value"] for one in rows if one["event_public_id"] == heater) == [10, 75.5]


async def test_a_pin_that_is_linked_to_an_output_switches_the_device(busbar: Running, admin: httpx.AsyncClient) -> None:
    await upload(admin)
    made = await instance(admin, plugin_id="oven")
    await becomes(admin, "connected")
    owner = busbar.app.found.identity
    found = await owner.find_user("alice@example.com")
    assert found is not None
    device = await busbar.app.signals.ensure_device(found[1], "board-1", kind="board")
    await busbar.app.signals.write_latest(device, [("V1", 1.0)], by="user")
    linked = await admin.post("/api/v1/events/link", json={"source_id": "board-1", "metric": "V1", "name": "Pin"})
    assert linked.status_code == 201, linked.text
    heater = next(one for one in made["channel_mappings"] if one["channel_id"] == "heater")
    path = f"/api/v1/plugins/{made['public_id']}/channels/{heater['public_id']}"
    assert (await admin.put(path, json={"event_public_id": linked.json()["public_id"]})).status_code == 200
    await busbar.app.signals.write_latest(device, [("V1", 42.0)], by="user")

    async def written() -> bool:
        return (await latest(admin)).get(event_of(made, "echo")) == 42

    await until(written)


async def test_an_instance_is_left_alone_while_a_controller_stores_its_values(
    busbar: Running, admin: httpx.AsyncClient
) -> None:
    made = await instance(admin)
    await becomes(admin, "connected")
    event = event_of(made, "humidity")
    assert (await admin.post("/api/v1/datapoints", json={"value": 11, "event_public_id": event})).status_code == 201
    # A poll may have been under way.
    await asyncio.sleep(4 * POLL)
    assert (await admin.post("/api/v1/datapoints", json={"value": 12.5, "event_public_id": event})).status_code == 201
    before = await total(admin)
    await asyncio.sleep(4 * POLL)
    assert (await latest(admin))[event] == 12.5
    assert await total(admin) == before
    assert (await status_of(admin))["status"] == "connected"
    busbar.clock.forward(seconds=31)
    await until(lambda: grown(admin, before))


async def grown(client: httpx.AsyncClient, before: int) -> bool:
    """Whether there are more datapoints than before."""
    return await total(client) > before


async def test_a_failing_plugin_tells_why_and_is_tried_again(admin: httpx.AsyncClient) -> None:
    await upload(admin)
    made = await instance(admin, plugin_id="oven", config_json={"fail": True})
    found = await becomes(admin, "error")
    assert found["error_message"] == "RuntimeError: the oven is cold"
    assert len(found["channel_mappings"]) == 3
    await admin.put(f"/api/v1/plugins/{made['public_id']}", json={"config_json": {"temp": 99}})
    found = await becomes(admin, "connected")
    assert found["error_message"] is None
    assert (await latest(admin))[event_of(made, "temp")] == 99


async def test_settings_that_are_no_json_are_an_error_until_they_are_changed(admin: httpx.AsyncClient) -> None:
    made = await instance(admin, config_json="{broken")
    assert (await becomes(admin, "error"))["error_message"] == "config_json is no JSON object"
    await admin.put(f"/api/v1/plugins/{made['public_id']}", json={"config_json": "{}"})
    await becomes(admin, "connected")


async def test_a_plugin_that_hangs_is_ended_and_holds_up_nobody(start: Start) -> None:
    busbar = await start(lab={"plugin_poll_seconds": POLL, "plugin_timeout_seconds": 0.3})
    admin = await sign_in(busbar, (await busbar.person("alice")).email)
    await upload(admin)
    await instance(admin, "Hanging", plugin_id="oven", config_json={"hang": True})
    await instance(admin, "Other")
    await becomes(admin, "connected", "Other")
    found = await becomes(admin, "error", "Hanging")
    assert found["error_message"] == "no answer within 0.3 seconds"
    assert (await status_of(admin, "Other"))["status"] == "connected"


async def test_a_process_that_dies_is_started_anew(admin: httpx.AsyncClient) -> None:
    code = PLUGIN.replace('"nonsense": float("nan")', '"pid": float(__import__("os").getpid())').replace(
        'Channel("echo", "Echo", unit="%"),', 'Channel("pid", "Process", high=1e9),'
    )
    await upload(admin, wheel(code=code))
    made = await instance(admin, plugin_id="oven")
    event = event_of(made, "pid")

    async def process() -> int:
        return int((await latest(admin)).get(event, 0))

    first = await until(process)
    os.kill(first, signal.SIGKILL)

    async def another() -> bool:
        return await process() not in (0, first)

    await until(another)
    await becomes(admin, "connected")


async def test_no_process_outlives_its_instance_or_its_package_or_the_server(start: Start) -> None:
    busbar = await start(lab={"plugin_poll_seconds": POLL})
    admin = await sign_in(busbar, (await busbar.person("alice")).email)
    await upload(admin)
    folder = str(busbar.app.settings.data.resolve())
    made = await instance(admin, "One", plugin_id="oven")
    await becomes(admin, "connected", "One")
    assert len(processes(folder)) == 1
    await admin.delete(f"/api/v1/plugins/{made['public_id']}")
    assert processes(folder) == []
    await instance(admin, "Two", plugin_id="oven")
    await becomes(admin, "connected", "Two")
    await admin.delete(f"/api/v1/plugins/packages/{(await uploaded(admin))[0]['public_id']}")
    assert processes(folder) == []
    assert (await status_of(admin, "Two"))["status"] == "inactive"
    # The package comes back, and with it what runs of it.
    await upload(admin)
    await becomes(admin, "connected", "Two")
    assert len(processes(folder)) == 1
    await busbar.app.close()
    assert processes(folder) == []


def processes(folder: str) -> list[int]:
    """Return the processes whose command line names a folder."""
    found: list[int] = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if folder.encode() in path.read_bytes():
                found.append(int(path.parent.name))
        except OSError:
            continue
    return found


async def test_a_plugin_that_floods_its_output_is_an_error_and_no_burden(admin: httpx.AsyncClient) -> None:
    code = PLUGIN.replace('return {"temp"', 'return {"x" * 5_000_000: 1.0, "temp"')
    await upload(admin, wheel(code=code))
    await instance(admin, plugin_id="oven")
    assert (await becomes(admin, "error"))["error_message"] == "its process broke off"


async def test_plugins_beside_the_server_are_found_by_their_entry_points(
    admin: httpx.AsyncClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = tmp_path / "site"
    (site / "oven_plugin-1.0.0.dist-info").mkdir(parents=True)
    (site / "oven_plugin.py").write_text(PLUGIN)
    (site / "oven_plugin-1.0.0.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: oven-plugin\nVersion: 1.0.0\n")
    points = "[webmacs.plugins]\noven = oven_plugin:Oven\nbroken = oven_plugin:Missing\n"
    (site / "oven_plugin-1.0.0.dist-info" / "entry_points.txt").write_text(points)
    host = tmp_path / "host.py"
    # An interpreter whose environment has the plugin.
    start = "from __future__ import annotations\n"
    text = plugin_drivers.HOST.read_text()
    host.write_text(text.replace(start, f"{start}import sys\nsys.path.insert(0, {str(site)!r})\n", 1))
    monkeypatch.setattr(plugin_drivers, "HOST", host)
    assert [one["id"] for one in (await admin.get("/api/v1/plugins/available")).json()] == [
        "oven",
        "revpi",
        "simulated",
        "system",
    ]
    await instance(admin, plugin_id="oven")
    await becomes(admin, "connected")


async def test_experiments_and_streams_see_what_is_polled_as_any_other_datapoint(admin: httpx.AsyncClient) -> None:
    await admin.post("/api/v1/experiments", json={"name": "Run"})
    experiment = (await admin.get("/api/v1/experiments")).json()["data"][0]["public_id"]
    await instance(admin)
    await becomes(admin, "connected")
    row = (await admin.get("/api/v1/datapoints")).json()["data"][0]
    assert row["experiment_public_id"] == experiment


async def test_a_channel_without_an_event_stores_nothing(busbar: Running, admin: httpx.AsyncClient) -> None:
    await instance(admin, auto_create_events=False)
    await becomes(admin, "connected")
    assert await total(admin) == 0
    viewer = await person(busbar, admin, "Vera", "viewer")
    assert (await status_of(viewer))["status"] == "connected"
    assert (await admin.get("/api/v1/events")).json()["total"] == 0
    await make_event(admin, "Later")
