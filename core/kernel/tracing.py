"""OpenTelemetry spans around calls. Loaded only where traces are asked for, so nobody else pays for it."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Generator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from opentelemetry import context, propagate, trace
from opentelemetry.context import Context
from opentelemetry.propagators.textmap import Getter
from protobuf import Message

from core.kernel.call import Call
from core.kernel.errors import DomainError
from core.kernel.pipeline import Platform
from core.kernel.rpc import Rpc


class TracedPlatform(Platform):
    """A platform whose calls are spans, in which whatever the handler traces is nested.

    A span hangs below the one that is current where the door is traced itself, and else below the one that the caller names in
    its headers. It lasts from the reading of the request to the last answer; a call that is not admitted has a span too.
    """

    tracer = trace.get_tracer("busbar")

    async def admit(self, rpc: Rpc, call: Call) -> None:
        """Let a call in, or write the span of its refusal."""
        started = time.time_ns()
        try:
            await super().admit(rpc, call)
        except DomainError as error:
            _end(self._begin(rpc, call, started), error.code)
            raise

    async def invoke(self, rpc: Rpc, request: Any, call: Call) -> Any:  # noqa: ANN401 - as in the class above
        """Run one call within its span."""
        if rpc.server_streams:
            return self._stream(rpc, await super().invoke(rpc, request, call), call)
        span, code = self._begin(rpc, call), "OK"
        try:
            with _within(span):
                return await super().invoke(rpc, request, call)
        except DomainError as error:
            code = error.code
            raise
        finally:
            _end(span, code)

    async def _stream(self, rpc: Rpc, answers: Any, call: Call) -> AsyncIterator[Message[Any]]:  # noqa: ANN401 - a generator
        """Yield the answers of a call. Only its own steps run in the span: what the door does in between is not part of it."""
        span, code = self._begin(rpc, call), "OK"
        try:
            while True:
                with _within(span):
                    message = await anext(answers, None)
                if message is None:
                    return
                yield message
        except DomainError as error:
            code = error.code
            raise
        finally:
            with _within(span):
                await answers.aclose()
            _end(span, code)

    def _begin(self, rpc: Rpc, call: Call, started: int | None = None) -> trace.Span:
        service, _, method = rpc.name.partition("/")
        inside = _in_a_span()
        return self.tracer.start_span(
            rpc.name,
            context=None if inside else _told(call),
            kind=trace.SpanKind.INTERNAL if inside else trace.SpanKind.SERVER,
            start_time=started,
            attributes={
                "rpc.system": "busbar",
                "rpc.service": service,
                "rpc.method": method,
                "busbar.door": call.door,
                "busbar.request_id": call.request_id,
            },
        )


@contextmanager
def continued(call: Call) -> Generator[None]:
    """Let spans hang below the one that a caller names, for a door that makes spans of its own."""
    token = None if _in_a_span() else context.attach(_told(call))
    try:
        yield
    finally:
        if token is not None:
            context.detach(token)


def _within(span: trace.Span) -> AbstractContextManager[trace.Span]:
    # Texts of exceptions may hold what callers sent, so a span gets the code of a refusal and nothing else of it.
    return trace.use_span(span, record_exception=False, set_status_on_exception=False)


def _end(span: trace.Span, code: str) -> None:
    span.set_attribute("busbar.code", code)
    if code != "OK":
        span.set_attribute("error.type", code)
        span.set_status(trace.StatusCode.ERROR)
    span.end()


def _in_a_span() -> bool:
    return trace.get_current_span().get_span_context().is_valid


class _Headers(Getter[Call]):
    """Lets propagators read what came along with a call."""

    def get(self, carrier: Call, key: str) -> list[str] | None:
        value = carrier.sent_header(key)
        return None if value is None else [value]

    def keys(self, carrier: Call) -> list[str]:
        return []


_HEADERS = _Headers()


def _told(call: Call) -> Context:
    """Return the trace that the caller names, as the propagators of the environment read it: W3C's by default."""
    return propagate.extract(call, context.get_current(), _HEADERS)
