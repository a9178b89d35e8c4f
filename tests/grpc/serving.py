"""A gRPC door on a free port, and what its clients see."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc

from adapters.grpc.door import GrpcDoor
from core.kernel.pipeline import IdempotencyStore
from core.kernel.settings import Settings
from gen.busbar.maker.v1.pins_pb_grpc import PinServiceClient
from gen.google.rpc.error_details_pb import BadRequest, ErrorInfo, RequestInfo, RetryInfo
from gen.google.rpc.status_pb import Status
from tests.grpc.fake_pins import FakePins, platform

ALICE = (("authorization", "Bearer alice"),)


@dataclass
class Serving:
    """A running door."""

    door: GrpcDoor
    address: str
    service: FakePins
    channel: grpc.aio.Channel
    pins: PinServiceClient


@asynccontextmanager
async def serving(
    *, idempotency: IdempotencyStore | None = None, limits: bool = False, **settings: Path
) -> AsyncGenerator[Serving]:
    """Serve the fake until the block ends."""
    service = FakePins()
    chosen = Settings(**settings)  # pyright: ignore[reportArgumentType] - each has the type of its setting
    door = GrpcDoor(platform(service, idempotency=idempotency, limits=limits), chosen)
    address = f"127.0.0.1:{await door.start('127.0.0.1:0')}"
    async with grpc.aio.insecure_channel(address) as channel:
        yield Serving(door, address, service, channel, PinServiceClient(channel))
    await door.stop(0)


def trailers(error: grpc.aio.AioRpcError) -> dict[str, Any]:
    """Return the trailing metadata of a refusal."""
    return dict(error.trailing_metadata() or ())


def details(error: grpc.aio.AioRpcError) -> dict[str, Any]:
    """Return the details of a refusal by the name of their type."""
    status = Status.from_binary(trailers(error)["grpc-status-details-bin"])
    assert status.code == error.code().value[0]
    assert status.message == error.details()
    kinds = {kind.desc().type_name: kind for kind in (BadRequest, ErrorInfo, RequestInfo, RetryInfo)}
    found: dict[str, Any] = {}
    for detail in status.details:
        kind = kinds[detail.type_url.rpartition("/")[2]]
        found[kind.__name__] = kind.from_binary(detail.value)
    return found
