"""Reading points back."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from gen.busbar.api.v1.options_pb import CredentialKind
from tests.conftest import Person, Running

EPOCH_MS = 1_700_000_000_000
RANGE = {"from": "2023-11-14T00:00:00Z", "to": "2023-11-16T00:00:00Z"}


@pytest.fixture
async def reader(busbar: Running, alice: Person) -> httpx.AsyncClient:
    """A client that reads what a rig sent: a thousand points of one metric and one of another."""
    key = await busbar.key(alice, CredentialKind.TELEMETRY_KEY, "write", "read")
    client = busbar.http(**{"x-api-key": key})
    points: list[dict[str, Any]] = [{"metric": "wave", "value": i % 50, "timestamp": EPOCH_MS + i * 1000} for i in range(1000)]
    points.append({"metric": "other", "value": "text", "timestamp": EPOCH_MS})
    answer = await client.post("/ingest", json={"source_id": "rig-1", "points": points})
    assert answer.status_code == 200
    return client


async def test_filters_and_limit_apply(reader: httpx.AsyncClient) -> None:
    body = (await reader.get("/api/v1/telemetry", params={**RANGE, "source": "rig-1", "metric": "wave", "limit": 3})).json()
    assert [row["timestamp"] for row in body["data"]] == [EPOCH_MS, EPOCH_MS + 1000, EPOCH_MS + 2000]
    assert body["count"] == 3
    assert body["query"] == {
        "source": "rig-1", "metric": ["wave"], "from": RANGE["from"], "to": RANGE["to"], "limit": 3,
    }  # fmt: skip
    both = (await reader.get("/api/v1/telemetry", params={**RANGE, "metric": "wave,other"})).json()
    assert both["count"] == 1001


async def test_unknown_sources_have_no_points(reader: httpx.AsyncClient) -> None:
    for question in ({"source": "nobody"}, {"metric": "nothing"}):
        body = (await reader.get("/api/v1/telemetry", params={**RANGE, **question})).json()
        assert (body["data"], body["count"]) == ([], 0)


@pytest.mark.parametrize(
    "question", [{"from": "yesterday"}, {"to": "x"}, {"limit": 0}, {"limit": 100_001}, {"limit": "many"},
                 {"from": "2024-01-01", "to": "2023-01-01"}]
)  # fmt: skip
async def test_a_bad_question_is_400(reader: httpx.AsyncClient, question: dict[str, Any]) -> None:
    answer = await reader.get("/api/v1/telemetry", params={**RANGE, **question})
    assert answer.status_code == 400
    assert answer.json()["error"] == "VALIDATION_ERROR"
    assert answer.json()["message"].startswith(next(iter(question)))


async def test_others_see_nothing_of_it(busbar: Running, eve: Person, reader: httpx.AsyncClient) -> None:
    stranger = busbar.http(**{"x-api-key": await busbar.key(eve, CredentialKind.TELEMETRY_KEY)})
    assert (await stranger.get("/api/v1/telemetry", params=RANGE)).json()["data"] == []
    series = {"source": "rig-1", "metric": "wave"}
    assert (await stranger.get("/api/v1/telemetry/series", params=series)).status_code == 404


async def test_a_series_is_thinned_to_the_points_asked_for(reader: httpx.AsyncClient) -> None:
    asked = {"source": "rig-1", "metric": "wave", "points": 100}
    body = (await reader.get("/api/v1/telemetry/series", params=asked)).json()
    assert 50 <= len(body["timestamps"]) <= 100
    assert body["timestamps"] == sorted(set(body["timestamps"]))
    assert body["timestamps"][0] == EPOCH_MS
    for at, value in zip(body["timestamps"], body["values"], strict=True):
        assert value == (at - EPOCH_MS) / 1000 % 50


async def test_an_envelope_misses_no_extreme(reader: httpx.AsyncClient) -> None:
    asked = {"source": "rig-1", "metric": "wave", "points": 5, "method": "envelope"}
    body = (await reader.get("/api/v1/telemetry/series", params=asked)).json()
    assert 1 <= len(body["min"]) == len(body["max"]) == len(body["timestamps"]) <= 6
    assert (min(body["min"]), max(body["max"])) == (0, 49)


async def test_a_board_token_reads_its_own_source_only(busbar: Running, alice: Person, bench: Any) -> None:
    key = await busbar.key(alice, CredentialKind.TELEMETRY_KEY, "write")
    points = [{"metric": "V1", "value": 1, "source_id": source} for source in (bench.id, "rig-1")]
    await busbar.http(**{"x-api-key": key}).post("/ingest", json={"points": points})
    reader = busbar.client("grpc", await busbar.key(alice, CredentialKind.TELEMETRY_KEY, "read"))
    assert (await reader.call("QueryService.QueryTelemetry")).count == 2
