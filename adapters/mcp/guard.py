"""Which pages may reach the endpoint, and which requests it can read and answer. Pure functions of headers and settings."""

from __future__ import annotations

from ipaddress import ip_address
from urllib.parse import urlsplit

from core.kernel.settings import Settings

LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})


class OriginGuard:
    """Keeps out pages of other sites, also those that point their own name at this machine.

    A server that listens on a loopback address is meant for this machine alone, so it answers to the names of this machine
    and of its public URL only. Any other server cannot know every name it has; a page of its own is one whose origin is the
    name that the request was sent to.
    """

    def __init__(self, settings: Settings) -> None:
        bound = settings.http.rpartition(":")[0].strip("[]")
        public = urlsplit(settings.public_url)
        self._local = _is_loopback(bound)
        self._names = LOOPBACK_NAMES | {bound, *([public.hostname] if public.hostname else [])}
        self._origins = {_origin(origin) for origin in (*settings.cors_origins, settings.public_url) if origin}

    def admits_host(self, host: str) -> bool:
        """Whether the server answers to a Host header."""
        return not self._local or _name(host) in self._names

    def admits_origin(self, origin: str | None, host: str) -> bool:
        """Whether a page of this origin may call; None is a caller that is no page."""
        if origin is None or _origin(origin) in self._origins:
            return True
        parts = urlsplit(origin)
        if parts.scheme not in ("http", "https"):
            return False
        return parts.hostname in self._names if self._local else parts.netloc.lower() == host.lower()


def accepts_json(accept: str | None) -> bool:
    """Whether an Accept header lets the answer be JSON; the most specific range that covers JSON decides."""
    if not accept:
        return True
    ranges = dict(_range(part) for part in accept.split(","))
    for name in ("application/json", "application/*", "*/*"):
        if name in ranges:
            return ranges[name] > 0
    return False


def is_json(content_type: str | None) -> bool:
    """Whether a body is JSON by its Content-Type; one without any is taken as JSON."""
    if content_type is None:
        return True
    kind = content_type.partition(";")[0].strip().lower()
    return kind == "application/json" or (kind.startswith("application/") and kind.endswith("+json"))


def bearer(authorization: str | None) -> str | None:
    """Return the token of an Authorization header; None for any other scheme."""
    scheme, _, token = (authorization or "").partition(" ")
    return token.strip() or None if scheme.lower() == "bearer" else None


def _range(part: str) -> tuple[str, float]:
    name, *parameters = (piece.strip().lower() for piece in part.split(";"))
    weight = next((parameter[2:] for parameter in parameters if parameter.startswith("q=")), "1")
    try:
        return name, float(weight)
    except ValueError:
        return name, 1.0


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _name(host: str) -> str:
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


def _origin(url: str) -> str:
    return url.strip().rstrip("/").lower()
