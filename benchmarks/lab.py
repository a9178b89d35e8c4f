"""The lab's REST surface: batches, a day's series, pages and the CSV file, against a FastAPI app of the usual kind."""

from __future__ import annotations

import asyncio
import json
import re
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.http_client import request
from benchmarks.lab_shape import EVENTS, EXPERIMENT, event_id
from benchmarks.processes import Busbar, ask, busbar, server
from benchmarks.rows import Budget, Row, absolute, compare
from core.app import App
from core.kernel.clock import Clock
from core.kernel.settings import Settings
from core.lab.event_keeper import EventKeeper
from core.lab.experiment_directory import KIND
from core.signals.model import Column

PEER = "FastAPI, SQLAlchemy async ORM, aiosqlite"
ROUNDS, SECONDS, CLIENTS = 5, 1.0, 8
BATCH, SERIES, POINTS = 100, 86_400, 500
ROWS, PEER_ROWS = 5_000_000, 250_000
FILL = 50_000
DAY_US = 86_400_000_000


async def run() -> list[Row]:
    """Measure."""
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder)
        async with busbar(data):
            pass
        events, experiment = await _fill(data)
        sizes = {"BUSBAR_BENCH_SERIES": str(SERIES), "BUSBAR_BENCH_ROWS": str(PEER_ROWS)}
        async with busbar(data) as running, server("-m", "benchmarks.peers.lab_app", **sizes) as (peer, _):
            port = int(peer["port"])
            return [
                await _batches(running, events, port),
                await _series(running, events, port),
                *await _pages(running),
                *await _files(running, experiment, port),
            ]


async def _fill(data: Path) -> tuple[list[str], str]:
    """Make events, a day of one and an experiment of all; return their ids. Linked, so that their datapoints count."""
    app = await App.create(Settings(data=data))
    org_id, user_id = await _owner(app)
    keeper, now = app.found.part(EventKeeper), Clock().now_us()
    events: list[str] = []
    device = await app.signals.ensure_device(org_id, "rig")
    for number in range(EVENTS):
        channel = await app.signals.ensure_channel(device.id, f"m{number}")
        values = {"name": f"Event {number}", "min_value": 0.0, "max_value": 100.0, "unit": "C", "type": "sensor"}
        events.append((await keeper.link(org_id, user_id, channel, values)).public_id)
    step = DAY_US // SERIES
    times = range(now - DAY_US, now - DAY_US + SERIES * step, step)
    await app.signals.write(org_id, [Column("rig", "m0", times, [at % 97 for at in times])])
    start = now - 2 * DAY_US
    recording = await app.signals.recordings.create(
        org_id, kind=KIND, name="run", started_us=start, ended_us=start + DAY_US // 2
    )
    for first in range(0, ROWS // EVENTS, FILL // EVENTS):
        times = range(start + first * 10_000, start + (first + FILL // EVENTS) * 10_000, 10_000)
        values = [at % 97 for at in times]
        ns = [0] * len(times)
        columns = [Column("rig", f"m{n}", times, values, ns=ns, recording_id=recording.id) for n in range(EVENTS)]
        await app.signals.write(org_id, columns)
    await app.close()
    return events, recording.public_id


async def _owner(app: App) -> tuple[str, str]:
    account = await app.identity.check_password("admin@example.com", "correct horse battery")
    assert account is not None
    return account.org_id, account.user.id


def _job(ours: tuple[int, Sequence[bytes]], peer: tuple[int, Sequence[bytes]], clients: int) -> dict[str, Any]:
    targets = [{"port": port, "requests": [text.decode() for text in requests]} for port, requests in (ours, peer)]
    return {"targets": targets, "rounds": ROUNDS, "seconds": SECONDS, "connections": clients}


def _post(path: str, body: object, token: str = "") -> bytes:
    headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {token}"} if token else {})
    return request("POST", f"/api/v1/datapoints/{path}", headers, json.dumps(body).encode())


async def _batches(running: Busbar, events: Sequence[str], port: int) -> Row:
    def batch(ids: Sequence[str]) -> dict[str, Any]:
        return {"datapoints": [{"value": n * 0.5, "event_public_id": ids[n % EVENTS]} for n in range(BATCH)]}

    theirs = [event_id(number) for number in range(EVENTS)]
    ours = running.port, [_post("batch", batch(events), running.session)]
    mine, peer = await ask("benchmarks.http_client", _job(ours, (port, [_post("batch", batch(theirs))]), CLIENTS))
    rates = [[rate * BATCH for rate in rates] for rates in (mine, peer)]
    what = f"lab, batches of {BATCH}, {CLIENTS} clients, durable"
    return compare(what, "rows/s", rates[0], PEER, rates[1], Budget(5))


async def _series(running: Busbar, events: Sequence[str], port: int) -> Row:
    body = {"minutes": 1440, "max_points": POINTS}
    ours = running.port, [_post("series", {**body, "event_public_ids": [events[0]]}, running.session)]
    peer = port, [_post("series", {**body, "event_public_ids": [event_id(0)]})]
    mine, theirs = await ask("benchmarks.http_client", _job(ours, peer, 1))
    return compare(f"lab, {POINTS} points of a day of {SERIES:,}", "requests/s", mine, PEER, theirs, Budget(10))


async def _pages(running: Busbar) -> list[Row]:
    """Measure the list of all datapoints: right after a start, and then again and again."""

    async def milliseconds(page: int) -> float:
        began = time.perf_counter()
        status, size = await _download(running.port, f"/api/v1/datapoints?page={page}", running.session)
        assert status == 200
        assert size > 1000
        return (time.perf_counter() - began) * 1000

    first = await milliseconds(1)
    again = [await milliseconds(1) for _ in range(ROUNDS)]
    deep = [await milliseconds(ROWS // 50) for _ in range(3)]
    what = f"lab, a page of {ROWS:,} datapoints with their total"
    return [
        absolute(f"{what}, first after a start", "ms", [first]),
        absolute(what, "ms", again, Budget(50, at_most=True)),
        absolute(f"{what}, from the middle", "ms", deep),
    ]


async def _files(running: Busbar, experiment: str, port: int) -> list[Row]:
    before = _resident(running.pid)
    ours: list[float] = []
    theirs: list[float] = []
    for _ in range(2):
        ours.append(await _rate(running.port, experiment, running.session, ROWS))
        theirs.append(await _rate(port, EXPERIMENT, "", PEER_ROWS))
    grown = _peak(running.pid) - before
    return [
        compare(f"lab, CSV file of {ROWS:,} rows (peer {PEER_ROWS:,})", "rows/s", ours, PEER, theirs, Budget(3)),
        absolute(f"lab, memory that CSV files of {ROWS:,} rows add", "MiB", [grown], Budget(64, at_most=True)),
    ]


async def _rate(port: int, experiment: str, token: str, rows: int) -> float:
    began = time.perf_counter()
    status, size = await _download(port, f"/api/v1/experiments/{experiment}/export/csv", token)
    assert (status, size > rows * 100) == (200, True)
    return rows / (time.perf_counter() - began)


async def _download(port: int, path: str, token: str) -> tuple[int, int]:
    """Read an answer to its end, whatever its length, and throw it away; return its status and size."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=2**20)
    headers = {"Connection": "close"} | ({"Authorization": f"Bearer {token}"} if token else {})
    writer.write(request("GET", path, headers))
    head = await reader.readline()
    size = 0
    while part := await reader.read(2**20):
        size += len(part)
    writer.close()
    return int(head.split()[1]), size


def _resident(pid: int) -> float:
    return _status(pid, "VmRSS")


def _peak(pid: int) -> float:
    return _status(pid, "VmHWM")


def _status(pid: int, name: str) -> float:
    """Return a figure of a process in MiB."""
    found = re.search(rf"{name}:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found is not None
    return int(found[1]) / 1024
