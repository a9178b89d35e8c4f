"""What a client of the gRPC door gets when its call is accepted."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import grpc
import pytest
from protobuf import Oneof
from protobuf.wkt import Value

from gen.busbar.maker.v1.pins_pb import (
    ConnectPinsRequest,
    PinOpen,
    PinPing,
    PinSnapshot,
    ReadPinRequest,
    WatchPinsRequest,
    WritePinRequest,
)
from tests.grpc.fake_pins import FakePins
from tests.grpc.serving import ALICE, Serving, serving


async def test_a_unary_call_is_answered(server: Serving) -> None:
    pin = await server.pins.read_pin(ReadPinRequest(board_id="b1", pin_index=7), metadata=ALICE, timeout=10)
    assert (pin.board_id, pin.pin_index, pin.value) == ("b1", 7, Value.from_python(21.5))


async def test_answers_of_a_stream_arrive_in_order(server: Serving) -> None:
    call = aiter(server.pins.watch_pins(WatchPinsRequest(board_id="b1"), metadata=ALICE, timeout=10))
    assert [(await anext(call)).seq for _ in range(3)] == [1, 2, 3]


async def test_both_sides_may_talk(server: Serving) -> None:
    asked = asyncio.Event()

    async def says() -> AsyncIterator[ConnectPinsRequest]:
        yield ConnectPinsRequest(frame=Oneof(field="open", value=PinOpen(board_id="b1")))
        await asked.wait()
        yield ConnectPinsRequest(frame=Oneof(field="ping", value=PinPing()))

    heard = aiter(server.pins.connect_pins(says(), metadata=ALICE, timeout=10))
    first = (await anext(heard)).frame
    assert first is not None
    assert isinstance(first.value, PinSnapshot)
    asked.set()
    assert [frame.frame and frame.frame.field async for frame in heard] == ["pong"]


@pytest.mark.parametrize(
    "metadata",
    [
        (("authorization", "Bearer alice"),),
        (("authorization", "bearer alice"),),
        (("x-api-key", "alice"),),
        (("authorization", "Bearer alice"), ("x-api-key", "nobody")),
    ],
)
async def test_a_credential_may_come_in_either_header(server: Serving, metadata: tuple[tuple[str, str], ...]) -> None:
    await server.pins.read_pin(ReadPinRequest(board_id="b1"), metadata=metadata, timeout=10)
    principal = server.service.calls[0].caller
    assert principal.user_id == "u1"


async def test_a_call_carries_where_it_came_from(server: Serving) -> None:
    await server.pins.read_pin(ReadPinRequest(board_id="b1"), metadata=ALICE, timeout=10)
    call = server.service.calls[0]
    assert (call.door, call.address, call.if_match) == ("grpc", "127.0.0.1", None)


async def test_a_call_names_the_revision_that_it_wants_to_change(server: Serving) -> None:
    await server.pins.read_pin(ReadPinRequest(board_id="b1"), metadata=(*ALICE, ("if-match", "7")), timeout=10)
    assert server.service.calls[0].if_match == "7"


async def test_the_request_id_of_the_client_comes_back(server: Serving) -> None:
    call = server.pins.read_pin(ReadPinRequest(board_id="b1"), metadata=(*ALICE, ("x-request-id", "r-17")), timeout=10)
    await call
    assert dict(await call.trailing_metadata() or ())["x-request-id"] == "r-17"
    assert server.service.calls[0].request_id == "r-17"


async def test_a_call_without_a_request_id_is_given_one(server: Serving) -> None:
    call = server.pins.read_pin(ReadPinRequest(board_id="b1"), metadata=ALICE, timeout=10)
    await call
    assert dict(await call.trailing_metadata() or ())["x-request-id"] == server.service.calls[0].request_id


class Kept:
    """Keeps answers for as long as a test runs."""

    def __init__(self) -> None:
        self.answers: dict[tuple[str, str, str], bytes] = {}

    async def begin(self, owner: str, rpc: str, key: str, fingerprint: bytes) -> tuple[bytes, int | None] | None:
        answer = self.answers.get((owner, rpc, key))
        return None if answer is None else (answer, None)

    async def finish(self, owner: str, rpc: str, key: str, answer: bytes, status: int | None) -> None:
        self.answers[owner, rpc, key] = answer

    async def abandon(self, owner: str, rpc: str, key: str) -> None:
        self.answers.pop((owner, rpc, key), None)


async def test_a_request_sent_twice_with_one_idempotency_key_is_done_once() -> None:
    async with serving(idempotency=Kept()) as server:
        request = WritePinRequest(board_id="b1", pin_index=1, value=Value.from_python(1))
        metadata = (*ALICE, ("idempotency-key", "k1"))
        first = await server.pins.write_pin(request, metadata=metadata, timeout=10)
        again = await server.pins.write_pin(request, metadata=metadata, timeout=10)
        assert (first.seq, again.seq, len(server.service.calls)) == (1, 1, 1)


async def ended(service: FakePins) -> None:
    async with asyncio.timeout(10):
        await service.ended.wait()


async def test_a_call_past_its_deadline_is_stopped(server: Serving) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await server.pins.read_pin(ReadPinRequest(board_id="slow"), metadata=ALICE, timeout=0.3)
    assert refused.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
    await ended(server.service)


async def test_a_stream_that_the_client_leaves_is_cleaned_up(server: Serving) -> None:
    call = server.pins.watch_pins(WatchPinsRequest(board_id="b1"), metadata=ALICE)
    await anext(aiter(call))
    call.cancel()
    await ended(server.service)
