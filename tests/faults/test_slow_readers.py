"""Readers that stopped reading: whatever they miss, the server keeps only a bounded part of it for them."""

from __future__ import annotations

import asyncio
import gc
import json
import tracemalloc
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager

import grpc
from websockets.asyncio.client import ClientConnection, connect

from gen.busbar.maker.v1.pins_pb import WatchPinsRequest
from gen.busbar.maker.v1.pins_pb_grpc import PinServiceClient
from tests.conftest import Running, Start
from tests.faults.conftest import WAIT_SECONDS

MEBIBYTE = 1 << 20
FRAMES, PINS = 250, 64
BULKY = "x" * 900
MISSED = FRAMES * PINS * len(BULKY)
"""Bytes of pin values that each reader misses."""


@asynccontextmanager
async def unread_socket(busbar: Running, board_id: str, session: str) -> AsyncGenerator[None]:
    """Open the socket of a board and stop reading after the handshake."""
    headers = {"Authorization": f"Bearer {session}"}
    url = f"{busbar.ws_url}/ws/boards/{board_id}/pins"
    async with connect(url, additional_headers=headers, max_queue=1, compression=None, ping_interval=None) as ws:
        ws.transport.pause_reading()
        yield
        ws.transport.abort()


@asynccontextmanager
async def unread_stream(busbar: Running, board_id: str, session: str, accept: str) -> AsyncGenerator[None]:
    """Ask for a stream of pins over HTTP and never read the answer."""
    host, _, port = busbar.url.removeprefix("http://").partition(":")
    _reader, writer = await asyncio.open_connection(host, int(port), limit=1024)
    head = (
        f"GET /api/boards/{board_id}/pins:watch HTTP/1.1\r\nHost: {host}:{port}\r\n"
        f"Authorization: Bearer {session}\r\nAccept: {accept}\r\n\r\n"
    )
    writer.write(head.encode())
    await writer.drain()
    yield
    writer.transport.abort()


@asynccontextmanager
async def unread_call(busbar: Running, board_id: str, session: str) -> AsyncGenerator[None]:
    """Start a gRPC stream of pins and never read from it."""
    async with grpc.aio.insecure_channel(busbar.server.grpc_address) as channel:
        metadata = (("authorization", f"Bearer {session}"),)
        call = PinServiceClient(channel).watch_pins(WatchPinsRequest(board_id=board_id), metadata=metadata)
        await asyncio.wait_for(call.initial_metadata(), WAIT_SECONDS)
        yield
        call.cancel()


async def write_much(device: ClientConnection) -> None:
    """Write every frame and wait for its acknowledgement."""
    pins = [{"pinIndex": index, "value": BULKY} for index in range(PINS)]
    for number in range(FRAMES):
        await device.send(json.dumps({"type": "writeMany", "id": str(number), "pins": pins}))
        async with asyncio.timeout(WAIT_SECONDS):
            while json.loads(await device.recv())["type"] != "ack":
                pass


async def test_what_readers_miss_who_stopped_reading_is_not_gathered_for_them(start: Start) -> None:
    busbar = await start(live={"ping_seconds": 60})
    alice = await busbar.person("alice")
    board = await busbar.board(alice)
    # A stream begins with the present state, so there must be one.
    await busbar.client("grpc", alice.session).call("PinService.WritePin", board_id=board.id, pin_index=0, value=1)
    device_headers = {"Authorization": f"Bearer {board.device_token}"}
    async with AsyncExitStack() as readers:
        for _ in range(3):
            await readers.enter_async_context(unread_socket(busbar, board.id, alice.session))
            await readers.enter_async_context(unread_call(busbar, board.id, alice.session))
            for accept in ("application/x-ndjson", "text/event-stream"):
                await readers.enter_async_context(unread_stream(busbar, board.id, alice.session, accept))
        url = f"{busbar.ws_url}/ws/boards/{board.id}/pins"
        async with connect(url, additional_headers=device_headers, compression=None, ping_interval=None) as device:
            gc.collect()
            tracemalloc.start()
            try:
                await write_much(device)
                gc.collect()
                kept, _peak = tracemalloc.get_traced_memory()
            finally:
                tracemalloc.stop()
    assert kept < 8 * MEBIBYTE, f"{kept} bytes are kept for twelve readers who each missed {MISSED}"
