"""Runs as every generation of clients keeps them, and what becomes of their pass criteria."""

from __future__ import annotations

import uuid
from typing import Any

import httpx
import pytest

from gen.busbar.api.v1.options_pb import CredentialKind
from tests.conftest import Person, Running

EPOCH = 1_700_000_000
START, LATER = "2023-11-14T22:13:20Z", "2023-11-14T22:14:20Z"
COOL = {"metric": "temp", "operator": "<", "value": 30, "label": "stays cool"}


@pytest.fixture
async def device(busbar: Running, alice: Person) -> httpx.AsyncClient:
    """A client with a telemetry key that may write and read."""
    key = await busbar.key(alice, CredentialKind.TELEMETRY_KEY, "write", "read")
    return busbar.http(**{"X-Api-Key": key})


async def send(device: httpx.AsyncClient, *values: Any, at: int = EPOCH, source: str = "rig-1", **more: Any) -> None:
    """Send temperatures, one a second."""
    points = [{"metric": "temp", "value": value, "timestamp": at + n, **more} for n, value in enumerate(values)]
    answer = await device.post("/ingest", json={"source_id": source, "points": points})
    assert answer.status_code == 200, answer.text


async def start(device: httpx.AsyncClient, **more: Any) -> dict[str, Any]:
    """Start a run of the rig at the start."""
    body = {"name": "Soak", "started_at": START, "source_id": "rig-1", **more}
    answer = await device.post("/api/runs", json=body)
    assert answer.status_code == 201, answer.text
    return answer.json()["run"]


async def change(
    device: httpx.AsyncClient, run: dict[str, Any], body: dict[str, Any], *, expected: int = 200
) -> dict[str, Any]:
    """Patch a run and return it, or the refusal."""
    answer = await device.patch(f"/api/runs/{run['id']}", json=body)
    assert answer.status_code == expected, answer.text
    return answer.json()["run"] if expected == 200 else answer.json()


async def complete(device: httpx.AsyncClient, run: dict[str, Any]) -> dict[str, Any]:
    """Complete a run a minute after its start and return what became of its criteria."""
    return (await change(device, run, {"status": "completed", "ended_at": LATER}))["test_result"]


async def test_the_current_client_makes_its_source_and_repeats(device: httpx.AsyncClient, alice: Person) -> None:
    body = {
        "name": "Soak",
        "started_at": START,
        "source_id": "rig-1",
        "tags": ["a"],
        "metadata": {"n": 1},
        "pass_criteria": [COOL],
    }
    refused = await device.post("/api/runs", json=body)
    assert refused.status_code == 404
    assert "NOT_FOUND" in refused.text
    source = {"source_type": "device", "slug": "rig-1", "device_type": "script", "metadata": {}}
    assert (await device.post("/api/sources", json=source)).status_code == 201
    answer = await device.post("/api/runs", json=body)
    run = answer.json()["run"]
    assert answer.status_code == 201
    assert str(uuid.UUID(run["id"])) == run["id"]
    assert (run["org_id"], run["name"], run["source_id"]) == (alice.org_id, "Soak", "rig-1")
    assert (run["status"], run["started_at"], run["tags"], run["metadata"]) == ("active", START, ["a"], {"n": 1})
    assert run["pass_criteria"] == [COOL]
    assert run["created_by"]
    assert run["created_at"] == run["updated_at"]
    assert (run["ended_at"], run["test_result"]) == (None, None)
    assert (await device.get(f"/api/runs/{run['id']}")).json()["run"] == run


async def test_a_run_needs_no_source_and_no_start(device: httpx.AsyncClient) -> None:
    answer = await device.post("/api/runs", json={"name": "Everything", "source_id": None, "tags": {"a": "b"}})
    run = answer.json()["run"]
    assert answer.status_code == 201
    assert run["source_id"] is None
    assert (run["tags"], run["metadata"]) == ({"a": "b"}, None)
    assert run["started_at"] <= run["created_at"]


@pytest.mark.parametrize("form", ["key", "session"])
async def test_a_run_tells_who_started_it(busbar: Running, alice: Person, form: str) -> None:
    key = alice.session if form == "session" else await busbar.key(alice, CredentialKind.TELEMETRY_KEY)
    run = (await busbar.client("rest", key).call("telemetry.RunService.CreateRun", name="Mine")).run
    assert run.created_by
    assert (run.created_by == alice.id) is (form == "session")


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"name": ""},
        {"name": "   "},
        {"name": "x" * 201},
        {"name": "n", "started_at": "yesterday"},
        {"name": "n", "started_at": LATER, "ended_at": START},
        {"name": "n", "status": "paused"},
        {"name": "n", "pass_criteria": [{**COOL, "operator": "~"}]},
        {"name": "n", "pass_criteria": [{**COOL, "metric": ""}]},
        {"name": "n", "pass_criteria": [{**COOL, "value": "hot"}]},
        {"name": "n", "pass_criteria": "all"},
    ],
)
async def test_a_bad_run_is_400_and_not_started(device: httpx.AsyncClient, body: dict[str, Any]) -> None:
    answer = await device.post("/api/runs", json=body)
    assert (answer.status_code, answer.json()["error"]) == (400, "VALIDATION_ERROR")
    assert (await device.get("/api/runs")).json()["runs"] == []


async def test_the_older_form_starts_and_ends_a_run(device: httpx.AsyncClient) -> None:
    body = {"run_id": "r-1", "source_id": "rig-1", "tags": None, "timestamp": EPOCH}
    started = await device.post("/api/runs", json={**body, "status": "started"})
    assert started.status_code == 201
    assert (started.json()["run"]["status"], started.json()["run"]["source_id"]) == ("active", "rig-1")
    ended = await device.post("/api/runs", json={**body, "status": "ended", "timestamp": EPOCH + 60})
    assert ended.status_code == 200
    assert (ended.json()["run"]["status"], ended.json()["run"]["ended_at"]) == ("completed", LATER)
    assert (await device.get("/api/runs/r-1")).json() == ended.json()


async def test_points_and_the_older_form_name_the_same_run(device: httpx.AsyncClient) -> None:
    await send(device, 20, run_id="r-1")
    answer = await device.post("/api/runs", json={"run_id": "r-1", "status": "ended", "timestamp": EPOCH + 60})
    assert answer.status_code == 200
    assert (answer.json()["run"]["started_at"], answer.json()["run"]["source_id"]) == (START, "rig-1")


async def test_sessions_and_runs_are_one_thing(device: httpx.AsyncClient) -> None:
    await device.post("/api/sessions", json={"session_id": "s-1", "timestamp": EPOCH, "labels": ["x"]})
    await send(device, 1)
    run = await start(device, started_at=LATER)
    sessions = (await device.get("/api/sessions")).json()["sessions"]
    assert [session["session_id"] for session in sessions] == [run["id"], "s-1"]
    runs = (await device.get("/api/runs")).json()["runs"]
    assert [one["name"] for one in runs] == ["Soak", "s-1"]
    assert runs[1]["tags"] == ["x"]
    closed = await device.patch(f"/api/sessions/{run['id']}", json={"status": "completed"})
    assert closed.json()["session"]["status"] == "completed"


async def test_runs_are_filtered_by_source_and_status(device: httpx.AsyncClient) -> None:
    await send(device, 1)
    await send(device, 1, source="rig-2")
    first, second = await start(device, name="one"), await start(device, name="two", source_id="rig-2")
    await change(device, first, {"status": "aborted"})
    for query, expected in (
        ({"source_id": "rig-2"}, ["two"]), ({"status": "aborted"}, ["one"]), ({"status": "active"}, ["two"]),
        ({"source_id": "rig-1", "status": "active"}, []), ({"source_id": "nobody"}, []), ({"limit": 1}, ["two"]),
    ):  # fmt: skip
        runs = (await device.get("/api/runs", params=query)).json()["runs"]
        assert [run["name"] for run in runs] == expected
    assert second["status"] == "active"


@pytest.mark.parametrize("status", ["completed", "aborted"])
async def test_a_run_is_closed_with_its_time(device: httpx.AsyncClient, status: str) -> None:
    await send(device, 1)
    run = await start(device)
    closed = await change(device, run, {"status": status, "ended_at": LATER})
    assert (closed["status"], closed["ended_at"]) == (status, LATER)
    assert closed["test_result"] is None
    for bad in ({"ended_at": "2023-11-14T22:13:19Z"}, {"started_at": "2024-01-01T00:00:00Z"}, {"name": None}, {"name": ""}):
        assert (await change(device, run, bad, expected=400))["error"] == "VALIDATION_ERROR"
    assert (await device.get(f"/api/runs/{run['id']}")).json()["run"] == closed


async def test_an_unknown_run_is_404(busbar: Running, eve: Person, device: httpx.AsyncClient) -> None:
    await send(device, 1)
    run = await start(device)
    stranger = busbar.http(**{"x-api-key": await busbar.key(eve, CredentialKind.TELEMETRY_KEY)})
    for client, identity in ((device, "none"), (stranger, run["id"])):
        for method in ("GET", "PATCH", "DELETE"):
            answer = await client.request(method, f"/api/runs/{identity}", json={"status": "completed"})
            assert (answer.status_code, answer.json()["error"]) == (404, "NOT_FOUND")


async def test_a_deleted_run_is_gone_and_its_points_stay(device: httpx.AsyncClient) -> None:
    await send(device, 20, 21, run_id="r-1")
    assert (await device.delete("/api/runs/r-1")).status_code == 204
    assert (await device.get("/api/runs/r-1")).status_code == 404
    query = {"source": "rig-1", "from": START, "to": LATER}
    assert (await device.get("/api/v1/telemetry", params=query)).json()["count"] == 2
    await send(device, 22, at=EPOCH + 9, run_id="r-1")
    assert (await device.get("/api/runs/r-1")).status_code == 200


async def test_a_run_passes_when_every_value_in_its_time_does(device: httpx.AsyncClient) -> None:
    await send(device, 99, at=EPOCH - 1)
    await send(device, 20, 29.5)
    await send(device, 99, at=EPOCH + 61)
    await send(device, 99, source="rig-2")
    result = await complete(device, await start(device, pass_criteria=[COOL, {**COOL, "operator": ">=", "value": 20}]))
    assert result["passed"] is True
    assert [(one["passed"], one["count"]) for one in result["criteria"]] == [(True, 2), (True, 2)]
    assert result["criteria"][0] == COOL | {"passed": True, "count": 2, "failed_value": None, "failed_at": None}


async def test_the_first_value_that_fails_is_named(device: httpx.AsyncClient) -> None:
    await send(device, 20, 31, 32)
    result = await complete(device, await start(device, pass_criteria=[COOL]))
    assert result["passed"] is False
    expected = {"passed": False, "count": 3, "failed_value": 31, "failed_at": (EPOCH + 1) * 1000}
    assert result["criteria"] == [COOL | expected]


@pytest.mark.parametrize(
    ("operator", "passed"), [(">", False), (">=", True), ("<", False), ("<=", True), ("=", True), ("!=", False)]
)
async def test_every_operator_compares(device: httpx.AsyncClient, operator: str, passed: bool) -> None:
    await send(device, 30)
    result = await complete(device, await start(device, pass_criteria=[{**COOL, "operator": operator}]))
    assert result["passed"] is passed


async def test_without_values_a_run_does_not_pass(device: httpx.AsyncClient) -> None:
    await send(device, 20)
    result = await complete(device, await start(device, pass_criteria=[COOL, {**COOL, "metric": "other"}]))
    assert result["passed"] is False
    assert [(one["passed"], one["count"]) for one in result["criteria"]] == [(True, 1), (False, 0)]


async def test_what_is_no_number_meets_no_criterion(device: httpx.AsyncClient) -> None:
    await send(device, 20, "hot")
    result = await complete(device, await start(device, pass_criteria=[COOL]))
    assert (result["passed"], result["criteria"][0]["count"]) == (False, 2)
    assert result["criteria"][0]["failed_value"] is None


async def test_points_that_name_the_run_are_judged_and_no_others(device: httpx.AsyncClient) -> None:
    await device.post("/api/runs", json={"run_id": "r-1", "source_id": "rig-1", "timestamp": EPOCH})
    await send(device, 99)
    await send(device, 20, 21, at=EPOCH + 3600, run_id="r-1")
    run = (await device.get("/api/runs/r-1")).json()["run"]
    await change(device, run, {"pass_criteria": [COOL]})
    result = await complete(device, run)
    assert (result["passed"], result["criteria"][0]["count"]) == (True, 2)


async def test_a_run_of_no_source_is_judged_over_all(device: httpx.AsyncClient) -> None:
    await send(device, 20)
    await send(device, 31, source="rig-2")
    result = await complete(device, await start(device, source_id=None, pass_criteria=[COOL]))
    assert (result["passed"], result["criteria"][0]["count"]) == (False, 2)


async def test_a_run_of_a_deleted_source_shows_nothing_of_others(device: httpx.AsyncClient) -> None:
    await send(device, 20)
    run = await start(device, pass_criteria=[COOL])
    assert (await complete(device, run))["passed"] is True
    await send(device, 20, source="rig-2")
    await device.delete("/api/sources/rig-1")
    exported = await device.get("/api/v1/telemetry/export", params={"recording": run["id"]})
    assert exported.text.splitlines()[1:] == []
    judged = await change(device, run, {"pass_criteria": [COOL, COOL]})
    assert [criterion["count"] for criterion in judged["test_result"]["criteria"]] == [0, 0]
    assert judged.get("source_id") is None


async def test_changed_criteria_and_times_are_judged_anew(device: httpx.AsyncClient) -> None:
    await send(device, 20, 31, 20)
    run = await start(device, pass_criteria=[COOL])
    assert (await complete(device, run))["passed"] is False
    milder = await change(device, run, {"pass_criteria": [{**COOL, "value": 40}]})
    assert milder["test_result"]["passed"] is True
    assert (await change(device, run, {"pass_criteria": [COOL]}))["test_result"]["passed"] is False
    shorter = await change(device, run, {"started_at": "2023-11-14T22:13:22Z"})
    assert (shorter["test_result"]["passed"], shorter["test_result"]["criteria"][0]["count"]) == (True, 1)
    assert (await change(device, run, {"name": "Named"}))["test_result"] == shorter["test_result"]
    assert (await change(device, run, {"status": "active"}))["test_result"] is None
    closed = await change(device, run, {"status": "completed", "pass_criteria": []})
    assert closed["test_result"] is None


async def test_patch_changes_what_it_names(device: httpx.AsyncClient) -> None:
    await send(device, 1)
    run = await start(device, tags=["a"], metadata={"n": 1})
    assert await change(device, run, {}) == run
    changed = await change(device, run, {"name": "Other", "tags": {"b": "c"}})
    assert (changed["name"], changed["tags"], changed["metadata"]) == ("Other", {"b": "c"}, {"n": 1})
    assert changed["updated_at"] > run["updated_at"]
    assert (await change(device, run, {"metadata": None}))["metadata"] is None


@pytest.mark.parametrize("door", ["grpc", "rest", "mcp"])
async def test_a_recording_is_started_and_stopped_at_every_door(
    busbar: Running, alice: Person, device: httpx.AsyncClient, door: str
) -> None:
    await send(device, 20)
    client = busbar.client(door, await busbar.key(alice, CredentialKind.TELEMETRY_KEY, "write", "read"))
    run = (
        await client.call(
            "telemetry.RunService.CreateRun", name="Soak", source_id="rig-1", started_at=START, pass_criteria=[COOL]
        )
    ).run
    stopped = (await client.call("telemetry.RunService.UpdateRun", run_id=run.id, status="completed", ended_at=LATER)).run
    assert (stopped.status, stopped.test_result.passed) == ("completed", True)
    listed = (await client.call("SessionService.ListSessions")).sessions
    assert [(session.session_id, session.status) for session in listed] == [(run.id, "completed")]


async def test_a_run_that_is_over_already_is_judged_at_once(device: httpx.AsyncClient) -> None:
    await send(device, 20)
    run = await start(device, status="completed", ended_at=LATER, pass_criteria=[COOL])
    assert (run["status"], run["ended_at"], run["test_result"]["passed"]) == ("completed", LATER, True)
