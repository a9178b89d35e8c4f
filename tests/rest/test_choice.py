"""Two rpcs on one path, of which a boolean of the body chooses."""

from __future__ import annotations

from typing import Any

import pytest
from protobuf import Oneof

from adapters.rest.app import RestApp
from adapters.rest.openapi import build_document
from core.kernel.call import Call
from core.kernel.rpc import BindingError, Rpc
from tests.rest.fakes import client, rest_app
from tests.rest.protos import serve, service

MESSAGES = """
message Ask { string what = 1 [(buf.validate.field).string.max_len = 5]; bool stream = 2; }
message StreamAsk { Ask ask = 1; }
message Answer { string whole = 1; }
message Part { oneof part { string delta = 1; bool done = 2; } optional string model = 3; }
"""
WHOLE = 'Tell(Ask) returns (Answer) {post: "/api/ask" body: "*"}'
PIECES = (
    'StreamTell(StreamAsk) returns (stream Part) {post: "/api/ask" body: "ask"} | '
    'option (busbar.api.v1.rest) = {when: "stream" events: true sparse: true};'
)
LIMIT = ' option (busbar.api.v1.limit) = {requests: 2 window_seconds: 60 per: PER_ADDRESS group: "ask"};'


def rpcs(*lines: str) -> list[Rpc]:
    """Return the rpcs, of which one answers with `whole` and the other with pieces."""
    desc = service(MESSAGES, "\n".join(lines))
    part = {method.name: method.output.type for method in desc.methods}

    def handler(request: Any, _call: Call) -> Any:
        if hasattr(request, "what"):
            return part["Tell"](whole=request.what)
        pieces = [Oneof(field="delta", value=letter) for letter in request.ask.what]
        make = part["StreamTell"]
        return [*(make(part=piece) for piece in pieces), make(part=Oneof(field="done", value=True), model="m")]

    return serve(desc, handler)


async def test_the_body_chooses_between_one_answer_and_a_stream() -> None:
    async with client(rest_app(rpcs(WHOLE, PIECES))) as web:
        for body in ({"what": "ab"}, {"what": "ab", "stream": False}):
            assert (await web.post("/api/ask", json=body)).json() == {"whole": "ab"}
        streamed = await web.post("/api/ask", json={"what": "ab", "stream": True})
    assert streamed.headers["content-type"] == "text/event-stream"
    assert streamed.text == 'data: {"delta":"a"}\n\ndata: {"delta":"b"}\n\ndata: {"done":true,"model":"m"}\n\n'


async def test_a_fault_is_named_as_the_path_documents_it() -> None:
    async with client(rest_app(rpcs(WHOLE, PIECES))) as web:
        for stream in (True, False):
            answer = await web.post("/api/ask", json={"what": "too long", "stream": stream})
            assert (answer.status_code, answer.json()["error"].partition(":")[0]) == (400, "what")
        assert (await web.post("/api/ask", json={"stream": "perhaps"})).status_code == 400


async def test_both_count_as_one_call_of_their_group() -> None:
    app = rest_app(rpcs(WHOLE + " | " + LIMIT, PIECES + LIMIT), limits=True)
    async with client(app) as web:
        statuses = [(await web.post("/api/ask", json={"stream": stream})).status_code for stream in (True, False, True, False)]
    assert statuses == [200, 200, 429, 429]


@pytest.mark.parametrize("lines", [(PIECES,), (WHOLE, PIECES.replace('stream"', 'loud"')), (WHOLE, PIECES + LIMIT)])
def test_an_rpc_that_cannot_share_the_path_stops_the_start(lines: tuple[str, ...]) -> None:
    with pytest.raises(BindingError):
        rest_app(rpcs(*lines))


def test_the_document_shows_one_operation_with_both_answers() -> None:
    app: RestApp = rest_app(rpcs(WHOLE, PIECES))
    operation = build_document(app.rpcs)["paths"]["/api/ask"]["post"]
    assert operation["operationId"] == "Things_Tell"
    assert set(operation["responses"]["200"]["content"]) == {"application/json", "text/event-stream"}
