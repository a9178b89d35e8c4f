"""Pages of other origins: what they may read and send, and what OPTIONS says."""

from __future__ import annotations

from http import HTTPStatus

from adapters.rest.answers import Answer
from adapters.rest.dialects import DIALECTS, Dialect
from adapters.rest.request import Request
from core.kernel.settings import Settings

Field = tuple[bytes, bytes]

EXPOSED = b"ETag, Location, Retry-After, X-Request-Id, Content-Disposition"


class Origins:
    """Which origins each surface knows."""

    def __init__(self, settings: Settings) -> None:
        self._origins = {dialect.surface: frozenset(dialect.cors.origins(settings)) for dialect in DIALECTS.values()}

    def headers(self, request: Request, dialect: Dialect) -> list[Field]:
        """Return the headers that let a page of another origin read an answer."""
        if dialect.cors.anyone:
            return [(b"access-control-allow-origin", b"*"), (b"access-control-expose-headers", EXPOSED)]
        origin = request.headers.get(b"origin")
        if origin is None:
            return []
        if origin.decode("latin-1") not in self._origins[dialect.surface]:
            return [(b"vary", b"Origin")]
        return [
            (b"access-control-allow-origin", origin),
            (b"access-control-allow-credentials", b"true"),
            (b"access-control-expose-headers", EXPOSED),
            (b"vary", b"Origin"),
        ]

    def preflight(self, request: Request, dialect: Dialect, allowed: tuple[str, ...], answer: Answer) -> None:
        """Answer OPTIONS: what the path allows, and to pages of other origins what they may send."""
        cors = dialect.cors
        if allowed:
            answer.headers.append((b"allow", allow(allowed, dialect).encode()))
        answer.status = HTTPStatus.NO_CONTENT
        origin = request.header(b"origin")
        asked = origin is not None and b"access-control-request-method" in request.headers
        permitted = cors.anyone or origin in self._origins[dialect.surface]
        if asked and cors.chatty:
            answer.status = HTTPStatus.OK if permitted else HTTPStatus.BAD_REQUEST
            answer.content_type = "text/plain; charset=utf-8"
            answer.content = b"OK" if permitted else b"Disallowed CORS origin"
        if permitted or (asked and cors.chatty):
            headers = cors.headers.encode() or request.headers.get(b"access-control-request-headers", b"content-type")
            answer.headers += [
                (b"access-control-allow-methods", cors.methods.encode()),
                (b"access-control-allow-headers", headers),
                (b"access-control-max-age", b"600"),
            ]


def is_preflight(request: Request, dialect: Dialect, allowed: tuple[str, ...]) -> bool:
    """Tell whether OPTIONS has an answer of its own here."""
    if dialect.cors.chatty:
        return b"origin" in request.headers and b"access-control-request-method" in request.headers
    return bool(allowed)


def allow(methods: tuple[str, ...], dialect: Dialect) -> str:
    """Return the methods that a path takes, for the Allow header."""
    head = ("HEAD",) if "GET" in methods and dialect.head else ()
    options = () if dialect.cors.chatty else ("OPTIONS",)
    return ", ".join(sorted({*methods, *head, *options}))
