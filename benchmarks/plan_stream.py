"""Fan-out of one run: 50 clients follow a coding plan while its model writes, against a bare stream of the same text.

The run reads the reply, stores every event before it is told, and tells near ones together. The bare application sends each
piece as a message of its own, stores nothing and reads nothing. Both begin to write when every client is there.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from pathlib import Path

import httpx

from benchmarks.peers.text_stream import PIECES
from benchmarks.processes import Busbar, serve_command, server
from benchmarks.rows import Row, compare

CLIENTS, ROUNDS = 50, 5
CHUNK = b'"replyChunk"'
END = b'"type":"finished"'


class Follower(asyncio.Protocol):
    """A client that counts pieces of text and reads none of them."""

    def __init__(self, request: bytes) -> None:
        self._request = request
        self._transport: asyncio.Transport
        self._rest = b""
        self.pieces = 0
        self.begun: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ask."""
        self._transport = transport  # pyright: ignore[reportAttributeAccessIssue] - uvloop's transports are none by class
        self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        """Count."""
        if not self.begun.done():
            assert data.startswith(b"HTTP/1.1 200"), data[:300]
            self.begun.set_result(None)
        text = self._rest + data
        self.pieces += text.count(CHUNK)
        # What may be the beginning of either word counts with what follows.
        self._rest = text[-(len(END) - 1) :] if not text.endswith(CHUNK) else b""
        self.pieces -= self._rest.count(CHUNK)
        if END in text and not self.ended.done():
            self.ended.set_result(None)

    def close(self) -> None:
        """Leave."""
        self._transport.close()


async def _followers(port: int, request: bytes) -> list[Follower]:
    loop = asyncio.get_running_loop()
    made = [(await loop.create_connection(lambda: Follower(request), "127.0.0.1", port))[1] for _ in range(CLIENTS)]
    await asyncio.wait_for(asyncio.gather(*(one.begun for one in made)), 30)
    return made


async def _round(port: int, request: bytes, model: httpx.AsyncClient, go: str = "/go") -> float:
    """Return pieces a second that reached clients."""
    followers = await _followers(port, request)
    began = time.perf_counter()
    await model.post(go)
    await asyncio.wait_for(asyncio.gather(*(one.ended for one in followers)), 120)
    seconds = time.perf_counter() - began
    assert {one.pieces for one in followers} == {PIECES}, {one.pieces for one in followers}
    for one in followers:
        one.close()
    return PIECES * CLIENTS / seconds


class _Plan:
    """A plan whose runs are followed."""

    def __init__(self, running: Busbar) -> None:
        self._running = running
        self._http = httpx.AsyncClient(base_url=running.http, headers={"Authorization": f"Bearer {running.session}"})
        self._path = ""

    async def make(self) -> None:
        """Make the plan, and let it use the model of the server."""
        project = (await self._http.post("/projects", json={"name": "Bench"})).raise_for_status().json()["id"]
        plan = (await self._http.post(f"/projects/{project}/plans", json={"name": "bench"})).raise_for_status().json()["id"]
        self._path = f"/plans/{plan}/main"
        settings = {"modelPackName": "server", "modelPack": None}
        (await self._http.put(f"{self._path}/settings", json=settings)).raise_for_status()

    async def round(self, model: httpx.AsyncClient) -> float:
        """Start a run and follow it."""
        tell = {"prompt": "Talk.", "isChatOnly": True, "buildMode": "none", "connectStream": False}
        (await self._http.post(f"{self._path}/tell", json=tell)).raise_for_status()
        head = f"PATCH {self._path}/connect HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {self._running.session}\r\n"
        return await _round(self._running.port, f"{head}Content-Length: 0\r\n\r\n".encode(), model, "/go-when-asked")

    async def close(self) -> None:
        """Close the connection."""
        await self._http.aclose()


async def run() -> list[Row]:
    """Measure."""
    with tempfile.TemporaryDirectory() as folder:
        async with server("-m", "benchmarks.peers.text_stream") as (model, _):
            address = f"http://127.0.0.1:{model['port']}"
            own = {"BUSBAR_AI_BASE_URL": f"{address}/v1", "BUSBAR_AI_KEY": "sk-bench", "BUSBAR_AI_MODEL": "bench"}
            command = serve_command(Path(folder))
            async with (
                server(*command, BUSBAR_PLANS__PACE_MS="0", **own) as (ready, pid),
                httpx.AsyncClient(base_url=address) as peer,
            ):
                running = Busbar(ready, pid)
                await running.sign_in()
                plan = _Plan(running)
                await plan.make()
                watch = b"GET /watch HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
                await plan.round(peer)
                await _round(model["port"], watch, peer)
                rounds = [(await plan.round(peer), await _round(model["port"], watch, peer)) for _ in range(ROUNDS)]
                await plan.close()
    mine, theirs = zip(*rounds, strict=True)
    what = f"fan-out of one durable run to {CLIENTS} clients"
    return [compare(what, "pieces/s", mine, "bare uvicorn stream, piece by piece, that stores nothing", theirs)]
