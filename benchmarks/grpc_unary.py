"""Unary calls through the gRPC door, against a bare grpc.aio handler with the same messages.

Both servers run in this process, on the same loop. One client in a process of its own loads them in turn, in many short
rounds that begin with each server in turn, so that a noisy machine is noisy for both. The door authenticates, authorises and
validates.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import grpc
from protobuf.wkt import Value

from adapters.grpc.door import GrpcDoor
from benchmarks.memory_pins import platform_of
from benchmarks.processes import PASSWORD, ask
from benchmarks.rows import Budget, Row, compare
from core.app import App
from core.kernel.call import Call
from core.kernel.settings import Settings
from gen.busbar.maker.v1.pins_pb import Pin, ReadPinRequest, WritePinRequest

ROUNDS, SECONDS, CLIENTS = 30, 0.25, 32
METHOD = "busbar.maker.v1.PinService"


async def read_pin(request: ReadPinRequest, _context: object) -> Pin:
    """Answer from memory."""
    return Pin(board_id=request.board_id, pin_index=request.pin_index, label="V7", value=Value.from_python(21.5), seq=3)


class OnePin:
    """The service behind the door."""

    async def read_pin(self, request: ReadPinRequest, call: Call) -> Pin:
        """Answer as the bare handler does."""
        return await read_pin(request, call)

    async def write_pin(self, request: WritePinRequest, call: Call) -> Pin:
        """Answer with what was written."""
        return Pin(board_id=request.board_id, pin_index=request.pin_index, value=request.value)


async def bare_server() -> tuple[grpc.aio.Server, int]:
    """Start the handler that does nothing but answer."""
    server = grpc.aio.server()
    handler = grpc.unary_unary_rpc_method_handler(read_pin, ReadPinRequest.from_binary, Pin.to_binary)
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(METHOD, {"ReadPin": handler})])
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    return server, port


async def run() -> list[Row]:
    """Measure."""
    bare, bare_port = await bare_server()
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(data=Path(folder))
        app = await App.create(settings)
        try:
            alice = await app.identity.register("alice@example.com", PASSWORD)
            assert alice.session is not None
            door = GrpcDoor(platform_of(OnePin(), app), settings)
            ours, peer = await _rates((await door.start("127.0.0.1:0"), bare_port), alice.session.secret)
            await door.stop(0)
        finally:
            await app.close()
    await bare.stop(0)
    return [compare("gRPC unary", "calls/s", ours, "bare grpc.aio handler", peer, Budget(0.85))]


async def _rates(ports: tuple[int, int], token: str) -> list[list[float]]:
    targets = [{"address": f"127.0.0.1:{port}", "token": token, "boards": ["b1"]} for port in ports]
    job = {"targets": targets, "write": False, "rounds": ROUNDS, "seconds": SECONDS, "clients": CLIENTS}
    return await ask("benchmarks.grpc_client", job)
