"""The identity provider, as OpenID Connect lets a server talk to it: authorization code with PKCE."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any, cast

import orjson

from core.kernel.clock import MICROSECONDS, Clock
from core.kernel.http import AddressPolicy, OutgoingClient, OutgoingError
from core.kernel.settings import Settings

DISCOVERY = "/.well-known/openid-configuration"
DISCOVERY_US = 3600 * MICROSECONDS
TIMEOUT_SECONDS = 10.0

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
        from core.lab import oidc_messages  # noqa: PLC0415 - brings cryptography, which takes 12 MiB

        url = await self._endpoint("authorization_endpoint", "authorization")
        return oidc_messages.authorize_url(url, self._settings, state, verifier, redirect_uri)

    async def identify(self, code: str, verifier: str, redirect_uri: str) -> dict[str, Any]:
        """Return what the provider says of the user for whom it issued a code. Raises ProviderFailed."""
        tokens = await self._exchange(code, verifier, redirect_uri)
        subject = await self._id_token_subject(tokens["id_token"]) if isinstance(tokens.get("id_token"), str) else None
        claims = await self._userinfo(str(tokens["access_token"]))
        if subject is not None and claims.get("sub") not in (None, subject):
            raise ProviderFailed("SSO token exchange failed: the ID token is about another user.")
        return claims

    async def _exchange(self, code: str, verifier: str, redirect_uri: str) -> dict[str, Any]:
        from core.lab import oidc_messages  # noqa: PLC0415 - brings cryptography, which takes 12 MiB

        url = await self._endpoint("token_endpoint", "token exchange")
        url, headers, body = oidc_messages.token_request(url, self._settings, code, verifier, redirect_uri)
        tokens = await self._json("POST", url, headers, "SSO token exchange failed", body)
        if not isinstance(tokens.get("access_token"), str):
            raise ProviderFailed("SSO token exchange failed: the identity provider gave no access token.")
        return tokens

    async def _userinfo(self, token: str) -> dict[str, Any]:
        url = await self._endpoint("userinfo_endpoint", "userinfo")
        return await self._json("GET", url, {"Authorization": f"Bearer {token}"}, "Reading the user information failed")

    async def _id_token_subject(self, token: str) -> str:
        """Return whom a valid ID token is about. Raises ProviderFailed."""
        from core.lab import oidc_messages  # noqa: PLC0415 - brings cryptography, which takes 12 MiB

        url = await self._endpoint("jwks_uri", "token exchange")
        keys = await self._json("GET", url, {}, "SSO token exchange failed")
        now = self._clock.now_us() // MICROSECONDS
        client = self._settings.oidc_client_id
        try:
            return oidc_messages.subject_of(token, keys, issuers=self._issuers, client_id=client, now=now)
        except ValueError as error:
            raise ProviderFailed("SSO token exchange failed: the ID token is not valid.") from error

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
