"""Devices and dashboards on sockets, all in one process: a load generator that costs less than the server under test.

As a module it reads a job, loads its targets in turn and prints what each round found. Every frame of a device holds one point,
whose value is the time it was sent by the monotonic clock; a few dashboards read it and note how long it took, the others only
count frames. The job is `{"targets": [{"port": 1, "pid": 2, "key": "plx_...", "session": "..."}], "devices": 500,
"dashboards": 50, "slow": 5, "rate": 10, "seconds": 20, "rounds": 3}`; a target without a key greets and acknowledges nobody.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import orjson
import uvloop

UPGRADE = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nHost: 127.0.0.1\r\n"
LAST, TEXT, PING, PONG = 0x80, 1, 9, 10
MASKED = 0x80
SHORT = 126
TICK_SECONDS = 0.005
SETTLE_SECONDS = 15.0
SLOW_SECONDS = 0.5
"""How long a slow dashboard sleeps after each read."""
QUIET_SECONDS = 0.2
"""How long no frame has to come before a round is over."""
MEASURING = 3
AT_ONCE = 50

Heard = Callable[[bytes], None]


class Socket(asyncio.Protocol):
    """A WebSocket client without the parts that cost: its masks are zero."""

    def __init__(self, path: str, heard: Heard, *, slow: bool = False) -> None:
        key = base64.b64encode(os.urandom(16)).decode()
        self._opening = f"GET {path} HTTP/1.1\r\n{UPGRADE}Sec-WebSocket-Key: {key}\r\n\r\n".encode()
        self._buffer = bytearray()
        self._heard = heard
        self._slow = slow
        self._transport: asyncio.Transport
        self.opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.lost = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Open the connection."""
        # uvloop's transports are none by class.
        self._transport = cast("asyncio.Transport", transport)
        self._transport.write(self._opening)

    def connection_lost(self, exc: Exception | None) -> None:
        """Note it."""
        self.lost = True

    def data_received(self, data: bytes) -> None:
        """Take frames."""
        self._buffer += data
        if not self.opened.done() and not self._open():
            return
        if self._slow:
            self._transport.pause_reading()
            asyncio.get_running_loop().call_later(SLOW_SECONDS, self._go_on)
        for kind, content in self._frames():
            if kind == TEXT:
                self._heard(content)
            elif kind == PING:
                self.send(content, PONG)

    def _open(self) -> bool:
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            return False
        assert self._buffer.startswith(b"HTTP/1.1 101"), bytes(self._buffer[:200])
        del self._buffer[: end + 4]
        self.opened.set_result(None)
        return True

    def _go_on(self) -> None:
        if not self.lost:
            self._transport.resume_reading()

    def _frames(self) -> Iterator[tuple[int, bytes]]:
        buffer, at = self._buffer, 0
        while len(buffer) >= at + 2:
            size, head = buffer[at + 1], 2
            if size >= SHORT:
                head = 4 if size == SHORT else 10
                if len(buffer) < at + head:
                    break
                size = int.from_bytes(buffer[at + 2 : at + head], "big")
            if len(buffer) < at + head + size:
                break
            yield buffer[at] & 15, bytes(buffer[at + head : at + head + size])
            at += head + size
        del buffer[:at]

    def send(self, content: bytes, kind: int = TEXT) -> None:
        """Send a frame."""
        size = len(content)
        length = bytes([MASKED | size]) if size < SHORT else bytes([MASKED | SHORT, *size.to_bytes(2, "big")])
        self._transport.write(bytes([LAST | kind]) + length + b"\0\0\0\0" + content)

    def close(self) -> None:
        """Close the connection."""
        self._transport.close()


class Device:
    """A device.

    Attributes:
        sent: Frames that left, and the number of the last one.
        acknowledged: Number of the last frame that the server said is stored, with all before it.
        waits: How long frames waited for that, in seconds.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.sent = self.acknowledged = 0
        self.waits: list[float] = []
        self._under_way: deque[float] = deque()
        self.socket: Socket
        self.welcome = asyncio.Event()

    def heard(self, content: bytes) -> None:
        """Take what the server says."""
        frame = orjson.loads(content)
        if frame["type"] == "authenticated":
            self.welcome.set()
        else:
            assert frame["type"] == "telemetry_ack", frame
            now = time.monotonic()
            self.waits += [now - self._under_way.popleft() for _ in range(self.acknowledged, frame["seq"])]
            self.acknowledged = frame["seq"]

    def report(self) -> None:
        """Send a frame."""
        self.sent += 1
        now = time.monotonic()
        self._under_way.append(now)
        point = {"metric": "m", "value": now, "timestamp": time.time() * 1000}
        self.socket.send(orjson.dumps({"type": "telemetry", "seq": self.sent, "points": [point]}))


class Dashboard:
    """A dashboard; `latencies` are those of the points it read, in seconds, None when it only counts frames."""

    def __init__(self, *, measures: bool) -> None:
        self.frames = 0
        self.latencies: list[float] | None = [] if measures else None
        self.socket: Socket
        self.welcome = asyncio.Event()

    def heard(self, content: bytes) -> None:
        """Count; measure."""
        self.frames += 1
        self.welcome.set()
        if self.latencies is None or content.startswith(b'{"type":"source_status"'):
            return
        now, batch = time.monotonic(), orjson.loads(content)
        frames = cast("list[dict[str, Any]]", batch if isinstance(batch, list) else [batch])
        for frame in frames:
            self.latencies += [now - point["value"] for point in frame.get("points", ())]


class Fleet:
    """All clients of one target."""

    def __init__(self, target: dict[str, Any], job: dict[str, Any]) -> None:
        self._target = target
        self._job = job
        measures = [number < MEASURING for number in range(job["dashboards"])]
        self.devices = [Device(f"load-{number}") for number in range(job["devices"])]
        self.dashboards = [Dashboard(measures=measure) for measure in measures]
        self.memory_kib = 0.0

    async def connect(self) -> None:
        """Connect everybody and note what each connection costs the server, in KiB."""
        before = _rss_kib(self._target["pid"])
        everybody = [*map(self._device, self.devices), *(self._dashboard(n) for n in range(len(self.dashboards)))]
        for start in range(0, len(everybody), AT_ONCE):
            await asyncio.gather(*everybody[start : start + AT_ONCE])
        self.memory_kib = (_rss_kib(self._target["pid"]) - before) / len(everybody)

    async def _socket(self, path: str, heard: Heard, first: dict[str, Any], *, slow: bool = False) -> Socket:
        loop = asyncio.get_running_loop()
        _, socket = await loop.create_connection(lambda: Socket(path, heard, slow=slow), "127.0.0.1", self._target["port"])
        await asyncio.wait_for(socket.opened, SETTLE_SECONDS)
        if "key" in self._target:
            socket.send(orjson.dumps(first))
        return socket

    async def _device(self, device: Device) -> None:
        first = {"type": "device_auth", "api_key": self._target.get("key"), "source_id": device.name, "acks": True}
        device.socket = await self._socket("/ws/device", device.heard, first)
        if "key" in self._target:
            await asyncio.wait_for(device.welcome.wait(), SETTLE_SECONDS)

    async def _dashboard(self, number: int) -> None:
        dashboard = self.dashboards[number]
        first = {"type": "browser_auth", "token": self._target.get("session")}
        slow = number >= len(self.dashboards) - self._job["slow"]
        dashboard.socket = await self._socket("/ws/browser", dashboard.heard, first, slow=slow)
        if "key" in self._target:
            await asyncio.wait_for(dashboard.welcome.wait(), SETTLE_SECONDS)

    async def round(self) -> dict[str, Any]:
        """Let every device report at its rate; return latencies in seconds and the share of points that fast dashboards saw."""
        for device in self.devices:
            device.waits.clear()
        for dashboard in self._measuring():
            cast("list[float]", dashboard.latencies).clear()
        sent = sum(device.sent for device in self.devices)
        began, cpu = time.monotonic(), _cpu_seconds(self._target["pid"])
        await self._report()
        await self._acknowledged()
        took = time.monotonic() - began
        await self._quiet()
        found = sorted(latency for dashboard in self._measuring() for latency in cast("list[float]", dashboard.latencies))
        sent = sum(device.sent for device in self.devices) - sent
        waits = sorted(wait for device in self.devices for wait in device.waits) or [0.0]
        return {
            "rate": sent / took,
            "cpu": (_cpu_seconds(self._target["pid"]) - cpu) / sent,
            "p50": found[len(found) // 2],
            "p99": found[len(found) * 99 // 100],
            "ack_p50": waits[len(waits) // 2],
            "ack_p99": waits[len(waits) * 99 // 100],
            "seen": len(found) / len(self._measuring()) / sent,
        }

    def _measuring(self) -> list[Dashboard]:
        return [dashboard for dashboard in self.dashboards if dashboard.latencies is not None]

    async def _report(self) -> None:
        """Send, spread evenly over time; it takes longer when this process is too slow."""
        count, interval = len(self.devices), 1 / (self._job["rate"] * len(self.devices))
        began, due, total = time.monotonic(), 0, int(self._job["seconds"] * self._job["rate"] * count)
        while due < total:
            until = min(int((time.monotonic() - began) / interval), total)
            for number in range(due, until):
                self.devices[number % count].report()
            due = max(due, until)
            await asyncio.sleep(TICK_SECONDS)

    async def _acknowledged(self) -> None:
        deadline = time.monotonic() + SETTLE_SECONDS
        while "key" in self._target and time.monotonic() < deadline:
            if all(device.acknowledged == device.sent for device in self.devices):
                break
            await asyncio.sleep(TICK_SECONDS)

    async def _quiet(self) -> None:
        deadline = time.monotonic() + SETTLE_SECONDS
        seen, before = 0, -1
        while time.monotonic() < deadline and seen != before:
            before, seen = seen, sum(dashboard.frames for dashboard in self._measuring())
            await asyncio.sleep(QUIET_SECONDS)

    def summary(self, rounds: list[dict[str, Any]]) -> dict[str, Any]:
        """Return what came of everything."""
        everybody = [client.socket for client in (*self.devices, *self.dashboards)]
        return {
            "rounds": rounds,
            "memory_kib": self.memory_kib,
            "rss_kib": _rss_kib(self._target["pid"]),
            "lost_connections": sum(socket.lost for socket in everybody),
            "sent": {device.name: device.sent for device in self.devices},
            "acknowledged": {device.name: device.acknowledged for device in self.devices},
        }

    def close(self) -> None:
        """Disconnect everybody."""
        for client in (*self.devices, *self.dashboards):
            client.socket.close()


def _cpu_seconds(pid: int) -> float:
    # The name of the program may hold spaces; the numbers after it do not.
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _rss_kib(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS"))


async def _load(job: dict[str, Any]) -> list[dict[str, Any]]:
    fleets = [Fleet(target, job) for target in job["targets"]]
    for fleet in fleets:
        await fleet.connect()
    rounds = [[await fleet.round() for fleet in fleets] for _ in range(job["rounds"])]
    found = [fleet.summary(list(own)) for fleet, own in zip(fleets, zip(*rounds, strict=True), strict=True)]
    for fleet in fleets:
        fleet.close()
    return found


if __name__ == "__main__":
    print(json.dumps(uvloop.run(_load(json.load(sys.stdin)))))
