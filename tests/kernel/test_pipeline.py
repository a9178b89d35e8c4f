"""The one way in: the same checks in the same order for every kind of call, whatever the door."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from core.kernel.call import Call, Principal
from core.kernel.errors import DomainError, NotFound
from core.kernel.limits import Limiter
from core.kernel.pipeline import Platform
from core.kernel.rpc import Rpc, bind
from gen.busbar.api.v1.options_pb import CredentialKind
from tests.rest.protos import SERVICE, compile_proto

ACCESS = 'option (busbar.api.v1.access) = {scope: "things:write" kinds: CREDENTIAL_KIND_SESSION};'
LIMIT = "option (busbar.api.v1.limit) = {requests: 1 window_seconds: 3600};"
SOURCE = (
    "message Ask { string id = 1 [(buf.validate.field).string = {min_len: 1, max_len: 8}]; } message Answer { string id = 1; }"
)
RPCS = {
    "unary": "rpc Unary(Ask) returns (Answer)",
    "down": "rpc Down(Ask) returns (stream Answer)",
    "up": "rpc Up(stream Ask) returns (Answer)",
    "both": "rpc Both(stream Ask) returns (stream Answer)",
}
KINDS = pytest.mark.parametrize("kind", RPCS)


HELD = {
    "alice": Principal("c1", CredentialKind.SESSION, "org", "u1"),
    "viewer": Principal("c2", CredentialKind.SESSION, "org", "u2", scopes=frozenset({"things:read"})),
    "key": Principal("c3", CredentialKind.AGENT_KEY, "org", "u1"),
}


class People:
    """Knows `alice`, `viewer` without any scope, and `key` of another kind."""

    def known(self, credential: str) -> Principal | None:
        return None

    async def authenticate(self, credential: str) -> Principal | None:
        return HELD.get(credential)


class Watch:
    """Keeps how calls ended."""

    def __init__(self) -> None:
        self.codes: list[str] = []

    def ended(self, rpc: Rpc, call: Call, code: str, seconds: float) -> None:
        self.codes.append(code)


class Desk:
    """A platform before four rpcs that do as they are told."""

    def __init__(self, *, limited: bool = False) -> None:
        options = f"{{ {ACCESS} {LIMIT if limited else ''} }}"
        self.desc = compile_proto(
            SOURCE + SERVICE % ("MAKER", "\n".join(f"{rpc} {options}" for rpc in RPCS.values()))
        ).services[0]
        self.ask, self.answer = self.desc.methods[0].input.type, self.desc.methods[0].output.type
        self.served: list[str] = []
        self.left = 0
        self.fail: Exception | None = None
        self.watch = Watch()
        handlers = {name: self._typed(getattr(self, f"_{name}"), name) for name in RPCS}
        things = type("Things", (), {name: staticmethod(handler) for name, handler in handlers.items()})
        rpcs = bind(self.desc, things())
        self.platform = Platform(rpcs, People(), limiter=Limiter(enabled=limited), observers=(self.watch,))
        self.rpcs = dict(zip(RPCS, rpcs, strict=True))

    def _typed(self, handler: Any, name: str) -> Any:
        streams_in, streams_out = name in ("up", "both"), name in ("down", "both")

        async def single(request: Any, call: Any) -> Any:
            return await handler(request)

        async def many(request: Any, call: Any) -> AsyncIterator[Any]:
            try:
                async for answer in handler(request):
                    yield answer
            finally:
                self.left += 1

        made: Any = many if streams_out else single
        made.__annotations__ = {
            "request": AsyncIterator[self.ask] if streams_in else self.ask,
            "call": Call,
            "return": AsyncIterator[self.answer] if streams_out else self.answer,
        }
        return made

    def _serve(self, request: Any) -> Any:
        self.served.append(request.id)
        if self.fail is not None:
            raise self.fail
        return self.answer(id=request.id)

    async def _unary(self, request: Any) -> Any:
        return self._serve(request)

    async def _down(self, request: Any) -> AsyncIterator[Any]:
        for _ in range(2):
            yield self._serve(request)

    async def _up(self, request: AsyncIterator[Any]) -> Any:
        answers = [self._serve(message) async for message in request]
        return answers[-1]

    async def _both(self, request: AsyncIterator[Any]) -> AsyncIterator[Any]:
        async for message in request:
            yield self._serve(message)

    async def call(self, kind: str, credential: str | None = "alice", *ids: str) -> list[str]:
        """Make a call; return the ids of its answers."""
        rpc, call = self.rpcs[kind], Call(credential=credential)
        requests = [self.ask(id=text) for text in ids or ("a",)]
        answer = await self.platform.invoke(rpc, _each(requests) if rpc.client_streams else requests[0], call)
        return [message.id async for message in answer] if rpc.server_streams else [answer.id]

    async def refusal(self, kind: str, credential: str | None = "alice", *ids: str) -> DomainError:
        """Make a call that must be refused."""
        with pytest.raises(DomainError) as refused:
            await self.call(kind, credential, *ids)
        return refused.value


async def _each(messages: list[Any]) -> AsyncIterator[Any]:
    for message in messages:
        yield message


@KINDS
async def test_a_call_of_any_kind_is_served_to_who_may_make_it(kind: str) -> None:
    desk = Desk()
    assert await desk.call(kind) == ["a", "a"][: 2 if kind == "down" else 1]
    assert (desk.watch.codes, desk.platform.active) == (["OK"], 0)


@KINDS
@pytest.mark.parametrize("credential", [None, "stale", "key"])
async def test_who_is_not_known_is_refused_before_anything_else(kind: str, credential: str | None) -> None:
    desk = Desk(limited=True)
    for _ in range(2):
        # Refusals of strangers use up nobody's rate, and the bad request is not looked at.
        assert (await desk.refusal(kind, credential, "much too long")).code == "UNAUTHENTICATED"
    assert (desk.served, desk.watch.codes, desk.platform.active) == ([], ["UNAUTHENTICATED"] * 2, 0)


@KINDS
async def test_the_rate_counts_before_the_scope_and_the_scope_before_the_request(kind: str) -> None:
    desk = Desk(limited=True)
    assert (await desk.refusal(kind, "viewer", "much too long")).code == "PERMISSION_DENIED"
    limited = await desk.refusal(kind, "viewer", "much too long")
    assert limited.code == "RESOURCE_EXHAUSTED"
    assert limited.retry_after is not None
    assert 0 < limited.retry_after <= 3600
    assert await desk.call(kind), "another credential has a rate of its own"
    assert (await desk.refusal(kind)).code == "RESOURCE_EXHAUSTED"


@pytest.mark.parametrize("kind", ["unary", "down", "up"])
async def test_a_request_that_breaks_a_rule_never_reaches_the_service(kind: str) -> None:
    desk = Desk()
    refusal = await desk.refusal(kind, "alice", "much too long")
    assert (refusal.code, refusal.message, desk.served) == ("INVALID_ARGUMENT", "id: must be 1-8 characters", [])


async def test_a_bad_message_ends_a_stream_of_requests_after_the_good_ones() -> None:
    desk = Desk()
    assert (await desk.refusal("up", "alice", "a", "b", "", "c")).code == "INVALID_ARGUMENT"
    assert desk.served == ["a", "b"]


@KINDS
async def test_a_defect_becomes_an_error_that_tells_nothing(kind: str) -> None:
    desk = Desk()
    desk.fail = RuntimeError("UNIQUE constraint failed")
    refusal = await desk.refusal(kind)
    assert (refusal.code, refusal.message) == ("INTERNAL", "internal error")
    assert (desk.watch.codes, desk.platform.active) == (["INTERNAL"], 0)


@KINDS
async def test_a_refusal_of_the_service_comes_out_as_it_is(kind: str) -> None:
    desk = Desk()
    desk.fail = NotFound("thing not found", thing="a")
    refusal = await desk.refusal(kind)
    assert (refusal.code, refusal.message, refusal.metadata) == ("NOT_FOUND", "thing not found", {"thing": "a"})
    assert desk.watch.codes == ["NOT_FOUND"]


async def test_a_stream_that_is_left_is_cleaned_up_at_once() -> None:
    desk, ended = Desk(), list[str]()
    call = Call(credential="alice", on_end=[lambda: ended.append("end")])
    answers = await desk.platform.invoke(desk.rpcs["down"], desk.ask(id="a"), call)
    assert (await anext(answers)).id == "a"
    assert desk.platform.active == 1
    await answers.aclose()
    assert (desk.left, ended, desk.platform.active, len(desk.watch.codes)) == (1, ["end"], 0, 1)


@KINDS
async def test_a_draining_platform_refuses_every_kind_of_call(kind: str) -> None:
    desk = Desk()
    await desk.platform.drain()
    refusal = await desk.refusal(kind)
    assert (refusal.code, refusal.reason_name, refusal.retry_after) == ("UNAVAILABLE", "ERROR_REASON_SHUTTING_DOWN", 1)
