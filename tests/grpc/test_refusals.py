"""What a client of the gRPC door learns when its call is refused."""

from __future__ import annotations

from collections.abc import Awaitable
from types import SimpleNamespace

import grpc
import pytest
from protobuf.wkt import Value

from adapters.grpc.door import MOST_BYTES
from gen.busbar.maker.v1.pins_pb import ReadPinRequest, WatchPinsRequest, WritePinRequest
from tests.grpc.serving import ALICE, Serving, details, serving, trailers

Refusal = grpc.aio.AioRpcError
Metadata = tuple[tuple[str, str], ...]


async def refusal(call: Awaitable[object]) -> Refusal:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await call
    return refused.value


def read(server: Serving, board: str = "b1", metadata: Metadata = ALICE, pin: int = 0) -> Awaitable[object]:
    return server.pins.read_pin(ReadPinRequest(board_id=board, pin_index=pin), metadata=metadata, timeout=10)


async def test_a_refusal_names_its_reason(server: Serving) -> None:
    error = await refusal(read(server, "b9"))
    info = details(error)["ErrorInfo"]
    assert (error.code(), error.details()) == (grpc.StatusCode.NOT_FOUND, "board b9 not found")
    assert (info.reason, info.domain, info.metadata) == ("ERROR_REASON_RESOURCE_NOT_FOUND", "busbar.dev", {"board": "b9"})


@pytest.mark.parametrize(
    ("metadata", "code", "reason"),
    [
        ((), "UNAUTHENTICATED", "ERROR_REASON_CREDENTIAL_MISSING"),
        ((("authorization", "Bearer nobody"),), "UNAUTHENTICATED", "ERROR_REASON_CREDENTIAL_INVALID"),
        ((("authorization", "Basic alice"),), "UNAUTHENTICATED", "ERROR_REASON_CREDENTIAL_INVALID"),
        ((("authorization", "Bearer nobody"), ("x-api-key", "alice")), "UNAUTHENTICATED", "ERROR_REASON_CREDENTIAL_INVALID"),
        ((("authorization", "Bearer mute"),), "PERMISSION_DENIED", "ERROR_REASON_SCOPE_MISSING"),
    ],
)
async def test_who_may_not_call_is_refused(server: Serving, metadata: Metadata, code: str, reason: str) -> None:
    error = await refusal(read(server, metadata=metadata))
    assert (error.code().name, details(error)["ErrorInfo"].reason) == (code, reason)
    assert server.service.calls == []


async def test_every_field_that_is_wrong_is_named(server: Serving) -> None:
    error = await refusal(server.pins.write_pin(WritePinRequest(board_id="b1", pin_index=300), metadata=ALICE, timeout=10))
    assert error.code() == grpc.StatusCode.INVALID_ARGUMENT
    violations = details(error)["BadRequest"].field_violations
    assert {v.field: v.description for v in violations}.keys() == {"pin_index", "value"}


async def test_a_rate_limit_tells_when_to_come_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("core.kernel.limits.time", SimpleNamespace(monotonic=lambda: 100.0))
    async with serving(limits=True) as server:
        request = WritePinRequest(board_id="b1", pin_index=1, value=Value.from_python(1))
        for _ in range(50):
            await server.pins.write_pin(request, metadata=ALICE, timeout=10)
        error = await refusal(server.pins.write_pin(request, metadata=ALICE, timeout=10))
        delay = details(error)["RetryInfo"].retry_delay
        assert error.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
        assert (delay.seconds, delay.nanos) == (1, 0)


async def test_a_failure_inside_says_nothing_about_the_inside(server: Serving) -> None:
    error = await refusal(read(server, "broken", metadata=(*ALICE, ("x-request-id", "r-1"))))
    assert (error.code(), error.details()) == (grpc.StatusCode.INTERNAL, "internal error")
    assert details(error)["RequestInfo"].request_id == "r-1"
    assert trailers(error)["x-request-id"] == "r-1"
    assert "UNIQUE" not in str(error.trailing_metadata())


async def test_a_stream_is_refused_with_the_same_details(server: Serving) -> None:
    error = await refusal(anext(aiter(server.pins.watch_pins(WatchPinsRequest(board_id="b9"), metadata=ALICE, timeout=10))))
    assert details(error)["ErrorInfo"].metadata == {"board": "b9"}


async def test_a_refusal_too_long_for_the_trailers_still_arrives(server: Serving) -> None:
    error = await refusal(read(server, "long"))
    assert error.code() == grpc.StatusCode.NOT_FOUND
    assert details(error)["ErrorInfo"].reason == "ERROR_REASON_RESOURCE_NOT_FOUND"


async def test_a_message_that_cannot_be_read_is_the_fault_of_the_client(server: Serving) -> None:
    method = server.channel.unary_unary("/busbar.maker.v1.PinService/ReadPin")
    error = await refusal(method(b"\xff\xff\xff", metadata=ALICE, timeout=10))
    assert error.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert error.details() == "the request is not a readable busbar.maker.v1.ReadPinRequest"


async def test_a_message_over_the_limit_is_refused(server: Serving) -> None:
    huge = WritePinRequest(board_id="b1", value=Value.from_python("x" * MOST_BYTES))
    error = await refusal(server.pins.write_pin(huge, metadata=ALICE, timeout=10))
    assert error.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert server.service.calls == []


async def test_an_unknown_method_is_unimplemented(server: Serving) -> None:
    method = server.channel.unary_unary("/busbar.maker.v1.PinService/Explode")
    assert (await refusal(method(b"", timeout=10))).code() == grpc.StatusCode.UNIMPLEMENTED
