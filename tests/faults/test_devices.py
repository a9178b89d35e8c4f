"""Devices on their sockets while the server is killed, and devices that come and go."""

from __future__ import annotations

import asyncio
import json
from collections import Counter, deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import websockets
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

from core.app import App
from core.kernel.settings import Settings
from gen.busbar.api.v1.options_pb import CredentialKind
from tests.conftest import COUNTED, Person, Running
from tests.faults.process import Account, ServerProcess, prepare, serving
from tests.telemetry.sockets import dashboard, hear, say, sources

DEVICES, POINTS, WINDOW = 10, 5, 32
KILLS = (60, 250, 600)
"""Acknowledged frames of all devices after which the server is killed, in turn."""
EPOCH_MS = 1_700_000_000_000
WAIT_SECONDS = 60.0


@dataclass
class Device:
    """A client that keeps each frame until the server says that it is stored, as the current SDK does.

    Attributes:
        acknowledged: Values that the server said are stored.
        sent: Values that ever left, from 0 up to this, without it.
    """

    source: str
    acknowledged: set[int] = field(default_factory=set[int])
    sent: int = 0
    _unacknowledged: deque[range] = field(default_factory=deque[range])
    _resend: deque[range] = field(default_factory=deque[range])

    async def live(self, server: ServerProcess, account: Account, life: Life) -> None:
        """Send until the server is gone, first what the last one did not acknowledge."""
        self._resend, self._unacknowledged = self._unacknowledged, deque()
        self._seq = 0
        with suppress(ConnectionClosed):
            async with websockets.connect(server.http.replace("http", "ws", 1) + "/ws/device") as socket:
                await say(
                    socket, "device_auth", api_key=account.telemetry_key, source_id=self.source, platform="c-sdk", acks=True
                )
                assert (await hear(socket))["acks"] is True
                await self._fill(socket, life)
                async for text in socket:
                    frame = json.loads(text)
                    assert frame["type"] == "telemetry_ack", frame
                    self._release(frame["seq"], life)
                    await self._fill(socket, life)
        self._unacknowledged += self._resend

    async def _fill(self, socket: ClientConnection, life: Life) -> None:
        """Send as many frames as may be under way; no new one once the test is over."""
        while len(self._unacknowledged) < WINDOW and (self._resend or not life.draining):
            values = self._resend.popleft() if self._resend else range(self.sent, self.sent + POINTS)
            self._unacknowledged.append(values)
            self.sent = max(self.sent, values.stop)
            self._seq += 1
            points = [{"metric": "n", "value": value, "timestamp": EPOCH_MS + value} for value in values]
            await say(socket, "telemetry", seq=self._seq, points=points)
        if not self._unacknowledged:
            life.drained(self.source)

    def _release(self, seq: int, life: Life) -> None:
        first = self._seq - len(self._unacknowledged) + 1
        for _ in range(first, seq + 1):
            self.acknowledged |= set(self._unacknowledged.popleft())
            life.count()


@dataclass
class Life:
    """One life of the server: it ends at a number of acknowledged frames, the last when nothing is left to send."""

    left: int
    draining: bool = False
    over: asyncio.Event = field(default_factory=asyncio.Event)
    _drained: set[str] = field(default_factory=set[str])

    def count(self) -> None:
        """Count an acknowledged frame."""
        self.left -= 1
        if self.left == 0:
            self.over.set()

    def drained(self, source: str) -> None:
        """Note that a device has nothing left."""
        self._drained.add(source)
        if len(self._drained) == DEVICES:
            self.over.set()


async def test_what_devices_sent_over_their_sockets_is_there_once_however_often_the_server_is_killed(
    tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    data = tmp_path / "data"
    account = await prepare(data)
    devices = [Device(f"rig-{number}") for number in range(DEVICES)]
    under_way = 0
    for kill in (*KILLS, 0):
        async with serving(data) as server, asyncio.timeout(WAIT_SECONDS):
            life = Life(kill, draining=not kill)
            tasks = [asyncio.create_task(device.live(server, account, life)) for device in devices]
            ended = asyncio.create_task(life.over.wait())
            await asyncio.wait([ended, *tasks], return_when=asyncio.FIRST_COMPLETED)
            await server.kill()
            await asyncio.gather(ended, *tasks)
        under_way += sum(device.sent - len(device.acknowledged) for device in devices)

    found = await stored(data, account)
    acknowledged = sum(len(device.acknowledged) for device in devices)
    record_property(
        COUNTED,
        f"{len(KILLS)} kills under {DEVICES} sockets: {acknowledged} points acknowledged, {under_way} sent again,"
        f" {found.total()} stored",
    )
    assert under_way > 0
    for device in devices:
        assert device.acknowledged == set(range(device.sent))
    assert found == Counter((device.source, value) for device in devices for value in device.acknowledged)


async def stored(data: Path, account: Account) -> Counter[tuple[str, int]]:
    """Count how often each value of each source is there."""
    app = await App.create(Settings(data=data))
    try:
        points = await app.signals.points(account.org_id, start_us=0, end_us=1 << 61, limit=10_000_000)
    finally:
        await app.close()
    return Counter((point.device, int(float(str(point.value)))) for point in points)


async def test_a_device_that_drops_a_hundred_times_without_a_goodbye_leaves_nothing_behind(
    busbar: Running, alice: Person
) -> None:
    key = await busbar.key(alice, CredentialKind.TELEMETRY_KEY)
    before = len(asyncio.all_tasks())
    for number in range(100):
        socket = await websockets.connect(f"{busbar.ws_url}/ws/device")
        await say(socket, "device_auth", api_key=key, source_id="rig", acks=True)
        await hear(socket, "authenticated")
        await say(socket, "telemetry", seq=1, points=[{"metric": "n", "value": number, "timestamp": EPOCH_MS + number}])
        if number % 2:
            await hear(socket, "telemetry_ack")
        # As when the power fails: no close frame, and the connection is reset with what it has not read.
        socket.transport.abort()
    async with asyncio.timeout(WAIT_SECONDS):
        while busbar.app.signals.connected_devices or len(asyncio.all_tasks()) > before + 2:  # noqa: ASYNC110 - no event tells
            await asyncio.sleep(0.01)
    async with dashboard(busbar, alice.session) as screen:
        assert sources(screen) == []
