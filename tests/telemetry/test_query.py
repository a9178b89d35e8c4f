"""Reading points back."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from gen.busbar.api.v1.options_pb import CredentialKind
from tests.conftest import Person, Running
from tests.doors import Refused

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


@pytest.mark.parametrize(
    ("method", "expected"),
    [("avg", [4.5, 14.5]), ("min", [0, 10]), ("max", [9, 19]), ("last", [9, 19]), ("count", [10, 10])],
)
async def test_an_aggregate_is_exact_for_each_step(reader: httpx.AsyncClient, method: str, expected: list[float]) -> None:
    asked = {"source": "rig-1", "metric": "wave", "method": method, "to": "2023-11-14T22:13:40Z"}
    body = (await reader.get("/api/v1/telemetry/series", params={**asked, "bucket_ms": 10_000})).json()
    assert (body["timestamps"], body["values"]) == ([EPOCH_MS, EPOCH_MS + 10_000], expected)
    body = (await reader.get("/api/v1/telemetry/series", params={**asked, "points": 2})).json()
    assert (body["timestamps"], body["values"]) == ([EPOCH_MS, EPOCH_MS + 10_000], expected)


@pytest.mark.parametrize("question", [{"method": "avg", "bucket_ms": 0.5}, {"bucket_ms": 10}, {"method": "median"}])
async def test_a_bad_aggregate_is_400(reader: httpx.AsyncClient, question: dict[str, Any]) -> None:
    asked = {"source": "rig-1", "metric": "wave", **question}
    assert (await reader.get("/api/v1/telemetry/series", params=asked)).status_code == 400


async def test_more_steps_than_anyone_draws_are_refused_by_name(reader: httpx.AsyncClient) -> None:
    asked = {"source": "rig-1", "metric": "wave", "method": "max", "bucket_ms": 100}
    answer = await reader.get("/api/v1/telemetry/series", params=asked)
    assert (answer.status_code, answer.json()["message"][:9]) == (400, "bucket_ms")


@pytest.mark.parametrize("door", ["rest", "grpc", "mcp"])
async def test_the_latest_values_are_told_at_every_door(
    busbar: Running, alice: Person, reader: httpx.AsyncClient, door: str
) -> None:
    await reader.post("/ingest", json={"source_id": "rig-2", "points": [{"metric": "wave", "value": 7}]})
    client = busbar.client(door, await busbar.key(alice, CredentialKind.TELEMETRY_KEY, "read"))

    async def latest(**question: Any) -> list[tuple[str, str, Any, str]]:
        answer = await client.call("QueryService.QueryLatest", **question)
        return [(point.source_id, point.metric, point.value.to_python(), point.class_) for point in answer.data]

    text, wave = ("rig-1", "other", "text", "event"), ("rig-1", "wave", 49.0, "metric")
    assert await latest() == [text, wave, ("rig-2", "wave", 7.0, "metric")]
    assert await latest(source="rig-1", metric="wave,none") == [wave]
    assert await latest(source="nobody") == []
    first = await client.call("QueryService.QueryLatest", limit=2)
    assert (first.count, first.data[1].timestamp) == (2, EPOCH_MS + 999_000)
    assert await latest(cursor=first.next_cursor) == [("rig-2", "wave", 7.0, "metric")]


async def test_an_agent_reads_a_series(busbar: Running, alice: Person, reader: httpx.AsyncClient) -> None:
    assert (await reader.get("/api/v1/telemetry", params=RANGE)).status_code == 200
    agent = busbar.client("mcp", await busbar.key(alice, CredentialKind.TELEMETRY_KEY, "read"))
    answer = await agent.call("QueryService.QuerySeries", source="rig-1", metric="wave", method="count", points=1)
    assert answer.values == [1000]


async def test_others_see_no_latest_values(busbar: Running, eve: Person, reader: httpx.AsyncClient) -> None:
    assert (await reader.get("/api/v1/telemetry/latest")).json()["count"] == 2
    stranger = busbar.client("grpc", await busbar.key(eve, CredentialKind.TELEMETRY_KEY, "read"))
    assert (await stranger.call("QueryService.QueryLatest")).count == 0


async def test_a_key_for_some_boards_reads_those_boards_only(busbar: Running, alice: Person, bench: Any) -> None:
    key = await busbar.key(alice, CredentialKind.TELEMETRY_KEY, "write")
    points = [{"metric": "V1", "value": 1, "source_id": source} for source in (bench.id, "rig-1")]
    await busbar.http(**{"x-api-key": key}).post("/ingest", json={"points": points})
    async with busbar.app.database.unit_of_work() as session:
        issued = await busbar.app.credentials.issue(
            session, CredentialKind.AGENT_KEY, alice.org_id, user_id=alice.id, board_ids=[bench.id]
        )
    agent = busbar.client("grpc", issued.secret)
    assert [point.source_id for point in (await agent.call("QueryService.QueryTelemetry")).data] == [bench.id]
    assert [point.source_id for point in (await agent.call("QueryService.QueryLatest")).data] == [bench.id]
    with pytest.raises(Refused, match="not found"):
        await agent.call("QueryService.QuerySeries", source="rig-1", metric="V1")
