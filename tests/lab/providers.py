"""Identity providers in processes or servers of their own: a whole one, and one that misbehaves as it is told."""

from __future__ import annotations

import asyncio
import socket
import sys
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx
import uvicorn
from joserfc import jwt
from joserfc.jwk import RSAKey
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

START_SECONDS = 30


def free_port() -> int:
    """Return a port that nobody uses."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


class WholeProvider:
    """A provider in a process of its own, which checks redirects, secrets and verifiers and signs ID tokens."""

    def __init__(self, url: str) -> None:
        self.url = url

    async def put_user(self, subject: str, **claims: Any) -> None:
        """Let the provider know a user."""
        async with httpx.AsyncClient(base_url=self.url) as http:
            answer = await http.put(f"/users/{subject}", json=claims)
        assert answer.status_code == 204, answer.text

    async def allow(self, url: str, subject: str) -> str:
        """Sign in as a user at the address to which a browser was sent, and return where it is sent back to."""
        return await self._decide(url, {"sub": subject})

    async def deny(self, url: str) -> str:
        """Refuse there, and return where the browser is sent back to."""
        return await self._decide(url, {"action": "deny"})

    async def _decide(self, url: str, form: dict[str, str]) -> str:
        async with httpx.AsyncClient() as http:
            answer = await http.post(url, data=form)
        assert answer.status_code == 302, answer.text
        return answer.headers["location"]


@asynccontextmanager
async def whole_provider() -> AsyncGenerator[WholeProvider]:
    """Run a provider process for as long as the context lasts."""
    port = free_port()
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "oidc_provider_mock", "--port", str(port),
        stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    url = f"http://127.0.0.1:{port}"
    try:
        async with asyncio.timeout(START_SECONDS), httpx.AsyncClient(base_url=url) as http:
            while not await _answers(http):
                assert process.returncode is None
                await asyncio.sleep(0.05)
        yield WholeProvider(url)
    finally:
        process.terminate()
        await process.wait()


async def _answers(http: httpx.AsyncClient) -> bool:
    try:
        return (await http.get("/.well-known/openid-configuration")).status_code == 200
    except httpx.TransportError:
        return False


@dataclass
class Answers:
    """What a misbehaving provider answers.

    Attributes:
        metadata: Members of its description that differ; None takes one away.
        token: Status and answer of the token endpoint.
        userinfo: Status and answer of the userinfo endpoint.
        id_token: Claims of the ID token that differ; None sends no ID token.
        key: What the ID token is signed with; the published key when None.
        described: How often it was asked to describe itself.
        asked: Requests for tokens: header and form.
    """

    metadata: dict[str, Any] = field(default_factory=dict[str, Any])
    token: tuple[int, dict[str, Any]] = (200, {"access_token": "at", "token_type": "Bearer"})
    userinfo: tuple[int, Any] = (200, {"sub": "s1", "email": "ida@lab.local", "email_verified": True, "name": "Ida Lab"})
    id_token: dict[str, Any] | None = None
    key: RSAKey | None = None
    described: int = 0
    asked: list[tuple[str, dict[str, str]]] = field(default_factory=list[tuple[str, dict[str, str]]])


class StrangeProvider:
    """A provider that misbehaves as it is told."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.says = Answers()
        self._key = RSAKey.generate_key(2048, {"kid": "k1"})

    @property
    def app(self) -> Starlette:
        """Its pages."""
        return Starlette(
            routes=[
                Route("/.well-known/openid-configuration", self._describe),
                Route("/token", self._token, methods=["POST"]),
                Route("/userinfo", self._userinfo),
                Route("/keys", self._keys),
            ]
        )

    async def _describe(self, _request: Request) -> Response:
        self.says.described += 1
        whole = {
            "issuer": self.url, "authorization_endpoint": f"{self.url}/authorize", "token_endpoint": f"{self.url}/token",
            "userinfo_endpoint": f"{self.url}/userinfo", "jwks_uri": f"{self.url}/keys",
        }  # fmt: skip
        return JSONResponse({name: value for name, value in {**whole, **self.says.metadata}.items() if value is not None})

    async def _token(self, request: Request) -> Response:
        form = {name: str(value) for name, value in (await request.form()).items()}
        self.says.asked.append((request.headers.get("authorization", ""), form))
        status, answer = self.says.token
        return JSONResponse({**answer, **self._id_token()}, status)

    def _id_token(self) -> dict[str, str]:
        if self.says.id_token is None:
            return {}
        claims = {"iss": self.url, "aud": "lab", "sub": "s1", "exp": int(time.time()) + 600, **self.says.id_token}
        key = self.says.key or self._key
        return {"id_token": jwt.encode({"alg": "RS256", "kid": "k1"}, claims, key)}

    async def _userinfo(self, request: Request) -> Response:
        assert request.headers["authorization"] == "Bearer at"
        status, answer = self.says.userinfo
        return JSONResponse(answer, status)

    async def _keys(self, _request: Request) -> Response:
        return JSONResponse({"keys": [self._key.as_dict(private=False)]})


@asynccontextmanager
async def strange_provider() -> AsyncGenerator[StrangeProvider]:
    """Serve a misbehaving provider for as long as the context lasts."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        sock.listen()
        provider = StrangeProvider(f"http://127.0.0.1:{sock.getsockname()[1]}")
        server = uvicorn.Server(uvicorn.Config(provider.app, lifespan="off", log_config=None))
        task = asyncio.create_task(server.serve(sockets=[sock]))
        try:
            yield provider
        finally:
            server.should_exit = True
            await task
