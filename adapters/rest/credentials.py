"""Where each surface looks for a credential in the headers of a request."""

from __future__ import annotations

import base64
import binascii

import orjson

from adapters.rest.codec import as_object

Headers = dict[bytes, bytes]
"""Header fields of a request by lower-case name."""

Found = tuple[str, str] | None
"""A credential and where it was found: `header` or `cookie`."""

SESSION_COOKIE = b"plynx_session"
PLANS_COOKIE = b"authToken"


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


def session(headers: Headers) -> Found:
    """Find a session: in a bearer header, else in the cookie of browsers."""
    found = bearer(headers)
    if found is None and (value := cookie(headers, SESSION_COOKIE)):
        return value, "cookie"
    return found


def api_key(headers: Headers) -> Found:
    """Find an API key in its own header, else a session."""
    key = headers.get(b"x-api-key")
    return session(headers) if key is None else (key.decode("latin-1").strip(), "header")


def only_bearer(headers: Headers) -> Found:
    """Find the token of a bearer header, and no other scheme."""
    found = headers.get(b"authorization", b"")
    return bearer(headers) if found[:7].lower() == b"bearer " else None


def plans_token(headers: Headers) -> Found:
    """Find the token inside the base64 JSON that the command line sends; a raw token is taken as it is."""
    found = _plans_bearer(headers)
    members = None if found is None else _unpacked(found[0])
    if found is None or members is None:
        return found
    # Without a token inside it is taken whole: a credential that nobody holds.
    return str(members.get("token") or found[0]), found[1]


def plans_org(headers: Headers) -> str | None:
    """Find the organisation that a call is for: inside the same JSON, else in a header beside a raw token."""
    beside = headers.get(b"x-org-id")
    wish = None if beside is None else beside.decode("latin-1").strip()
    found = _plans_bearer(headers)
    members = None if found is None else _unpacked(found[0])
    return wish if members is None else str(members.get("orgId") or wish or "")


def _plans_bearer(headers: Headers) -> Found:
    found = bearer(headers)
    if found is None and (value := cookie(headers, PLANS_COOKIE)):
        return value.removeprefix("Bearer "), "cookie"
    return found


def _unpacked(text: str) -> dict[str, object] | None:
    """Return the members of the JSON object that a bearer is; None for any other text."""
    try:
        content: object = orjson.loads(base64.urlsafe_b64decode(text))
    except (binascii.Error, ValueError):
        return None
    return as_object(content)
