"""A whole server that holds one thing of each kind, and what must hold after every attack on it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from gen.busbar.api.v1.options_pb import CredentialKind
from tests.conftest import Person, Running
from tests.databases import postgres

__all__ = ["postgres"]

WAIT_SECONDS = 60.0
TRACES = ("Traceback", 'File "', "sqlite", "site-packages")


@dataclass
class Target:
    """A server under attack, and who uses it."""

    busbar: Running
    alice: Person
    board: Any
    key: str
    agent: str

    @property
    def pin(self) -> str:
        """Path of a pin that nobody has written."""
        return f"/api/boards/{self.board.id}/pins/1"

    def user(self, **headers: str) -> httpx.AsyncClient:
        """Return a signed-in user."""
        return self.busbar.http(authorization=f"Bearer {self.alice.session}", **headers)

    def device(self, **headers: str) -> httpx.AsyncClient:
        """Return a device that may send and read."""
        return self.busbar.http(**{"x-api-key": self.key}, **headers)

    async def raw(self, data: bytes) -> bytes:
        """Send bytes as they are and return what comes back until the server closes; nothing when it just hangs up."""
        reader, writer = await asyncio.open_connection("127.0.0.1", int(self.busbar.url.rpartition(":")[2]))
        answer = b""
        try:
            async with asyncio.timeout(WAIT_SECONDS):
                writer.write(data)
                await writer.drain()
                answer = await reader.read()
        except ConnectionError:
            pass
        finally:
            writer.close()
        assert_tells_nothing(answer.decode("latin-1"))
        return answer

    async def is_unharmed(self) -> None:
        """Check that the server answers and that nothing was stored."""
        assert (await self.busbar.http().get("/healthz")).status_code == 200
        pins = await self.user().get(f"/api/boards/{self.board.id}/pins")
        assert pins.json()["pins"] == []
        boards = await self.user().get("/api/boards")
        assert [board["id"] for board in boards.json()["boards"]] == [self.board.id]
        points = await self.device().get("/api/v1/telemetry", params={"from": "1960-01-01", "to": "2100-01-01"})
        assert points.json()["data"] == []


def assert_tells_nothing(text: str) -> None:
    """Check that an answer shows nothing of the code."""
    assert not [trace for trace in TRACES if trace in text]


def refused(answer: httpx.Response, status: int, *members: str) -> None:
    """Check a refusal: its status, the members of its body, and that it tells nothing of the code."""
    assert answer.status_code == status, answer.text
    assert set(answer.json()) == set(members or ("error",))
    assert_tells_nothing(answer.text)


@pytest.fixture
async def target(busbar: Running, alice: Person, bench: Any) -> AsyncIterator[Target]:
    """A server that is checked once the test is over."""
    key = await busbar.key(alice, CredentialKind.TELEMETRY_KEY, "write", "read")
    agent = await busbar.key(alice, CredentialKind.AGENT_KEY)
    target = Target(busbar, alice, bench, key, agent)
    yield target
    await target.is_unharmed()
