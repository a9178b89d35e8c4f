"""A day in the lab: a controller sends what it measures, a browser watches, charts and downloads it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from core.lab.event_directory import EventDirectory
from tests.clients.lab import Browser, Controller, reading
from tests.conftest import PASSWORD, Person, Running, Start
from tests.kernel.receiver import Receiver, receiving
from tests.lab.things import until
from tests.lab.wheel import file_of, wheel

CHANNELS = 9
POLL_SECONDS = 600
POLLS = 24 * 3600 // POLL_SECONDS
MOST = 100
"""Points of a chart."""


async def events_of(browser: Browser) -> list[str]:
    """Make the events of a device and return their ids, which one learns by listing."""
    for number in range(CHANNELS):
        body = {"name": f"Rig – {number}", "min_value": 0, "max_value": 100, "unit": "°C", "type": "sensor"}  # noqa: RUF001
        assert (await browser.ask("POST", "/events", json=body))["status"] == "success"
        # Lists are read right after each write, on the same connection.
        assert len(await browser.rows("/events")) == number + 1
    return [event["public_id"] for event in await browser.rows("/events")]


async def chart(browser: Browser, event: str) -> list[float]:
    """Read what a widget shows of a day."""
    body = {"event_public_ids": [event], "minutes": 14400, "max_points": MOST}
    return [point["value"] for point in (await browser.ask("POST", "/datapoints/series", json=body))[event]]


@pytest.mark.parametrize("transport", ["http", "websocket"])
async def test_a_day_of_measuring_arrives_whole_and_is_seen_at_once(busbar: Running, alice: Person, transport: str) -> None:
    busbar.app.found.part(EventDirectory).on_mapping(lambda _org_id, _event: True)
    me = busbar.url, alice.email, PASSWORD
    async with Controller(*me) as controller, Browser(*me) as browser:
        assert (await browser.ask("GET", "/auth/me"))["role"] == "admin"
        events = await events_of(browser)
        assert [event["public_id"] for event in (await controller.ask("GET", "/events"))["data"]] == events
        await browser.listen(busbar.ws_url)
        if transport == "websocket":
            await controller.connect(busbar.ws_url)
        await controller.ask("POST", "/logging", json={"content": "Controller started.", "logging_type": "info"})
        await browser.ask("POST", "/experiments", json={"name": "Day"})
        (experiment,) = [row["public_id"] for row in await browser.rows("/experiments")]
        for poll in range(POLLS):
            busbar.clock.forward(seconds=POLL_SECONDS)
            values = {event: reading(channel, poll) for channel, event in enumerate(events)}
            await controller.send(values)
            heard = {point["event_public_id"]: point["value"] for point in (await browser.hear())["datapoints"]}
            assert heard == values
            assert await controller.latest() == values
            if poll < MOST and poll % 30 == 0:
                assert await chart(browser, events[0]) == [reading(0, number) for number in range(poll + 1)]
        await browser.ask("PUT", f"/experiments/{experiment}/stop")
        await check(browser, events, experiment)
        # A token lasts a day: both had to sign in again.
        assert (controller.sign_ins, browser.sign_ins) == (2, 2)


@pytest.mark.parametrize("transport", ["http", "websocket"])
async def test_a_controller_finds_its_device_feeds_it_and_obeys_what_a_browser_switches(start: Start, transport: str) -> None:
    # The controller reads the device, not the server.
    busbar = await start(lab={"plugin_poll_seconds": 0})
    alice = await busbar.person("alice")
    me = busbar.url, alice.email, PASSWORD
    async with Controller(*me) as controller, Browser(*me) as browser:
        await controller.start_up()
        read, written = await controller.sync()
        assert (len(read), set(written)) == (7, {"heater_power", "valve_position"})
        if transport == "websocket":
            await controller.connect(busbar.ws_url)
        await browser.listen(busbar.ws_url)
        for poll in range(3):
            busbar.clock.forward(seconds=1)
            values = {event: reading(channel, poll) for channel, event in enumerate(read.values())}
            await controller.send(values)
            assert {one["event_public_id"]: one["value"] for one in (await browser.hear())["datapoints"]} == values
        # A toggle on a dashboard; the controller writes it to the device, and cycles a valve itself.
        valve = {"event_public_id": written["valve_position"]}
        await browser.ask("POST", "/datapoints", json={"event_public_id": written["heater_power"], "value": 1})
        for position in (1, 0):
            await controller.ask("POST", "/datapoints", json={**valve, "value": position})
        latest = await controller.latest()
        assert (latest[written["heater_power"]], latest[written["valve_position"]]) == (1.0, 0.0)
        # Channels are looked up again every ten seconds: one that was unlinked is not fed any more.
        (instance,) = await browser.rows("/plugins")
        channels = await browser.ask("GET", f"/plugins/{instance['public_id']}/channels", params={"_t": 1})
        gone = next(one for one in channels if one["channel_id"] == "humidity")
        await browser.change(f"/plugins/{instance['public_id']}/channels/{gone['public_id']}", event_public_id=None)
        assert set((await controller.sync())[0]) == set(read) - {"humidity"}
        await browser.change(f"/plugins/{instance['public_id']}", enabled=False)
        assert await controller.sync() == ({}, {})
        await controller.ask("POST", "/logging", json={"content": "Controller stopped.", "logging_type": "info"})


async def test_a_browser_keeps_all_that_its_pages_show(start: Start) -> None:
    busbar = await start(lab={"plugin_poll_seconds": 0, "github_repo": ""})
    alice = await busbar.person("alice")
    async with Browser(busbar.url, alice.email, PASSWORD) as browser, receiving() as receiver:
        assert (await browser.ask("GET", "/auth/sso/config"))["enabled"] is False
        me = await browser.ask("GET", "/auth/me", params={"_t": 1})
        assert (me["admin"], me["role"]) == (True, "admin")
        await plugins(browser)
        event = (await browser.rows("/events"))[0]["public_id"]
        await dashboards(browser, event)
        await reactions(browser, receiver, event)
        await people(browser)
        await updates(browser)
        assert (await browser.ask("POST", "/auth/logout"))["status"] == "success"


async def plugins(browser: Browser) -> None:
    """Make an instance, and install and uninstall a package."""
    assert "simulated" in [one["id"] for one in await browser.ask("GET", "/plugins/available", params={"_t": 1})]
    made = await browser.make("/plugins", plugin_id="simulated", instance_name="Rig", demo_mode=True, config_json="{}")
    assert len(made["channel_mappings"]) == 9
    spare = await browser.make("/plugins", plugin_id="simulated", instance_name="Spare", auto_create_events=False)
    await browser.delete(f"/plugins/{spare['public_id']}")
    said = await browser.upload("/plugins/packages/upload", file_of(), wheel())
    assert said.startswith("Plugin package 'oven-plugin' v1.0.0 installed")
    packages = await browser.ask("GET", "/plugins/packages", params={"_t": 1})
    (package,) = [one for one in packages if one["removable"]]
    await browser.delete(f"/plugins/packages/{package['public_id']}")


async def dashboards(browser: Browser, event: str) -> None:
    """Make a dashboard of which widgets are moved about; both come back as they were made."""
    made = await browser.ask("POST", "/dashboards", json={"name": "Bench", "is_global": False})
    path = f"/dashboards/{made['public_id']}"
    widget = {"widget_type": "line_chart", "title": "T", "event_public_id": event, "x": 0, "y": 0, "w": 4, "h": 3}
    chart = await browser.ask("POST", f"{path}/widgets", json=widget)
    gauge = await browser.ask("POST", f"{path}/widgets", json={**widget, "widget_type": "gauge", "config_json": None})
    await browser.change(f"{path}/widgets/{chart['public_id']}", x=4, y=2, w=8, h=5)
    await browser.delete(f"{path}/widgets/{gauge['public_id']}")
    await browser.change(path, name="Bench 2", is_global=True)
    shown = await browser.ask("GET", path, params={"_t": 1})
    assert shown == (await browser.rows("/dashboards"))[0]
    assert shown["widgets"] == [{**chart, "x": 4, "y": 2, "w": 8, "h": 5}]
    await browser.delete(path)


async def reactions(browser: Browser, receiver: Receiver, event: str) -> None:
    """Let a rule tell a webhook, and look at the delivery."""
    hook = await browser.make("/webhooks", url=receiver.url, secret="s" * 20, events=["sensor.reading"], enabled=True)
    path = f"/webhooks/{hook['public_id']}"
    await browser.change(path, events=["sensor.threshold_exceeded"])
    rule = {"event_public_id": event, "operator": "gt", "threshold": 30, "threshold_high": None, "webhook_event_type": None}
    made = await browser.make("/rules", name="hot", action_type="webhook", cooldown_seconds=0, enabled=True, **rule)
    await browser.change(f"/rules/{made['public_id']}", threshold=20)
    await browser.ask("POST", "/datapoints", json={"event_public_id": event, "value": 25})

    async def delivered() -> list[dict[str, Any]]:
        return [one for one in await browser.rows(f"{path}/deliveries") if one["status"] == "delivered"]

    (delivery,) = await until(delivered)
    assert (delivery["event_type"], delivery["attempts"], delivery["response_code"]) == ("sensor.threshold_exceeded", 1, 200)
    (told,) = receiver.requests
    assert json.loads(told.body)["value"] == 25.0
    assert (await browser.rows("/rules"))[0]["last_triggered_at"] is not None
    await browser.delete(f"/rules/{made['public_id']}")
    await browser.delete(path)


async def people(browser: Browser) -> None:
    """Make a user, and a token that a controller uses in place of a password; pages ask for both with a slash, or without."""
    await browser.ask("POST", "/users/", json={"email": "o@lab.local", "username": "otto", "password": PASSWORD})
    user = (await browser.rows("/users/"))[-1]
    await browser.change(f"/users/{user['public_id']}", role="operator")
    token = await browser.ask("POST", "/tokens", json={"name": "controller", "expires_at": None})
    mine = browser.token
    browser.token = token["token"]
    assert (await browser.ask("GET", "/auth/me"))["username"] == "alice"
    browser.token = mine
    await browser.delete(f"/tokens/{token['public_id']}")
    assert await browser.rows("/tokens") == []
    await browser.delete(f"/users/{user['public_id']}")
    entry = (await browser.rows("/logging/"))[0]
    await browser.change(f"/logging/{entry['public_id']}", status_type="read")


async def updates(browser: Browser) -> None:
    """Register, apply and take back an update, and upload a bundle."""
    update = await browser.make("/ota", version="2.1.0", changelog="New")
    assert (await browser.ask("GET", "/ota/check", params={"_t": 1}))["latest_version"] == "2.1.0"
    for step, status in (("apply", "completed"), ("rollback", "rolled_back")):
        assert (await browser.ask("POST", f"/ota/{update['public_id']}/{step}"))["status"] == "success"
        assert (await browser.rows("/ota"))[0]["status"] == status
    await browser.delete(f"/ota/{update['public_id']}")
    said = await browser.upload("/ota/upload", "webmacs-update-2.2.0.tar.gz", b"bundle")
    assert said.startswith("Bundle 'webmacs-update-2.2.0.tar.gz' uploaded (6 bytes).")


async def check(browser: Browser, events: list[str], experiment: str) -> None:
    """See that all of the day is there, however it is read."""
    page = await browser.ask("GET", "/datapoints", params={"page_size": 100, "page": 10})
    assert (page["total"], len(page["data"])) == (POLLS * CHANNELS, 100)
    places = [int(i * (POLLS / MOST)) for i in range(MOST - 1)] + [POLLS - 1]
    for channel, event in enumerate(events):
        assert await chart(browser, event) == [reading(channel, place) for place in places]
    header, *lines = await browser.csv(experiment)
    assert header == "timestamp,event_name,event_public_id,value,unit,datapoint_public_id"
    values = [(event, repr(reading(channel, poll))) for poll in range(POLLS) for channel, event in enumerate(events)]
    assert [tuple(line.split(",")[2:4]) for line in lines] == values
    contents = [entry["content"] for entry in await browser.rows("/logging/")]
    assert "Controller started." in contents
