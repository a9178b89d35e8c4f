"""How long the server takes from the command to its first answer, on an empty directory, and what it then holds in memory.

An unmeasured first start compiles the bytecode, which an installed package has.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from pathlib import Path

from benchmarks.http_client import connect, request
from benchmarks.processes import serve_command, server
from benchmarks.rows import Budget, Row, absolute

ROUNDS = 5
IDLE_SECONDS = 1.0


async def run() -> list[Row]:
    """Measure."""
    with tempfile.TemporaryDirectory() as bytecode:
        await _start(bytecode)
        rounds = [await _start(bytecode) for _ in range(ROUNDS)]
    seconds, mebibytes = zip(*rounds, strict=True)
    return [
        absolute("cold start to first answer, migration included", "s", seconds, Budget(2, at_most=True)),
        absolute("idle memory, resident", "MiB", mebibytes, Budget(160, at_most=True)),
    ]


async def _start(bytecode: str) -> tuple[float, float]:
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        places = {"PYTHONPYCACHEPREFIX": bytecode, "PYTHONDONTWRITEBYTECODE": ""}
        async with server(*serve_command(Path(folder)), **places) as (ready, pid):
            connection = await connect(int(ready["http"].rpartition(":")[2]))
            status, _ = await connection.send(request("GET", "/healthz", {}))
            seconds = time.perf_counter() - began
            assert status == 200
            await asyncio.sleep(IDLE_SECONDS)
            return seconds, await _resident(pid)


async def _resident(pid: int) -> float:
    process = await asyncio.create_subprocess_exec("ps", "-o", "rss=", "-p", str(pid), stdout=asyncio.subprocess.PIPE)
    out, _ = await process.communicate()
    return int(out) / 1024
