"""Sources over every door that has them."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest

from core.storage.tx import Tx
from gen.busbar.api.v1.options_pb import CredentialKind
from tests.conftest import Person, Running, Start
from tests.databases import database_url, postgres
from tests.doors import Refused
from tests.telemetry.tokens import device_token

__all__ = ["database_url", "postgres"]

NEW = {"source_type": "device", "slug": "rig-1", "device_type": "script", "metadata": {"os": "Linux", "cores": 4}}


@pytest.fixture
async def device(busbar: Running, alice: Person) -> httpx.AsyncClient:
    """A client with a telemetry key that may write and read."""
    key = await busbar.key(alice, CredentialKind.TELEMETRY_KEY, "write", "read")
    return busbar.http(**{"X-Api-Key": key})


async def send(device: httpx.AsyncClient, source: str, **values: Any) -> None:
    """Send one point of each metric now."""
    points = [{"metric": name, "value": value} for name, value in values.items()]
    answer = await device.post("/ingest", json={"source_id": source, "points": points})
    assert answer.status_code == 200, answer.text


async def listed(device: httpx.AsyncClient, **query: Any) -> list[str]:
    """Return the slugs of a list."""
    answer = await device.get("/api/sources", params=query)
    assert answer.status_code == 200, answer.text
    return [source["slug"] for source in answer.json()["sources"]]


async def test_a_new_source_answers_in_its_envelope_and_is_pending(device: httpx.AsyncClient) -> None:
    answer = await device.post("/api/sources", json=NEW)
    source = answer.json()["source"]
    assert answer.status_code == 201
    assert (source["id"], source["slug"], source["name"]) == ("rig-1", "rig-1", "rig-1")
    assert (source["source_type"], source["device_type"], source["status"]) == ("device", "script", "pending")
    assert (source["metadata"], source["config"], source["recording"]) == (NEW["metadata"], {}, True)
    assert (await device.get("/api/sources/rig-1")).json()["source"] == source


async def test_a_slug_is_taken_once(busbar: Running, eve: Person, device: httpx.AsyncClient) -> None:
    await send(device, "sent-first", m=1)
    await device.post("/api/sources", json=NEW)
    for slug in ("rig-1", "sent-first"):
        answer = await device.post("/api/sources", json={**NEW, "slug": slug})
        assert (answer.status_code, answer.json()["error"]) == (409, "CONFLICT")
        assert "already exists" in answer.text
    stranger = busbar.http(**{"x-api-key": await busbar.key(eve, CredentialKind.TELEMETRY_KEY)})
    assert (await stranger.post("/api/sources", json=NEW)).status_code == 201


@pytest.mark.parametrize("slug", ["", "Rig-1", "-rig", "a b", "x" * 257, None, 5])
async def test_a_bad_slug_is_400(device: httpx.AsyncClient, slug: object) -> None:
    answer = await device.post("/api/sources", json={**NEW, "slug": slug})
    assert (answer.status_code, answer.json()["error"]) == (400, "VALIDATION_ERROR")
    assert answer.json()["message"].startswith("slug:")


async def test_a_source_is_online_while_points_come_and_offline_after(busbar: Running, device: httpx.AsyncClient) -> None:
    await device.post("/api/sources", json=NEW)
    assert await listed(device, status="pending") == ["rig-1"]
    await send(device, "rig-1", temp=1)
    assert await listed(device, status="online") == ["rig-1"]
    busbar.clock.forward(seconds=61)
    assert await listed(device, status="offline") == ["rig-1"]


async def test_a_live_connection_keeps_a_source_online(busbar: Running, alice: Person, device: httpx.AsyncClient) -> None:
    await device.post("/api/sources", json=NEW)
    known = busbar.app.signals.find_device(alice.org_id, "rig-1")
    assert known is not None
    busbar.app.signals.device_connected(known.id)
    busbar.clock.forward(seconds=3600)
    assert await listed(device, status="online") == ["rig-1"]


async def test_lists_are_filtered(device: httpx.AsyncClient, bench: Any) -> None:
    await device.post("/api/sources", json={**NEW, "source_type": "vehicle", "name": "Red Rover"})
    await send(device, "auto-2", m=1)
    assert await listed(device) == sorted(["auto-2", bench.id, "rig-1"])
    assert await listed(device, type="board") == [bench.id]
    assert await listed(device, type="vehicle") == ["rig-1"]
    assert await listed(device, type="device") == ["auto-2"]
    assert await listed(device, search="rOver") == ["rig-1"]
    assert await listed(device, search="AUTO") == ["auto-2"]
    assert await listed(device, slug="auto") == []
    assert await listed(device, slug="auto-2") == ["auto-2"]
    assert (await device.get("/api/sources", params={"status": "sleepy"})).status_code == 400


async def test_pages_of_sources_hold_each_source_once(device: httpx.AsyncClient) -> None:
    for number in range(5):
        await send(device, f"s{number}", m=1)
    slugs, cursor = [], ""
    while True:
        page = (await device.get("/api/sources", params={"limit": 2, "cursor": cursor})).json()
        slugs += [source["slug"] for source in page["sources"]]
        cursor = page.get("next_cursor")
        if not cursor:
            break
    assert slugs == [f"s{number}" for number in range(5)]


@pytest.mark.parametrize("door", ["grpc", "rest", "mcp"])
async def test_sources_and_metrics_are_seen_at_every_door(
    busbar: Running, alice: Person, device: httpx.AsyncClient, door: str
) -> None:
    await send(device, "rig-1", temp=21.5, state="open")
    client = busbar.client(door, await busbar.key(alice, CredentialKind.TELEMETRY_KEY, "read"))
    sources = (await client.call("SourceService.ListSources")).sources
    assert [(source.slug, source.status) for source in sources] == [("rig-1", "online")]
    metrics = (await client.call("SourceService.ListMetrics", source_id="rig-1")).metrics
    assert [(metric.name, metric.class_, metric.value.to_python()) for metric in metrics] == [
        ("state", "event", "open"), ("temp", "metric", 21.5),
    ]  # fmt: skip


async def test_metrics_tell_the_newest_value_and_not_the_last_sent(device: httpx.AsyncClient) -> None:
    points = [{"metric": "temp", "value": value, "timestamp": at} for value, at in ((2, 1_700_000_002), (1, 1_700_000_001))]
    await device.post("/ingest", json={"source_id": "rig-1", "points": points})
    body = (await device.get("/api/sources/rig-1/metrics")).json()
    assert body["metrics"] == [{"name": "temp", "class": "metric", "unit": None, "value": 2, "timestamp": 1_700_000_002_000}]


async def test_without_recording_points_are_not_stored(device: httpx.AsyncClient) -> None:
    await send(device, "rig-1", temp=1)
    answer = await device.patch("/api/sources/rig-1", json={"recording": False})
    assert (answer.status_code, answer.json()["source"]["recording"]) == (200, False)
    sent = await device.post("/ingest", json={"source_id": "rig-1", "points": [{"metric": "temp", "value": 2}]})
    assert (sent.json()["count"], sent.json()["persistedCount"]) == (1, 0)
    await device.patch("/api/sources/rig-1", json={"recording": True})
    sent = await device.post("/ingest", json={"source_id": "rig-1", "points": [{"metric": "temp", "value": 3}]})
    assert sent.json()["persistedCount"] == 1


async def test_patch_changes_what_it_names(device: httpx.AsyncClient) -> None:
    await send(device, "rig-1", temp=1)
    changed = (await device.patch("/api/sources/rig-1", json={"name": "Rig", "metadata": {"a": 1}})).json()["source"]
    assert (changed["name"], changed["metadata"], changed["recording"]) == ("Rig", {"a": 1}, True)
    changed = (await device.patch("/api/sources/rig-1", json={"description": "On the shelf"})).json()["source"]
    assert (changed["name"], changed["metadata"], changed["description"]) == ("Rig", {"a": 1}, "On the shelf")
    for bad in ({"name": None}, {"name": ""}, {"recording": None}, {"recording": "maybe"}):
        assert (await device.patch("/api/sources/rig-1", json=bad)).status_code == 400


async def test_a_deleted_source_is_gone_with_its_points(device: httpx.AsyncClient) -> None:
    await send(device, "rig-1", temp=1)
    assert (await device.delete("/api/sources/rig-1")).status_code == 204
    assert (await device.get("/api/sources/rig-1")).json()["error"] == "NOT_FOUND"
    assert (await device.delete("/api/sources/rig-1")).status_code == 404
    assert (await device.get("/api/v1/telemetry", params={"source": "rig-1"})).json()["count"] == 0
    assert (await device.post("/api/sources", json=NEW)).status_code == 201


ORPHANS = {
    "source": "SELECT count(*) FROM source WHERE device_id NOT IN (SELECT id FROM device)",
    "channel": "SELECT count(*) FROM channel WHERE device_id NOT IN (SELECT id FROM device)",
    "latest": "SELECT count(*) FROM latest WHERE channel_id NOT IN (SELECT id FROM channel)",
    "point": "SELECT count(*) FROM point WHERE channel_id NOT IN (SELECT id FROM channel)",
    "rollup": "SELECT count(*) FROM rollup WHERE channel_id NOT IN (SELECT id FROM channel)",
    "device": "SELECT count(*) FROM device WHERE deleted_us IS NOT NULL",
}


async def test_what_is_written_around_a_deletion_belongs_to_the_old_source_or_to_a_new_one(
    start: Start, database_url: str
) -> None:
    busbar = await start(database=database_url)
    key = await busbar.key(await busbar.person("alice"), CredentialKind.TELEMETRY_KEY, "write", "read")
    device = busbar.http(**{"X-Api-Key": key})
    deleted = asyncio.Event()

    async def post(number: int) -> tuple[int, bool, bool]:
        """Send a point; tell whether it was sent after the deletion was acknowledged, and was acknowledged before it."""
        late = deleted.is_set()
        point = {"metric": "n", "value": number, "timestamp": 1_700_000_000_000 + number}
        answer = await device.post("/ingest", json={"source_id": "rig", "points": [point]})
        assert answer.status_code == 200, answer.text
        return number, late, deleted.is_set()

    async def writer(first: int) -> list[tuple[int, bool, bool]]:
        sent = [await post(first)]
        while len(sent) < 40 and not sent[-1][1]:
            sent.append(await post(first + len(sent)))
        return sent

    async def note(http: httpx.AsyncClient) -> int:
        return (await http.patch("/api/sources/rig", json={"description": "bench", "metadata": {"a": 1}})).status_code

    for start_at in range(0, 5000, 1000):
        deleted.clear()
        before = {number for number, *_ in [await post(start_at + 900 + extra) for extra in range(3)]}
        writing = [asyncio.create_task(writer(start_at + 100 * number)) for number in range(6)]
        noting = [asyncio.create_task(note(device)) for _ in range(4)]
        answer = await device.delete("/api/sources/rig")
        deleted.set()
        assert answer.status_code == 204, answer.text
        sent = [one for share in await asyncio.gather(*writing) for one in share]
        assert set(await asyncio.gather(*noting)) <= {200, 404}
        read = await device.get(
            "/api/v1/telemetry",
            params={"source": "rig", "from": "2023-11-14T00:00:00Z", "to": "2023-11-16T00:00:00Z", "limit": 5000},
        )
        kept = {int(point["value"]) for point in read.json()["data"]}
        assert not kept & before
        assert {number for number, late, _ in sent if late} <= kept <= {number for number, *_ in sent}
        (metric,) = (await device.get("/api/sources/rig/metrics")).json()["metrics"]
        assert metric["value"] == max(kept)

        async def orphans(tx: Tx) -> dict[str, int]:
            return {table: (await tx.fetch(sql))[0][0] for table, sql in ORPHANS.items()}

        assert await busbar.app.database.query(orphans) == dict.fromkeys(ORPHANS, 0)


async def test_deleting_a_source_ends_its_device_tokens(busbar: Running, alice: Person, device: httpx.AsyncClient) -> None:
    token = await device_token(busbar, alice, "rig-1")
    await send(busbar.http(**{"x-api-key": token}), "rig-1", temp=1)
    await device.delete("/api/sources/rig-1")
    answer = await busbar.http(**{"x-api-key": token}).post("/ingest", json={"points": []})
    assert answer.status_code == 401


async def test_a_board_is_deleted_and_renamed_as_a_board(device: httpx.AsyncClient, bench: Any) -> None:
    path = f"/api/sources/{bench.id}"
    assert (await device.delete(path)).status_code == 409
    assert (await device.patch(path, json={"name": "Other"})).status_code == 409
    changed = (await device.patch(path, json={"recording": False, "description": "d"})).json()["source"]
    assert (changed["source_type"], changed["recording"], changed["description"]) == ("board", False, "d")


async def test_a_renamed_board_is_a_renamed_source(
    busbar: Running, alice: Person, device: httpx.AsyncClient, bench: Any
) -> None:
    await busbar.http(alice.session).patch(f"/api/boards/{bench.id}", json={"name": "Shelf"})
    assert (await device.get(f"/api/sources/{bench.id}")).json()["source"]["name"] == "Shelf"


async def test_sources_of_others_do_not_exist(busbar: Running, eve: Person, device: httpx.AsyncClient) -> None:
    await send(device, "rig-1", temp=1)
    stranger = busbar.http(**{"x-api-key": await busbar.key(eve, CredentialKind.TELEMETRY_KEY)})
    assert await listed(stranger) == []
    for method, path in (("GET", ""), ("PATCH", ""), ("DELETE", ""), ("GET", "/metrics")):
        answer = await stranger.request(method, f"/api/sources/rig-1{path}", json={"recording": False})
        assert (answer.status_code, answer.json()["error"]) == (404, "NOT_FOUND")


async def test_a_credential_of_one_source_knows_no_other(busbar: Running, alice: Person, device: httpx.AsyncClient) -> None:
    for source in ("rig-1", "rig-2"):
        await send(device, source, temp=1)
    token = await device_token(busbar, alice, "rig-1", "write", "read")
    bound = busbar.client("grpc", token)
    assert [source.slug for source in (await bound.call("SourceService.ListSources")).sources] == ["rig-1"]
    with pytest.raises(Refused) as refused:
        await bound.call("SourceService.DeleteSource", source_id="rig-2")
    assert refused.value.code == "NOT_FOUND"
    with pytest.raises(Refused) as refused:
        await bound.call("SourceService.CreateSource", slug="rig-3")
    assert refused.value.code == "PERMISSION_DENIED"
