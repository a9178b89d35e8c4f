"""An HTTP/1.1 client that costs less than any server under test: keep-alive, one request at a time, no pipelining.

As a module it is a load generator: it reads a job, loads its targets in turn and prints their rates. The job is
`{"targets": [{"port": 1, "requests": ["GET ..."]}], "rounds": 5, "seconds": 1, "connections": 16}`; connection n sends request
n, again and again.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from typing import Any, cast

import uvloop

ANSWER_SECONDS = 60.0


class Connection(asyncio.Protocol):
    """One connection."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._answer: asyncio.Future[tuple[int, bytes]] | None = None
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        # uvloop's transports are none by class.
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Complete the answer that is awaited."""
        buffer = self._buffer
        buffer += data
        end = buffer.find(b"\r\n\r\n")
        if end < 0:
            return
        head = bytes(buffer[:end]).lower()
        start = head.index(b"content-length:") + 15
        stop = head.find(b"\r\n", start)
        length = int(head[start : stop if stop > 0 else end])
        if len(buffer) - end - 4 < length or self._answer is None:
            return
        answer, self._answer = self._answer, None
        content = bytes(buffer[end + 4 : end + 4 + length])
        buffer.clear()
        answer.set_result((int(head[9:12]), content))

    def connection_lost(self, exc: Exception | None) -> None:
        """Fail the answer that is awaited."""
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(ConnectionError("the server closed the connection"))

    async def send(self, request: bytes) -> tuple[int, bytes]:
        """Send a request and return status and body of its answer."""
        answer = self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return await answer

    def close(self) -> None:
        """Close the connection."""
        self._transport.close()


async def connect(port: int) -> Connection:
    """Connect to a server on this machine."""
    _, connection = await asyncio.get_running_loop().create_connection(Connection, "127.0.0.1", port)
    return connection


def request(method: str, path: str, headers: dict[str, str], body: bytes | None = None) -> bytes:
    """Return a request as it goes over the wire."""
    lines = [f"{method} {path} HTTP/1.1", "Host: 127.0.0.1", *(f"{name}: {value}" for name, value in headers.items())]
    if body is not None:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode() + (body or b"")


async def _rate(connections: list[Connection], requests: list[bytes], seconds: float) -> float:
    started = time.perf_counter()

    async def one(number: int) -> int:
        connection, message, count = connections[number], requests[number % len(requests)], 0
        while time.perf_counter() - started < seconds:
            status, content = await connection.send(message)
            assert 200 <= status < 300, content
            count += 1
        return count

    counts = await asyncio.gather(*(one(number) for number in range(len(connections))))
    return sum(counts) / (time.perf_counter() - started)


async def _load(job: dict[str, Any]) -> list[list[float]]:
    targets = [
        ([await connect(target["port"]) for _ in range(job["connections"])], [text.encode() for text in target["requests"]])
        for target in job["targets"]
    ]
    rates: list[list[float]] = [[] for _ in targets]
    for turn in range(job["rounds"] + 1):
        pairs = list(zip(targets, rates, strict=True))
        for (connections, requests), found in pairs if turn % 2 else reversed(pairs):
            rate = await _rate(connections, requests, job["seconds"])
            if turn:  # The first round warms up.
                found.append(rate)
    for connections, _ in targets:
        for connection in connections:
            connection.close()
    return rates


if __name__ == "__main__":
    print(json.dumps(uvloop.run(_load(json.load(sys.stdin)))))
