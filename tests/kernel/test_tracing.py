"""Spans around calls: whose part they are, what is part of them, and what they tell."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any

import grpc
import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from websockets.asyncio.client import connect

from core.kernel.call import Call, Ended, Principal
from core.kernel.errors import DomainError, NotFound
from core.kernel.rpc import Rpc, bind
from core.kernel.tracing import TracedPlatform
from gen.busbar.maker.v1.pins_pb import Pin, ReadPinRequest
from tests.conftest import Running, Start
from tests.rest.protos import SERVICE, compile_proto

TRACEPARENT = "00-5a0c6be24d1f4c0f8ab29f30d7713e6e-91b3d0e7c24f5a68-01"
SOURCE = "message Ask { string id = 1; } message Answer { string id = 1; }"
RPCS = """
rpc Unary(Ask) returns (Answer) { option (busbar.api.v1.access) = {level: LEVEL_PUBLIC}; }
rpc Down(Ask) returns (stream Answer) { option (busbar.api.v1.access) = {level: LEVEL_PUBLIC}; }
rpc Closed(Ask) returns (Answer) { option (busbar.api.v1.access) = {scope: "things:read"}; }
"""


class Spans:
    """Keeps the spans that ended."""

    def __init__(self) -> None:
        self._kept = InMemorySpanExporter()
        self.provider = TracerProvider()
        self.provider.add_span_processor(SimpleSpanProcessor(self._kept))
        self.tracer = self.provider.get_tracer("test")

    def take(self) -> Sequence[ReadableSpan]:
        """Return the spans that ended since the last look."""
        spans = self._kept.get_finished_spans()
        self._kept.clear()
        return spans


def span_id(span: ReadableSpan) -> int:
    context = span.get_span_context()
    assert context is not None
    return context.span_id


def parent_id(span: ReadableSpan) -> int | None:
    return None if span.parent is None else span.parent.span_id


def remote_parent(span: ReadableSpan) -> str:
    """Return the traceparent header of which a span is part."""
    parent = span.parent
    assert parent is not None
    return f"00-{parent.trace_id:032x}-{parent.span_id:016x}-01"


class Nobody:
    """Knows no credential."""

    def known(self, credential: str) -> Principal | None:
        return None

    async def authenticate(self, credential: str) -> Principal | None:
        return None

    def why_not(self, credential: str) -> Ended:
        return Ended("unknown", None)


class Desk:
    """A traced platform before handlers that trace their own work."""

    def __init__(self) -> None:
        self.spans = Spans()
        desc = compile_proto(SOURCE + SERVICE % ("MAKER", RPCS)).services[0]
        self.ask, self.answer = desc.methods[0].input.type, desc.methods[0].output.type

        async def unary(request: Any, call: Call) -> Any:
            with self.spans.tracer.start_as_current_span("work"):
                if request.id == "missing":
                    raise NotFound("nothing of that name")
                return self.answer(id=request.id)

        async def down(request: Any, call: Call) -> AsyncIterator[Any]:
            try:
                for _ in range(2):
                    with self.spans.tracer.start_as_current_span("work"):
                        answer = self.answer(id=request.id)
                    yield answer
            finally:
                self.spans.tracer.start_span("clean-up").end()

        unary.__annotations__ = {"request": self.ask, "call": Call, "return": self.answer}
        down.__annotations__ = {"request": self.ask, "call": Call, "return": AsyncIterator[self.answer]}
        members = {"unary": staticmethod(unary), "down": staticmethod(down), "closed": staticmethod(unary)}
        things = type("Things", (), members)
        self.rpcs: dict[str, Rpc] = {rpc.method.name: rpc for rpc in bind(desc, things())}
        self.platform = TracedPlatform(list(self.rpcs.values()), Nobody())
        self.platform.tracer = self.spans.tracer

    async def invoke(self, name: str, text: str = "a", call: Call | None = None) -> Any:
        return await self.platform.invoke(self.rpcs[name], self.ask(id=text), call or Call())


async def test_what_a_handler_traces_is_nested_in_the_span_of_its_call() -> None:
    desk = Desk()
    await desk.invoke("Unary", call=Call(door="grpc", request_id="r1"))
    work, call = desk.spans.take()
    assert (work.name, parent_id(work)) == ("work", span_id(call))
    assert (parent_id(call), call.kind) == (None, trace.SpanKind.SERVER)
    attributes = dict(call.attributes or {})
    assert call.name == f"{attributes['rpc.service']}/{attributes['rpc.method']}"
    assert (attributes["busbar.door"], attributes["busbar.request_id"], attributes["busbar.code"]) == ("grpc", "r1", "OK")


async def test_all_parts_of_a_stream_are_in_its_span_and_what_its_reader_does_is_not() -> None:
    desk = Desk()
    async for _ in await desk.invoke("Down"):
        desk.spans.tracer.start_span("reader").end()
    first, reader, second, other_reader, clean_up, call = desk.spans.take()
    assert {parent_id(span) for span in (first, second, clean_up)} == {span_id(call)}
    assert {parent_id(span) for span in (reader, other_reader)} == {None}
    assert (clean_up.name, parent_id(call)) == ("clean-up", None)


async def test_a_stream_that_its_reader_leaves_has_cleaned_up_within_its_span() -> None:
    desk = Desk()
    answers = await desk.invoke("Down")
    await anext(answers)
    await answers.aclose()
    _, clean_up, call = desk.spans.take()
    assert (clean_up.name, parent_id(clean_up)) == ("clean-up", span_id(call))
    assert call.status.status_code == trace.StatusCode.UNSET


async def test_a_refusal_is_told_by_its_code_and_not_by_its_words() -> None:
    desk = Desk()
    with pytest.raises(DomainError):
        await desk.invoke("Unary", "missing")
    call = desk.spans.take()[-1]
    assert (call.attributes or {})["error.type"] == "NOT_FOUND"
    assert (call.status.status_code, call.status.description, call.events) == (trace.StatusCode.ERROR, None, ())


async def test_a_call_that_is_not_admitted_has_a_span() -> None:
    desk = Desk()
    with pytest.raises(DomainError):
        await desk.platform.admit(desk.rpcs["Closed"], Call(sent_header={"traceparent": TRACEPARENT}.get))
    (call,) = desk.spans.take()
    assert ((call.attributes or {})["error.type"], remote_parent(call)) == ("UNAUTHENTICATED", TRACEPARENT)


@pytest.mark.parametrize("name", ["Unary", "Down"])
async def test_a_door_that_is_traced_itself_comes_before_what_the_caller_names(name: str) -> None:
    desk = Desk()
    with desk.spans.tracer.start_as_current_span("door") as door:
        answer = await desk.invoke(name, call=Call(sent_header={"traceparent": TRACEPARENT}.get))
        if name == "Down":
            assert [message.id async for message in answer] == ["a", "a"]
    call = next(span for span in desk.spans.take() if span.name.endswith(f"/{name}"))
    assert (parent_id(call), call.kind) == (door.get_span_context().span_id, trace.SpanKind.INTERNAL)


async def test_a_damaged_traceparent_starts_a_trace_of_its_own() -> None:
    desk = Desk()
    await desk.invoke("Unary", call=Call(sent_header={"traceparent": "00-nonsense"}.get))
    assert parent_id(desk.spans.take()[-1]) is None


@pytest.fixture(scope="module")
def of_the_process() -> Iterator[Spans]:
    """What the SDK of the process keeps; OpenTelemetry lets it be set once."""
    spans = Spans()
    trace.set_tracer_provider(spans.provider)
    yield spans
    spans.provider.shutdown()


async def test_every_door_reads_whose_part_a_call_is(start: Start, of_the_process: Spans) -> None:
    busbar = await start(traces=True)
    alice = await busbar.person("alice")
    board = (await busbar.board(alice)).id
    name = "busbar.maker.v1.PinService/ReadPin"

    async def rest() -> None:
        client = busbar.http(alice.session, traceparent=TRACEPARENT)
        assert (await client.get(f"/api/boards/{board}/pins/1")).status_code == 200

    async def grpc_metadata() -> None:
        await _read_pin(busbar, board, ("authorization", f"Bearer {alice.session}"), ("traceparent", TRACEPARENT))

    async def socket() -> None:
        headers = {"Authorization": f"Bearer {alice.session}", "traceparent": TRACEPARENT}
        async with connect(f"{busbar.ws_url}/ws/boards/{board}/pins", additional_headers=headers) as ws:
            await ws.recv()

    for door, rpc in ((rest, name), (grpc_metadata, name), (socket, "busbar.maker.v1.PinService/ConnectPins")):
        of_the_process.take()
        await door()
        await busbar.app.platform.drain()
        busbar.app.platform.draining = False
        (call,) = (span for span in of_the_process.take() if span.name == rpc)
        assert remote_parent(call) == TRACEPARENT, door.__name__


async def test_a_tool_hangs_below_its_request_over_mcp_and_that_below_the_header(start: Start, of_the_process: Spans) -> None:
    busbar = await start(traces=True)
    alice = await busbar.person("alice")
    board = (await busbar.board(alice)).id
    agent = busbar.client("mcp", alice.session)
    agent.http.headers["traceparent"] = TRACEPARENT
    of_the_process.take()
    await agent.call("PinService.ReadPin", board_id=board, pin_index=1)
    spans = of_the_process.take()
    call = next(span for span in spans if span.name == "busbar.maker.v1.PinService/ReadPin")
    request = next(span for span in spans if span_id(span) == parent_id(call))
    assert request.name.startswith("tools/call")
    assert remote_parent(request) == TRACEPARENT


async def _read_pin(busbar: Running, board: str, *metadata: tuple[str, str]) -> Pin:
    async with grpc.aio.insecure_channel(busbar.server.grpc_address) as channel:
        read = channel.unary_unary(
            "/busbar.maker.v1.PinService/ReadPin",
            request_serializer=ReadPinRequest.to_binary,
            response_deserializer=Pin.from_binary,
        )
        return await read(ReadPinRequest(board_id=board, pin_index=1), metadata=metadata)
