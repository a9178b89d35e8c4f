"""Live fan-out: one board writes over its WebSocket and 50 watchers get every write, against a bare broadcast relay.

A write of the board is durable before it is sent on; the relay stores nothing. Both get frames of about the same size. The
writer keeps a fixed number of frames under way: it sends the next one when the last watcher has an earlier one.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import tempfile
import time
from pathlib import Path

from benchmarks.processes import busbar, server
from benchmarks.rows import Row, compare

WATCHERS, WINDOW, WRITES, ROUNDS = 50, 32, 300, 5
UPGRADE = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nHost: 127.0.0.1\r\n"
TEXT, LAST, MASKED = 1, 0x80, 0x80


class Socket(asyncio.Protocol):
    """A WebSocket that counts the text frames it gets and reads none: the cheapest client there is."""

    def __init__(self, path: str, token: str) -> None:
        key = base64.b64encode(os.urandom(16)).decode()
        head = f"GET {path} HTTP/1.1\r\n{UPGRADE}Sec-WebSocket-Key: {key}\r\n"
        self._opening = f"{head}Authorization: Bearer {token}\r\n\r\n".encode()
        self._buffer = bytearray()
        self._open = False
        self._changed = asyncio.Event()
        self._transport: asyncio.Transport
        self.frames = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Open the connection."""
        self._transport = transport  # pyright: ignore[reportAttributeAccessIssue] - uvloop's transports are none by class
        self._transport.write(self._opening)

    def data_received(self, data: bytes) -> None:
        """Count."""
        self._buffer += data
        if not self._open:
            end = self._buffer.find(b"\r\n\r\n")
            if end < 0:
                return
            assert self._buffer.startswith(b"HTTP/1.1 101"), bytes(self._buffer[:200])
            del self._buffer[: end + 4]
            self._open = True
        at, frames = 0, 0
        while (size := _frame_size(self._buffer, at)) and at + size <= len(self._buffer):
            frames += self._buffer[at] & 15 == TEXT
            at += size
        del self._buffer[:at]
        self.frames += frames
        self._changed.set()

    def send(self, text: bytes) -> None:
        """Send a text frame of 126 bytes or more; its mask is zero."""
        self._transport.write(bytes([LAST | TEXT, MASKED | 126, *len(text).to_bytes(2, "big"), 0, 0, 0, 0]) + text)

    async def until(self, frames: int) -> None:
        """Wait for that many frames since the connection was made."""
        while self.frames < frames:
            self._changed.clear()
            await asyncio.wait_for(self._changed.wait(), 30)

    def close(self) -> None:
        """Close the connection."""
        self._transport.close()


def _frame_size(buffer: bytearray, at: int) -> int:
    """Return the size of a frame with its head; 0 when the head is not there yet."""
    if len(buffer) < at + 10:
        return 2 + buffer[at + 1] if len(buffer) >= at + 2 and buffer[at + 1] < 126 else 0
    length = buffer[at + 1]
    if length < 126:
        return 2 + length
    width = 2 if length == 126 else 8
    return 2 + width + int.from_bytes(buffer[at + 2 : at + 2 + width], "big")


async def _connect(port: int, path: str, token: str) -> Socket:
    loop = asyncio.get_running_loop()
    _, socket = await loop.create_connection(lambda: Socket(path, token), "127.0.0.1", port)
    return socket


class _Room:
    """One writer and its watchers; `first` frames greet each of them."""

    def __init__(self, writer: Socket, watchers: list[Socket], first: int) -> None:
        self._writer = writer
        self._watchers = watchers
        self._sent = first
        self._number = 0

    @classmethod
    async def open(cls, port: int, path: str, tokens: tuple[str, str], first: int) -> _Room:
        """Connect everybody."""
        writer = await _connect(port, path, tokens[0])
        room = cls(writer, [await _connect(port, path, tokens[1]) for _ in range(WATCHERS)], first)
        await room._all(first)
        return room

    async def round(self) -> float:
        """Return frames a second that reached watchers."""
        began = time.perf_counter()
        start = self._sent
        for _ in range(WRITES):
            await self._all(max(start, self._sent - WINDOW + 1))
            self._writer.send(self._frame())
            self._sent += 1
        await self._all(self._sent)
        return WRITES * WATCHERS / (time.perf_counter() - began)

    def _frame(self) -> bytes:
        self._number += 1
        frame = {"type": "write", "id": "n" * 40, "pinIndex": 7, "value": self._number + 0.5}
        return json.dumps(frame).encode().ljust(300)

    async def _all(self, frames: int) -> None:
        for watcher in self._watchers:
            await watcher.until(frames)

    def close(self) -> None:
        """Disconnect everybody."""
        for socket in (self._writer, *self._watchers):
            socket.close()


async def run() -> list[Row]:
    """Measure."""
    with tempfile.TemporaryDirectory() as folder:
        async with busbar(Path(folder)) as running, server("-m", "benchmarks.peers.relay") as (relay, _):
            board, token = (await running.boards(1))[0], running.session
            ours = await _Room.open(running.port, f"/ws/boards/{board}/pins", (token, token), 1)
            peer = await _Room.open(relay["port"], "/", ("", ""), 0)
            for room in (ours, peer):
                await room.round()
            rounds = [(await ours.round(), await peer.round()) for _ in range(ROUNDS)]
            ours.close()
            peer.close()
    mine, theirs = zip(*rounds, strict=True)
    what = f"live fan-out of durable writes to {WATCHERS} watchers"
    return [compare(what, "frames/s", mine, "broadcast relay that stores nothing", theirs)]
