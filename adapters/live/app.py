"""The ASGI app for WebSockets: finds the rpc of a path, lets the caller in, and keeps count of open connections."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass, replace
from typing import Any

import structlog
from protobuf import Message, Oneof

from adapters.live.connection import Connection
from adapters.live.frames import Frames, member
from adapters.live.handshake import Handshake
from adapters.live.styles import GOING_DOWN, Style, style_of
from adapters.rest.binding import Binding
from adapters.rest.dialects import DEFAULT, DIALECTS, Dialect
from adapters.rest.request import Request
from adapters.rest.routing import Miss, Router
from core.kernel.call import Call
from core.kernel.errors import DomainError, Internal, NotFound, PermissionDenied
from core.kernel.ids import new_request_id
from core.kernel.pipeline import Platform
from core.kernel.rpc import Rpc
from core.kernel.settings import Settings
from gen.busbar.api.v1.error_reason_pb import ErrorReason
from gen.busbar.api.v1.options_pb import CredentialKind, Socket
from gen.google.api.http_pb import HttpRule

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

log = structlog.get_logger("busbar.live")

FRAME_BYTES = 65_536
"""Largest frame of a socket that states no limit."""

GOODBYE = "the server is going down"

CLOSE_SECONDS = 5.0
"""How long connections may take to say goodbye and clean up when the server goes down."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An rpc as a socket.

    Attributes:
        opening: Makes the opening member from path and query; None for a socket without one.
        max_bytes: Largest frame, in bytes.
    """

    rpc: Rpc
    socket: Socket
    dialect: Dialect
    style: Style
    frames: Frames
    opening: Binding | None
    accepts: frozenset[CredentialKind] | None
    max_bytes: int


class LiveApp:
    """Serves every rpc with a `socket` option."""

    def __init__(self, platform: Platform, settings: Settings) -> None:
        self._platform = platform
        self._settings = settings
        self._trusted = frozenset(settings.trusted_proxies)
        self._origins = frozenset(settings.cors_origins)
        self._router: Router[Endpoint] = Router()
        self._connections: set[Connection] = set()
        self._closing = False
        for rpc in platform.rpcs:
            if rpc.socket is not None:
                for path in (rpc.socket.path, *rpc.socket.additional_paths):
                    self._router.add("GET", path, rpc.name, _endpoint(rpc, rpc.socket, path))

    @property
    def connections(self) -> int:
        """Connections that are open or about to be."""
        return len(self._connections)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        request = _request(scope, self._trusted, self._settings.public_url)
        await receive()
        match = self._router.find("GET", request.path, request.raw_path)
        if isinstance(match, Miss):
            handshake = Handshake(request, DEFAULT, send, request.request_id or new_request_id(), scope)
            await handshake.refuse(NotFound("not found"))
            return
        endpoint = match.target
        call = self._call(request, endpoint)
        handshake = Handshake(request, endpoint.dialect, send, call.request_id, scope)
        try:
            await self._platform.admit(endpoint.rpc, call)
            _check_origin(call)
            opening = _opening(endpoint, match.values, request.query)
        except DomainError as error:
            if endpoint.socket.refuse_by_close:
                await handshake.accept_and_close(endpoint.style.ending(error))
                return
            message = endpoint.opening.request.desc() if endpoint.opening is not None else None
            await handshake.refuse(error, message)
            return
        except Exception:
            log.exception("unexpected failure at the door", rpc=endpoint.rpc.name, request_id=call.request_id)
            await handshake.refuse(Internal("internal error"))
            return
        await self._serve(endpoint, call, opening, handshake, receive)

    async def close_all(self, code: int = GOING_DOWN) -> None:
        """Close every connection and wait, for a bounded time, until their handlers have cleaned up."""
        self._closing = True
        for connection in self._connections:
            connection.end(code, GOODBYE)
        closing = [asyncio.ensure_future(connection.closed.wait()) for connection in self._connections]
        if closing:
            _, late = await asyncio.wait(closing, timeout=CLOSE_SECONDS)
            for waiting in late:
                waiting.cancel()

    async def _serve(
        self, endpoint: Endpoint, call: Call, opening: Message[Any] | None, handshake: Handshake, receive: Receive
    ) -> None:
        connection = Connection(
            endpoint.frames,
            endpoint.style,
            handshake,
            receive,
            socket=endpoint.socket,
            max_bytes=endpoint.max_bytes,
            stall_seconds=2 * self._settings.live.ping_seconds,
        )
        self._connections.add(connection)
        if self._closing:
            connection.end(GOING_DOWN, GOODBYE)
        try:
            answers = await self._platform.invoke(endpoint.rpc, connection.incoming(opening), call)
            await connection.run(answers)
        finally:
            self._connections.discard(connection)
            connection.closed.set()

    def _call(self, request: Request, endpoint: Endpoint) -> Call:
        found = endpoint.dialect.find(request.headers)
        if found is None and (token := request.query_token):
            found = token, "query"
        credential, source = found or (None, "header")
        return Call(
            credential=credential,
            credential_source=source,
            door="live",
            address=request.address,
            accepts=endpoint.accepts,
            default_limit=endpoint.dialect.limit(self._settings, "GET", request.path, request.address),
            request_id=request.request_id or new_request_id(),
            base=request.base_url,
            client_id=f"c{secrets.token_hex(5)}",
            sent_header=request.text_header,
            foreign_origin=self._foreign_origin(request),
        )

    def _foreign_origin(self, request: Request) -> str | None:
        origin = request.header(b"origin")
        if origin is None or origin in self._origins or request.is_own_origin(origin):
            return None
        return origin[:256]


def _check_origin(call: Call) -> None:
    """Refuse a page of another site that comes with the cookie of a user."""
    if call.foreign_origin is not None and call.credential_source == "cookie":
        raise PermissionDenied(
            "requests from this origin are not accepted", reason=ErrorReason.ORIGIN_REFUSED, origin=call.foreign_origin
        )


def _endpoint(rpc: Rpc, socket: Socket, path: str) -> Endpoint:
    dialect = DIALECTS[rpc.surface]
    opening = None
    if socket.open:
        rule = HttpRule(pattern=Oneof(field="get", value=path))
        opening = Binding(replace(rpc, request=member(rpc, socket.open)), rule)
    return Endpoint(
        rpc=rpc,
        socket=socket,
        dialect=dialect,
        style=style_of(rpc.surface),
        frames=Frames(rpc, dialect),
        opening=opening,
        accepts=frozenset(socket.credentials) or dialect.accepts,
        max_bytes=socket.max_frame_bytes or FRAME_BYTES,
    )


def _opening(endpoint: Endpoint, values: tuple[str, ...], query: bytes) -> Message[Any] | None:
    if endpoint.opening is None:
        return None
    return endpoint.frames.request(endpoint.socket.open, endpoint.opening.message(values, query, None))


def _request(scope: Scope, trusted: frozenset[str], public_url: str) -> Request:
    """Read the handshake, which is an HTTP request."""
    scheme = "https" if scope.get("scheme") == "wss" else "http"
    request = Request({**scope, "method": "GET", "scheme": scheme}, trusted, public_url)
    # The server logs the query of its own scope, and a token must not get there.
    if b"token" in request.query:
        scope["query_string"] = b""
    return request
