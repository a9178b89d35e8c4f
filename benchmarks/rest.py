"""REST without storage: against FastAPI and Pydantic, and what credential, rules and JSON add to the least answer there is."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import httpx

from benchmarks.http_client import request
from benchmarks.processes import ask, busbar, server
from benchmarks.rows import Budget, Row, compare

ROUNDS, SECONDS, CONNECTIONS = 15, 0.4, 16
PEER = "FastAPI + Pydantic, same uvicorn settings"


async def run() -> list[Row]:
    """Measure."""
    return [*await _against_fastapi(), await _against_liveness()]


async def _against_fastapi() -> list[Row]:
    async with (
        server("-m", "benchmarks.memory_pins") as (ours, _),
        server("-m", "benchmarks.peers.fastapi_app") as (peer, _),
    ):
        assert await _shape(ours) == await _shape(peer), "both must answer the same JSON"
        body = json.dumps({"value": 21.5, "label": "Speed"}).encode()
        write = await _rates([_target(one, "PUT", body) for one in (ours, peer)])
        read = await _rates([_target(one, "GET", None) for one in (ours, peer)])
    return [
        compare("REST unary, JSON in and out, no storage", "requests/s", write[0], PEER, write[1], Budget(3)),
        compare("REST unary, read, no storage", "requests/s", read[0], PEER, read[1], Budget(3)),
    ]


async def _against_liveness() -> Row:
    with tempfile.TemporaryDirectory() as folder:
        async with busbar(Path(folder)) as running:
            board = (await running.boards(1))[0]
            target = {"port": running.port, "token": running.session, "board": board}
            await _shape(target)
            health = {"port": running.port, "requests": [request("GET", "/healthz", {}).decode()]}
            rates = await _rates([_target(target, "GET", None), health])
    peer = "GET /healthz of the same server"
    return compare("REST read of a latest pin value, authenticated", "requests/s", rates[0], peer, rates[1], Budget(0.7))


def _path(target: dict[str, Any]) -> str:
    return f"/api/boards/{target['board']}/pins/V7"


def _target(target: dict[str, Any], method: str, body: bytes | None) -> dict[str, Any]:
    headers = {"Authorization": f"Bearer {target['token']}"}
    if body is not None:
        headers["Content-Type"] = "application/json"
    return {"port": target["port"], "requests": [request(method, _path(target), headers, body).decode()]}


async def _shape(target: dict[str, Any]) -> dict[str, Any]:
    """Write a pin and return what is read back, but for what differs from server to server."""
    headers = {"Authorization": f"Bearer {target['token']}"}
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{target['port']}", headers=headers) as client:
        (await client.put(_path(target), json={"value": 21.5, "label": "Speed"})).raise_for_status()
        answer = (await client.get(_path(target))).raise_for_status()
        assert (await client.put(_path(target), json={"value": "x" * 1025})).status_code in (400, 422)
        assert (await client.get(_path(target), headers={"Authorization": "Bearer wrong"})).status_code == 401
    return {**answer.json(), "updatedAt": "now"}


async def _rates(targets: list[dict[str, Any]]) -> list[list[float]]:
    job = {"targets": targets, "rounds": ROUNDS, "seconds": SECONDS, "connections": CONNECTIONS}
    return await ask("benchmarks.http_client", job)
