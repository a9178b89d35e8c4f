"""Durable ingest of batches of 10,000 points, against the plain driver writing the same rows into the same table.

The driver gets its rows as ready tuples in the order of the primary key, with the same pragmas and one commit for each batch;
the server gets JSON over HTTP, or packed columns over gRPC, and also keeps latest values and rollups.
"""

from __future__ import annotations

import asyncio
import gzip
import sqlite3
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import grpc
import orjson

from benchmarks.http_client import connect, request
from benchmarks.processes import Busbar, busbar
from benchmarks.rows import Budget, Row, compare
from gen.busbar.telemetry.v1.ingest_pb import Column, IngestColumnsRequest
from gen.busbar.telemetry.v1.ingest_pb_grpc import IngestServiceClient

BATCH, METRICS, SPACING_US = 10_000, 10, 100_000
ROUNDS, BATCHES = 5, 10
START_US = 1_750_000_000_000_000
EACH = BATCH // METRICS
RAW = "INSERT OR IGNORE INTO point (channel_id, at_us, n, num, text, recording_id, tagset_id) VALUES (?, ?, ?, ?, ?, ?, ?)"
RAW_CHANNEL = 1_000_000
PEER = "sqlite3.executemany into the same table"

Ingest = Callable[[], Awaitable[float]]


async def run() -> list[Row]:
    """Measure."""
    with tempfile.TemporaryDirectory() as folder:
        async with busbar(Path(folder)) as running:
            key = await running.telemetry_key()
            raw = _Raw(running.data / "busbar.db")
            rows = [
                await _compared("HTTP ingest, JSON", _Http(running, key, "one", 1, zipped=False).round, raw, Budget(0.5)),
                await _compared("HTTP ingest, JSON, 4 clients", _Http(running, key, "four", 4, zipped=False).round, raw, None),
                await _compared("HTTP ingest, gzip JSON", _Http(running, key, "zip", 1, zipped=True).round, raw, None),
                await _compared("gRPC columnar ingest", _Columns(running, key).round, raw, Budget(0.8)),
            ]
            raw.close()
    return rows


async def _compared(what: str, ours: Ingest, raw: _Raw, budget: Budget | None) -> Row:
    await ours()
    await asyncio.to_thread(raw.round)
    rounds = [(await ours(), await asyncio.to_thread(raw.round)) for _ in range(ROUNDS)]
    mine, theirs = zip(*rounds, strict=True)
    return compare(f"{what}, batches of {BATCH:,}, durable", "rows/s", mine, PEER, theirs, budget)


def _times(batch: int) -> range:
    first = START_US + batch * EACH * SPACING_US
    return range(first, first + EACH * SPACING_US, SPACING_US)


class _Raw:
    """The plain driver."""

    def __init__(self, path: Path) -> None:
        self._connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self._connection.execute("PRAGMA synchronous=FULL")
        assert self._connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        self._batch = 0

    def round(self) -> float:
        """Return rows a second."""
        seconds = 0.0
        for _ in range(BATCHES):
            rows = [
                (RAW_CHANNEL + metric, at, 0, number * 0.5, None, None, None)
                for metric in range(METRICS)
                for number, at in enumerate(_times(self._batch))
            ]
            self._batch += 1
            began = time.perf_counter()
            self._connection.execute("BEGIN IMMEDIATE")
            self._connection.executemany(RAW, rows)
            self._connection.execute("COMMIT")
            seconds += time.perf_counter() - began
        return BATCH * BATCHES / seconds

    def close(self) -> None:
        """Close the file."""
        self._connection.close()


class _Http:
    """Clients that post JSON, each a batch after its last one is acknowledged."""

    def __init__(self, running: Busbar, key: str, source: str, clients: int, *, zipped: bool) -> None:
        self._running = running
        self._headers = {"x-api-key": key, "Content-Type": "application/json"}
        if zipped:
            self._headers["Content-Encoding"] = "gzip"
        self._source = source
        self._clients = clients
        self._zipped = zipped
        self._batch = 0

    async def round(self) -> float:
        """Return rows a second."""
        posts = iter([self._post() for _ in range(BATCHES)])
        connections = [await connect(self._running.port) for _ in range(self._clients)]

        async def one(number: int) -> None:
            for post in posts:
                status, content = await connections[number].send(post)
                assert status == 200, content
                assert orjson.loads(content)["persistedCount"] == BATCH

        began = time.perf_counter()
        await asyncio.gather(*(one(number) for number in range(self._clients)))
        seconds = time.perf_counter() - began
        for connection in connections:
            connection.close()
        return BATCH * BATCHES / seconds

    def _post(self) -> bytes:
        body = orjson.dumps({"source_id": self._source, "points": list(self._points())})
        self._batch += 1
        return request("POST", "/ingest", self._headers, gzip.compress(body, 6) if self._zipped else body)

    def _points(self) -> Iterator[dict[str, object]]:
        """Yield points as a device sends them: all metrics of an instant, then those of the next."""
        for number, at in enumerate(_times(self._batch)):
            for metric in range(METRICS):
                yield {"metric": f"m{metric}", "value": number * 0.5, "timestamp": at / 1000}


class _Columns:
    """One gRPC stream of columns."""

    def __init__(self, running: Busbar, key: str) -> None:
        self._address = running.grpc
        self._metadata = (("authorization", f"Bearer {key}"),)
        self._batch = 0

    async def round(self) -> float:
        """Return rows a second."""
        batches = [self._request() for _ in range(BATCHES)]

        async def requests() -> AsyncIterator[IngestColumnsRequest]:
            for batch in batches:
                yield batch

        async with grpc.aio.insecure_channel(self._address) as channel:
            await channel.channel_ready()
            began = time.perf_counter()
            answers = IngestServiceClient(channel).ingest_columns(requests(), metadata=self._metadata)
            async for answer in answers:
                assert answer.stored == BATCH, answer
            return BATCH * BATCHES / (time.perf_counter() - began)

    def _request(self) -> IngestColumnsRequest:
        times, values = list(_times(self._batch)), [number * 0.5 for number in range(EACH)]
        columns = [Column(source_id="rig", metric=f"m{n}", timestamps_us=times, values=values) for n in range(METRICS)]
        self._batch += 1
        return IngestColumnsRequest(seq=self._batch, columns=columns)
