"""What was acknowledged is there after `kill -9`, once."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
from protobuf.wkt import Value

from core.app import App
from core.kernel.settings import Settings
from core.signals.model import StoredPoint
from gen.busbar.maker.v1.boards_pb import CreateBoardRequest
from gen.busbar.maker.v1.boards_pb_grpc import BoardServiceClient
from gen.busbar.maker.v1.pins_pb import WritePinRequest
from gen.busbar.maker.v1.pins_pb_grpc import PinServiceClient
from gen.busbar.telemetry.v1.ingest_pb import Column, IngestColumnsRequest
from gen.busbar.telemetry.v1.ingest_pb_grpc import IngestServiceClient
from tests.conftest import COUNTED
from tests.faults.process import Account, ServerProcess, prepare, serving

ROUNDS = {"sqlite": 20, "postgresql": 5}
BATCH = 40
EPOCH_MS = 1_700_000_000_000
AIMS = (4, 7, 12, 20, 33)
"""Acknowledgements after which a round is killed, in turn: another moment each time, and never by the clock."""


class Round:
    """One life of the server, which ends at a number of acknowledgements."""

    def __init__(self, server: ServerProcess, account: Account, aim: int) -> None:
        self.server = server
        self.account = account
        self.over = asyncio.Event()
        self._left = aim

    def acknowledged(self) -> None:
        """Count an acknowledgement."""
        self._left -= 1
        if self._left <= 0:
            self.over.set()

    def must_be_over(self, error: Exception) -> None:
        """Let clients fail only because the server is gone."""
        if not self.over.is_set():
            raise AssertionError(self.server.log.decode()) from error

    async def run(self, *clients: Coroutine[Any, Any, None]) -> None:
        """Let clients work, kill the server among them, and wait until they noticed."""
        tasks = [asyncio.create_task(client) for client in clients]
        async with asyncio.timeout(60):
            ending = asyncio.create_task(self.over.wait())
            await asyncio.wait([ending, *tasks], return_when=asyncio.FIRST_COMPLETED)
            self.over.set()
            await self.server.kill()
            await asyncio.gather(ending, *tasks)


@dataclass
class Device:
    """A client that numbers its values, and sends again what was not acknowledged, as devices do.

    Attributes:
        acknowledged: Values that the server said are stored: 0 up to this, without it.
        sent: Values that ever left: 0 up to this, without it.
    """

    source: str
    acknowledged: int = 0
    sent: int = 0

    def batch(self) -> range:
        """Return the values to send next."""
        self.sent = self.acknowledged + BATCH
        return range(self.acknowledged, self.sent)

    async def post(self, life: Round) -> None:
        """Send batches over HTTP until the server is gone."""
        headers = {"x-api-key": life.account.telemetry_key}
        async with httpx.AsyncClient(base_url=life.server.http, headers=headers, timeout=20) as http:
            while True:
                points = [{"metric": "n", "value": i, "timestamp": EPOCH_MS + i} for i in self.batch()]
                try:
                    answer = await http.post("/ingest", json={"source_id": self.source, "points": points})
                except httpx.TransportError as error:
                    life.must_be_over(error)
                    return
                assert answer.json()["persistedCount"] == BATCH
                self._done(life)

    async def stream(self, life: Round) -> None:
        """Send columns over one gRPC call until the server is gone."""
        batches: asyncio.Queue[IngestColumnsRequest | None] = asyncio.Queue()
        metadata = (("x-api-key", life.account.telemetry_key),)
        async with grpc.aio.insecure_channel(life.server.grpc) as channel:
            call = IngestServiceClient(channel).ingest_columns(each(batches), metadata=metadata)
            batches.put_nowait(self._columns())
            try:
                async for answer in call:
                    assert (answer.stored, answer.has_field("error")) == (BATCH, False)
                    self._done(life)
                    batches.put_nowait(self._columns())
            except grpc.aio.AioRpcError as error:
                life.must_be_over(error)
            batches.put_nowait(None)

    def _columns(self) -> IngestColumnsRequest:
        values = self.batch()
        times = [(EPOCH_MS + i) * 1000 for i in values]
        column = Column(source_id=self.source, metric="n", timestamps_us=times, values=[float(i) for i in values])
        return IngestColumnsRequest(seq=1, columns=[column])

    def _done(self, life: Round) -> None:
        self.acknowledged = self.sent
        life.acknowledged()


async def each(queue: asyncio.Queue[IngestColumnsRequest | None]) -> AsyncIterator[IngestColumnsRequest]:
    """Yield what is put into a queue, up to None."""
    while (item := await queue.get()) is not None:
        yield item


@dataclass
class Switch:
    """A client that writes a pin over gRPC, another value each time.

    Attributes:
        acknowledged: Sequence numbers by value, of acknowledged writes.
        sent: Writes that ever left.
    """

    board_id: str
    pin: int
    acknowledged: dict[int, int] = field(default_factory=dict[int, int])
    sent: int = 0

    async def write(self, life: Round) -> None:
        """Write until the server is gone."""
        metadata = (("authorization", f"Bearer {life.account.session}"),)
        async with grpc.aio.insecure_channel(life.server.grpc) as channel:
            pins = PinServiceClient(channel)
            while True:
                self.sent += 1
                request = WritePinRequest(board_id=self.board_id, pin_index=self.pin, value=Value.from_python(self.sent))
                try:
                    pin = await pins.write_pin(request, metadata=metadata, timeout=20)
                except grpc.aio.AioRpcError as error:
                    life.must_be_over(error)
                    return
                self.acknowledged[self.sent] = int(pin.seq)
                life.acknowledged()


async def make_board(data: Path, account: Account, database: str) -> str:
    async with serving(data, database=database) as server, grpc.aio.insecure_channel(server.grpc) as channel:
        metadata = (("authorization", f"Bearer {account.session}"),)
        board = await BoardServiceClient(channel).create_board(CreateBoardRequest(name="Bench"), metadata=metadata)
        await server.kill()
        return board.id


async def reopened(data: Path, account: Account, board_id: str, database: str) -> tuple[list[StoredPoint], int]:
    """Return every point, and how many writes the board counted."""
    app = await App.create(Settings(data=data, database=database))
    try:
        stored = await app.signals.points(account.org_id, start_us=0, end_us=1 << 61, limit=10_000_000)
        board = app.signals.find_device(account.org_id, board_id)
        assert board is not None
        return stored, board.seq
    finally:
        await app.close()


def missing_and_repeated(found: Counter[int], acknowledged: set[int]) -> tuple[int, int]:
    return len(acknowledged - found.keys()), sum(times - 1 for times in found.values())


@pytest.mark.timeout(300)
@pytest.mark.parametrize("kind", ROUNDS)
async def test_every_acknowledged_point_survives_however_often_the_server_is_killed_and_none_is_there_twice(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest, record_property: Callable[[str, object], None]
) -> None:
    data = tmp_path / "data"
    database: str = await request.getfixturevalue("postgres").migrated() if kind == "postgresql" else ""
    account = await prepare(data, database)
    board_id = await make_board(data, account, database)
    devices = [Device(f"rig-{i}") for i in range(4)]
    switches = [Switch(board_id, pin) for pin in (1, 2)]
    for number in range(ROUNDS[kind]):
        async with serving(data, database=database) as server:
            life = Round(server, account, AIMS[number % len(AIMS)])
            posting = (device.post(life) for device in devices[1:])
            await life.run(devices[0].stream(life), *posting, *(switch.write(life) for switch in switches))

    stored, counted = await reopened(data, account, board_id, database)
    by_series: dict[tuple[str, str], Counter[int]] = {}
    for point in stored:
        by_series.setdefault((point.device, point.channel), Counter())[int(str(point.value).removesuffix(".0"))] += 1
    lost = repeated = 0
    for device in devices:
        found = by_series[device.source, "n"]
        missing, twice = missing_and_repeated(found, set(range(device.acknowledged)))
        lost, repeated = lost + missing, repeated + twice
        assert found.keys() <= set(range(device.sent))
    for switch in switches:
        missing, twice = missing_and_repeated(by_series[board_id, f"V{switch.pin}"], set(switch.acknowledged))
        lost, repeated = lost + missing, repeated + twice

    acknowledged = sum(device.acknowledged for device in devices)
    writes = [seq for switch in switches for seq in switch.acknowledged.values()]
    record_property(
        COUNTED,
        f"{ROUNDS[kind]} kills on {kind}: {acknowledged} points and {len(writes)} pin writes acknowledged,"
        f" {len(stored)} stored, {lost} lost, {repeated} repeated",
    )
    assert (lost, repeated) == (0, 0)
    assert len(set(writes)) == len(writes)
    # Every stored write took one number, and no number was taken by anything else.
    assert counted == sum(by_series[board_id, f"V{switch.pin}"].total() for switch in switches)
