"""A pin of a board or a metric of a source as an event of the lab."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
import websockets

from core.lab.event_directory import EventDirectory
from gen.busbar.api.v1.options_pb import CredentialKind
from tests.conftest import Person, Running
from tests.lab.conftest import make_event, person, sign_in
from tests.lab.sockets import hear, stream
from tests.lab.test_datapoints import send, series
from tests.lab.test_experiments import begin, export


@pytest.fixture
async def home(busbar: Running, alice: Person) -> httpx.AsyncClient:
    """Home Assistant, as it writes pins."""
    return busbar.http(await busbar.key(alice, CredentialKind.AGENT_KEY, "pins:read", "pins:write"))


async def link(client: httpx.AsyncClient, source_id: str, metric: str, **values: object) -> dict[str, Any]:
    """Make an event of a channel."""
    answer = await client.post("/api/v1/events/link", json={"source_id": source_id, "metric": metric, **values})
    assert answer.status_code == 201, answer.text
    return answer.json()


async def test_a_pin_written_by_home_assistant_is_a_datapoint_that_is_watched_charted_and_exported(
    busbar: Running, admin: httpx.AsyncClient, home: httpx.AsyncClient, bench: Any
) -> None:
    await home.post(f"/api/ha/board/{bench.id}/pin/2", content=b"20")
    event = await link(admin, bench.id, "V2", name="Hall", unit="°C")
    # What came before the link is there too.
    assert [point["value"] for point in (await series(admin, event["public_id"]))[event["public_id"]]] == [20.0]
    run = await begin(admin, "run")
    async with stream(busbar, admin) as socket:
        await home.post(f"/api/ha/board/{bench.id}/pin/2", content=b"21.5")
        (live,) = (await hear(socket))["datapoints"]
    assert (live["value"], live["event_public_id"], live["experiment_public_id"]) == (21.5, event["public_id"], run)
    await admin.put(f"/api/v1/experiments/{run}/stop")
    await home.post(f"/api/ha/board/{bench.id}/pin/2", content=b"22")
    found = (await series(admin, event["public_id"]))[event["public_id"]]
    assert [(point["value"], point["experiment_public_id"]) for point in found] == [(20.0, None), (21.5, run), (22.0, None)]
    page = (await admin.get("/api/v1/datapoints")).json()
    assert (page["total"], page["data"]) == (3, found[::-1])
    assert (await admin.get("/api/v1/datapoints/latest")).json() == [found[-1]]
    assert (await admin.get(f"/api/v1/datapoints/{found[1]['public_id']}")).json() == found[1]
    (row,) = await export(admin, run)
    assert row[1:] == ["Hall", event["public_id"], "21.5", "°C", found[1]["public_id"]]


async def test_a_pin_that_rules_look_at_is_found_by_its_channel(
    busbar: Running, admin: httpx.AsyncClient, alice: Person, home: httpx.AsyncClient, bench: Any
) -> None:
    await home.post(f"/api/ha/board/{bench.id}/pin/2", content=b"20")
    event = await link(admin, bench.id, "V2")
    directory, signals = busbar.app.found.part(EventDirectory), busbar.app.signals
    device = signals.find_device(alice.org_id, bench.id)
    assert device is not None
    channel = signals.find_channel(device.id, "V2")
    assert channel is not None
    (known,) = directory.by_channel(channel.id)
    assert (known.public_id, known.linked, directory.mapped(known)) == (event["public_id"], True, True)


async def test_a_metric_of_telemetry_is_linked_with_the_names_that_are_left_out(
    busbar: Running, admin: httpx.AsyncClient, alice: Person
) -> None:
    telemetry = busbar.http(**{"x-api-key": await busbar.key(alice, CredentialKind.TELEMETRY_KEY, "write")})
    now = busbar.clock.now_us() // 1000
    points = [{"metric": "temp", "value": value, "timestamp": now - 3000 + at} for at, value in enumerate((5, "text", True))]
    assert (await telemetry.post("/ingest", json={"source_id": "rig", "points": points})).status_code == 200
    event = await link(admin, "rig", "temp")
    assert {**event, "public_id": "", "user_public_id": ""} == {
        "public_id": "", "name": "rig \u2013 temp", "min_value": 0.0, "max_value": 100.0, "unit": "", "type": "sensor",
        "user_public_id": "",
    }  # fmt: skip
    # Switches count as numbers; texts are no datapoints.
    page = (await admin.get("/api/v1/datapoints")).json()
    assert (page["total"], [point["value"] for point in page["data"]]) == (2, [1.0, 5.0])
    assert [point["value"] for point in (await admin.get("/api/v1/datapoints/latest")).json()] == [1.0]


async def test_the_lab_writes_to_a_linked_pin_and_its_board_hears_it(
    busbar: Running, admin: httpx.AsyncClient, alice: Person, home: httpx.AsyncClient, bench: Any
) -> None:
    await home.post(f"/api/ha/board/{bench.id}/pin/3", content=b"0")
    event = await link(admin, bench.id, "V3", type="actuator")
    url = f"{busbar.ws_url}/ws/boards/{bench.id}/pins?token={alice.session}"
    async with websockets.connect(url) as socket:
        assert (await hear(socket))["type"] == "snapshot"
        await send(admin, (event["public_id"], 1))
        frame = await hear(socket)
    assert (frame["pin"]["pinIndex"], frame["pin"]["value"]) == (3, 1)


async def test_a_channel_is_one_event_and_only_of_its_organisation(
    busbar: Running, admin: httpx.AsyncClient, home: httpx.AsyncClient, bench: Any, eve: Person
) -> None:
    await home.post(f"/api/ha/board/{bench.id}/pin/2", content=b"20")
    await make_event(admin, "taken")
    body = {"source_id": bench.id, "metric": "V2"}
    refused = await admin.post("/api/v1/events/link", json={**body, "name": "taken"})
    assert (refused.status_code, refused.json()) == (409, {"detail": "Event already exists."})
    await link(admin, bench.id, "V2")
    refused = await admin.post("/api/v1/events/link", json={**body, "name": "again"})
    assert (refused.status_code, refused.json()) == (409, {"detail": "Event already exists."})
    for client, unknown in (
        (await sign_in(busbar, eve.email), body),
        (admin, {**body, "metric": "V9"}),
        (admin, {**body, "source_id": "nobody"}),
        (admin, {**body, "source_id": "lab-events~"}),
    ):
        assert (await client.post("/api/v1/events/link", json=unknown)).status_code == 404
    viewer = await person(busbar, admin, "vera", "viewer")
    assert (await viewer.post("/api/v1/events/link", json=body)).status_code == 403


async def test_a_linked_event_that_is_deleted_leaves_the_pin_its_points(
    busbar: Running, admin: httpx.AsyncClient, home: httpx.AsyncClient, bench: Any, alice: Person
) -> None:
    await home.post(f"/api/ha/board/{bench.id}/pin/2", content=b"20")
    event = await link(admin, bench.id, "V2")
    await admin.delete(f"/api/v1/events/{event['public_id']}")
    assert (await admin.get("/api/v1/datapoints")).json()["total"] == 0
    pin = await busbar.client("grpc", alice.session).call("PinService.ReadPin", board_id=bench.id, pin_index=2)
    assert pin.value.to_python() == 20
    again = await link(admin, bench.id, "V2")
    assert [point["value"] for point in (await series(admin, again["public_id"]))[again["public_id"]]] == [20.0]


async def test_an_event_whose_board_is_gone_stays_without_datapoints(
    busbar: Running, admin: httpx.AsyncClient, home: httpx.AsyncClient, bench: Any, alice: Person
) -> None:
    await home.post(f"/api/ha/board/{bench.id}/pin/2", content=b"20")
    event = await link(admin, bench.id, "V2")
    await busbar.client("grpc", alice.session).call("BoardService.DeleteBoard", board_id=bench.id)
    assert (await admin.get("/api/v1/events")).json()["total"] == 1
    assert await series(admin, event["public_id"]) == {event["public_id"]: []}
    assert (await admin.get("/api/v1/datapoints/latest")).json() == []
    refused = await admin.post("/api/v1/datapoints", json={"value": 1, "event_public_id": event["public_id"]})
    assert refused.status_code == 409


async def test_deleting_an_experiment_leaves_what_a_pin_measured_meanwhile(
    admin: httpx.AsyncClient, home: httpx.AsyncClient, bench: Any
) -> None:
    await home.post(f"/api/ha/board/{bench.id}/pin/2", content=b"20")
    event = await link(admin, bench.id, "V2")
    run = await begin(admin, "run")
    await home.post(f"/api/ha/board/{bench.id}/pin/2", content=b"21")
    await send(admin, (event["public_id"], 99))
    assert [row[3] for row in await export(admin, run)] == ["21.0", "99.0"]
    await admin.delete(f"/api/v1/experiments/{run}")
    found = (await series(admin, event["public_id"]))[event["public_id"]]
    assert [point["value"] for point in found] == [20.0, 21.0]
