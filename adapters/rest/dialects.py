"""The house styles of the surfaces, and the only place that knows them.

A dialect says how JSON is written, where a credential is looked for, what a refusal looks like and which pages of other
origins may call. Everything else in this door is the same for all.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from math import ceil

import orjson
from protobuf import DescField, DescFieldValueList, DescFieldValueMessage, DescMessage

from adapters.rest.body import UnsupportedMediaType
from adapters.rest.codec import Style
from adapters.rest.credentials import Found, Headers, api_key, only_bearer, plans_org, plans_token, session
from adapters.rest.descriptors import field_by_name, json_name
from adapters.rest.fault_lists import Given, Lister
from adapters.rest.streams import LINE_BY_LINE, Form
from core.kernel.errors import DomainError, FieldViolation, Internal, PreconditionFailed
from core.kernel.settings import Settings
from gen.busbar.api.v1.error_reason_pb import ErrorReason
from gen.busbar.api.v1.options_pb import CredentialKind, Limit, Rest, Surface

JSON = "application/json"
TEXT = "text/plain; charset=utf-8"

STATUS = {
    "CANCELLED": 499,
    "UNKNOWN": 500,
    "INVALID_ARGUMENT": 400,
    "DEADLINE_EXCEEDED": 504,
    "NOT_FOUND": 404,
    "ALREADY_EXISTS": 409,
    "PERMISSION_DENIED": 403,
    "RESOURCE_EXHAUSTED": 429,
    "FAILED_PRECONDITION": 409,
    "ABORTED": 409,
    "OUT_OF_RANGE": 400,
    "UNIMPLEMENTED": 501,
    "INTERNAL": 500,
    "UNAVAILABLE": 503,
    "DATA_LOSS": 500,
    "UNAUTHENTICATED": 401,
}
"""HTTP status by canonical code."""
STATUS_OF_REASON = {ErrorReason.TOO_LARGE: 413, ErrorReason.UPSTREAM_FAILED: 502}
"""HTTP status by reason, where HTTP tells apart what the codes do not."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What a refusal depends on besides its error.

    Attributes:
        path: Path of the request.
        accept: Its Accept header.
        request: Type of the message it was read as; None where no rpc was found.
        locate: Tells where a field of the message comes from: `path`, `query` or `body`.
        status: Status that the service chose for its refusal.
        given: Returns what it held.
    """

    path: str
    accept: str = ""
    request: DescMessage | None = None
    locate: Callable[[str], str] | None = None
    status: int | None = None
    given: Callable[[], Given] = Given


@dataclass(frozen=True, slots=True)
class Refusal:
    """A refusal on its way out.

    Attributes:
        status: HTTP status.
        message: Sentence for the caller.
        error: What was refused; None where the door itself refused.
    """

    status: int
    message: str
    error: DomainError | None = None


def retry_after(error: DomainError | None) -> str | None:
    """Return the whole seconds after which a new try may succeed, at least one."""
    wait = None if error is None else error.retry_after
    return None if wait is None else str(max(1, ceil(wait)))


Envelope = Callable[[Refusal, Asked], tuple[str, bytes]]
Rate = Callable[[Settings, str, str, str], Limit | None]
"""Tells the rate limit of a call by method, path and address."""


@dataclass(frozen=True, slots=True)
class Cors:
    """Which pages of other origins may call.

    Attributes:
        anyone: Pages of every origin may, without cookies; else those of the configured origins, with cookies.
        methods: Methods they may use.
        headers: Headers they may send; empty allows what they ask for.
        chatty: Answers preflights of every path with a text, and refuses those of foreign origins aloud; no other OPTIONS.
        origins: Returns the origins whose pages may call with credentials.
    """

    anyone: bool = False
    methods: str = "GET, POST, PUT, PATCH, DELETE, OPTIONS"
    headers: str = ""
    chatty: bool = False
    origins: Callable[[Settings], list[str]] = lambda settings: settings.cors_origins


@dataclass(frozen=True, slots=True)
class Dialect:
    """How one surface speaks HTTP.

    Attributes:
        surface: The surface.
        style: How it writes JSON.
        find: Looks for a credential.
        org: Looks for the organisation that the call is for, where credentials leave that open.
        accepts: Kinds of credentials taken where the rpc states none; None for all.
        envelope: Writes a refusal.
        limit: Rate limit of a call for an rpc that states none.
        max_body: Tells the largest body in bytes.
        cors: Which pages of other origins may call.
        invalid: Status of a request whose fields are wrong.
        unsupported: Status of a body whose form is not taken.
        lenient: Reads requests as `lax` does, and looks whether a body is JSON before it minds who sent it.
        echo_request_id: Takes over the caller's X-Request-Id.
        head: Serves HEAD wherever it serves GET.
        both_slashes: Serves each path with and without a slash at the end.
        plain_ok: Tells by Accept whether the text `OK` answers instead of JSON; None where it never does.
        www_authenticate: Tells whether a 401 names the scheme, by path and error.
        form: How streams are written that are no events.
        broken: Writes a refusal within a stream; None where it is written as others are.
        headers: Headers of every answer.
        retry_after: Tells when to come back after a refusal, in seconds.
    """

    surface: Surface
    style: Style
    find: Callable[[Headers], Found]
    accepts: frozenset[CredentialKind] | None
    envelope: Envelope
    limit: Rate
    max_body: Callable[[Settings], int]
    cors: Cors = field(default_factory=Cors)
    invalid: int = 400
    unsupported: int = 415
    lenient: bool = False
    echo_request_id: bool = True
    head: bool = True
    both_slashes: bool = False
    plain_ok: Callable[[str], bool] | None = None
    www_authenticate: Callable[[str, DomainError | None], bool] = lambda _path, _error: False
    form: Form = LINE_BY_LINE
    broken: Envelope | None = None
    headers: tuple[tuple[bytes, bytes], ...] = ()
    org: Callable[[Headers], str | None] = lambda _headers: None
    retry_after: Callable[[DomainError | None], str | None] = retry_after

    def answer_style(self, rest: Rest) -> Style:
        """Return how the answers of an rpc are written: as all of the surface are, unless its options say otherwise."""
        return replace(self.style, nulls=rest.nulls) if rest.nulls or rest.sparse else self.style

    def refusal(self, error: DomainError, asked: Asked) -> Refusal:
        """Return the status and the sentence for an error."""
        return Refusal(self._status(error, asked), self._sentence(error, asked), error)

    def _status(self, error: DomainError, asked: Asked) -> int:
        if asked.status is not None and asked.status >= HTTPStatus.BAD_REQUEST:
            return asked.status
        if error.reason in STATUS_OF_REASON:
            return STATUS_OF_REASON[error.reason]
        if isinstance(error, UnsupportedMediaType):
            return self.unsupported
        if isinstance(error, PreconditionFailed):
            return 412
        status = STATUS.get(error.code, 500)
        return self.invalid if status == HTTPStatus.BAD_REQUEST else status

    def _sentence(self, error: DomainError, asked: Asked) -> str:
        if not error.violations:
            return error.message
        first = error.violations[0]
        name = self.field_name(first.path, asked.request)
        return f"{name}: {first.description}" if name else first.description

    def field_name(self, path: tuple[str | int, ...], message: DescMessage | None) -> str:
        """Return the path of a field in JSON names: `pins[3].pinIndex`."""
        text = ""
        for part in path:
            if isinstance(part, int):
                text += f"[{part}]"
                continue
            found = field_by_name(message, part) if message is not None else None
            name = part if found is None else json_name(found, declared=self.style.declared_names)
            text += f".{name}" if text else name
            message = None if found is None else _inner(found)
        return text


def _inner(found: DescField) -> DescMessage | None:
    """Return the type of the message, or of the messages, in a field."""
    value = found.value
    inner = value.element if isinstance(value, DescFieldValueList) else value
    inner = inner.message if isinstance(inner, DescFieldValueMessage) else inner
    return inner if isinstance(inner, DescMessage) else None


# Envelopes


def _maker_envelope(refusal: Refusal, _asked: Asked) -> tuple[str, bytes]:
    return JSON, orjson.dumps({"error": refusal.message})


TELEMETRY_CODES = {
    401: "UNAUTHORIZED",
    402: "BILLING_LIMIT",
    403: "FORBIDDEN",
    404: "NOT_FOUND",
    409: "CONFLICT",
    412: "CONFLICT",
    429: "RATE_LIMITED",
}
SENTENCE_PATHS = ("/ingest", "/api/ingest", "/api/auth")
"""Where the telemetry surface answers with a sentence in `error`; elsewhere it is a code."""


def _telemetry_envelope(refusal: Refusal, asked: Asked) -> tuple[str, bytes]:
    if any(_below(asked.path, prefix) for prefix in SENTENCE_PATHS):
        code = refusal.message
    elif refusal.error is not None and refusal.error.reason == ErrorReason.STORAGE_UNAVAILABLE:
        code = "DATABASE_ERROR"
    else:
        server = refusal.status >= HTTPStatus.INTERNAL_SERVER_ERROR
        code = TELEMETRY_CODES.get(refusal.status, "INTERNAL_ERROR" if server else "VALIDATION_ERROR")
    return JSON, orjson.dumps({"error": code, "message": refusal.message})


LAB_ROLES = {"admin": "Admin privileges required.", "operator": "Operator privileges required."}
LAB_ENDED = {
    ("lab_token", "unknown"): "Invalid API token.",
    ("lab_token", "revoked"): "Invalid API token.",
    ("lab_token", "expired"): "API token has expired.",
    ("lab_token", "ownerless"): "Token owner not found.",
    ("lab_jwt", "revoked"): "Token has been revoked.",
    ("lab_jwt", "ownerless"): "User not found.",
}


def lab_sentence(error: DomainError) -> str | None:
    """Return what the lab says about a credential or a role; None where the error says it all."""
    if error.reason == ErrorReason.RATE_LIMITED:
        return "Too many requests. Please try again later."
    if error.reason == ErrorReason.CREDENTIAL_MISSING:
        return "Authentication required."
    if "ended" in error.metadata:
        return LAB_ENDED.get((error.metadata["kind"], error.metadata["ended"]), "Invalid or expired token.")
    return LAB_ROLES.get(error.metadata.get("role", ""))


UNEXPECTED = "internal error"
"""What the pipeline says of a failure that nobody foresaw."""


def _lab_envelope(refusal: Refusal, asked: Asked) -> tuple[str, bytes]:
    error = refusal.error
    if error is None:
        detail: object = {404: "Not Found", 405: "Method Not Allowed"}.get(refusal.status, refusal.message)
    elif isinstance(error, UnsupportedMediaType):
        detail = _lab_list(asked).faults((FieldViolation((), error.message, "type"),))
    elif error.violations:
        detail = _lab_list(asked).faults(error.violations)
    elif isinstance(error, Internal) and refusal.message == UNEXPECTED:
        detail = "Internal Server Error"
    else:
        detail = lab_sentence(error) or refusal.message
    return JSON, orjson.dumps({"detail": detail}, default=str)


def _lab_list(asked: Asked) -> Lister:
    return Lister(asked.request, asked.locate, asked.given())


def _plans_envelope(refusal: Refusal, asked: Asked) -> tuple[str, bytes]:
    """Write a text. The command line ends at once at JSON, and signs in again at `invalid_token`, so both are kept for that."""
    error = refusal.error
    if error is not None and "ended" in error.metadata:
        return JSON, _api_error("invalid_token", refusal.status, "Invalid auth token")
    missing = error is not None and error.reason == ErrorReason.CREDENTIAL_MISSING
    message = "no auth header" if missing else refusal.message
    if JSON in asked.accept or (error is not None and error.reason == ErrorReason.LOCAL_MODE):
        return JSON, _api_error("other", refusal.status, message)
    return TEXT, f"{message}\n".encode()


def _plans_broken(refusal: Refusal, _asked: Asked) -> tuple[str, bytes]:
    error = {"type": "other", "status": refusal.status, "msg": refusal.message}
    return JSON, orjson.dumps({"type": "error", "error": error})


def _api_error(kind: str, status: int, message: str) -> bytes:
    return orjson.dumps({"type": kind, "status": int(status), "msg": message})


# Rates


def _limit(requests: int, per: Limit.Per) -> Rate:
    limit = Limit(requests=requests, window_seconds=60, per=per)
    return lambda _settings, _method, _path, _address: limit


def _unlimited(_settings: Settings, _method: str, _path: str, _address: str) -> Limit | None:
    return None


LAB_WINDOW = 60


def _lab_limit(settings: Settings, method: str, path: str, address: str) -> Limit | None:
    """Limit by address, but neither local networks nor the paths that machines call."""
    if path.startswith(("/ws", "/api/v1/ota")) or (method in ("GET", "POST") and path.startswith("/api/v1/datapoints")):
        return None
    if _is_local(address):
        return None
    return Limit(requests=settings.lab.rate_limit_per_minute, window_seconds=LAB_WINDOW, per=Limit.Per.ADDRESS)


def _lab_retry_after(error: DomainError | None) -> str | None:
    """Return the whole window, which controllers of the lab wait, however soon a place in it is free."""
    limited = error is not None and error.reason == ErrorReason.RATE_LIMITED
    return str(LAB_WINDOW) if limited else retry_after(error)


# Not `is_private`, which holds documentation networks too; the loopback of IPv6 is limited.
_LAB_LOCAL = [ipaddress.ip_network(n) for n in ("127.0.0.0/8", "10.0.0.0/8", "192.168.0.0/16", "172.16.0.0/12")]


def _is_local(address: str) -> bool:
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return False
    return any(ip in network for network in _LAB_LOCAL)


# The dialects

LAB_CORS = Cors(
    methods="DELETE, GET, HEAD, OPTIONS, PATCH, POST, PUT",
    chatty=True,
    origins=lambda settings: [*settings.cors_origins, *settings.lab.cors_origins],
)
LAB_POLICY = (
    b"default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; connect-src 'self' ws: wss:; "
    b"frame-ancestors 'none'"
)
LAB_HEADERS = (
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"strict-origin-when-cross-origin"),
    (b"x-xss-protection", b"0"),
    (b"permissions-policy", b"camera=(), microphone=(), geolocation=()"),
    (b"content-security-policy", LAB_POLICY),
    (b"cache-control", b"no-store, no-cache, must-revalidate"),
    (b"pragma", b"no-cache"),
)

DEFAULT = Dialect(
    Surface.MAKER,
    Style(),
    session,
    frozenset({CredentialKind.SESSION}),
    _maker_envelope,
    _limit(300, Limit.Per.CREDENTIAL),
    lambda _settings: 1_048_576,
    www_authenticate=lambda path, _error: _below(path, "/api/mcp") or _below(path, "/api/ha"),
)

DIALECTS = {
    Surface.MAKER: DEFAULT,
    Surface.TELEMETRY: Dialect(
        Surface.TELEMETRY,
        Style(declared_names=True, nulls=False),
        api_key,
        frozenset({CredentialKind.TELEMETRY_KEY, CredentialKind.DEVICE_TOKEN, CredentialKind.SESSION}),
        _telemetry_envelope,
        _unlimited,
        lambda _settings: 5_242_880,
        Cors(anyone=True, methods="GET, POST, PATCH, DELETE, OPTIONS", headers="Content-Type, x-api-key, Authorization"),
    ),
    Surface.LAB: Dialect(
        Surface.LAB,
        Style(declared_names=True, whole_numbers=False, milliseconds=False),
        only_bearer,
        frozenset({CredentialKind.LAB_TOKEN, CredentialKind.LAB_JWT, CredentialKind.SESSION}),
        _lab_envelope,
        _lab_limit,
        lambda _settings: 1_048_576,
        LAB_CORS,
        invalid=422,
        unsupported=422,
        lenient=True,
        echo_request_id=False,
        head=False,
        both_slashes=True,
        www_authenticate=lambda _path, error: error is not None and error.reason == ErrorReason.CREDENTIAL_MISSING,
        headers=LAB_HEADERS,
        retry_after=_lab_retry_after,
    ),
    Surface.PLANS: Dialect(
        Surface.PLANS,
        Style(milliseconds=False),
        plans_token,
        frozenset({CredentialKind.PLANS_TOKEN, CredentialKind.SESSION}),
        _plans_envelope,
        _unlimited,
        lambda settings: settings.plans.body_bytes,
        form=Form("@@PX@@", TEXT, keep_alive="heartbeat", keep_alive_seconds=5.0, waits=True),
        broken=_plans_broken,
        org=plans_org,
    ),
    Surface.SYSTEM: Dialect(
        Surface.SYSTEM,
        Style(declared_names=True, whole_numbers=False, milliseconds=False),
        api_key,
        None,
        _maker_envelope,
        _unlimited,
        lambda _settings: 65_536,
        LAB_CORS,
        echo_request_id=False,
        plain_ok=lambda accept: accept.startswith("text/plain"),
    ),
}

PREFIXES = {
    "/api/v1": Surface.LAB,
    "/api/ingest": Surface.TELEMETRY,
    "/api/sessions": Surface.TELEMETRY,
    "/api/runs": Surface.TELEMETRY,
    "/api/sources": Surface.TELEMETRY,
    "/api/config": Surface.TELEMETRY,
    "/ingest": Surface.TELEMETRY,
    "/api": Surface.MAKER,
    "": Surface.PLANS,
}
"""Whose dialect answers below a path that nothing serves; the longest that fits counts."""


def dialect_of(surface: Surface, served: frozenset[Surface]) -> Dialect:
    """Return the dialect of a surface on a listener that serves some surfaces.

    On one of its own, each surface that shares a path with others answers as its contract alone has it.
    """
    if surface == Surface.SYSTEM and served <= {Surface.SYSTEM, Surface.PLANS}:
        return replace(DIALECTS[surface], plain_ok=_no_json)
    return DIALECTS[surface]


def _no_json(accept: str) -> bool:
    return JSON not in accept


def dialect_at(path: str, surfaces: frozenset[Surface]) -> Dialect:
    """Return the dialect for a path that nothing serves, out of those of some surfaces."""
    fits = [(len(prefix), surface) for prefix, surface in PREFIXES.items() if _below(path, prefix) and surface in surfaces]
    if fits:
        return DIALECTS[max(fits)[1]]
    spoken = sorted(surfaces - {Surface.SYSTEM})
    return DIALECTS[spoken[0]] if spoken else DEFAULT


def _below(path: str, prefix: str) -> bool:
    return path == prefix or path.startswith(f"{prefix}/")
