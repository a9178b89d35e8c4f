"""The REST door: a raw ASGI app made from the descriptors.

It turns a request into a message and a call, runs them through the pipeline and writes the answer, each in the dialect of
the rpc's surface. Order of checks: path and method, length of the body, credential, rate, origin and scope, media type,
body, and then what the service says.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping, MutableMapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any
from uuid import uuid4

import structlog
from protobuf import Message

from adapters.rest import body, docs
from adapters.rest.answers import Answer, Codec, cookie_header
from adapters.rest.binding import Binding, Payload
from adapters.rest.body import Disconnected, Receive, UnsupportedMediaType
from adapters.rest.cors import Origins, allow, is_preflight
from adapters.rest.dialects import DIALECTS, JSON, Asked, Dialect, Refusal, dialect_at, dialect_of
from adapters.rest.forms import Piece, form_of, pieces
from adapters.rest.json_text import loads
from adapters.rest.request import Request, Scope
from adapters.rest.routing import Match, Miss, Router
from adapters.rest.streams import Outgoing, Send, chunked, lines
from core.kernel.call import Call
from core.kernel.errors import DomainError, Internal, PermissionDenied, Unauthenticated
from core.kernel.ids import new_request_id
from core.kernel.pipeline import Platform
from core.kernel.rpc import PATH_VARIABLE, BindingError, Rpc, verb_and_path
from core.kernel.settings import Settings
from core.kernel.validation import validate
from gen.busbar.api.v1.error_reason_pb import ErrorReason
from gen.busbar.api.v1.options_pb import CredentialKind, Limit, Multipart, Surface
from gen.google.api.http_pb import HttpRule

log = structlog.get_logger("busbar.rest")

AsgiApp = Callable[[Scope, Receive, Send], Awaitable[None]]
Field = tuple[bytes, bytes]

NOBODY = (None, "header")
SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
PROTOBUF = ("application/protobuf", "application/x-protobuf")
BODILESS = frozenset({HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED})


@dataclass(frozen=True, slots=True, eq=False)
class Endpoint:
    """One HTTP rule of one rpc, ready to be served.

    Attributes:
        instead: What serves a request whose boolean field of that name is true.
    """

    rpc: Rpc
    binding: Binding
    dialect: Dialect
    codec: Codec
    accepts: frozenset[CredentialKind] | None
    max_body: int
    has_body: bool
    success: int
    no_store: bool
    query_token: bool
    form: Multipart | None
    instead: dict[str, Endpoint] = field(default_factory=dict[str, "Endpoint"])


class RestApp:
    """Serves every rpc that has an HTTP rule.

    `extra_routes` hands paths to other ASGI apps, before anything else: a path that ends with `/*` stands for all below it.
    `extra_paths` are OpenAPI path items that describe them.
    """

    def __init__(
        self,
        platform: Platform,
        settings: Settings,
        *,
        surfaces: set[Surface] | None = None,
        extra_routes: Mapping[str, AsgiApp] | None = None,
        extra_paths: Mapping[str, Any] | None = None,
    ) -> None:
        self._platform = platform
        self._surfaces = frozenset(surfaces or DIALECTS) | {Surface.SYSTEM}
        self._settings = settings
        self._origins = frozenset(settings.cors_origins)
        self._cors = Origins(settings)
        self._trusted = frozenset(settings.trusted_proxies)
        self._public_url = settings.public_url.rstrip("/")
        self.rpcs = [rpc for rpc in platform.rpcs if rpc.surface in self._surfaces]
        self._router: Router[Endpoint] = Router()
        self._endpoints: dict[tuple[str, str], Endpoint] = {}
        for rpc in self.rpcs:
            for rule in rpc.http:
                self._add(rpc, rule)
        extra = {**docs.routes(self.rpcs, settings, extra_paths), **(extra_routes or {})}
        self._exact = {path: app for path, app in extra.items() if not path.endswith("/*")}
        self._below = {path[:-1]: app for path, app in extra.items() if path.endswith("/*")}

    def _add(self, rpc: Rpc, rule: HttpRule) -> None:
        dialect = dialect_of(rpc.surface, self._surfaces)
        method, path = verb_and_path(rule)
        credentials = frozenset(rpc.rest.credentials)
        endpoint = Endpoint(
            rpc=rpc,
            binding=Binding(rpc, rule, lenient=dialect.lenient),
            dialect=dialect,
            codec=Codec(rpc, rule, dialect),
            accepts=credentials or dialect.accepts,
            max_body=rpc.rest.max_body_bytes or dialect.max_body(self._settings),
            has_body=bool(rule.body) or rpc.rest.raw_body,
            success=rpc.rest.success or int(HTTPStatus.OK),
            no_store=rpc.rest.no_store,
            query_token=rpc.rest.query_token,
            form=form_of(rpc, rule),
        )
        if rpc.rest.when:
            _join(self._endpoints.get((method, _unnamed(path))), endpoint)
            return
        self._endpoints[method, _unnamed(path)] = endpoint
        for verb in (method, *rpc.rest.method_aliases):
            for spelling in (path, f"{path}/") if dialect.both_slashes else (path,):
                self._router.add(verb, spelling, rpc.name, endpoint)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one HTTP request."""
        path: str = scope["path"]
        app = self._exact.get(path) or (self._mounted(path) if self._below else None)
        if app is not None:
            await app(scope, receive, send)
            return
        request = Request(scope, self._trusted, self._public_url)
        method = request.method
        match = self._router.find(method, path, request.raw_path)
        if method == "HEAD" and isinstance(match, Miss):
            head = self._router.find("GET", path, request.raw_path)
            if isinstance(head, Match) and head.target.dialect.head:
                match, send = head, _without_body(send)
        if isinstance(match, Miss):
            await self._miss(request, match, send)
            return
        await _Exchange(self, match.target, request, receive, send).run(match.values)

    def _mounted(self, path: str) -> AsgiApp | None:
        return next((app for start, app in self._below.items() if path.startswith(start)), None)

    async def _miss(self, request: Request, miss: Miss[Endpoint], send: Send) -> None:
        dialect = dialect_at(request.path, self._surfaces) if miss.near is None else miss.near.dialect
        answer = Answer(HTTPStatus.NOT_FOUND, self.request_id(request, dialect), self.headers(request, dialect))
        if request.method == "OPTIONS" and is_preflight(request, dialect, miss.allowed):
            self._cors.preflight(request, dialect, miss.allowed, answer)
            await answer.send(send)
            return
        refusal = self._missed(request, miss, dialect, answer)
        answer.status = refusal.status
        answer.content_type, answer.content = dialect.envelope(refusal, Asked(request.path, request.accept))
        await answer.send(send if request.method != "HEAD" else _without_body(send))

    def _missed(self, request: Request, miss: Miss[Endpoint], dialect: Dialect, answer: Answer) -> Refusal:
        """Return the refusal of a request that nothing serves; it counts like others against the caller's address."""
        address = request.address
        limit = dialect.limit(self._settings, request.method, request.path, address)
        if limit is not None and limit.per == Limit.Per.ADDRESS:
            try:
                self._platform.count("rest", limit, address)
            except DomainError as error:
                answer.headers += _waiting(dialect, error)
                return dialect.refusal(error, Asked(request.path, request.accept))
        if not miss.allowed:
            return Refusal(HTTPStatus.NOT_FOUND, "not found")
        allowed = allow(miss.allowed, dialect)
        answer.headers.append((b"allow", allowed.encode()))
        return Refusal(HTTPStatus.METHOD_NOT_ALLOWED, f"method not allowed, use {allowed}")

    def headers(self, request: Request, dialect: Dialect) -> list[Field]:
        """Return the headers that every answer of a surface has."""
        return [*dialect.headers, *self._cors.headers(request, dialect)]

    def request_id(self, request: Request, dialect: Dialect) -> str:
        """Return the id of a request: the caller's, or a fresh one."""
        if not dialect.echo_request_id:
            return str(uuid4())
        return (b"x-request-id" in request.headers and request.request_id) or new_request_id()

    def call(self, request: Request, endpoint: Endpoint) -> Call:
        """Return the call that a request makes."""
        dialect, headers = endpoint.dialect, request.headers
        found = dialect.find(headers)
        if found is None and endpoint.query_token and (token := request.query_token):
            found = token, "query"
        credential, source = found or NOBODY
        address = request.address
        return Call(
            credential=credential,
            credential_source=source,
            org_wish=dialect.org(headers),
            door="rest",
            address=address,
            accepts=endpoint.accepts,
            default_limit=dialect.limit(self._settings, request.method, request.path, address),
            request_id=self.request_id(request, dialect),
            idempotency_key=request.header(b"idempotency-key") if b"idempotency-key" in headers else None,
            if_match=request.if_match if b"if-match" in headers else None,
            base=request.base_url,
            sent_cookie=request.cookie,
            sent_header=request.text_header,
        )

    def check_origin(self, request: Request, call: Call) -> None:
        """Refuse a change that a page of another site makes with the cookie of a user.

        Raises:
            PermissionDenied: The origin is neither the server's own nor a configured one.
        """
        origin = request.header(b"origin")
        if origin is None or call.credential_source != "cookie" or request.method in SAFE:
            return
        if origin not in self._origins and not request.is_own_origin(origin):
            raise PermissionDenied(
                "requests from this origin are not accepted", reason=ErrorReason.ORIGIN_REFUSED, origin=origin[:256]
            )

    @property
    def platform(self) -> Platform:
        """The pipeline."""
        return self._platform


class _Exchange:
    """One request that has found its rpc."""

    __slots__ = ("_app", "_body", "_call", "_endpoint", "_form_query", "_receive", "_request", "_send", "_values")

    def __init__(self, app: RestApp, endpoint: Endpoint, request: Request, receive: Receive, send: Send) -> None:
        self._app = app
        self._endpoint = endpoint
        self._request = request
        self._receive = receive
        self._send = send
        self._call = app.call(request, endpoint)
        self._values: tuple[str, ...] = ()
        self._body: Payload | None = None
        self._form_query = b""

    async def run(self, values: tuple[str, ...]) -> None:
        """Serve the request; every failure becomes an answer."""
        self._values = values
        try:
            await self._serve(values)
        except Disconnected:
            return
        except DomainError as error:
            await self._refuse(error)
        except Exception:
            log.exception("unexpected failure at the door", rpc=self._endpoint.rpc.name, request_id=self._call.request_id)
            await self._refuse(Internal("internal error"))

    async def _serve(self, values: tuple[str, ...]) -> None:
        endpoint, request, call = self._endpoint, self._request, self._call
        rpc, platform = endpoint.rpc, self._app.platform
        if endpoint.has_body:
            body.check_length(request.header(b"content-length"), endpoint.max_body)
        await self._admit()
        if b"origin" in request.headers:
            self._app.check_origin(request, call)
        if rpc.client_streams:
            message: Any = self._messages(values)
        else:
            payload = self._body = await self._payload() if endpoint.has_body else None
            if payload is not None and endpoint.binding.raw:
                call.raw = payload.data
            message = endpoint.binding.message(values, self._query(), payload)
            endpoint.binding.take_headers(message, request.headers)
            if endpoint.instead:
                rpc, message = self._chosen(message, values, payload)
        if rpc.server_streams and request.method == "HEAD":
            await self._head_of_stream()
            return
        answer = await platform.invoke(rpc, message, call)
        if rpc.server_streams:
            await self._stream(answer)
        else:
            await self._answer(answer)

    async def _admit(self) -> None:
        endpoint = self._endpoint
        try:
            await self._app.platform.admit(endpoint.rpc, self._call)
        except (Unauthenticated, PermissionDenied):
            # Where the original looks at bodies first, one that is no JSON at all is told before who may not send it.
            if endpoint.dialect.lenient and endpoint.has_body and endpoint.binding.reads_json:
                payload = await self._payload()
                if payload.data and not payload.binary:
                    loads(payload.data)
            raise

    def _chosen(self, message: Message[Any], values: tuple[str, ...], payload: Payload | None) -> tuple[Rpc, Message[Any]]:
        """Return the rpc that a request asks for among those of its path, and its message."""
        for name, endpoint in self._endpoint.instead.items():
            if getattr(message, name):
                # Here, so that what is wrong is named as the documented request names it.
                validate(message)
                self._endpoint, self._call.admitted = endpoint, endpoint.rpc
                return endpoint.rpc, endpoint.binding.message(values, self._query(), payload)
        return self._endpoint.rpc, message

    async def _head_of_stream(self) -> None:
        """Answer HEAD without the service: a stream may never end."""
        answer = self._started(HTTPStatus.OK)
        answer.content_type = self._endpoint.codec.framing(self._request.accept).content_type(None)
        await answer.send(self._send)

    def _query(self) -> bytes:
        """Return the query string; a browser that comes back to a stream resumes after the last event that it saw."""
        field = self._endpoint.binding.resume
        last = self._request.headers.get(b"last-event-id") if field is not None else None
        if last is None or field is None:
            return _joined(self._request.query, self._form_query) if self._form_query else self._request.query
        return self._request.query + b"&" + field.encode() + b"=" + last.replace(b"&", b"%26")

    async def _payload(self) -> Payload:
        if self._endpoint.form is not None:
            parts = [piece async for piece in self._pieces(self._endpoint.form)]
            self._form_query = parts[-1].query
            return Payload(b"".join(piece.data for piece in parts), parts[-1].content_type)
        content_type, inflate = self._media_type()
        data = await body.read(self._receive, self._endpoint.max_body, inflate=inflate)
        return Payload(data, content_type, content_type.startswith(PROTOBUF))

    def _media_type(self) -> tuple[str, bool]:
        """Return the Content-Type of the body and whether it is compressed.

        Raises:
            UnsupportedMediaType: The operation does not take it.
        """
        request, binding = self._request, self._endpoint.binding
        headers = request.headers
        if headers.get(b"content-type") == b"application/json" and b"content-encoding" not in headers:
            return JSON, False
        content_type = request.header(b"content-type") or ""
        kind = content_type.partition(";")[0].strip().lower()
        known = kind in ("", JSON, *PROTOBUF) or kind.endswith("+json")
        streams = self._endpoint.rpc.client_streams and kind == "application/x-ndjson"
        if not (known or streams or binding.raw or binding.opaque) and request.has_body:
            raise UnsupportedMediaType(f"content type {kind[:80]} is not supported, use {JSON}")
        return (content_type if binding.opaque else kind), body.inflates(request.header(b"content-encoding"))

    async def _messages(self, values: tuple[str, ...]) -> AsyncIterator[Message[Any]]:
        """Yield a message for each chunk of an opaque body, or for each line of JSON."""
        binding, query = self._endpoint.binding, self._request.query
        if self._endpoint.form is not None:
            async for piece in self._pieces(self._endpoint.form):
                yield binding.message(values, _joined(query, piece.query), Payload(piece.data, piece.content_type))
            return
        content_type, inflate = self._media_type()
        chunks = body.chunks(self._receive, self._endpoint.max_body, inflate=inflate)
        async for part in chunked(chunks) if binding.opaque else lines(chunks):
            yield binding.message(values, query, Payload(part, content_type))

    def _pieces(self, form: Multipart) -> AsyncIterator[Piece]:
        """Return the pieces of the file in a form."""
        inflate = body.inflates(self._request.header(b"content-encoding"))
        chunks = body.chunks(self._receive, self._endpoint.max_body, inflate=inflate)
        return pieces(chunks, self._request.header(b"content-type") or "", form)

    async def _answer(self, message: Message[Any]) -> None:
        endpoint, call = self._endpoint, self._call
        answer = self._started(call.status or endpoint.success)
        if call.location is not None:
            answer.status = call.status or HTTPStatus.FOUND
            answer.headers.append((b"location", call.location.encode("ascii", "ignore")))
        elif answer.status not in BODILESS:
            answer.content_type, answer.content = endpoint.codec.encode(message, self._request.accept)
        if endpoint.codec.revised:
            answer.headers.append((b"etag", endpoint.codec.etag(message)))
        if b"if-none-match" in self._request.headers:
            self._leave_out(answer, self._request.headers[b"if-none-match"])
        await answer.send(self._send)

    def _leave_out(self, answer: Answer, known: bytes) -> None:
        """Send no body to a caller who has the present one, as If-None-Match tells."""
        etag = next((value for name, value in answer.headers if name == b"etag"), None)
        if etag is None or self._request.method not in ("GET", "HEAD") or answer.status != HTTPStatus.OK:
            return
        tags = [tag.strip().removeprefix(b"W/") for tag in known.split(b",")]
        if etag in tags or b"*" in tags:
            answer.status, answer.content_type, answer.content = HTTPStatus.NOT_MODIFIED, "", b""

    async def _stream(self, messages: AsyncGenerator[Message[Any], None]) -> None:
        call = self._call

        def start(content_type: str) -> MutableMapping[str, Any]:
            answer = self._started(call.status or HTTPStatus.OK)
            answer.content_type = content_type
            if not answer.has(b"cache-control"):
                answer.headers.append((b"cache-control", b"no-store"))
            answer.headers.append((b"x-accel-buffering", b"no"))
            return answer.start(length=None)

        framing = self._endpoint.codec.framing(self._request.accept)
        await Outgoing(messages, framing, self._send, start, self._broken).run(self._receive)

    def _started(self, status: int) -> Answer:
        """Return an answer with what the service and its options ask for."""
        app, call, endpoint = self._app, self._call, self._endpoint
        answer = Answer(status, call.request_id, app.headers(self._request, endpoint.dialect))
        if endpoint.no_store and not answer.has(b"cache-control"):
            answer.headers.append((b"cache-control", b"no-store"))
        for name, value in call.headers:
            answer.headers.append((name.lower().encode("latin-1"), value.encode("latin-1")))
        for cookie in call.cookies:
            answer.headers.append((b"set-cookie", cookie_header(cookie, secure=call.base_url.startswith("https:"))))
        return answer

    def _envelope(self, error: DomainError) -> tuple[Refusal, str, bytes]:
        endpoint, call = self._endpoint, self._call
        asked = Asked(
            self._request.path,
            self._request.accept,
            endpoint.binding.request.desc(),
            endpoint.binding.place,
            status=call.status,
            given=lambda: endpoint.binding.given(self._values, self._request.query, self._body),
        )
        refusal = endpoint.dialect.refusal(error, asked)
        return refusal, *endpoint.dialect.envelope(refusal, asked)

    def _broken(self, error: DomainError) -> bytes:
        dialect = self._endpoint.dialect
        refusal, _, content = self._envelope(error)
        return content if dialect.broken is None else dialect.broken(refusal, Asked(self._request.path))[1]

    async def _refuse(self, error: DomainError) -> None:
        dialect = self._endpoint.dialect
        refusal, content_type, content = self._envelope(error)
        answer = Answer(refusal.status, self._call.request_id, self._app.headers(self._request, dialect))
        answer.content_type, answer.content = content_type, content
        if refusal.status == HTTPStatus.UNAUTHORIZED and dialect.www_authenticate(self._request.path, error):
            answer.headers.append((b"www-authenticate", b"Bearer"))
        answer.headers += _waiting(dialect, error)
        await answer.send(self._send)


def _waiting(dialect: Dialect, error: DomainError) -> list[Field]:
    wait = dialect.retry_after(error)
    return [] if wait is None else [(b"retry-after", wait.encode())]


def _unnamed(path: str) -> str:
    """Return a path template without the names of its variables, which two rpcs of one path may call differently."""
    return PATH_VARIABLE.sub("{}", path)


def _join(first: Endpoint | None, other: Endpoint) -> None:
    """Let an rpc serve the path of another one when a field of its request says so.

    Raises:
        BindingError: There is no other one, or a caller who is admitted to it is not admitted to this rpc as well.
    """
    rpc, when = other.rpc, other.rpc.rest.when
    if first is None or when not in {f.name for f in first.rpc.request.desc().fields}:
        raise BindingError(f"{rpc.name} wants to serve when {when}, but no rpc before it has such a request on that path")
    same = (first.rpc.access, first.rpc.limits, first.accepts, first.max_body) == (
        rpc.access,
        rpc.limits,
        other.accepts,
        other.max_body,
    )
    if not same:
        raise BindingError(f"{rpc.name} and {first.rpc.name} serve one path, but do not admit the same calls")
    first.instead[when] = other


def _joined(query: bytes, further: bytes) -> bytes:
    return b"&".join(part for part in (query, further) if part)


def _without_body(send: Send) -> Send:
    async def head(message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.body":
            message = {**message, "body": b""}
        await send(message)

    return head
