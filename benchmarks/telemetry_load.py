"""Telemetry under load: many devices and dashboards on their sockets, some of which read slowly, and ingest over HTTP.

The server stores and acknowledges every point and then shows it; the peer is a bare relay that does neither, but collects
points for as long. Both run in turn within one run. Nothing that was acknowledged may be missing from the database afterwards.

usage: python -m benchmarks.telemetry_load [--devices N] [--dashboards N] [--slow N] [--seconds N]
"""

from __future__ import annotations

import argparse
import asyncio
import sqlite3
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import orjson
import uvloop

from benchmarks.http_client import connect, request
from benchmarks.processes import Busbar, ask, busbar, server
from benchmarks.rows import Budget, Row, absolute, compare, table

PEER = "websockets relay that stores nothing"
CLIENTS, SMALL, LARGE = 8, 100, 10_000
INGEST_ROUNDS, INGEST_POINTS = 3, 160_000
START_MS = 1_750_000_000_000
STORED = """
SELECT device.slug, count(*) FROM point JOIN channel ON channel.id = channel_id JOIN device ON device.id = device_id
WHERE device.slug LIKE 'load-%' GROUP BY device.slug
"""


@dataclass(frozen=True)
class Load:
    """How much; `seconds` are those of one round, `rate` is frames a second of one device."""

    devices: int = 500
    dashboards: int = 50
    slow: int = 5
    rate: int = 10
    seconds: float = 20.0
    rounds: int = 3

    def __str__(self) -> str:
        return f"{self.devices} devices at {self.rate} frames/s, {self.dashboards} dashboards, {self.slow} slow"


async def run(load: Load | None = None) -> list[Row]:
    """Measure."""
    load = load or Load()
    with tempfile.TemporaryDirectory() as folder:
        async with busbar(Path(folder)) as running:
            key = await running.telemetry_key()
            rows = await _sockets(running, key, load)
            for size in (LARGE, SMALL):
                points = INGEST_POINTS if size == LARGE else INGEST_POINTS // 8
                rates = [await _ingest(running, key, size, points, number) for number in range(INGEST_ROUNDS)]
                rows.append(absolute(f"HTTP ingest, {CLIENTS} clients, batches of {size:,}, durable", "rows/s", rates))
    return rows


async def _sockets(running: Busbar, key: str, load: Load) -> list[Row]:
    async with server("-m", "benchmarks.peers.telemetry_relay") as (relay, pid):
        ours = {"port": running.port, "pid": running.pid, "key": key, "session": running.session}
        targets = [ours, {"port": relay["port"], "pid": pid}]
        mine, theirs = await ask("benchmarks.telemetry_client", {"targets": targets, **asdict(load)})
    rounds, peer = mine["rounds"], theirs["rounds"]
    lost = _lost(running.data / "busbar.db", mine["acknowledged"])
    missing = sum(mine["sent"].values()) - sum(mine["acknowledged"].values())
    return [
        absolute(f"{load}: acknowledged points that are lost", "points", [lost], Budget(0, at_most=True)),
        absolute(f"{load}: sent points never acknowledged", "points", [missing]),
        absolute("the same: connections cut", "connections", [mine["lost_connections"]]),
        absolute("the same: resident memory of one idle connection", "KiB", [mine["memory_kib"]]),
        absolute("the same: resident memory of the server after it", "MiB", [mine["rss_kib"] / 1024]),
        absolute("the same: points that a fast dashboard sees", "%", [100 * found["seen"] for found in rounds]),
        *(_compared(name, rounds, peer) for name in ("p50", "p99")),
        _acknowledged("p50", rounds, Budget(1000, at_most=True)),
        _acknowledged("p99", rounds),
        compare(
            "the same: processor time of the server for one device frame",
            "µs",
            [found["cpu"] * 1e6 for found in rounds],
            PEER,
            [found["cpu"] * 1e6 for found in peer],
        ),
        absolute("the same: frames acknowledged", "frames/s", [found["rate"] for found in rounds]),
    ]


def _compared(name: str, ours: Sequence[dict[str, Any]], peer: Sequence[dict[str, Any]]) -> Row:
    mine, theirs = ([found[name] * 1000 for found in rounds] for rounds in (ours, peer))
    return compare(f"the same: device to dashboard, {name}", "ms", mine, PEER, theirs)


def _acknowledged(name: str, rounds: Sequence[dict[str, Any]], budget: Budget | None = None) -> Row:
    waits = [found[f"ack_{name}"] * 1000 for found in rounds]
    return absolute(f"the same: frame to acknowledgement, {name}", "ms", waits, budget)


def _lost(path: Path, acknowledged: dict[str, int]) -> int:
    """Return how many acknowledged points the database does not hold."""
    connection = sqlite3.connect(path)
    try:
        stored: dict[str, int] = dict(connection.execute(STORED).fetchall())
    finally:
        connection.close()
    return sum(max(count - stored.get(name, 0), 0) for name, count in acknowledged.items())


async def _ingest(running: Busbar, key: str, size: int, points: int, number: int) -> float:
    """Return rows a second of clients that each post a batch after their last one is stored."""
    headers = {"x-api-key": key, "Content-Type": "application/json"}
    bodies = [_body(size, batch + number * points // size) for batch in range(points // size)]
    posts = iter([request("POST", "/ingest", headers, body) for body in bodies])
    connections = [await connect(running.port) for _ in range(CLIENTS)]

    async def one(client: int) -> None:
        for post in posts:
            status, content = await connections[client].send(post)
            assert status == 200, content
            assert orjson.loads(content)["persistedCount"] == size

    began = time.perf_counter()
    await asyncio.gather(*(one(client) for client in range(CLIENTS)))
    seconds = time.perf_counter() - began
    for connection in connections:
        connection.close()
    return points / seconds


def _body(size: int, batch: int) -> bytes:
    at = START_MS + batch * size
    points = [{"metric": f"m{n % 10}", "value": n * 0.5, "timestamp": at + n} for n in range(size)]
    return orjson.dumps({"source_id": f"http-{size}", "points": points})


def main() -> None:
    """Measure with a load from the command line."""
    parser = argparse.ArgumentParser(description="Measure telemetry under load.")
    for member in fields(Load):
        parser.add_argument(f"--{member.name}", type=float if member.name == "seconds" else int, default=member.default)
    print(table(uvloop.run(run(Load(**vars(parser.parse_args()))))))


if __name__ == "__main__":
    main()
