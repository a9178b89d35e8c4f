"""The peer of pin writes: a gRPC server that commits once for each request, by SQLModel and aiosqlite, written as is usual.

Same file format, same durability (WAL, synchronous=FULL), same two things kept: the latest value and a point of the series.
Writers wait for each other on a lock in memory, which is faster than SQLite's busy waiting. Credentials cost nothing here.
"""

from __future__ import annotations

import asyncio
import json
import signal
import sqlite3
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import grpc
import uvloop
from protobuf.wkt import Timestamp
from sqlalchemy import event
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlmodel import Field, SQLModel
from sqlmodel.ext.asyncio.session import AsyncSession

from gen.busbar.maker.v1.pins_pb import Pin, WritePinRequest

METHOD = "busbar.maker.v1.PinService"


class LatestPin(SQLModel, table=True):
    """Latest value of a pin."""

    board_id: str = Field(primary_key=True)
    pin_index: int = Field(primary_key=True)
    at_us: int
    num: float
    seq: int = 0


class PinPoint(SQLModel, table=True):
    """One value of the series of a pin."""

    board_id: str = Field(primary_key=True)
    pin_index: int = Field(primary_key=True)
    at_us: int = Field(primary_key=True)
    num: float


class OrmPins:
    """Writes pins, each in a transaction of its own."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        self._lock = asyncio.Lock()

    async def write_pin(self, request: WritePinRequest, _context: object) -> Pin:
        """Store the value and answer after the commit."""
        value = None if request.value is None else request.value.to_python()
        number = float(value) if isinstance(value, int | float) else 0.0
        async with self._lock, AsyncSession(self._engine, expire_on_commit=False) as session:
            now = time.time_ns() // 1000
            row = await session.get(LatestPin, (request.board_id, request.pin_index))
            row = row or LatestPin(board_id=request.board_id, pin_index=request.pin_index, at_us=now, num=number)
            row.at_us, row.num, row.seq = now, number, row.seq + 1
            session.add(row)
            session.add(PinPoint(board_id=request.board_id, pin_index=request.pin_index, at_us=now, num=number))
            await session.commit()
        at = Timestamp(seconds=now // 1_000_000, nanos=now % 1_000_000 * 1000)
        return Pin(board_id=row.board_id, pin_index=row.pin_index, value=request.value, seq=row.seq, updated_at=at)


def _pragmas(connection: sqlite3.Connection, _record: object) -> None:
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")


async def main() -> None:
    """Serve until SIGTERM."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    with tempfile.TemporaryDirectory() as folder:
        engine = create_async_engine(f"sqlite+aiosqlite:///{Path(folder) / 'orm.db'}")
        listen: Callable[..., object] = event.listen
        listen(engine.sync_engine, "connect", _pragmas)
        async with engine.begin() as connection:
            await connection.run_sync(SQLModel.metadata.create_all)
        server = grpc.aio.server()
        handler = grpc.unary_unary_rpc_method_handler(OrmPins(engine).write_pin, WritePinRequest.from_binary, Pin.to_binary)
        server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(METHOD, {"WritePin": handler})])
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        print(json.dumps({"port": port}), flush=True)
        await stop.wait()
        await server.stop(0)
        await engine.dispose()


if __name__ == "__main__":
    uvloop.run(main())
