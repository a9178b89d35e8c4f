"""A day in the lab: a controller sends what it measures, a browser watches, charts and downloads it."""

from __future__ import annotations

import pytest

from core.lab.event_directory import EventDirectory
from tests.clients.lab import Browser, Controller, reading
from tests.conftest import PASSWORD, Person, Running

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
