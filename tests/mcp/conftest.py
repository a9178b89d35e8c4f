"""The endpoint over fake services, driven without a network."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx
import pytest

from adapters.mcp.app import McpApp
from core.kernel.limits import Limiter
from core.kernel.pipeline import Platform
from core.kernel.settings import Settings
from gen.busbar.api.v1.options_pb import CredentialKind
from tests.mcp.fakes import KEY, READER, SESSION, Agent, FakeBoards, FakeKeys, FakePins, rpcs, unrecorded


@pytest.fixture
def pins() -> FakePins:
    """Pins of the board b1."""
    return FakePins()


@pytest.fixture
def boards() -> FakeBoards:
    """The board b1."""
    return FakeBoards()


@pytest.fixture
def keys() -> FakeKeys:
    """A key that may do everything, one that may read pins, and a session."""
    keys = FakeKeys()
    keys.issue(KEY, CredentialKind.AGENT_KEY)
    keys.issue(READER, CredentialKind.AGENT_KEY, "pins:read")
    keys.issue(SESSION, CredentialKind.SESSION)
    return keys


@pytest.fixture
def platform(pins: FakePins, boards: FakeBoards, keys: FakeKeys) -> Platform:
    """The pipeline over the fakes, without rate limits."""
    return Platform(rpcs(pins, boards), keys, limiter=Limiter(enabled=False))


@pytest.fixture
def app(platform: Platform) -> McpApp:
    """The endpoint of a server that listens on a loopback address."""
    return McpApp(platform, Settings(http="127.0.0.1:8787"), unrecorded)


@pytest.fixture
async def agent(app: McpApp) -> AsyncIterator[Agent]:
    """A caller of the endpoint."""
    transport = httpx.ASGITransport(app, raise_app_exceptions=True)
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8787") as http:
        yield Agent(http)
