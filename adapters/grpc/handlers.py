"""One generic handler for each rpc, in all four kinds."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from functools import lru_cache
from typing import Any, NoReturn
from urllib.parse import unquote

import grpc
from grpc.aio import ServicerContext
from protobuf import Message

from adapters.grpc.status import REQUEST_ID, status_code, text, trailers
from core.kernel.call import Call
from core.kernel.errors import DomainError, InvalidArgument, Unavailable
from core.kernel.ids import new_request_id
from core.kernel.pipeline import Platform
from core.kernel.rpc import Rpc
from gen.busbar.api.v1.error_reason_pb import ErrorReason

Context = ServicerContext[bytes, Message[Any]]

LONGEST_REQUEST_ID = 128


class Handlers:
    """Makes handlers, and ends the streams among their calls when the server goes down."""

    def __init__(self, platform: Platform, base_url: str) -> None:
        self._platform = platform
        self._base: Callable[[], str] = base_url.__str__
        self._streams: set[asyncio.Task[Any]] = set()
        self._ending = False

    def handler(self, rpc: Rpc) -> grpc.RpcMethodHandler[Any, Any]:
        """Return the handler of an rpc.

        It takes requests as bytes and reads them itself: what grpc's own reading cannot read ends with UNKNOWN and a trace.
        """
        make: Any = {
            (False, False): grpc.unary_unary_rpc_method_handler,
            (True, False): grpc.stream_unary_rpc_method_handler,
            (False, True): grpc.unary_stream_rpc_method_handler,
            (True, True): grpc.stream_stream_rpc_method_handler,
        }[rpc.client_streams, rpc.server_streams]
        behaviour = self._streamed(rpc) if rpc.server_streams else self._single(rpc)
        return make(behaviour, response_serializer=rpc.response.to_binary)

    def end_streams(self) -> None:
        """End every call whose answer is a stream with UNAVAILABLE."""
        self._ending = True
        for task in self._streams:
            task.cancel()

    def _single(self, rpc: Rpc) -> Any:  # noqa: ANN401 - grpc's own type of behaviours says no more
        invoke, read = self._platform.invoke, _many if rpc.client_streams else _one

        async def single(raw: Any, context: Context) -> Any:  # noqa: ANN401 - bytes, or a stream of them; any message
            call = self._call(context)
            try:
                return await invoke(rpc, read(rpc, raw), call)
            except DomainError as error:
                await _refuse(context, call, error)

        return single

    def _streamed(self, rpc: Rpc) -> Any:  # noqa: ANN401 - as above
        invoke, read = self._platform.invoke, _many if rpc.client_streams else _one

        async def streamed(raw: Any, context: Context) -> None:  # noqa: ANN401 - as above
            call = self._call(context)
            try:
                answers = await invoke(rpc, read(rpc, raw), call)
                await self._write(answers, context)
            except DomainError as error:
                await _refuse(context, call, error)

        return streamed

    async def _write(self, answers: Any, context: Context) -> None:  # noqa: ANN401 - the pipeline's generator
        if self._ending:
            raise _going_down()
        task = asyncio.current_task()
        if task is not None:
            self._streams.add(task)
            task.add_done_callback(self._streams.discard)
        try:
            # Closed here and now, so that the service has cleaned up before the call counts as ended.
            async with aclosing(answers):
                async for message in answers:
                    await context.write(message)
        except asyncio.CancelledError:
            if not self._ending:
                raise
            raise _going_down() from None

    def _call(self, context: Context) -> Call:
        # Of a name that comes twice the last value counts.
        told: dict[str, Any] = dict(context.invocation_metadata() or ())
        authorization = told.get("authorization")
        given = told.get(REQUEST_ID, "")
        call = Call(
            credential=told.get("x-api-key") if authorization is None else _bearer(authorization),
            org_wish=told.get("x-org-id"),
            door="grpc",
            address=_address(context.peer()),
            request_id=given if 0 < len(given) <= LONGEST_REQUEST_ID else new_request_id(),
            idempotency_key=told.get("idempotency-key"),
            if_match=told.get("if-match"),
            base=self._base,
            sent_header=told.get,
        )
        context.set_trailing_metadata(((REQUEST_ID, call.request_id),))
        return call


def _one(rpc: Rpc, raw: bytes) -> Message[Any]:
    try:
        return rpc.request.from_binary(raw)
    except ValueError as error:
        message = f"the request is not a readable {rpc.request.desc().type_name}"
        raise InvalidArgument(message, reason=ErrorReason.MALFORMED_BODY) from error


async def _many(rpc: Rpc, raws: AsyncIterator[bytes]) -> AsyncIterator[Message[Any]]:
    async for raw in raws:
        yield _one(rpc, raw)


def _going_down() -> Unavailable:
    return Unavailable("the server is going down", reason=ErrorReason.SHUTTING_DOWN, retry_after=1)


def _bearer(authorization: str) -> str:
    """Return the secret; other schemes are left whole, and so are no credential that anyone holds."""
    scheme, _, secret = authorization.partition(" ")
    return secret.strip() if scheme.lower() == "bearer" else authorization


@lru_cache(maxsize=1024)
def _address(peer: str) -> str:
    """Return the network address in grpc's name of a peer, `ipv4:10.0.0.7:5012` or `ipv6:%5B::1%5D:5012`."""
    kind, _, rest = unquote(peer).partition(":")
    return rest.rpartition(":")[0].strip("[]") if kind in ("ipv4", "ipv6") else ""


async def _refuse(context: Context, call: Call, error: DomainError) -> NoReturn:
    await context.abort(status_code(error), text(error), trailers(error, call.request_id))
