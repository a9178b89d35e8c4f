"""The house styles of the surfaces, and the only place that knows them.

A dialect says how JSON is written, where a credential is looked for, what a refusal looks like and which pages of other
origins may call. Everything else in this door is the same for all.
"""

from __future__ import annotations

import base64
import binascii
import ipaddress
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from math import ceil
from typing import Any

import orjson
from protobuf import DescField, DescFieldValueList, DescFieldValueMessage, DescMessage

from adapters.rest.body import UnsupportedMediaType
from adapters.rest.codec import Style, as_object
from adapters.rest.descriptors import field_by_name, json_name
from core.kernel.errors import DomainError, FieldViolation, PreconditionFailed
from gen.busbar.api.v1.error_reason_pb import ErrorReason
from gen.busbar.api.v1.options_pb import CredentialKind, Limit, Rest, Surface, ext_secret

Headers = dict[bytes, bytes]
"""Header fields of a request by lower-case name."""

JSON = "application/json"
TEXT = "text/plain; charset=utf-8"
SESSION_COOKIE = b"plynx_session"
PLANS_COOKIE = b"authToken"

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
    """

    path: str
    accept: str = ""
    request: DescMessage | None = None
    locate: Callable[[str], str] | None = None
    status: int | None = None


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


Envelope = Callable[[Refusal, Asked], tuple[str, bytes]]
Found = tuple[str, str] | None
"""A credential and where it was found: `header` or `cookie`."""


@dataclass(frozen=True, slots=True)
class Cors:
    """Which pages of other origins may call.

    Attributes:
        anyone: Pages of every origin may, without cookies; else those of the configured origins, with cookies.
        methods: Methods they may use.
        headers: Headers they may send; empty allows what they ask for.
        chatty: Answers preflights with a text, and refuses those of foreign origins aloud.
    """

    anyone: bool = False
    methods: str = "GET, POST, PUT, PATCH, DELETE, OPTIONS"
    headers: str = ""
    chatty: bool = False


@dataclass(frozen=True, slots=True)
class Dialect:
    """How one surface speaks HTTP.

    Attributes:
        surface: The surface.
        style: How it writes JSON.
        find: Looks for a credential.
        accepts: Kinds of credentials taken where the rpc states none; None for all.
        envelope: Writes a refusal.
        limit: Rate limit of a call, by method, path and address, for an rpc that states none.
        max_body: Largest body in bytes.
        cors: Which pages of other origins may call.
        invalid: Status of a request whose fields are wrong.
        echo_request_id: Takes over the caller's X-Request-Id.
        head: Serves HEAD wherever it serves GET.
        both_slashes: Serves each path with and without a slash at the end.
        plain_ok: Answers `OK` instead of JSON to those who accept text only.
        www_authenticate: Tells whether a 401 names the scheme, by path and error.
        mark: What ends a frame of a stream that is neither lines nor events.
    """

    surface: Surface
    style: Style
    find: Callable[[Headers], Found]
    accepts: frozenset[CredentialKind] | None
    envelope: Envelope
    limit: Callable[[str, str, str], Limit | None]
    max_body: int
    cors: Cors = field(default_factory=Cors)
    invalid: int = 400
    echo_request_id: bool = True
    head: bool = True
    both_slashes: bool = False
    plain_ok: bool = False
    www_authenticate: Callable[[str, DomainError | None], bool] = lambda _path, _error: False
    mark: str = "\n"

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
            return 415
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


def retry_after(error: DomainError | None) -> str | None:
    """Return the whole seconds after which a new try may succeed, at least one."""
    wait = None if error is None else error.retry_after
    return None if wait is None else str(max(1, ceil(wait)))


# Credentials


def bearer(headers: Headers) -> Found:
    """Find the token of a bearer header. Any other scheme is a credential too, which nobody holds."""
    value = headers.get(b"authorization")
    if value is None:
        return None
    text = value.decode("latin-1").strip()
    scheme, _, token = text.partition(" ")
    return (token.strip() if scheme.lower() == "bearer" else text), "header"


def cookie(headers: Headers, name: bytes) -> str | None:
    """Return the value of a cookie."""
    for part in headers.get(b"cookie", b"").split(b";"):
        key, _, value = part.strip().partition(b"=")
        if key == name:
            return value.strip(b'"').decode("latin-1")
    return None


def _session(headers: Headers) -> Found:
    found = bearer(headers)
    if found is None and (value := cookie(headers, SESSION_COOKIE)):
        return value, "cookie"
    return found


def _api_key(headers: Headers) -> Found:
    key = headers.get(b"x-api-key")
    return _session(headers) if key is None else (key.decode("latin-1").strip(), "header")


def _only_bearer(headers: Headers) -> Found:
    found = headers.get(b"authorization", b"")
    return bearer(headers) if found[:7].lower() == b"bearer " else None


def _plans_token(headers: Headers) -> Found:
    """Find the token inside the base64 JSON that the command line sends; a raw token is taken as it is."""
    found = bearer(headers)
    if found is None and (value := cookie(headers, PLANS_COOKIE)):
        found = value.removeprefix("Bearer "), "cookie"
    if found is None:
        return None
    try:
        content: object = orjson.loads(base64.urlsafe_b64decode(found[0]))
    except (binascii.Error, ValueError):
        return found
    members = as_object(content)
    return found if members is None else (str(members.get("token", "")), found[1])


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


LAB_TYPES = {
    "required": "missing",
    "string.min_len": "string_too_short",
    "string.max_len": "string_too_long",
    "string.pattern": "string_pattern_mismatch",
    "string.in": "enum",
    "repeated.min_items": "too_short",
    "repeated.max_items": "too_long",
    "json": "json_invalid",
    "type": "model_attributes_type",
}
LAB_BOUNDS = {"gte": "greater_than_equal", "gt": "greater_than", "lte": "less_than_equal", "lt": "less_than"}


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


def _lab_envelope(refusal: Refusal, asked: Asked) -> tuple[str, bytes]:
    violations = refusal.error.violations if refusal.error is not None else ()
    detail: Any = refusal.message
    if refusal.error is None:
        detail = {404: "Not Found", 405: "Method Not Allowed"}.get(refusal.status, refusal.message)
    elif violations:
        detail = [_lab_violation(v, asked) for v in violations]
    elif refusal.error.reason == ErrorReason.MALFORMED_BODY:
        detail = [_lab_malformed(refusal.error)]
    else:
        detail = lab_sentence(refusal.error) or refusal.message
    return JSON, orjson.dumps({"detail": detail}, default=str)


def _lab_malformed(error: DomainError) -> dict[str, object]:
    """Return what the lab says of a body that is no JSON, or no object."""
    offset = error.metadata.get("offset")
    if offset is None:
        return {"type": "model_attributes_type", "loc": ["body"], "msg": error.message, "input": None}
    return {
        "type": "json_invalid",
        "loc": ["body", int(offset)],
        "msg": error.message,
        "input": {},
        "ctx": {"error": error.message},
    }


def _lab_violation(violation: FieldViolation, asked: Asked) -> dict[str, object]:
    where = asked.locate(str(violation.path[0])) if asked.locate is not None and violation.path else "body"
    kind, message = _lab_type(violation), violation.description
    detail = {"type": kind, "loc": [where, *violation.path], "msg": message, "input": _shown(violation, asked.request)}
    if kind == "value_error" and not violation.path:
        # What concerns several fields at once.
        detail |= {"msg": f"Value error, {message}", "ctx": {"error": {}}}
    return detail


def _lab_type(violation: FieldViolation) -> str:
    bound = violation.rule.rpartition(".")[2]
    lower, _, upper = bound.partition("_")
    if upper in LAB_BOUNDS:
        # A rule with two bounds carries the lower one.
        bound = lower if _is_below(violation.value, violation.limit) else upper
    return LAB_TYPES.get(violation.rule) or LAB_BOUNDS.get(bound, "value_error")


def _is_below(value: object, limit: object) -> bool:
    return isinstance(value, int | float) and isinstance(limit, int | float) and value < limit


def _shown(violation: FieldViolation, message: DescMessage | None) -> object:
    """Return what came, unless it may be a secret."""
    for part in violation.path:
        found = field_by_name(message, part) if message is not None and isinstance(part, str) else None
        if found is None:
            continue
        if found.proto.options and found.proto.options[ext_secret]:
            return None
        message = _inner(found)
    return _plain(violation.value)


def _plain(value: object) -> object:
    try:
        orjson.dumps(value)
    except TypeError:
        return str(value)
    return value


def _plans_envelope(refusal: Refusal, asked: Asked) -> tuple[str, bytes]:
    invalid = refusal.error is not None and refusal.error.reason == ErrorReason.CREDENTIAL_INVALID
    if invalid or JSON in asked.accept:
        kind = "invalid_token" if invalid else "other"
        return JSON, orjson.dumps({"type": kind, "status": refusal.status, "msg": refusal.message})
    missing = refusal.error is not None and refusal.error.reason == ErrorReason.CREDENTIAL_MISSING
    return TEXT, f"{'no auth header' if missing else refusal.message}\n".encode()


# Rates


def _limit(requests: int, per: Limit.Per) -> Callable[[str, str, str], Limit | None]:
    limit = Limit(requests=requests, window_seconds=60, per=per)
    return lambda _method, _path, _address: limit


def _unlimited(_method: str, _path: str, _address: str) -> Limit | None:
    return None


_LAB_LIMIT = Limit(requests=300, window_seconds=60, per=Limit.Per.ADDRESS)


def _lab_limit(method: str, path: str, address: str) -> Limit | None:
    """Limit by address, but neither local networks nor the paths that machines call."""
    if path.startswith(("/api/v1/ota", "/ws/")) or (method in ("GET", "POST") and path.startswith("/api/v1/datapoints")):
        return None
    return None if _is_local(address) else _LAB_LIMIT


# Not `is_private`, which holds documentation networks too; the loopback of IPv6 is limited.
_LAB_LOCAL = [ipaddress.ip_network(n) for n in ("127.0.0.0/8", "10.0.0.0/8", "192.168.0.0/16", "172.16.0.0/12")]


def _is_local(address: str) -> bool:
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return False
    return any(ip in network for network in _LAB_LOCAL)


# The dialects

DEFAULT = Dialect(
    Surface.MAKER,
    Style(),
    _session,
    frozenset({CredentialKind.SESSION}),
    _maker_envelope,
    _limit(300, Limit.Per.CREDENTIAL),
    1_048_576,
    www_authenticate=lambda path, _error: _below(path, "/api/mcp") or _below(path, "/api/ha"),
)

DIALECTS = {
    Surface.MAKER: DEFAULT,
    Surface.TELEMETRY: Dialect(
        Surface.TELEMETRY,
        Style(declared_names=True, nulls=False),
        _api_key,
        frozenset({CredentialKind.TELEMETRY_KEY, CredentialKind.DEVICE_TOKEN, CredentialKind.SESSION}),
        _telemetry_envelope,
        _unlimited,
        5_242_880,
        Cors(anyone=True, methods="GET, POST, PATCH, DELETE, OPTIONS", headers="Content-Type, x-api-key, Authorization"),
    ),
    Surface.LAB: Dialect(
        Surface.LAB,
        Style(declared_names=True, whole_numbers=False, milliseconds=False),
        _only_bearer,
        frozenset({CredentialKind.LAB_TOKEN, CredentialKind.LAB_JWT, CredentialKind.SESSION}),
        _lab_envelope,
        _lab_limit,
        1_048_576,
        Cors(methods="DELETE, GET, HEAD, OPTIONS, PATCH, POST, PUT", chatty=True),
        invalid=422,
        echo_request_id=False,
        head=False,
        both_slashes=True,
        www_authenticate=lambda _path, error: error is not None and error.reason == ErrorReason.CREDENTIAL_MISSING,
    ),
    Surface.PLANS: Dialect(
        Surface.PLANS,
        Style(milliseconds=False),
        _plans_token,
        frozenset({CredentialKind.PLANS_TOKEN, CredentialKind.SESSION}),
        _plans_envelope,
        _unlimited,
        268_435_456,
        mark="@@PX@@",
    ),
    Surface.SYSTEM: Dialect(
        Surface.SYSTEM,
        Style(declared_names=True, milliseconds=False),
        _api_key,
        None,
        _maker_envelope,
        _unlimited,
        65_536,
        plain_ok=True,
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


def dialect_at(path: str, surfaces: frozenset[Surface]) -> Dialect:
    """Return the dialect for a path that nothing serves, out of those of some surfaces."""
    fits = [(len(prefix), surface) for prefix, surface in PREFIXES.items() if _below(path, prefix) and surface in surfaces]
    if fits:
        return DIALECTS[max(fits)[1]]
    spoken = sorted(surfaces - {Surface.SYSTEM})
    return DIALECTS[spoken[0]] if spoken else DEFAULT


def _below(path: str, prefix: str) -> bool:
    return path == prefix or path.startswith(f"{prefix}/")
