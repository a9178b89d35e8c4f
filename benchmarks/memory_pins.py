"""The REST door, with all of the pipeline, before pins that are kept in memory: what a request costs without storage.

Credentials are the real ones, kept in memory after the first call as in the real server.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import uvloop

from adapters.rest.app import RestApp
from benchmarks.asgi import serve
from core.app import App
from core.kernel.call import Call
from core.kernel.clock import to_timestamp
from core.kernel.errors import NotFound
from core.kernel.limits import Limiter
from core.kernel.pipeline import Platform
from core.kernel.rpc import Rpc, bind
from core.kernel.settings import Settings
from core.kernel.telemetry import observers
from gen.busbar.maker.v1 import pins_pb
from gen.busbar.maker.v1.pins_pb import Pin, ReadPinRequest, WritePinRequest

BOARD = "b1"


class MemoryPins:
    """Reads and writes the pins of one board."""

    def __init__(self, org_id: str) -> None:
        self._owners = {BOARD: org_id}
        self._pins: dict[int, Pin] = {}
        self._seq = 0

    async def read_pin(self, request: ReadPinRequest, call: Call) -> Pin:
        """Return the latest value."""
        self._require(request.board_id, call)
        return self._pins.get(request.pin_index) or Pin(board_id=request.board_id, pin_index=request.pin_index)

    async def write_pin(self, request: WritePinRequest, call: Call) -> Pin:
        """Keep the value."""
        self._require(request.board_id, call)
        self._seq += 1
        held = None if request.value is None else request.value.to_python()
        pin = self._pins[request.pin_index] = Pin(
            board_id=request.board_id,
            pin_index=request.pin_index,
            label=request.label or f"V{request.pin_index}",
            value=request.value,
            value_type="number",
            text=str(held),
            updated_at=to_timestamp(time.time_ns() // 1000),
            updated_by="user",
            seq=self._seq,
        )
        return pin

    def _require(self, board_id: str, call: Call) -> None:
        if self._owners.get(board_id) != call.caller.org_id:
            raise NotFound(f"board {board_id} not found", board=board_id)


def platform_of(service: object, app: App) -> Platform:
    """Return the pipeline before a service that has the first two rpcs of PinService."""
    found = next(one for one in pins_pb.desc().services if one.name == "PinService")
    only = type("Only", (), {"type_name": found.type_name, "proto": found.proto, "methods": found.methods[:2]})
    rpcs: list[Rpc] = bind(only, service)  # pyright: ignore[reportArgumentType] - a descriptor in all that is asked of it
    watchers = tuple(observers(app.settings))
    return Platform(rpcs, app.credentials, limiter=Limiter(enabled=False), observers=watchers)


async def main() -> None:
    """Serve until told to stop."""
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(data=Path(folder))
        app = await App.create(settings)
        try:
            alice = await app.identity.register("alice@example.com", "correct horse battery")
            assert alice.session is not None
            door = RestApp(platform_of(MemoryPins(alice.org_id), app), settings)
            await serve(door, token=alice.session.secret, board=BOARD)
        finally:
            await app.close()


if __name__ == "__main__":
    uvloop.run(main())
