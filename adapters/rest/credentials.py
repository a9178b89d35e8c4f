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
