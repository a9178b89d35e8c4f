"""Events as the lab's clients keep them."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest

from core.lab.erasing import Erasing
from core.lab.event_keeper import DEVICE
from gen.busbar.api.v1.options_pb import CredentialKind
from tests.conftest import Person, Running, Start
from tests.doors import Refused
from tests.lab.conftest import MakeEvent, make_event, person, sign_in

BODY = {"name": "Temperature", "min_value": "1.5", "max_value": 20, "unit": "°C", "type": "sensor"}


async def test_an_event_is_made_listed_changed_and_deleted(admin: httpx.AsyncClient, alice: Person) -> None:
    answer = await admin.post("/api/v1/events", json=BODY)
    assert (answer.status_code, answer.json()) == (201, {"status": "success", "message": "Event successfully created."})
    page = (await admin.get("/api/v1/events/", params={"_t": 1})).json()
    (event,) = page.pop("data")
    assert page == {"page": 1, "page_size": 25, "total": 1}
    public_id = event.pop("public_id")
    assert event == {**BODY, "min_value": 1.5, "max_value": 20.0, "user_public_id": alice.id}
    answer = await admin.put(f"/api/v1/events/{public_id}", json={"unit": "K", "max_value": 30})
    assert (answer.status_code, answer.json()["message"]) == (200, "Event successfully updated.")
    changed = (await admin.get(f"/api/v1/events/{public_id}")).json()
    assert (changed["unit"], changed["max_value"], changed["min_value"]) == ("K", 30.0, 1.5)
    answer = await admin.delete(f"/api/v1/events/{public_id}")
    assert (answer.status_code, answer.json()["message"]) == (200, "Event successfully deleted.")
    for gone in (await admin.get(f"/api/v1/events/{public_id}"), await admin.delete(f"/api/v1/events/{public_id}")):
        assert (gone.status_code, gone.json()) == (404, {"detail": f"Event '{public_id}' not found."})


async def test_events_are_listed_in_the_order_in_which_they_were_made(admin: httpx.AsyncClient) -> None:
    for name in ("c", "a", "b"):
        await make_event(admin, name)
    assert [event["name"] for event in (await admin.get("/api/v1/events")).json()["data"]] == ["c", "a", "b"]
    page = (await admin.get("/api/v1/events", params={"page": 2, "page_size": 2})).json()
    assert ([event["name"] for event in page["data"]], page["total"]) == (["b"], 3)


@pytest.mark.parametrize(
    ("change", "where", "kind"),
    [
        ({"name": None}, "name", "string_type"),
        ({"name": ""}, "name", "string_too_short"),
        ({"name": "n" * 256}, "name", "string_too_long"),
        ({"type": "nonsense"}, "type", "enum"),
        ({"unit": ""}, "unit", "string_too_short"),
        ({"min_value": "NaN"}, "min_value", "finite_number"),
        ({"max_value": "much"}, "max_value", "float_parsing"),
    ],
)
async def test_a_value_that_breaks_a_rule_is_named_and_changes_nothing(
    admin: httpx.AsyncClient, change: dict[str, Any], where: str, kind: str
) -> None:
    public_id = await make_event(admin, "Temperature")
    before = (await admin.get(f"/api/v1/events/{public_id}")).json()
    refused = await admin.put(f"/api/v1/events/{public_id}", json={"unit": "K", **change})
    (violation,) = refused.json()["detail"]
    assert (refused.status_code, violation["loc"], violation["type"]) == (422, ["body", where], kind)
    assert (await admin.get(f"/api/v1/events/{public_id}")).json() == before
    if change != {"name": None}:
        refused = await admin.post("/api/v1/events", json={**BODY, "name": "Other", **change})
        assert (refused.status_code, refused.json()["detail"][0]["loc"]) == (422, ["body", where])


async def test_everything_that_is_missing_is_named(admin: httpx.AsyncClient) -> None:
    refused = await admin.post("/api/v1/events", json={})
    assert refused.status_code == 422
    named = {(violation["loc"][1], violation["type"]) for violation in refused.json()["detail"]}
    assert named == {(name, "missing") for name in BODY}


async def test_a_name_is_unique_in_its_organisation_only(busbar: Running, admin: httpx.AsyncClient, eve: Person) -> None:
    await make_event(admin, "Temperature")
    other = await make_event(admin, "Pressure")
    for refused in (
        await admin.post("/api/v1/events", json=BODY),
        await admin.put(f"/api/v1/events/{other}", json={"name": "Temperature"}),
    ):
        assert (refused.status_code, refused.json()) == (409, {"detail": "Event already exists."})
    assert await make_event(await sign_in(busbar, eve.email), "Temperature")


async def test_of_several_who_make_an_event_at_once_one_succeeds_and_nothing_is_left_of_the_others(
    busbar: Running, admin: httpx.AsyncClient, alice: Person
) -> None:
    answers = await asyncio.gather(*(admin.post("/api/v1/events", json=BODY) for _ in range(8)))
    assert sorted(answer.status_code for answer in answers) == [201] + [409] * 7
    await busbar.app.found.part(Erasing).settled()
    device = busbar.app.signals.find_device(alice.org_id, DEVICE)
    assert device is not None
    assert len(busbar.app.signals.channels(device.id)) == 1


async def test_viewers_read_events_and_operators_make_them(busbar: Running, admin: httpx.AsyncClient) -> None:
    viewer, operator = await person(busbar, admin, "vera", "viewer"), await person(busbar, admin, "otto", "operator")
    public_id = await make_event(operator, "Temperature")
    assert (await viewer.get(f"/api/v1/events/{public_id}")).status_code == 200
    for refused in (
        await viewer.post("/api/v1/events", json={}),
        await viewer.put(f"/api/v1/events/{public_id}", json={}),
        await viewer.delete(f"/api/v1/events/{public_id}"),
    ):
        assert (refused.status_code, refused.json()) == (403, {"detail": "Operator privileges required."})


async def test_events_of_another_organisation_do_not_exist(busbar: Running, admin: httpx.AsyncClient, eve: Person) -> None:
    public_id = await make_event(admin, "Temperature")
    stranger = await sign_in(busbar, eve.email)
    assert (await stranger.get("/api/v1/events")).json()["total"] == 0
    for refused in (
        await stranger.get(f"/api/v1/events/{public_id}"),
        await stranger.put(f"/api/v1/events/{public_id}", json={"unit": "K"}),
        await stranger.delete(f"/api/v1/events/{public_id}"),
    ):
        assert (refused.status_code, refused.json()) == (404, {"detail": f"Event '{public_id}' not found."})


async def test_a_deleted_event_takes_its_datapoints_along(busbar: Running, admin: httpx.AsyncClient, event: MakeEvent) -> None:
    first, second = await event("first"), await event("second")
    batch = [{"value": 1, "event_public_id": first}, {"value": 2, "event_public_id": second}]
    await admin.post("/api/v1/datapoints/batch", json={"datapoints": batch})
    await admin.delete(f"/api/v1/events/{first}")
    page = (await admin.get("/api/v1/datapoints")).json()
    assert (page["total"], [point["event_public_id"] for point in page["data"]]) == (1, [second])
    assert [point["event_public_id"] for point in (await admin.get("/api/v1/datapoints/latest")).json()] == [second]
    await busbar.app.found.part(Erasing).settled()
    stored = await busbar.app.database.query(lambda tx: tx.fetch("SELECT count(*) FROM point"))
    assert stored[0][0] == 1


async def test_a_deletion_that_a_stop_cut_off_is_finished_at_the_next_start(start: Start) -> None:
    busbar = await start()
    alice = await busbar.person("alice")
    # As if the row had gone and then the power.
    device = await busbar.app.signals.ensure_device(alice.org_id, DEVICE, name="Lab", kind="lab")
    await busbar.app.signals.ensure_channel(device.id, "an event that is gone")
    again = await start()
    await again.app.found.part(Erasing).settled()
    assert await again.app.database.query(lambda tx: tx.fetch("SELECT id FROM channel")) == []


async def test_a_user_who_is_deleted_takes_events_and_experiments_along(
    busbar: Running, admin: httpx.AsyncClient, mapped: set[str]
) -> None:
    otto = await person(busbar, admin, "otto", "operator")
    otto_id = (await otto.get("/api/v1/auth/me")).json()["public_id"]
    mapped.update((theirs := await make_event(otto, "theirs"), mine := await make_event(admin, "mine")))
    await otto.post("/api/v1/experiments", json={"name": "run"})
    for public_id in (theirs, mine):
        await admin.post("/api/v1/datapoints", json={"value": 1, "event_public_id": public_id})
    assert (await admin.delete(f"/api/v1/users/{otto_id}")).status_code == 200
    assert [event["name"] for event in (await admin.get("/api/v1/events")).json()["data"]] == ["mine"]
    assert (await admin.get("/api/v1/experiments")).json()["total"] == 0
    await busbar.app.found.part(Erasing).settled()
    # What was measured in their experiment belonged to it.
    assert (await admin.get("/api/v1/datapoints")).json()["total"] == 0
    assert (await admin.post("/api/v1/experiments", json={"name": "run"})).status_code == 201


async def test_the_device_of_events_is_kept_by_the_lab(busbar: Running, admin: httpx.AsyncClient, alice: Person) -> None:
    await make_event(admin, "Temperature")
    key = await busbar.key(alice, CredentialKind.TELEMETRY_KEY)
    telemetry = busbar.http(**{"x-api-key": key})
    assert (await telemetry.delete(f"/api/sources/{DEVICE}")).status_code >= 400
    assert (await telemetry.patch(f"/api/sources/{DEVICE}", json={"recording": False})).status_code >= 400
    body = {"source_id": DEVICE, "points": [{"metric": "x", "value": 1}]}
    assert (await telemetry.post("/ingest", json=body)).status_code == 400
    assert (await admin.get("/api/v1/events")).json()["total"] == 1


@pytest.mark.parametrize("door", ["grpc", "rest"])
async def test_events_are_kept_at_every_door(busbar: Running, alice: Person, door: str) -> None:
    client = busbar.client(door, alice.session)
    await client.call("EventService.CreateEvent", name="T", min_value=0, max_value=1, unit="K", type="range")
    (event,) = (await client.call("EventService.ListEvents")).data
    await client.call("EventService.UpdateEvent", public_id=event.public_id, name="U")
    assert (await client.call("EventService.GetEvent", public_id=event.public_id)).name == "U"
    await client.call("EventService.DeleteEvent", public_id=event.public_id)
    with pytest.raises(Refused, match="NOT_FOUND"):
        await client.call("EventService.GetEvent", public_id=event.public_id)


async def test_an_agent_lists_events(busbar: Running, admin: httpx.AsyncClient, alice: Person) -> None:
    public_id = await make_event(admin, "Temperature")
    agent = busbar.client("mcp", await busbar.key(alice, CredentialKind.AGENT_KEY, "lab:read"))
    assert [event.public_id for event in (await agent.call("EventService.ListEvents")).data] == [public_id]
