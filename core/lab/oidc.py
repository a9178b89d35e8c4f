"""The identity provider, as OpenID Connect lets a server talk to it: authorization code with PKCE."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import orjson
from authlib.oauth2.auth import ClientAuth
from authlib.oauth2.rfc6749 import parameters
from authlib.oauth2.rfc7636 import create_s256_code_challenge  # pyright: ignore[reportUnknownVariableType] - has no types
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet

from core.kernel.clock import MICROSECONDS, Clock
from core.kernel.http import AddressPolicy, OutgoingClient, OutgoingError
from core.kernel.settings import Settings

DISCOVERY = "/.well-known/openid-configuration"
DISCOVERY_US = 3600 * MICROSECONDS
TIMEOUT_SECONDS = 10.0
LEEWAY_SECONDS = 60
ALGORITHMS = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"]
"""How ID tokens may be signed: with a key that only the provider has."""

# The library has no types.
_grant_uri = cast("Callable[..., str]", parameters.prepare_grant_uri)
_token_request = cast("Callable[..., str]", parameters.prepare_token_request)
_challenge = cast("Callable[[str], str]", create_s256_code_challenge)

# The address of the provider is chosen by who runs the server, so it may lie in any network.
_EVERYWHERE = AddressPolicy(("0.0.0.0/0", "::/0"))


class ProviderFailed(Exception):
    """The identity provider cannot be used; the text says what it was asked for."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Who the provider says it is.

    Attributes:
        subject: Id of the user at the provider; never given to another.
        email: Mail address.
        verified: Whether the provider has proved the address.
        names: Names to make a username of, best first.
    """

    subject: str
    email: str
    verified: bool
    names: tuple[str, ...]


class Provider:
    """One identity provider."""

    def __init__(self, settings: Settings, clock: Clock) -> None:
        self._settings = settings
        self._clock = clock
        self._http = OutgoingClient(_EVERYWHERE, seconds=TIMEOUT_SECONDS)
        self._metadata: dict[str, Any] = {}
        self._read_us = -DISCOVERY_US
        self._reading = asyncio.Lock()

    async def stop(self) -> None:
        """Close open connections."""
        await self._http.close()

    async def authorize_url(self, state: str, verifier: str, redirect_uri: str) -> str:
        """Return where a browser begins. Raises ProviderFailed."""
        url = await self._endpoint("authorization_endpoint", "authorization")
        return _grant_uri(
            url,
            self._settings.oidc_client_id,
            "code",
            redirect_uri,
            self._settings.oidc_scopes,
            state,
            code_challenge=_challenge(verifier),
            code_challenge_method="S256",
        )

    async def identify(self, code: str, verifier: str, redirect_uri: str) -> dict[str, Any]:
        """Return what the provider says of the user for whom it issued a code. Raises ProviderFailed."""
        tokens = await self._exchange(code, verifier, redirect_uri)
        subject = await self._id_token_subject(tokens["id_token"]) if isinstance(tokens.get("id_token"), str) else None
        claims = await self._userinfo(str(tokens["access_token"]))
        if subject is not None and claims.get("sub") not in (None, subject):
            raise ProviderFailed("SSO token exchange failed: the ID token is about another user.")
        return claims

    async def _exchange(self, code: str, verifier: str, redirect_uri: str) -> dict[str, Any]:
        url = await self._endpoint("token_endpoint", "token exchange")
        secret = self._settings.oidc_client_secret.get_secret_value()
        auth: Any = ClientAuth(self._settings.oidc_client_id, secret, "client_secret_basic" if secret else "none")
        form = _token_request("authorization_code", "", redirect_uri, code=code, code_verifier=verifier)
        headers = {"Content-Type": "application/x-www-form-urlencoded", "Accept": "application/json"}
        prepared: tuple[str, dict[str, str], str] = auth.prepare("POST", url, headers, form)
        url, headers, body = prepared
        tokens = await self._json("POST", url, headers, "SSO token exchange failed", body.encode())
        if not isinstance(tokens.get("access_token"), str):
            raise ProviderFailed("SSO token exchange failed: the identity provider gave no access token.")
        return tokens

    async def _userinfo(self, token: str) -> dict[str, Any]:
        url = await self._endpoint("userinfo_endpoint", "userinfo")
        return await self._json("GET", url, {"Authorization": f"Bearer {token}"}, "Reading the user information failed")

    async def _id_token_subject(self, token: str) -> str:
        """Return whom an ID token is about, after checking who issued it, for whom, and until when."""
        url = await self._endpoint("jwks_uri", "token exchange")
        keys = await self._json("GET", url, {}, "SSO token exchange failed")
        try:
            checked = jwt.decode(token, KeySet.import_key_set(cast("Any", keys)), algorithms=ALGORITHMS).claims
            now = self._clock.now_us() // MICROSECONDS
            registry = jwt.JWTClaimsRegistry(
                now=now,
                leeway=LEEWAY_SECONDS,
                iss={"essential": True, "values": self._issuers},
                aud={"essential": True, "value": self._settings.oidc_client_id},
                exp={"essential": True},
                sub={"essential": True},
            )
            registry.validate(checked)
        except (JoseError, ValueError, TypeError) as error:
            raise ProviderFailed("SSO token exchange failed: the ID token is not valid.") from error
        return str(checked["sub"])

    @property
    def _issuers(self) -> list[str]:
        configured = self._settings.oidc_issuer_url
        return [configured, configured.rstrip("/"), str(self._metadata.get("issuer", configured))]

    async def _endpoint(self, name: str, purpose: str) -> str:
        metadata = await self._discover()
        url = metadata.get(name)
        if not isinstance(url, str) or not url:
            raise ProviderFailed(f"The identity provider has no {purpose} endpoint.")
        return url

    async def _discover(self) -> dict[str, Any]:
        async with self._reading:
            now = self._clock.now_us()
            if now - self._read_us >= DISCOVERY_US:
                url = self._settings.oidc_issuer_url.rstrip("/") + DISCOVERY
                self._metadata = await self._json("GET", url, {}, "The identity provider does not describe itself")
                self._read_us = now
            return self._metadata

    async def _json(
        self, method: str, url: str, headers: dict[str, str], failure: str, content: bytes | None = None
    ) -> dict[str, Any]:
        """Return the JSON object that the provider answers with. Raises ProviderFailed."""
        try:
            answer = await self._http.request(method, url, headers=headers, content=content)
        except OutgoingError as error:
            raise ProviderFailed(f"{failure}: the identity provider cannot be reached.") from error
        if answer.status != 200:  # noqa: PLR2004 - OK
            raise ProviderFailed(f"{failure}: the identity provider answered {answer.status}.")
        try:
            found: object = orjson.loads(answer.body)
        except ValueError as error:
            raise ProviderFailed(f"{failure}: the identity provider's answer is not JSON.") from error
        if not isinstance(found, dict):
            raise ProviderFailed(f"{failure}: the identity provider's answer is not a JSON object.")
        return cast("dict[str, Any]", found)
