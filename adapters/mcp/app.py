"""The MCP door: what HTTP asks before the protocol begins, in the order of the contract."""

from __future__ import annotations

import asyncio
import math
import re
from collections.abc import Awaitable, Callable, MutableMapping
from http import HTTPStatus
from importlib import import_module
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import parse_qs

import orjson
import structlog

from adapters.mcp.guard import OriginGuard, accepts_json, bearer, is_json
from adapters.mcp.tools import Toolbox
from core.kernel.call import Call, Principal
from core.kernel.errors import DomainError, ResourceExhausted, Unauthenticated, Unavailable
from core.kernel.ids import new_request_id
from core.kernel.pipeline import Platform
from core.kernel.settings import Settings
from gen.busbar.api.v1.options_pb import CredentialKind

if TYPE_CHECKING:
    from adapters.mcp.protocol import Protocol, Record, Reply

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

log = structlog.get_logger("busbar.mcp")

PATHS: dict[str, frozenset[CredentialKind]] = {
    "/api/mcp/rpc": frozenset({CredentialKind.AGENT_KEY}),
    "/mcp": frozenset(
        {
            CredentialKind.AGENT_KEY,
            CredentialKind.SESSION,
            CredentialKind.TELEMETRY_KEY,
            CredentialKind.LAB_TOKEN,
            CredentialKind.LAB_JWT,
        }
    ),
}
"""Paths of the endpoint, with the kinds of credentials that each takes."""

MAX_BODY_BYTES = 1_048_576
REQUESTS_PER_SECOND = 100
REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")
CHALLENGE = ("www-authenticate", 'Bearer realm="plynx"')


class McpApp:
    """ASGI application (http) of the MCP endpoint. Holds no state between requests and needs no lifespan.

    The query parameter `toolsets` narrows the tools to some toolsets or surfaces, separated by commas; names that nothing has
    choose nothing, so a list of unknown names alone shows no tool.
    """

    def __init__(self, platform: Platform, settings: Settings, record: Record) -> None:
        """Make the tools; `record` notes each call of one.

        Raises:
            BindingError: The tool option of an rpc names fields that do not exist, or two rpcs are the same tool.
        """
        self._platform = platform
        self._settings = settings
        self._record = record
        self._toolbox = Toolbox(platform)
        self._guard = OriginGuard(settings)
        self._protocol: Protocol | None = None
        self._loading = asyncio.Lock()

    async def prepare(self) -> None:
        """Load the protocol library and describe the tools, which takes about a second; else the first request waits for it."""
        await self._loaded()

    async def _loaded(self) -> Protocol:
        async with self._loading:
            if self._protocol is None:
                module = await asyncio.to_thread(import_module, "adapters.mcp.protocol")
                await asyncio.to_thread(self._toolbox.prepare)
                self._protocol = cast("Protocol", module.Protocol(self._platform, self._record, traces=self._settings.traces))
            return self._protocol

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        request = _Request(scope)
        headers: list[tuple[str, str]] = []
        try:
            reply = await self._answer(request, receive)
            status, body = int(reply.status), reply.body
        except _Refusal as refusal:
            status, body, headers = refusal.status, orjson.dumps({"error": str(refusal)}), refusal.headers
        except _Disconnected:
            return
        except Exception:
            # The edge of the door; the caller learns nothing of what failed.
            log.exception("unexpected failure", request_id=request.id)
            status, body = HTTPStatus.INTERNAL_SERVER_ERROR, b'{"error":"internal error"}'
        await _send(send, int(status), body, [*headers, ("x-request-id", request.id)])

    async def _answer(self, request: _Request, receive: Receive) -> Reply:
        kinds = PATHS.get(request.path)
        if kinds is None:
            raise _Refusal(HTTPStatus.NOT_FOUND, "not found")
        if request.method != "POST":
            raise _Refusal(HTTPStatus.METHOD_NOT_ALLOWED, "use POST", ("allow", "POST"))
        self._check_origin(request)
        body = await _read(request, receive)
        call = Call(
            credential=bearer(request.header("authorization")),
            door="mcp",
            address=request.address,
            accepts=kinds,
            request_id=request.id,
            sent_header=request.header,
            base=lambda: self._settings.public_url or f"{request.scheme}://{request.header('host') or ''}",
        )
        principal = await self._identify(call)
        if not accepts_json(request.header("accept")):
            raise _Refusal(HTTPStatus.NOT_ACCEPTABLE, "the answer is application/json, which Accept excludes")
        if not is_json(request.header("content-type")):
            raise _Refusal(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "the body must be application/json")
        protocol = self._protocol or await self._loaded()
        return await protocol.answer(body, request.headers, call, principal, self._toolbox.view(principal, request.toolsets))

    def _check_origin(self, request: _Request) -> None:
        host = request.header("host") or ""
        if not self._guard.admits_origin(request.header("origin"), host):
            raise _Refusal(HTTPStatus.FORBIDDEN, "origin not allowed")
        if not self._guard.admits_host(host):
            raise _Refusal(HTTPStatus.FORBIDDEN, "host not allowed: set public_url to the address that callers use")

    async def _identify(self, call: Call) -> Principal:
        try:
            principal = await self._platform.identify(call)
            self._platform.limiter.check(("mcp", principal.credential_id), REQUESTS_PER_SECOND, 1)
        except Unauthenticated as error:
            raise _Refusal(HTTPStatus.UNAUTHORIZED, error.message, CHALLENGE) from None
        except ResourceExhausted as error:
            raise _Refusal(HTTPStatus.TOO_MANY_REQUESTS, error.message, _retry_after(error)) from None
        except Unavailable as error:
            raise _Refusal(HTTPStatus.SERVICE_UNAVAILABLE, error.message, _retry_after(error)) from None
        return principal


class _Request:
    """What an ASGI scope says of a request."""

    def __init__(self, scope: Scope) -> None:
        self.path: str = scope["path"]
        self.method: str = scope["method"]
        self.scheme: str = scope.get("scheme", "http")
        self.address: str = (scope.get("client") or ("",))[0]
        self.headers = [(name.decode("latin-1").lower(), value.decode("latin-1").strip()) for name, value in scope["headers"]]
        self._first = dict(reversed(self.headers))
        given = self._first.get("x-request-id", "")
        self.id = given if REQUEST_ID.fullmatch(given) else new_request_id()
        names = ",".join(parse_qs(scope.get("query_string", b"").decode("latin-1")).get("toolsets", []))
        self.toolsets = frozenset(name.strip() for name in names.split(",") if name.strip())

    def header(self, name: str) -> str | None:
        """Return the first header of a name."""
        return self._first.get(name)


class _Refusal(Exception):
    """A request that HTTP refuses before the protocol begins."""

    def __init__(self, status: HTTPStatus, message: str, *headers: tuple[str, str]) -> None:
        super().__init__(message)
        self.status = status
        self.headers = list(headers)


class _Disconnected(Exception):
    """The caller left before its body was complete."""


async def _read(request: _Request, receive: Receive) -> bytes:
    length = request.header("content-length") or ""
    if length.isascii() and length.isdigit() and int(length) > MAX_BODY_BYTES:
        raise _too_large()
    body = bytearray()
    while True:
        event = await receive()
        if event["type"] != "http.request":
            raise _Disconnected
        body += event.get("body", b"")
        if len(body) > MAX_BODY_BYTES:
            raise _too_large()
        if not event.get("more_body"):
            return bytes(body)


async def _send(send: Send, status: int, body: bytes, headers: list[tuple[str, str]]) -> None:
    kind = [("content-type", "application/json")] if body else []
    lines = [*kind, ("content-length", str(len(body))), ("cache-control", "no-store"), *headers]
    encoded = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in lines]
    await send({"type": "http.response.start", "status": status, "headers": encoded})
    await send({"type": "http.response.body", "body": body})


def _too_large() -> _Refusal:
    return _Refusal(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"the body may have at most {MAX_BODY_BYTES} bytes")


def _retry_after(error: DomainError) -> tuple[str, str]:
    return "retry-after", str(max(1, math.ceil(error.retry_after or 1)))
