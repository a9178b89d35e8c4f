"""Sockets in the style of telemetry: the first frame authenticates, names are as declared, refusals are told in frames."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from types import ModuleType
from typing import Any

import grpc
import pytest

from adapters.grpc.door import GrpcDoor
from core.kernel.settings import Settings
from tests.live_door.desk import compile_desk, desk_platform
from tests.live_door.serving import Serving, ask, closing, hear, serving

AUTH = {"type": "device_auth", "api_key": "plx_1"}


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> ModuleType:
    return compile_desk(tmp_path_factory.mktemp("desk"))


@pytest.fixture
async def server(desk: ModuleType) -> AsyncGenerator[Serving]:
    async with serving(desk_platform(desk)) as running:
        yield running


async def test_the_connection_is_accepted_before_the_client_has_said_who_it_is(server: Serving) -> None:
    async with server.connect("/ws/device", None) as client:
        assert await ask(client, AUTH) == {"type": "authenticated", "org_id": ""}


async def test_a_further_path_fills_the_opening_member(server: Serving) -> None:
    async with server.connect("/party/default", None) as client:
        assert await ask(client, AUTH) == {"type": "authenticated", "org_id": "default"}


@pytest.mark.parametrize(("key", "code", "sentence"), [("wrong", 1008, "Invalid API key"), ("busy", 1013, "storage is busy")])
async def test_a_refusal_is_told_in_a_frame_before_the_close(server: Serving, key: str, code: int, sentence: str) -> None:
    async with server.connect("/ws/device", None) as client:
        told = await ask(client, {**AUTH, "api_key": key})
        assert (told["type"], told["message"]) == ("error", sentence)
        assert (await closing(client))[0] == code


@pytest.mark.parametrize(
    ("frame", "code", "more"),
    [
        ("nonsense", "INVALID_JSON", {}),
        ("3", "INVALID_MESSAGE", {}),
        ({"type": "explode"}, "INVALID_MESSAGE", {}),
        ({"type": "reading", "seq": 7, "value": "much"}, "INVALID_MESSAGE", {"seq": 7}),
    ],
)
async def test_a_bad_frame_is_answered_and_the_talk_goes_on(
    server: Serving, frame: object, code: str, more: dict[str, Any]
) -> None:
    async with server.connect("/ws/device", None) as client:
        await ask(client, AUTH)
        told = await ask(client, frame)
        assert {name: told.pop(name) for name in ("type", "code")} == {"type": "error", "code": code}
        assert told.pop("detail") == told.pop("message")
        assert told == more
        assert (await ask(client, AUTH))["type"] == "authenticated"


async def test_a_member_may_have_a_name_with_a_dot(server: Serving) -> None:
    async with server.connect("/ws/device", None) as client:
        assert await ask(client, {"type": "reading", "seq": 40}) == {"type": "ota.progress", "percent_done": 40}


async def test_a_member_of_bytes_is_a_binary_frame(server: Serving) -> None:
    async with server.connect("/ws/device", None) as client:
        await client.send(b"\x01jpeg")
        async with asyncio.timeout(10):
            assert await client.recv() == b"\x01jpeg"


async def test_a_frame_of_any_shape_is_passed_on_as_it_came(server: Serving) -> None:
    async with server.connect("/ws/device", None) as client:
        frame = {"type": "anything", "metrics": [1, {"deep": None}], "id": "x"}
        assert await ask(client, frame) == {**frame, "type": "relayed"}
        assert await ask(client, {"type": "anything", "as": "start_stream", "id": 1}) == {"type": "start_stream", "id": 1}


async def test_a_frame_over_the_limit_closes_the_socket(server: Serving) -> None:
    async with server.connect("/ws/device", None) as client:
        await client.send(b"x" * 1025)
        assert (await hear(client))["code"] == "TOO_LARGE"
        assert (await closing(client))[0] == 1009


async def test_a_stream_of_requests_has_one_answer_over_grpc(desk: ModuleType) -> None:
    messages: Any = desk

    async def numbers() -> AsyncIterator[Any]:
        for value in (1, 2, 3.5):
            yield messages.Number(value=value)

    door = GrpcDoor(desk_platform(desk), Settings())
    port = await door.start("127.0.0.1:0")
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        kind = messages.Number
        method = channel.stream_unary("/busbar.desk.v1.DeskService/Add", kind.to_binary, kind.from_binary)
        assert (await method(numbers(), timeout=10)).value == 6.5
        broken = channel.stream_unary("/busbar.desk.v1.DeskService/Add")
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await broken(iter([b"\xff\xff"]), timeout=10)
        assert refused.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    await door.stop(0)
