"""Starts servers and load generators, each in a process of its own, as they run in life."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx

ROOT = Path(__file__).parent.parent
START_SECONDS = 60.0
LIMIT = 64 * 1024 * 1024
PASSWORD = "correct horse battery"  # noqa: S105 - of a server that lives for a minute, on loopback
ENVIRONMENT = {
    **os.environ,
    "BUSBAR_RATE_LIMITS": "off",
    "BUSBAR_QUOTAS__BOARDS": "1000",
    "BUSBAR_LOG_LEVEL": "error",
    "BUSBAR_ADMIN_USERNAME": "admin",
    "BUSBAR_ADMIN_EMAIL": "admin@example.com",
    "BUSBAR_ADMIN_PASSWORD": PASSWORD,
}


@asynccontextmanager
async def server(*command: str, **environment: str) -> AsyncGenerator[tuple[dict[str, Any], int]]:
    """Start a Python program that prints one JSON object when it answers; yield that object and the process id."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *command,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        cwd=ROOT,
        env=ENVIRONMENT | environment,
    )
    assert process.stdout is not None
    try:
        line = await asyncio.wait_for(process.stdout.readline(), START_SECONDS)
        yield json.loads(line), process.pid
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


async def ask(module: str, job: object) -> Any:  # noqa: ANN401 - JSON
    """Run a module that reads a job from standard input, and return the JSON that it prints."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        module,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        cwd=ROOT,
        env=ENVIRONMENT,
        limit=LIMIT,
    )
    out, _ = await process.communicate(json.dumps(job).encode())
    assert process.returncode == 0, f"{module} failed"
    return json.loads(out)


class Busbar:
    """A running server, and what its clients need."""

    def __init__(self, ready: dict[str, str], pid: int) -> None:
        self.http = ready["http"]
        self.grpc = ready["grpc"]
        self.data = Path(ready["data"])
        self.pid = pid
        self.session = ""

    @property
    def port(self) -> int:
        """Port of HTTP."""
        return int(self.http.rpartition(":")[2])

    async def sign_in(self) -> None:
        """Open a session of the administrator."""
        login = {"email": "admin", "password": PASSWORD}
        async with httpx.AsyncClient(base_url=self.http) as client:
            answer = await client.post("/api/auth/login", json=login)
        self.session = answer.raise_for_status().json()["token"]

    async def boards(self, count: int) -> list[str]:
        """Make boards and return their ids."""
        headers = {"Authorization": f"Bearer {self.session}"}
        async with httpx.AsyncClient(base_url=self.http, headers=headers) as client:
            answers = [await client.post("/api/boards", json={"name": f"Board {number}"}) for number in range(count)]
        return [answer.raise_for_status().json()["id"] for answer in answers]

    async def telemetry_key(self) -> str:
        """Return a new key that may write points."""
        command = ["-m", "busbar", "key", "create", "--data", str(self.data), "--kind", "telemetry"]
        process = await asyncio.create_subprocess_exec(
            sys.executable, *command, "--scopes", "read,write", "--json", stdout=asyncio.subprocess.PIPE, env=ENVIRONMENT
        )
        out, _ = await process.communicate()
        return json.loads(out)["key"]


def serve_command(data: Path) -> list[str]:
    """Return the arguments that start the server on a data directory."""
    return ["-m", "busbar", "serve", "--json", "--http", "127.0.0.1:0", "--grpc", "127.0.0.1:0", "--data", str(data)]


@asynccontextmanager
async def busbar(data: Path) -> AsyncGenerator[Busbar]:
    """Start the server and sign in."""
    async with server(*serve_command(data)) as (ready, pid):
        running = Busbar(ready, pid)
        await running.sign_in()
        yield running
