"""What load balancers, Prometheus and people ask a server."""

from __future__ import annotations

from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from core.kernel.errors import Unavailable
from tests.conftest import Person, Running, Start


async def test_liveness_and_readiness_answer_ok(busbar: Running) -> None:
    for path in ("/healthz", "/readyz"):
        answer = await busbar.http().get(path)
        assert (answer.status_code, answer.json()) == (200, {"status": "ok"})


async def test_health_sums_up_what_every_surface_asks_for(busbar: Running, alice: Person, bench: Any) -> None:
    empty = (await busbar.http().get("/health")).json()
    assert set(empty) == {
        "status", "version", "database", "last_datapoint", "uptime_seconds", "devices", "browsers", "uptime_s",
    }  # fmt: skip
    assert (empty["status"], empty["database"], empty["last_datapoint"]) == ("ok", "ok", None)
    await busbar.http(alice.session).put(f"/api/boards/{bench.id}/pins/0", json={"value": 1})
    assert (await busbar.http().get("/health")).json()["last_datapoint"] is not None
    text = await busbar.http().get("/health", headers={"Accept": "text/plain"})
    assert text.text == "OK"


async def test_without_storage_it_lives_but_is_not_ready(busbar: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    async def away() -> None:
        raise Unavailable("storage does not answer")

    monkeypatch.setattr(busbar.app.database, "ping", away)
    assert (await busbar.http().get("/healthz")).status_code == 200
    assert (await busbar.http().get("/readyz")).status_code == 503
    health = (await busbar.http().get("/health")).json()
    assert (health["status"], health["database"]) == ("degraded", "error")


async def test_grpc_health_follows_the_server(busbar: Running) -> None:
    async with grpc.aio.insecure_channel(busbar.server.grpc_address) as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        answer = await stub.Check(health_pb2.HealthCheckRequest())
    assert answer.status == health_pb2.HealthCheckResponse.SERVING


async def test_metrics_count_calls_by_rpc_door_and_code(busbar: Running, alice: Person) -> None:
    await busbar.http(alice.session).get("/api/boards")
    await busbar.http().get("/api/boards")
    text = (await busbar.http().get("/metrics")).text
    for code in ("OK", "UNAUTHENTICATED"):
        line = f'busbar_calls_total{{code="{code}",door="rest",rpc="busbar.maker.v1.BoardService/ListBoards"}}'
        assert line in text


async def test_a_listener_of_its_own_serves_one_surface(start: Start) -> None:
    busbar = await start(listen={"telemetry": "127.0.0.1:0"})
    own = busbar.server.listeners["telemetry"]
    async with busbar.http() as client:
        assert (await client.get(f"{own}/healthz")).status_code == 200
        assert (await client.post(f"{own}/ingest", json={"points": []})).status_code == 401
        assert (await client.get(f"{own}/api/boards")).status_code == 404
        assert (await client.get("/api/boards")).status_code == 401
