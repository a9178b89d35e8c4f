"""One HTTP request, as far as the door needs it before the body."""

from __future__ import annotations

import re
from collections.abc import MutableMapping
from functools import lru_cache
from typing import Any
from urllib.parse import parse_qs, urlsplit

from adapters.rest.credentials import Headers, cookie

Scope = MutableMapping[str, Any]

_SANE_ID = re.compile(r"[A-Za-z0-9._:+/=@-]{1,128}")
_SANE_HOST = re.compile(r"[A-Za-z0-9._\-\[\]:]{1,255}")


@lru_cache(maxsize=256)
def _is_sane_host(host: str) -> bool:
    return _SANE_HOST.fullmatch(host) is not None


class Request:
    """A request line with its headers.

    Attributes:
        method: Method, in capitals.
        path: Path, percent-decoded.
        query: Query string, as it came.
        headers: Header fields by lower-case name; cookies are joined, of others the last counts.
    """

    __slots__ = ("_public_url", "_scope", "_trusted", "headers", "method", "path", "query")

    def __init__(self, scope: Scope, trusted: frozenset[str], public_url: str) -> None:
        self.method: str = scope["method"]
        self.path: str = scope["path"]
        self.query: bytes = scope.get("query_string", b"")
        fields = scope["headers"]
        self.headers: Headers = dict(fields)
        if len(self.headers) != len(fields) and b"cookie" in self.headers:
            self.headers[b"cookie"] = b"; ".join(value for name, value in fields if name == b"cookie")
        self._scope = scope
        self._trusted = trusted
        self._public_url = public_url

    @property
    def raw_path(self) -> bytes | None:
        """The path before percent-decoding, where the server tells."""
        return self._scope.get("raw_path")

    def header(self, name: bytes) -> str | None:
        """Return a header field as text."""
        value = self.headers.get(name)
        return None if value is None else value.decode("latin-1")

    def text_header(self, name: str) -> str | None:
        """Return a header field by a name that is text, in lower case."""
        return self.header(name.encode("latin-1"))

    def cookie(self, name: str) -> str | None:
        """Return the value of a cookie."""
        return cookie(self.headers, name.encode("latin-1"))

    @property
    def accept(self) -> str:
        """The Accept header; empty when there is none."""
        return self.header(b"accept") or ""

    @property
    def peer(self) -> str:
        """Network address at the other end of the connection."""
        return (self._scope.get("client") or ("",))[0]

    @property
    def address(self) -> str:
        """Network address of the caller: the last one in X-Forwarded-For that no trusted peer vouches for, or X-Real-IP."""
        peer = self.peer
        if peer not in self._trusted:
            return peer
        forwarded = self.headers.get(b"x-forwarded-for") or self.headers.get(b"x-real-ip")
        if forwarded is None:
            return peer
        hops = [hop.strip() for hop in forwarded.decode("latin-1").split(",") if hop.strip()]
        return next((hop for hop in reversed(hops) if hop not in self._trusted), hops[0] if hops else peer)[:64]

    def base_url(self) -> str:
        """Return the address under which the caller reached the server, without a path."""
        return self._public_url or f"{self.scheme}://{self.host}"

    @property
    def scheme(self) -> str:
        """`http` or `https`, as the caller sees it."""
        own: str = self._scope.get("scheme", "http")
        forwarded = self.header(b"x-forwarded-proto")
        if forwarded is None or self.peer not in self._trusted:
            return own
        first = forwarded.partition(",")[0].strip().lower()
        return first if first in ("http", "https") else own

    @property
    def host(self) -> str:
        """Host and port that the caller named."""
        named = self.header(b"host")
        if named is not None and _is_sane_host(named):
            return named
        server = self._scope.get("server") or ("localhost", None)
        return f"{server[0]}:{server[1]}" if server[1] else str(server[0])

    @property
    def request_id(self) -> str | None:
        """The caller's X-Request-Id, when it is fit to be repeated."""
        value = self.header(b"x-request-id")
        return value if value is not None and _SANE_ID.fullmatch(value) else None

    @property
    def query_token(self) -> str | None:
        """The query parameter `token`."""
        values = parse_qs(self.query.decode("latin-1")).get("token") if b"token=" in self.query else None
        return values[0] if values else None

    @property
    def if_match(self) -> str | None:
        """The revision of If-Match, without the quotes around it."""
        value = self.header(b"if-match")
        return None if value is None else value.strip().removeprefix("W/").strip('"')

    @property
    def has_body(self) -> bool:
        """Whether a body comes with the request."""
        return self.headers.get(b"content-length", b"0").strip(b"0") != b"" or b"transfer-encoding" in self.headers

    def is_own_origin(self, origin: str) -> bool:
        """Whether an origin is that of this server."""
        return urlsplit(origin).netloc in (self.host, urlsplit(self.base_url()).netloc)
