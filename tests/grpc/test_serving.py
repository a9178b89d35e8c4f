"""How the gRPC door comes up, shows itself to tools, and goes down."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, cast

import grpc
import pytest
from google.protobuf import descriptor_pb2  # noqa: TID251 - reflection answers in this runtime
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from gen.busbar.maker.v1.pins_pb import ReadPinRequest, WatchPinsRequest
from gen.busbar.maker.v1.pins_pb_grpc import PinServiceClient
from tests.grpc.serving import ALICE, Serving, details, serving

SERVICE = "busbar.maker.v1.PinService"
HEALTHY, SICK = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING


async def health(server: Serving, service: str = "") -> int:
    stub: Any = health_pb2_grpc.HealthStub(server.channel)
    return (await stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=10)).status


async def test_health_covers_the_server_and_each_service(server: Serving) -> None:
    assert [await health(server, name) for name in ("", SERVICE)] == [HEALTHY, HEALTHY]


async def test_a_draining_server_is_not_serving_but_still_answers(server: Serving) -> None:
    await server.door.drain()
    assert [await health(server, name) for name in ("", SERVICE)] == [SICK, SICK]
    await server.pins.read_pin(ReadPinRequest(board_id="b1"), metadata=ALICE, timeout=10)


async def test_streams_end_with_a_reason_when_the_server_drains(server: Serving) -> None:
    call = aiter(server.pins.watch_pins(WatchPinsRequest(board_id="b1"), metadata=ALICE, timeout=10))
    for _ in range(3):
        await anext(call)
    await server.door.drain()
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await anext(call)
    assert refused.value.code() == grpc.StatusCode.UNAVAILABLE
    assert details(refused.value)["ErrorInfo"].reason == "ERROR_REASON_SHUTTING_DOWN"
    async with asyncio.timeout(10):
        await server.service.ended.wait()


async def test_a_call_that_outlives_the_grace_is_stopped(server: Serving) -> None:
    call = server.pins.read_pin(ReadPinRequest(board_id="slow"), metadata=ALICE, timeout=30)
    waiting = asyncio.ensure_future(call)
    async with asyncio.timeout(10):
        await server.service.entered.wait()
        await server.door.stop(0.1)
        await server.service.ended.wait()
        with pytest.raises(grpc.aio.AioRpcError):
            await waiting


async def reflect(server: Serving, request: reflection_pb2.ServerReflectionRequest) -> reflection_pb2.ServerReflectionResponse:
    async def one() -> AsyncIterator[reflection_pb2.ServerReflectionRequest]:
        yield request

    stub: Any = reflection_pb2_grpc.ServerReflectionStub(cast("Any", server.channel))
    return await anext(aiter(stub.ServerReflectionInfo(one(), timeout=10)))


async def test_tools_find_the_services_by_reflection(server: Serving) -> None:
    found = await reflect(server, reflection_pb2.ServerReflectionRequest(list_services=""))
    names = {service.name for service in found.list_services_response.service}
    assert names == {SERVICE, "grpc.health.v1.Health", "grpc.reflection.v1alpha.ServerReflection"}


@pytest.mark.parametrize("symbol", [SERVICE, "busbar.maker.v1.Pin", "grpc.health.v1.Health"])
async def test_tools_find_the_file_of_a_symbol_by_reflection(server: Serving, symbol: str) -> None:
    found = await reflect(server, reflection_pb2.ServerReflectionRequest(file_containing_symbol=symbol))
    files = [descriptor_pb2.FileDescriptorProto.FromString(f) for f in found.file_descriptor_response.file_descriptor_proto]
    assert symbol.rpartition(".")[0] in {file.package for file in files}


async def test_a_taken_address_stops_the_start() -> None:
    async with serving() as first:
        with pytest.raises(RuntimeError):
            await first.door.start(first.address)


async def test_a_certificate_in_the_settings_turns_tls_on(tmp_path: Path) -> None:
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    make = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "1"]
    name = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    made = await asyncio.create_subprocess_exec(*make, *name, "-keyout", key, "-out", certificate, stderr=subprocess.DEVNULL)
    assert await made.wait() == 0
    async with serving(tls_certificate=certificate, tls_key=key) as server:
        trust = grpc.ssl_channel_credentials(certificate.read_bytes())
        address = server.address.replace("127.0.0.1", "localhost")
        async with grpc.aio.secure_channel(address, trust) as channel:
            pin = await PinServiceClient(channel).read_pin(ReadPinRequest(board_id="b1"), metadata=ALICE, timeout=10)
        assert pin.board_id == "b1"
        with pytest.raises(grpc.aio.AioRpcError):
            await server.pins.read_pin(ReadPinRequest(board_id="b1"), metadata=ALICE, timeout=3)
