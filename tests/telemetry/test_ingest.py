"""Ingest as devices meet it: over both paths, gRPC messages and gRPC columns."""

from __future__ import annotations

import gzip
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from gen.busbar.api.v1.options_pb import CredentialKind
from gen.busbar.telemetry.v1.ingest_pb import Column, IngestColumnsRequest
from gen.busbar.telemetry.v1.ingest_pb_grpc import IngestServiceClient
from tests.conftest import Person, Running, Start

EPOCH_MS = 1_700_000_000_000


@pytest.fixture
async def key(busbar: Running, alice: Person) -> str:
    """A telemetry key that may write and read."""
    return await busbar.key(alice, CredentialKind.TELEMETRY_KEY, "write", "read")


@pytest.fixture
async def device(busbar: Running, key: str) -> httpx.AsyncClient:
    """A device with that key in the header that devices use."""
    return busbar.http(**{"X-Api-Key": key})


def batch(*points: dict[str, Any], source: str | None = "rig-1", **more: Any) -> dict[str, Any]:
    """Return a body with some points."""
    return {"points": list(points), **({"source_id": source} if source else {}), **more}


async def read(device: httpx.AsyncClient, **query: Any) -> list[dict[str, Any]]:
    """Return what was stored."""
    asked = {"from": "1960-01-01T00:00:00Z", "to": "2100-01-01T00:00:00Z", **query}
    answer = await device.get("/api/v1/telemetry", params=asked)
    assert answer.status_code == 200, answer.text
    return answer.json()["data"]


@pytest.mark.parametrize("path", ["/ingest", "/api/ingest"])
async def test_both_paths_store_and_answer_the_whole_receipt(device: httpx.AsyncClient, path: str) -> None:
    answer = await device.post(path, json=batch({"metric": "temp", "value": 21.5, "timestamp": EPOCH_MS}))
    assert answer.status_code == 200
    assert answer.json() == {
        "success": True, "count": 1, "persisted": True, "persistedCount": 1, "dropped": 0, "source_id": "rig-1",
    }  # fmt: skip
    stored = await read(device)
    assert (
        stored
        == [{"source_id": "rig-1", "metric": "temp", "value": 21.5, "timestamp": EPOCH_MS, "class": "metric", "tags": {}}]
        or stored[0]["session_id"] is None
    )


async def test_no_points_are_a_test_of_the_key(device: httpx.AsyncClient) -> None:
    answer = await device.post("/ingest", json={"points": []})
    assert (answer.status_code, answer.json()["count"], answer.json()["persisted"]) == (200, 0, True)


@pytest.mark.parametrize("value", [21.5, "open", True, {"a": [1, None]}, [1, "x"], 0, -1e300])
async def test_all_five_types_are_kept(device: httpx.AsyncClient, value: object) -> None:
    await device.post("/ingest", json=batch({"metric": "m", "value": value, "class": "metric", "timestamp": EPOCH_MS}))
    stored = await read(device)
    assert stored[0]["value"] == value
    number = isinstance(value, int | float) and not isinstance(value, bool)
    assert stored[0]["class"] == ("metric" if number else "event")


@pytest.mark.parametrize(
    ("sent", "kept_ms"),
    [(1_700_000_000, EPOCH_MS), (1_700_000_000.5, EPOCH_MS + 500), (EPOCH_MS, EPOCH_MS), (12.25, 12250), (0, 0), (-5, -5),
     (4_000_000_000_000, 4_000_000_000_000)],
)  # fmt: skip
async def test_small_timestamps_are_seconds(device: httpx.AsyncClient, sent: float, kept_ms: float) -> None:
    await device.post("/ingest", json=batch({"metric": "m", "value": 1, "timestamp": sent}))
    assert [point["timestamp"] for point in await read(device, to="2200-01-01")] == [kept_ms]


async def test_a_point_without_a_time_has_the_time_of_receipt(device: httpx.AsyncClient) -> None:
    await device.post("/ingest", json=batch({"metric": "m", "value": 1}))
    answer = await device.get("/api/v1/telemetry")
    assert answer.json()["count"] == 1


async def test_exact_repeats_are_stored_once_and_other_values_kept(device: httpx.AsyncClient) -> None:
    point = {"metric": "m", "value": 1, "timestamp": EPOCH_MS}
    for _ in range(2):
        answer = await device.post("/ingest", json=batch(point, point, {**point, "value": 2}))
        assert answer.json()["persistedCount"] == 3
    assert sorted(stored["value"] for stored in await read(device)) == [1, 2]


async def test_late_points_take_their_place(device: httpx.AsyncClient) -> None:
    for offset in (2000, 0, 1000):
        await device.post("/ingest", json=batch({"metric": "m", "value": offset, "timestamp": EPOCH_MS + offset}))
    assert [stored["value"] for stored in await read(device)] == [0, 1000, 2000]


async def test_points_name_their_own_source_tags_and_session(device: httpx.AsyncClient) -> None:
    point = {"metric": "m", "value": 1, "timestamp": EPOCH_MS, "source_id": "rig-2", "session_id": "s1",
             "tags": {"line": "a", "n": 5, "ok": True}}  # fmt: skip
    answer = await device.post("/ingest", json=batch(point, {"metric": "m", "value": 2, "timestamp": EPOCH_MS}))
    assert "source_id" not in answer.json() or answer.json()["source_id"] is None
    stored = {row["source_id"]: row for row in await read(device)}
    assert stored["rig-2"]["tags"] == {"line": "a", "n": "5", "ok": "true"}
    assert stored["rig-2"]["session_id"] == "s1"
    assert set(stored) == {"rig-1", "rig-2"}


async def test_the_old_name_of_the_source_works(device: httpx.AsyncClient) -> None:
    body = {"points": [{"metric": "m", "value": 1, "timestamp": EPOCH_MS}], "device_id": "old-1"}
    assert (await device.post("/ingest", json=body)).json()["source_id"] == "old-1"


async def test_gzip_is_taken_whatever_its_case(device: httpx.AsyncClient) -> None:
    body = gzip.compress(json.dumps(batch({"metric": "m", "value": 1, "timestamp": EPOCH_MS})).encode())
    for name in ("gzip", "GZIP"):
        answer = await device.post("/ingest", content=body, headers={"Content-Encoding": name})
        assert answer.status_code == 200
    assert len(await read(device)) == 1


GOOD = {"metric": "m", "value": 1}


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (batch(GOOD, {"metric": "m", "value": None}), "points[1].value: required; null is no value"),
        (batch(GOOD, {"metric": "m"}), "points[1].value: required; null is no value"),
        (batch(GOOD, {"value": 1}), "points[1].metric: required"),
        (batch({"metric": "", "value": 1}), "points[0].metric: must be 1 to 256 characters"),
        (batch({"metric": 5, "value": 1}), "points[0].metric: expected string, got number"),
        (batch({**GOOD, "timestamp": "now"}), "points[0].timestamp: expected number, got string"),
        (batch({**GOOD, "timestamp": True}), "points[0].timestamp: expected number, got boolean"),
        (batch({**GOOD, "tags": ["a"]}), "points[0].tags: expected object, got array"),
        (batch({**GOOD, "class": "other"}), "points[0].class: must be metric or event"),
        (batch(GOOD, source="Rig-1"), "source_id: must be lower case"),
        (batch(GOOD, source="a" * 257), "source_id: must be lower case"),
        (batch({**GOOD, "source_id": "../etc"}), "points[0].source_id: must be lower case"),
        (batch(GOOD, source=None), "points[0].source_id: required"),
        ({"source_id": "a"}, "points: required"),
        ([], "body must be a JSON object"),
    ],
)
async def test_the_first_bad_point_refuses_the_request(device: httpx.AsyncClient, body: Any, message: str) -> None:
    answer = await device.post("/ingest", json=body)
    assert answer.status_code == 400
    assert answer.json()["error"].startswith(message)
    assert answer.json()["message"] == answer.json()["error"]
    assert await read(device) == []


@pytest.mark.parametrize(
    "text", ["", "nope", '{"points": [', '{"points":[{"metric":"m","value":NaN}]}', '{"source_id":"\xff"}']
)
async def test_what_is_not_json_is_400(device: httpx.AsyncClient, text: str) -> None:
    answer = await device.post("/ingest", content=text.encode("latin-1"))
    assert answer.status_code == 400
    assert set(answer.json()) == {"error", "message"}


async def test_one_point_too_many_is_400(device: httpx.AsyncClient) -> None:
    most = [{"metric": "m", "value": i, "timestamp": EPOCH_MS + i} for i in range(10_000)]
    refused = await device.post("/ingest", json=batch(*most, GOOD))
    assert (refused.status_code, refused.json()["error"]) == (400, "too many points: 10001 (max 10000)")
    taken = await device.post("/ingest", json=batch(*most))
    assert (taken.status_code, taken.json()["persistedCount"]) == (200, 10_000)


@pytest.mark.parametrize("zipped", [False, True])
async def test_a_byte_over_5_mib_is_413_before_and_after_inflation(device: httpx.AsyncClient, zipped: bool) -> None:
    text = json.dumps(batch({"metric": "m", "value": 1, "tags": {"pad": ""}}))
    pad = 5_242_880 - len(text)
    for extra, status in ((0, 200), (1, 413)):
        body = text.replace('"pad": ""', f'"pad": "{"x" * (pad + extra)}"').encode()
        headers = {"Content-Encoding": "gzip"} if zipped else {}
        answer = await device.post("/ingest", content=gzip.compress(body) if zipped else body, headers=headers)
        assert answer.status_code == status


async def test_broken_gzip_is_400(device: httpx.AsyncClient) -> None:
    answer = await device.post("/ingest", content=b"not gzip", headers={"Content-Encoding": "gzip"})
    assert answer.status_code == 400


async def test_keys_are_looked_for_in_both_headers(busbar: Running, key: str) -> None:
    for headers in ({"x-api-key": key}, {"X-Api-Key": key}, {"Authorization": f"Bearer {key}"}):
        assert (await busbar.http().post("/ingest", json={"points": []}, headers=headers)).status_code == 200


async def test_missing_unknown_and_read_only_keys(busbar: Running, alice: Person, key: str) -> None:
    plain = busbar.http()
    for headers in ({}, {"x-api-key": "plx_" + "a" * 32}, {"x-api-key": "nonsense"}):
        answer = await plain.post("/ingest", json={"points": []}, headers=headers)
        assert answer.status_code == 401
        assert set(answer.json()) == {"error", "message"}
    reader = await busbar.key(alice, CredentialKind.TELEMETRY_KEY, "read")
    assert (await plain.post("/ingest", json={"points": []}, headers={"x-api-key": reader})).status_code == 403
    writer = await busbar.key(alice, CredentialKind.TELEMETRY_KEY, "write")
    assert (await plain.get("/api/v1/telemetry", headers={"x-api-key": writer})).status_code == 403


async def test_a_board_may_send_as_itself_only(busbar: Running, alice: Person, bench: Any) -> None:
    board = busbar.http(**{"x-api-key": bench.device_token})
    own = await board.post("/ingest", json=batch({"metric": "V1", "value": 1}, source=None))
    assert own.json()["source_id"] == bench.id
    assert (await board.post("/ingest", json=batch(GOOD, source="other"))).status_code == 403


async def test_preflight_is_204_for_any_origin(busbar: Running) -> None:
    for path in ("/ingest", "/api/ingest"):
        headers = {"Origin": "https://somewhere.example", "Access-Control-Request-Method": "POST",
                   "Access-Control-Request-Headers": "x-api-key"}  # fmt: skip
        answer = await busbar.http().options(path, headers=headers)
        assert answer.status_code == 204
        assert answer.headers["access-control-allow-origin"] == "*"
        assert "x-api-key" in answer.headers["access-control-allow-headers"].lower()


async def test_verify_key_tells_org_and_scopes(busbar: Running, alice: Person, key: str) -> None:
    answer = await busbar.http().get("/api/auth/verify-key", headers={"x-api-key": key})
    assert (answer.status_code, answer.json()) == (200, {"org_id": alice.org_id, "scopes": ["read", "write"]})
    assert (await busbar.http().get("/api/auth/verify-key")).status_code == 401


async def test_the_31st_question_about_a_key_is_429(start: Start) -> None:
    busbar = await start(rate_limits="on")
    client = busbar.http(**{"x-api-key": await busbar.key(await busbar.person(), CredentialKind.TELEMETRY_KEY)})
    statuses = [(await client.get("/api/auth/verify-key")).status_code for _ in range(31)]
    assert statuses == [200] * 30 + [429]


async def test_the_message_goes_in_over_grpc(busbar: Running, key: str, device: httpx.AsyncClient) -> None:
    client = busbar.client("grpc", key)
    answer = await client.call(
        "IngestService.Ingest", source_id="rig-1", points=[{"metric": "m", "value": 2.5, "timestamp": EPOCH_MS}]
    )
    assert (answer.count, answer.persisted_count, answer.source_id) == (1, 1, "rig-1")
    assert (await read(device))[0]["value"] == 2.5


async def test_columns_are_acknowledged_batch_by_batch(busbar: Running, key: str, device: httpx.AsyncClient) -> None:
    def columns(seq: int, metric: str, values: list[float]) -> IngestColumnsRequest:
        times = [(EPOCH_MS + index) * 1000 for index in range(len(values))]
        return IngestColumnsRequest(
            seq=seq, columns=[Column(source_id="rig-1", metric=metric, timestamps_us=times, values=values)]
        )

    async def batches() -> AsyncIterator[IngestColumnsRequest]:
        yield columns(1, "a", [1.0, 2.0, 3.0])
        yield columns(2, "", [1.0])
        yield columns(3, "b", [float("nan")])
        yield columns(4, "c", [4.0])

    client = IngestServiceClient(busbar.client("grpc", key).channel)
    call = client.ingest_columns(batches(), metadata=(("x-api-key", key),))
    answers = [answer async for answer in call]
    assert [(a.seq, a.received, a.stored, bool(a.error)) for a in answers] == [
        (1, 3, 3, False), (2, 1, 0, True), (3, 1, 0, True), (4, 1, 1, False),
    ]  # fmt: skip
    assert answers[1].error == "columns[0].metric: must be 1 to 256 characters"
    assert sorted(point["value"] for point in await read(device)) == [1, 2, 3, 4]


POINT = '{"metric": "m", "value": 1, "timestamp": 1700000000000'


@pytest.mark.parametrize(
    ("body", "member"),
    [
        ('{"points": [' + POINT + '}, {"metric": "m", "value": 1, "value": 2}], "source_id": "rig-1"}', "value"),
        ('{"points": [' + POINT + '}], "source_id": "rig-1", "source_id": "rig-2"}', "source_id"),
        ('{"points": [' + POINT + '}], "points": [], "source_id": "rig-1"}', "points"),
        ('{"points": [' + POINT + ', "tags": {"a": 1, "a": 2}}], "source_id": "rig-1"}', "a"),
        ('{"points": [{"metric": "m", "value": {"a": [{"b": 1, "b": 1}]}}], "source_id": "rig-1"}', "b"),
        ('{"points": [' + POINT + ', "unit": "C", "unit": "C"}], "source_id": "rig-1"}', "unit"),
        ('{"points": [' + POINT + ', "tags": {"at": "12\\u003a30", "at": "12"}}], "source_id": "rig-1"}', "at"),
    ],
)
async def test_a_member_that_is_named_twice_is_refused_by_its_name(device: httpx.AsyncClient, body: str, member: str) -> None:
    answer = await device.post("/ingest", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 400
    assert f"names '{member}' twice" in answer.text
    assert await read(device) == []


@pytest.mark.parametrize(
    "more",
    [
        '"tags": {"at": "12:30", "url": "http://rig:80/"}',
        '"unit": "C:F", "session_id": null, "tags": {"a": null}',
        '"tags": {"at": "12\\u003a30"}',
        '"class" : null, "precision": 1e400',
        f'"serial": {"9" * 5000}',
    ],
)
async def test_colons_nulls_and_unknown_members_are_no_members_named_twice(device: httpx.AsyncClient, more: str) -> None:
    body = '{"points": [' + POINT + ", " + more + '}], "source_id": "rig-1"}'
    answer = await device.post("/ingest", content=body, headers={"Content-Type": "application/json"})
    assert (answer.status_code, answer.json()) == (200, answer.json() | {"persistedCount": 1})
