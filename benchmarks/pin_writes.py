"""Durable writes of single pins by 64 clients that each wait for their answer, against one ORM commit for each request."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.http_client import request
from benchmarks.processes import Busbar, ask, busbar, server
from benchmarks.rows import Budget, Row, compare

ROUNDS, SECONDS, CLIENTS = 5, 1.0, 64
PEER = "gRPC server, one SQLModel/aiosqlite commit a request"


async def run() -> list[Row]:
    """Measure."""
    with tempfile.TemporaryDirectory() as folder:
        async with busbar(Path(folder)) as running, server("-m", "benchmarks.peers.orm_pins") as (orm, _):
            boards = await running.boards(CLIENTS)
            ours = {"address": running.grpc, "token": running.session, "boards": boards}
            peer = {"address": f"127.0.0.1:{orm['port']}", "token": "", "boards": boards}
            job = {"targets": [ours, peer], "write": True, "rounds": ROUNDS, "seconds": SECONDS, "clients": CLIENTS}
            over_grpc = await ask("benchmarks.grpc_client", job)
            over_rest = (await ask("benchmarks.http_client", _rest_job(running, boards)))[0]
    what = f"durable single-pin writes, {CLIENTS} clients"
    return [
        compare(f"{what}, gRPC", "writes/s", over_grpc[0], PEER, over_grpc[1], Budget(8)),
        compare(f"{what}, REST", "writes/s", over_rest, PEER, over_grpc[1]),
    ]


def _rest_job(running: Busbar, boards: list[str]) -> dict[str, Any]:
    headers = {"Authorization": f"Bearer {running.session}", "Content-Type": "application/json"}
    body = json.dumps({"value": 21.5}).encode()
    requests = [request("PUT", f"/api/boards/{board}/pins/V7", headers, body).decode() for board in boards]
    targets = [{"port": running.port, "requests": requests}]
    return {"targets": targets, "rounds": ROUNDS, "seconds": SECONDS, "connections": CLIENTS}
