"""Datapoints as the lab's clients send and read them."""

from __future__ import annotations

import asyncio
import json
import uuid
from typing import Any

import httpx
import pytest

from core.kernel.errors import Unavailable
from core.lab.event_directory import EventDirectory
from core.lab.hooks import Webhooks
from gen.busbar.api.v1.options_pb import CredentialKind
from tests.conftest import Person, Running, Start
from tests.lab.conftest import MakeEvent, make_event, person, sign_in
from tests.lab.things import log_of, make, rule


async def send(client: httpx.AsyncClient, *points: tuple[str, Any]) -> str:
    """Send a batch and return what the server says."""
    batch = [{"value": value, "event_public_id": public_id} for public_id, value in points]
    answer = await client.post("/api/v1/datapoints/batch", json={"datapoints": batch})
    assert answer.status_code == 201, answer.text
    return answer.json()["message"]


async def series(client: httpx.AsyncClient, *public_ids: str, **more: int) -> dict[str, list[dict[str, Any]]]:
    """Read series."""
    answer = await client.post("/api/v1/datapoints/series", json={"event_public_ids": public_ids, **more})
    assert answer.status_code == 200, answer.text
    return answer.json()


async def test_one_value_is_stored_and_read_back_at_once(admin: httpx.AsyncClient, event: MakeEvent) -> None:
    temperature = await event()
    answer = await admin.post("/api/v1/datapoints", json={"value": "21.5", "event_public_id": temperature, "timestamp": "1999"})
    assert (answer.status_code, answer.json()) == (201, {"status": "success", "message": "1 datapoint successfully created."})
    page = (await admin.get("/api/v1/datapoints")).json()
    (point,) = page["data"]
    assert (page["page"], page["page_size"], page["total"]) == (1, 25, 1)
    assert uuid.UUID(point["public_id"]).version == 8
    assert point["timestamp"].endswith("Z")
    assert {**point, "public_id": 0, "timestamp": 0} == {
        "public_id": 0, "value": 21.5, "timestamp": 0, "event_public_id": temperature, "experiment_public_id": None,
    }  # fmt: skip
    assert (await admin.get(f"/api/v1/datapoints/{point['public_id']}")).json() == point
    assert (await admin.get("/api/v1/datapoints/latest")).json() == [point]
    assert await series(admin, temperature) == {temperature: [point]}


async def test_a_value_for_an_event_that_does_not_count_is_refused(
    busbar: Running, admin: httpx.AsyncClient, eve: Person
) -> None:
    unmapped, foreign = await make_event(admin, "unmapped"), await make_event(await sign_in(busbar, eve.email), "foreign")
    answer = await admin.post("/api/v1/datapoints", json={"value": 1, "event_public_id": unmapped})
    assert (answer.status_code, answer.json()) == (409, {"detail": "Event is not linked to an enabled plugin instance."})
    for unknown in (foreign, str(uuid.uuid4())):
        answer = await admin.post("/api/v1/datapoints", json={"value": 1, "event_public_id": unknown})
        assert (answer.status_code, answer.json()) == (404, {"detail": "Event not found."})


async def test_a_batch_has_one_time_and_leaves_out_what_does_not_count(admin: httpx.AsyncClient, event: MakeEvent) -> None:
    first, second, unmapped = await event("first"), await event("second"), await make_event(admin, "unmapped")
    said = await send(admin, (first, 1), (unmapped, 2), (second, 3), ("unknown", 4), (first, 5), (first, 5))
    assert said == "4 datapoints successfully created."
    page = (await admin.get("/api/v1/datapoints")).json()
    assert page["total"] == 4
    assert len({point["timestamp"] for point in page["data"]}) == 1
    assert [point["value"] for point in page["data"] if point["event_public_id"] == first] == [5.0, 5.0, 1.0]
    latest = {point["event_public_id"]: point for point in (await admin.get("/api/v1/datapoints/latest")).json()}
    assert {public_id: point["value"] for public_id, point in latest.items()} == {first: 5.0, second: 3.0}
    # Of one instant it is the one stored last, and it can be told from its equal.
    assert latest[first] == page["data"][0]
    assert await send(admin) == "0 datapoints successfully created."
    assert await send(admin, ("unknown", 1)) == "0 datapoints successfully created."


@pytest.mark.parametrize(
    ("body", "where", "kind"),
    [
        ({}, ["body", "datapoints"], "missing"),
        ({"datapoints": None}, ["body", "datapoints"], "list_type"),
        ({"datapoints": [{"value": 1, "event_public_id": "x"}] * 501}, ["body", "datapoints"], "too_long"),
        (
            {"datapoints": [{"value": 1, "event_public_id": "x"}, {"value": 1}]},
            ["body", "datapoints", 1, "event_public_id"],
            "missing",
        ),
        ({"datapoints": [{"value": "NaN", "event_public_id": "x"}]}, ["body", "datapoints", 0, "value"], "finite_number"),
        ({"datapoints": [{"value": "hot", "event_public_id": "x"}]}, ["body", "datapoints"], None),
    ],
)
async def test_a_batch_that_breaks_a_rule_is_refused_whole(
    admin: httpx.AsyncClient, body: dict[str, Any], where: list[Any], kind: str | None
) -> None:
    answer = await admin.post("/api/v1/datapoints/batch", json=body)
    (violation,) = answer.json()["detail"]
    assert (answer.status_code, violation["loc"][: len(where)]) == (422, where)
    assert kind in (None, violation["type"])
    assert (await admin.get("/api/v1/datapoints")).json()["total"] == 0


@pytest.mark.parametrize("text", ['{"value": NaN, "event_public_id": "x"}', '{"value": Infinity, "event_public_id": "x"}'])
async def test_a_bare_nan_is_no_json(admin: httpx.AsyncClient, text: str) -> None:
    answer = await admin.post("/api/v1/datapoints", content=text, headers={"content-type": "application/json"})
    assert (answer.status_code, answer.json()["detail"][0]["type"]) == (422, "json_invalid")


async def test_batches_that_come_at_once_are_all_kept_apart(admin: httpx.AsyncClient, event: MakeEvent) -> None:
    temperature = await event()
    await asyncio.gather(*(send(admin, (temperature, 1), (temperature, 1)) for _ in range(50)))
    first, second = [(await admin.get("/api/v1/datapoints", params={"page_size": 50, "page": page})).json() for page in (1, 2)]
    points = first["data"] + second["data"]
    assert (first["total"], len(points), len({point["public_id"] for point in points})) == (100, 100, 100)
    assert len({point["timestamp"] for point in points}) == 50
    assert [point["timestamp"] for point in points] == sorted((point["timestamp"] for point in points), reverse=True)


async def test_pages_go_back_to_the_first_datapoint_and_end_there(admin: httpx.AsyncClient, event: MakeEvent) -> None:
    events = [await event(name) for name in "ab"]
    for value in range(6):
        await send(admin, *((public_id, value) for public_id in events))
    pages = [(await admin.get("/api/v1/datapoints", params={"page": page, "page_size": 5})).json() for page in (1, 2, 3, 4)]
    assert [len(page["data"]) for page in pages] == [5, 5, 2, 0]
    assert {page["total"] for page in pages} == {12}
    values = [point["value"] for page in pages for point in page["data"]]
    assert values == sorted(values, reverse=True)
    for query in ({"page": 0}, {"page_size": 101}, {"page_size": "x"}):
        assert (await admin.get("/api/v1/datapoints", params=query)).status_code == 422


async def test_a_deleted_datapoint_is_gone_everywhere_and_the_one_before_is_the_latest(
    busbar: Running, admin: httpx.AsyncClient, event: MakeEvent, eve: Person
) -> None:
    temperature = await event()
    await send(admin, (temperature, 1))
    await send(admin, (temperature, 2))
    newest = (await admin.get("/api/v1/datapoints")).json()["data"][0]["public_id"]
    stranger = await sign_in(busbar, eve.email)
    for hidden in (await stranger.get(f"/api/v1/datapoints/{newest}"), await stranger.delete(f"/api/v1/datapoints/{newest}")):
        assert (hidden.status_code, hidden.json()) == (404, {"detail": f"Datapoint '{newest}' not found."})
    answer = await admin.delete(f"/api/v1/datapoints/{newest}")
    assert (answer.status_code, answer.json()["message"]) == (200, "Datapoint successfully deleted.")
    for gone in (await admin.get(f"/api/v1/datapoints/{newest}"), await admin.delete(f"/api/v1/datapoints/{newest}")):
        assert (gone.status_code, gone.json()) == (404, {"detail": f"Datapoint '{newest}' not found."})
    assert [point["value"] for point in (await admin.get("/api/v1/datapoints/latest")).json()] == [1.0]
    assert (await admin.get("/api/v1/datapoints")).json()["total"] == 1
    for unknown in (str(uuid.uuid4()), "x", "0" * 64):
        assert (await admin.get(f"/api/v1/datapoints/{unknown}")).status_code == 404


async def test_a_series_has_exactly_the_points_that_are_counted_out(admin: httpx.AsyncClient, event: MakeEvent) -> None:
    temperature, silent = await event(), await event("silent")
    count = 237
    for start in range(0, count, 79):
        await send(admin, *((temperature, value) for value in range(start, start + 79)))
    found = await series(admin, temperature, silent, "unknown", max_points=100)
    assert list(found) == [temperature, silent, "unknown"]
    assert (found[silent], found["unknown"]) == ([], [])
    places = [int(i * (count / 100)) for i in range(99)] + [count - 1]
    assert [point["value"] for point in found[temperature]] == [float(place) for place in places]
    assert len((await series(admin, temperature))[temperature]) == count


async def test_a_series_begins_so_many_minutes_ago(busbar: Running, admin: httpx.AsyncClient, event: MakeEvent) -> None:
    temperature = await event()
    await send(admin, (temperature, 1))
    busbar.clock.forward(seconds=90)
    await send(admin, (temperature, 2))
    assert [point["value"] for point in (await series(admin, temperature, minutes=1))[temperature]] == [2.0]
    assert [point["value"] for point in (await series(admin, temperature, minutes=2))[temperature]] == [1.0, 2.0]


@pytest.mark.parametrize(
    ("body", "name"),
    [
        ({}, "event_public_ids"),
        ({"event_public_ids": []}, "event_public_ids"),
        ({"event_public_ids": ["x"] * 21}, "event_public_ids"),
        ({"event_public_ids": ["x"], "minutes": 0}, "minutes"),
        ({"event_public_ids": ["x"], "minutes": 14401}, "minutes"),
        ({"event_public_ids": ["x"], "max_points": 9}, "max_points"),
        ({"event_public_ids": ["x"], "max_points": 2001}, "max_points"),
    ],
)
async def test_a_series_out_of_bounds_is_refused(admin: httpx.AsyncClient, body: dict[str, Any], name: str) -> None:
    answer = await admin.post("/api/v1/datapoints/series", json=body)
    assert (answer.status_code, answer.json()["detail"][0]["loc"]) == (422, ["body", name])


async def test_the_latest_datapoints_are_the_same_after_a_restart(start: Start) -> None:
    busbar = await start()
    alice = await busbar.person("alice")
    admin = await sign_in(busbar, alice.email)
    busbar.app.found.part(EventDirectory).on_mapping(lambda _org, _event: True)
    temperature = await make_event(admin, "T")
    await admin.post("/api/v1/experiments", json={"name": "run"})
    await send(admin, (temperature, 1), (temperature, 2), (temperature, 2))
    before = (await admin.get("/api/v1/datapoints/latest")).json()
    again = await start()
    after = (await (await sign_in(again, alice.email)).get("/api/v1/datapoints/latest")).json()
    assert after == before
    assert before[0]["experiment_public_id"] is not None


async def test_viewers_read_and_operators_send(busbar: Running, admin: httpx.AsyncClient, event: MakeEvent) -> None:
    temperature = await event()
    viewer, operator = await person(busbar, admin, "vera", "viewer"), await person(busbar, admin, "otto", "operator")
    await send(operator, (temperature, 1))
    (point,) = (await viewer.get("/api/v1/datapoints")).json()["data"]
    assert len((await series(viewer, temperature))[temperature]) == 1
    for refused in (
        await viewer.post("/api/v1/datapoints", json={}),
        await viewer.post("/api/v1/datapoints/batch", json={}),
        await viewer.delete(f"/api/v1/datapoints/{point['public_id']}"),
    ):
        assert (refused.status_code, refused.json()) == (403, {"detail": "Operator privileges required."})


@pytest.mark.parametrize("door", ["grpc", "rest", "mcp"])
async def test_values_are_read_at_every_door(
    busbar: Running, admin: httpx.AsyncClient, alice: Person, event: MakeEvent, door: str
) -> None:
    temperature = await event()
    await send(admin, (temperature, 1), (temperature, 2))
    credential = await busbar.key(alice, CredentialKind.AGENT_KEY, "lab:read") if door == "mcp" else alice.session
    client = busbar.client(door, credential)
    (latest,) = (await client.call("DatapointService.ListLatestDatapoints")).datapoints
    assert (latest.value, latest.event_public_id) == (2.0, temperature)
    found = await client.call("DatapointService.ReadSeries", event_public_ids=[temperature], max_points=10)
    assert [point["value"] for point in found.series[temperature].to_python()] == [1.0, 2.0]


async def test_values_are_sent_over_grpc(busbar: Running, alice: Person, event: MakeEvent) -> None:
    client, temperature = busbar.client("grpc", alice.session), await event()
    await client.call("DatapointService.CreateDatapoint", value=1, event_public_id=temperature)
    batch = [{"value": 2, "event_public_id": temperature}]
    assert (await client.call("DatapointService.CreateDatapoints", datapoints=batch)).message.startswith("1 ")
    page = await client.call("DatapointService.ListDatapoints")
    assert [point.value for point in page.data] == [2.0, 1.0]
    await client.call("DatapointService.DeleteDatapoint", public_id=page.data[0].public_id)
    assert (await client.call("DatapointService.GetDatapoint", public_id=page.data[1].public_id)).value == 1.0


async def test_rules_see_the_last_value_of_each_event_and_readings_the_first_of_a_burst(
    admin: httpx.AsyncClient, busbar: Running, event: MakeEvent
) -> None:
    first, second = await event("first"), await event("second")
    for public_id in (first, second):
        await make(admin, "rules", rule(public_id, name=public_id, threshold=0, cooldown_seconds=0, action_type="log"))
    await make(admin, "webhooks", {"url": "http://127.0.0.1:9/", "events": ["sensor.reading"]})
    # Both are there when the sender is answered.
    await send(admin, (first, 1), (second, 2), (first, 3))
    assert {entry["content"].split(" (")[0] for entry in await log_of(admin)} == {
        f"Rule '{first}' triggered: value 3.0 gt 0.0", f"Rule '{second}' triggered: value 2.0 gt 0.0",
    }  # fmt: skip
    assert await readings(busbar) == [(first, 1.0), (second, 2.0)]
    busbar.clock.forward(seconds=4)
    await send(admin, (first, 4))
    assert len(await readings(busbar)) == 2
    busbar.clock.forward(seconds=1.1)
    await send(admin, (first, 5), (first, 6))
    assert (await readings(busbar))[2:] == [(first, 5.0)]


async def readings(busbar: Running) -> list[tuple[str, float]]:
    """Return what webhooks were told, or will be."""
    rows = await busbar.app.database.query(lambda tx: tx.fetch("SELECT payload FROM outbox ORDER BY rowid"))
    told = [json.loads(row[0]) for row in rows]
    return [(body["sensor"], body["value"]) for body in told]


async def test_a_webhook_that_cannot_be_told_now_refuses_nothing_and_is_told_of_the_next_value(
    admin: httpx.AsyncClient, busbar: Running, event: MakeEvent, monkeypatch: pytest.MonkeyPatch
) -> None:
    temperature = await event()
    await make(admin, "webhooks", {"url": "http://127.0.0.1:9/", "events": ["sensor.reading"]})

    async def away(*_: object) -> None:
        raise Unavailable("storage is away")

    with monkeypatch.context() as patched:
        patched.setattr(Webhooks, "dispatch", away)
        assert await send(admin, (temperature, 1)) == "1 datapoints successfully created."
    assert await readings(busbar) == []
    await send(admin, (temperature, 2))
    assert await readings(busbar) == [(temperature, 2.0)]


async def test_a_time_that_is_taken_on_a_linked_channel_gives_way_to_the_next(
    busbar: Running, alice: Person, admin: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    telemetry = busbar.http(**{"x-api-key": await busbar.key(alice, CredentialKind.TELEMETRY_KEY, "write")})
    now = busbar.clock.now_us() // 1_000_000 * 1_000_000
    monkeypatch.setattr(busbar.clock, "now_us", lambda: now)
    body = {"source_id": "rig", "points": [{"metric": "t", "value": 1, "timestamp": now // 1000}]}
    assert (await telemetry.post("/ingest", content=json.dumps(body))).status_code == 200
    linked = (await admin.post("/api/v1/events/link", json={"source_id": "rig", "metric": "t"})).json()["public_id"]
    assert await send(admin, (linked, 2), (linked, 3)) == "2 datapoints successfully created."
    assert [point["value"] for point in (await admin.get("/api/v1/datapoints")).json()["data"]] == [3.0, 2.0, 1.0]
