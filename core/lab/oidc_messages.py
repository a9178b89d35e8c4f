"""What is said to an identity provider, and what it signs. Brings cryptography, so only a sign-in loads it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from authlib.oauth2.auth import ClientAuth
from authlib.oauth2.rfc6749 import parameters
from authlib.oauth2.rfc7636 import create_s256_code_challenge  # pyright: ignore[reportUnknownVariableType] - has no types
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet

from core.kernel.settings import Settings

LEEWAY_SECONDS = 60
ALGORITHMS = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"]
"""How ID tokens may be signed: with a key that only the provider has."""

# The library has no types.
_grant_uri = cast("Callable[..., str]", parameters.prepare_grant_uri)
_token_request = cast("Callable[..., str]", parameters.prepare_token_request)
_challenge = cast("Callable[[str], str]", create_s256_code_challenge)


def authorize_url(url: str, settings: Settings, state: str, verifier: str, redirect_uri: str) -> str:
    """Return where a browser begins."""
    return _grant_uri(
        url,
        settings.oidc_client_id,
        "code",
        redirect_uri,
        settings.oidc_scopes,
        state,
        code_challenge=_challenge(verifier),
        code_challenge_method="S256",
    )


def token_request(
    url: str, settings: Settings, code: str, verifier: str, redirect_uri: str
) -> tuple[str, dict[str, str], bytes]:
    """Return address, headers and body of the request that exchanges a code for tokens."""
    secret = settings.oidc_client_secret.get_secret_value()
    auth: Any = ClientAuth(settings.oidc_client_id, secret, "client_secret_basic" if secret else "none")
    form = _token_request("authorization_code", "", redirect_uri, code=code, code_verifier=verifier)
    headers = {"Content-Type": "application/x-www-form-urlencoded", "Accept": "application/json"}
    prepared: tuple[str, dict[str, str], str] = auth.prepare("POST", url, headers, form)
    url, headers, body = prepared
    return url, headers, body.encode()


def subject_of(token: str, keys: dict[str, Any], *, issuers: list[str], client_id: str, now: int) -> str:
    """Return whom an ID token is about, after checking who issued it, for whom, and until when.

    Raises:
        ValueError: It is not valid.
    """
    try:
        claims = jwt.decode(token, KeySet.import_key_set(cast("Any", keys)), algorithms=ALGORITHMS).claims
        registry = jwt.JWTClaimsRegistry(
            now=now,
            leeway=LEEWAY_SECONDS,
            iss={"essential": True, "values": issuers},
            aud={"essential": True, "value": client_id},
            exp={"essential": True},
            sub={"essential": True},
        )
        registry.validate(claims)
    except (JoseError, TypeError) as error:
        raise ValueError("the ID token is not valid") from error
    return str(claims["sub"])
