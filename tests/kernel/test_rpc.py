"""What must agree between proto and code before a server starts: whatever does not is named."""

from __future__ import annotations

from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import pytest
from protobuf import DescService

from core.kernel.call import Call
from core.kernel.rpc import BindingError, bind
from tests.rest.protos import PUBLIC, SERVICE, compile_proto, serve, service

MESSAGES = """
message Ask { string id = 1; Inner inner = 2; repeated Inner items = 3; }
message Inner { string name = 1; }
message Answer { Inner inner = 1; }
"""
READ = 'Read(Ask) returns (Answer) {get: "/things/{id}"}'
PIPES = """
Up(stream Ask) returns (Answer) {post: "/up" body: "*"}
Down(Ask) returns (stream Answer) {get: "/down"}
"""


def answer_of(desc: DescService, name: str = "Answer") -> Any:
    """Return the class of a message."""
    return next(message.type for message in desc.file.messages if message.name == name)


def handler(request: Any, answer: Any, call: Any = Call) -> Any:
    """Return a handler with these annotations."""

    async def read(request: Any, call: Any) -> Any:
        return answer()

    read.__annotations__ = {"request": request, "call": call, "return": answer}
    return read


def refusal(desc: DescService, **handlers: Any) -> str:
    """Bind a service that cannot be bound, and return the sentence."""
    with pytest.raises(BindingError) as refused:
        bind(desc, SimpleNamespace(**handlers))
    return str(refused.value)


@pytest.fixture
def desc() -> DescService:
    return service(MESSAGES, READ)


def test_an_rpc_without_a_handler_stops_the_start(desc: DescService) -> None:
    assert refusal(desc) == f"SimpleNamespace lacks read, the handler of {desc.type_name}/Read"


def test_a_handler_of_other_messages_stops_the_start(desc: DescService) -> None:
    ask, answer, name = answer_of(desc, "Ask"), answer_of(desc), f"{desc.type_name}/Read"
    package = desc.type_name.rpartition(".")[0]
    assert (
        refusal(desc, read=handler(answer, answer))
        == f"the handler of {name} has Answer as request, the proto says {package}.Ask"
    )
    assert refusal(desc, read=handler(ask, ask)) == f"the handler of {name} has Ask as return, the proto says {package}.Answer"
    assert refusal(desc, read=handler(str, answer)) == f"the handler of {name} has no message as request"
    assert refusal(desc, read=handler(ask, answer, call=str)) == f"the handler of {name} must take a request and a Call"


def test_a_stream_must_be_one_on_both_sides() -> None:
    desc = service(MESSAGES, PIPES)
    ask, answer = answer_of(desc, "Ask"), answer_of(desc)
    good = {"up": handler(AsyncIterator[ask], answer), "down": handler(ask, AsyncIterator[answer])}
    assert [(rpc.client_streams, rpc.server_streams) for rpc in bind(desc, SimpleNamespace(**good))] == [
        (True, False),
        (False, True),
    ]
    assert "must have AsyncIterator[Ask] as request" in refusal(desc, **{**good, "up": handler(ask, answer)})
    assert "must have AsyncIterator[Answer] as return" in refusal(desc, **{**good, "down": handler(ask, answer)})


@pytest.mark.parametrize(
    ("rule", "sentence"),
    [
        ('get: "/things/{nope}"', "the path of {name} names nope, which {package}.Ask does not have"),
        ('get: "/things/{inner.nope}"', "the path of {name} names inner.nope, which {package}.Ask does not have"),
        ('get: "/things/{items.name}"', "the path of {name} names items.name, which {package}.Ask does not have"),
        (
            'get: "/a" additional_bindings {get: "/b/{nope}"}',
            "the path of {name} names nope, which {package}.Ask does not have",
        ),
        ('post: "/things" body: "nope"', "the body of {name} is nope, which {package}.Ask does not have"),
        ('get: "/things" response_body: "id"', "the answer of {name} is id, which {package}.Answer does not have"),
    ],
)
def test_a_rule_that_names_no_field_stops_the_start(rule: str, sentence: str) -> None:
    desc = service(MESSAGES, f"Read(Ask) returns (Answer) {{{rule}}}")
    good = handler(answer_of(desc, "Ask"), answer_of(desc))
    expected = sentence.format(name=f"{desc.type_name}/Read", package=desc.type_name.rpartition(".")[0])
    assert refusal(desc, read=good) == expected


def test_an_rpc_that_does_not_say_who_may_call_stops_the_start() -> None:
    source = MESSAGES + SERVICE % ("MAKER", "rpc Read(Ask) returns (Answer);")
    desc = compile_proto(source).services[0]
    good = handler(answer_of(desc, "Ask"), answer_of(desc))
    assert refusal(desc, read=good) == f"{desc.type_name}/Read does not say who may call it: give it the option access"


def test_a_service_without_a_surface_stops_the_start() -> None:
    source = f"{MESSAGES} service Things {{ rpc Read(Ask) returns (Answer) {{ {PUBLIC} }} }}"
    desc = compile_proto(source).services[0]
    good = handler(answer_of(desc, "Ask"), answer_of(desc))
    assert refusal(desc, read=good) == f"{desc.type_name} does not name its surface"


def test_what_only_reads_is_told_from_what_may_change_something() -> None:
    rules = """
        Read(Ask) returns (Answer) {get: "/a"}
        Write(Ask) returns (Answer) {put: "/a" body: "*"}
        Search(Ask) returns (Answer) {post: "/b" body: "*"} | option (busbar.api.v1.tool) = {name: "t" read_only: true};
        Both(Ask) returns (Answer) {get: "/c" additional_bindings {post: "/c"}}
    """
    rpcs = serve(service(MESSAGES, rules), lambda request, _call: request)
    assert [rpc.mutates for rpc in rpcs] == [False, True, False, True]


def test_what_a_scope_for_reading_opens_changes_nothing_whatever_its_method() -> None:
    options = 'option (google.api.http) = {post: "/%s"}; option (busbar.api.v1.access) = {scope: "%s"};'
    rpc = f"rpc %s(Ask) returns (Answer) {{ {options} }}"
    scopes = {"Search": "things:read", "Write": "things:write", "Any": "read"}
    source = MESSAGES + SERVICE % ("MAKER", "\n".join(rpc % (name, name, scope) for name, scope in scopes.items()))
    rpcs = serve(compile_proto(source).services[0], lambda request, _call: request)
    assert [rpc.mutates for rpc in rpcs] == [False, True, False]
