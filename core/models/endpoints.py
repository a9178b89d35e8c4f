"""Providers whose address and key come with the question: a user's own, and the server's where it has one.

One try per question. Addresses that users gave are called through the guard of `core.kernel.http`; those of the operator are
not. No key, prompt or answer is logged or kept.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any, cast

import httpx

from core.kernel.errors import InvalidArgument
from core.kernel.http import AddressPolicy, AddressRefused, GuardedTransport
from core.models.answers import unreadable
from core.models.failures import too_late, translated
from core.models.library import Library, pieces


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An address that speaks the OpenAI protocol.

    Attributes:
        base_url: The address, to which `/chat/completions` is added.
        key: Bearer token; empty sends none.
        headers: Further header fields.
        query: Further parameters of the address.
        trusted: Whether the operator gave the address, so that it is not guarded.
    """

    base_url: str
    key: str = field(default="", repr=False)
    headers: Mapping[str, str] = field(default_factory=dict[str, str], repr=False)
    query: Mapping[str, str] = field(default_factory=dict[str, str])
    trusted: bool = False


class Endpoints:
    """Asks endpoints."""

    def __init__(self, policy: AddressPolicy) -> None:
        self._policy = policy
        self._library = Library()
        self._clients: dict[bool, httpx.AsyncClient] = {}

    async def stream(
        self, endpoint: Endpoint, arguments: Mapping[str, Any], *, first_seconds: float, seconds: float
    ) -> AsyncGenerator[Any]:
        """Answer a conversation in the pieces of the protocol.

        Args:
            endpoint: Whom to ask.
            arguments: Fields of the request, but those that make it a stream.
            first_seconds: Seconds until the first piece.
            seconds: Seconds between two pieces.

        Raises:
            Unavailable: The endpoint rejects the key.
            UpstreamFailed: It cannot be reached, fails, or sends what is no answer.
            DeadlineExceeded: It takes too long.
            ResourceExhausted: It is asked too often; `retry_after` is what it says.
            InvalidArgument: It does not accept the question, does not know the model, or must not be called.
        """
        sdk = await self._library.load()
        client = self._client(sdk, endpoint)
        wanted = {**arguments, "stream": True, "stream_options": {"include_usage": True}}
        if not endpoint.key:
            wanted["extra_headers"] = {"Authorization": sdk.Omit()}
        loop = asyncio.get_running_loop()
        begun = loop.time()
        try:
            async with asyncio.timeout(first_seconds):
                answer = _streamed(await client.chat.completions.create(**wanted))
            left = max(first_seconds - (loop.time() - begun), 0.0)
            async with aclosing(pieces(answer, seconds, left)) as found:
                async for piece in found:
                    yield piece
        except TimeoutError as error:
            raise too_late() from error
        except Exception as error:
            if _is_refused(error):
                raise InvalidArgument("the address of the model provider must not be called") from error
            raise translated(sdk, error, model_was_asked_for=True) from error

    async def stop(self) -> None:
        """Close open connections."""
        for client in self._clients.values():
            await client.aclose()

    def _client(self, sdk: Any, endpoint: Endpoint) -> Any:  # noqa: ANN401 - the library is loaded at the first question
        """Return a client for one question; the connections below it are shared."""
        client = sdk.AsyncOpenAI(
            base_url=endpoint.base_url,
            # The library does not go without a key.
            api_key=endpoint.key or "none",
            timeout=None,
            max_retries=0,
            default_headers=dict(endpoint.headers) or None,
            default_query=dict(endpoint.query) or None,
            http_client=self._connections(trusted=endpoint.trusted),
        )
        # The environment of the server says nothing about the accounts of its users.
        client.organization = client.project = None
        return client

    def _connections(self, *, trusted: bool) -> httpx.AsyncClient:
        client = self._clients.get(trusted)
        if client is None:
            transport = httpx.AsyncHTTPTransport(trust_env=False) if trusted else GuardedTransport(self._policy)
            client = httpx.AsyncClient(transport=transport, timeout=None, follow_redirects=False, trust_env=False)  # noqa: S113
            self._clients[trusted] = client
        return client


def _streamed(answer: Any) -> Any:  # noqa: ANN401 - as above
    """Return an answer that is a stream. Raises UpstreamFailed for another."""
    if not isinstance(answer, AsyncIterator):
        raise unreadable()
    return cast("Any", answer)


def _is_refused(error: BaseException | None) -> bool:
    """Whether the guard refused the address; the library wraps what goes wrong on the way."""
    while error is not None:
        if isinstance(error, AddressRefused):
            return True
        error = error.__cause__
    return False
