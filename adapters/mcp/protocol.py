"""JSON-RPC and both eras of the protocol, by the official SDK: one request in, one answer out, nothing kept in between.

The SDK's own HTTP transport decides the era by one header alone, starts a task group for every request of the older era and
answers some malformed bodies with other codes than ours. So the envelope and the era are read here, and the SDK's server
answers what is inside: negotiation, the parameters and results of every revision, discovery, cache hints.

Importing the SDK takes about a second, so nothing imports this module before the first request needs it.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from http import HTTPStatus
from importlib.metadata import PackageNotFoundError, version
from typing import Any, cast

import anyio
import mcp_types as types
import orjson
import structlog
from mcp.server.caching import CacheHint
from mcp.server.connection import Connection
from mcp.server.context import ServerRequestContext
from mcp.server.lowlevel import Server
from mcp.server.runner import serve_one
from mcp.shared.dispatcher import CallOptions
from mcp.shared.exceptions import MCPError, NoBackChannelError
from mcp.shared.inbound import (
    ERROR_CODE_HTTP_STATUS,
    InboundLadderRejection,
    classify_inbound_request,
    find_duplicated_routing_header,
)
from mcp.shared.jsonrpc_dispatcher import handler_exception_to_error_data
from mcp.shared.message import ServerMessageMetadata
from mcp.shared.transport_context import TransportContext
from mcp_types.version import HANDSHAKE_PROTOCOL_VERSIONS, MODERN_PROTOCOL_VERSIONS
from pydantic import ValidationError

from adapters.mcp.tools import Outcome, View
from core.kernel.call import Call, Principal
from core.kernel.pipeline import Platform
from core.kernel.tracing import continued

log = structlog.get_logger("busbar.mcp")

NAME = "busbar"
LIST_TTL_MS = 60_000
"""How long a client may keep a list of tools, in milliseconds."""

MOST_LISTS = 256
"""Lists of tools kept at once; all are made anew beyond that."""

Record = Callable[[Principal, str, str, float], Awaitable[None]]
"""Notes a call of a tool: who called, its name, the canonical status code, and the seconds it took."""

Headers = Sequence[tuple[str, str]]
"""Headers as they came, with lower-case names."""


@dataclass(frozen=True, slots=True)
class _Visit:
    """One HTTP request of a known caller."""

    call: Call
    principal: Principal
    view: View


@dataclass(frozen=True, slots=True)
class Reply:
    """What goes back over HTTP; a notification has no body."""

    status: int
    body: bytes = b""


class Protocol:
    """Answers the bodies of requests."""

    def __init__(self, platform: Platform, record: Record, *, traces: bool) -> None:
        self._platform = platform
        self._record = record
        self._lists: dict[View, types.ListToolsResult] = {}
        self._server: Server[dict[str, Any]] = Server(
            NAME,
            version=_version(),
            title="Busbar",
            cache_hints={
                "tools/list": CacheHint(LIST_TTL_MS, "private"),
                "server/discover": CacheHint(LIST_TTL_MS, "private"),
            },
            on_list_tools=self._list_tools,
            on_call_tool=self._call_tool,
        )
        # The one middleware that comes with the server makes spans, but reads no headers.
        self._traced = continued if traces else nullcontext[Call]
        if not traces:
            self._server.middleware.clear()

    async def answer(self, body: bytes, headers: Headers, call: Call, principal: Principal, view: View) -> Reply:
        """Answer one body. Never raises."""
        try:
            message: Any = orjson.loads(body)
        except orjson.JSONDecodeError:
            return _error(None, types.PARSE_ERROR, "the body is not JSON", status=HTTPStatus.BAD_REQUEST)
        try:
            if isinstance(message, dict) and "id" not in message:
                return _acknowledgement(types.JSONRPCNotification.model_validate(message), headers)
            request = types.JSONRPCRequest.model_validate(message)
        except ValidationError:
            text = "the body must be one JSON-RPC request or notification"
            return _error(None, types.INVALID_REQUEST, text, status=HTTPStatus.BAD_REQUEST)
        return await self._request(request, headers, _Visit(call, principal, view))

    async def _request(self, request: types.JSONRPCRequest, headers: Headers, visit: _Visit) -> Reply:
        route = _route(request, headers)
        if isinstance(route, InboundLadderRejection):
            status = ERROR_CODE_HTTP_STATUS[route.code]
            return _error(request.id, route.code, route.message, route.data, status=status)
        try:
            result = await self._serve(request, route, visit)
        except Exception as error:
            data = handler_exception_to_error_data(error)
            if data is None:
                # The edge of the door; the caller learns nothing of what failed.
                log.exception("unexpected failure", request_id=visit.call.request_id)
                data = types.ErrorData(code=types.INTERNAL_ERROR, message="internal error")
            modern = route.protocol_version in MODERN_PROTOCOL_VERSIONS
            status = ERROR_CODE_HTTP_STATUS.get(data.code, HTTPStatus.OK) if modern else HTTPStatus.OK
            return _error(request.id, data.code, data.message, data.data, status=status)
        return Reply(HTTPStatus.OK, orjson.dumps({"jsonrpc": "2.0", "id": request.id, "result": result}))

    async def _serve(self, request: types.JSONRPCRequest, connection: Connection, visit: _Visit) -> dict[str, Any]:
        # The SDK would first judge the parameters of methods that exist in the protocol but not here.
        if request.method != "initialize" and self._server.get_request_handler(request.method) is None:
            raise MCPError(types.METHOD_NOT_FOUND, "Method not found", request.method)
        exchange = _Exchange(request.id, ServerMessageMetadata(request_context=visit))
        with self._traced(visit.call):
            return await serve_one(
                self._server, exchange, request.method, request.params, connection=connection, lifespan_state={}
            )

    async def _list_tools(
        self, context: ServerRequestContext[dict[str, Any]], _: types.PaginatedRequestParams | None
    ) -> types.ListToolsResult:
        view = cast("_Visit", context.request).view
        known = self._lists.get(view)
        if known is None:
            known = types.ListToolsResult.model_validate({"tools": [tool.listing for tool in view.listed]})
            self._lists = {**self._lists, view: known} if len(self._lists) < MOST_LISTS else {view: known}
        return known

    async def _call_tool(
        self, context: ServerRequestContext[dict[str, Any]], params: types.CallToolRequestParams
    ) -> types.CallToolResult:
        visit = cast("_Visit", context.request)
        tool = visit.view.chosen.get(params.name)
        if tool is None:
            await self._record(visit.principal, params.name, "UNIMPLEMENTED", 0.0)
            raise MCPError(types.INVALID_PARAMS, f"unknown tool: {params.name[:128]}")
        started = time.perf_counter()
        outcome = await tool.call(self._platform, params.arguments or {}, visit.call)
        await self._record(visit.principal, tool.name, outcome.code, time.perf_counter() - started)
        return _result(outcome)


@dataclass
class _Exchange:
    """What the SDK asks of a transport: here nothing but the request itself, since no tool talks back."""

    request_id: types.RequestId
    message_metadata: ServerMessageMetadata
    transport: TransportContext = field(default_factory=lambda: TransportContext(kind="http", can_send_request=False))
    can_send_request: bool = False
    cancel_requested: anyio.Event = field(default_factory=anyio.Event)

    async def send_raw_request(
        self,
        method: str,
        params: Mapping[str, Any] | None,
        opts: CallOptions | None = None,
    ) -> dict[str, Any]:
        """Refuse: there is no way back to the client."""
        raise NoBackChannelError(method)

    async def notify(self, method: str, params: Mapping[str, Any] | None, opts: CallOptions | None = None) -> None:
        """Drop the notification: one JSON answer has no place for it."""

    async def progress(self, progress: float, total: float | None = None, message: str | None = None) -> None:
        """Drop the report, for the same reason."""


def _route(request: types.JSONRPCRequest, headers: Headers) -> Connection | InboundLadderRejection:
    """Return the connection that a request implies, or why it is refused.

    The era is modern exactly when the header or the body names a modern revision; when neither names any, it is the older one.
    """
    header = dict(headers).get("mcp-protocol-version")
    meta: Any = (request.params or {}).get("_meta")
    named: list[Any] = [] if header is None else [header]
    if isinstance(meta, dict) and types.PROTOCOL_VERSION_META_KEY in meta:
        named.append(meta[types.PROTOCOL_VERSION_META_KEY])
    if any(name in MODERN_PROTOCOL_VERSIONS for name in named):
        return _modern(request, headers)
    if not all(isinstance(name, str) for name in named):
        return InboundLadderRejection(types.INVALID_PARAMS, "the protocol version in params._meta must be a string")
    if len(set(named)) > 1:
        return InboundLadderRejection(types.HEADER_MISMATCH, "MCP-Protocol-Version and params._meta name different revisions")
    chosen: str = named[0] if named else types.DEFAULT_NEGOTIATED_VERSION
    return Connection.from_envelope(chosen, None, None) if chosen in HANDSHAKE_PROTOCOL_VERSIONS else _unsupported(chosen)


def _modern(request: types.JSONRPCRequest, headers: Headers) -> Connection | InboundLadderRejection:
    if request.method == "initialize":
        return InboundLadderRejection(types.METHOD_NOT_FOUND, "Method not found", request.method)
    twice = find_duplicated_routing_header(headers)
    if twice is not None:
        return InboundLadderRejection(types.HEADER_MISMATCH, f"{twice} header appears more than once")
    body = {"method": request.method, "params": request.params}
    route = classify_inbound_request(body, headers=dict(headers))
    if isinstance(route, InboundLadderRejection):
        return route
    return Connection.from_envelope(route.protocol_version, route.client_info, route.client_capabilities)


def _acknowledgement(_: types.JSONRPCNotification, headers: Headers) -> Reply:
    """Take note of a notification. None has an effect here: nothing runs on between two requests."""
    header = dict(headers).get("mcp-protocol-version")
    if header is None or header in (*HANDSHAKE_PROTOCOL_VERSIONS, *MODERN_PROTOCOL_VERSIONS):
        return Reply(HTTPStatus.ACCEPTED)
    refusal = _unsupported(header)
    return _error(None, refusal.code, refusal.message, refusal.data, status=HTTPStatus.BAD_REQUEST)


def _unsupported(requested: str) -> InboundLadderRejection:
    data = {"supported": list(MODERN_PROTOCOL_VERSIONS), "requested": requested}
    return InboundLadderRejection(types.UNSUPPORTED_PROTOCOL_VERSION, "Unsupported protocol version", data)


def _error(request_id: types.RequestId | None, code: int, message: str, data: object = None, *, status: int) -> Reply:
    error = {"code": code, "message": message} | ({} if data is None else {"data": data})
    return Reply(status, orjson.dumps({"jsonrpc": "2.0", "id": request_id, "error": error}))


def _result(outcome: Outcome) -> types.CallToolResult:
    return types.CallToolResult(
        content=[types.TextContent(type="text", text=outcome.text)],
        structured_content=outcome.structured,
        is_error=outcome.structured is None,
    )


def _version() -> str:
    try:
        return version(NAME)
    except PackageNotFoundError:
        return "0"
