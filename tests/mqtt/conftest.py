"""A broker, a server that is set to it, and a home that listens."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiomqtt
import pytest

from tests.conftest import Person, Running, Start
from tests.mqtt.broker import Broker, running_broker

WAIT_SECONDS = 60.0


class Home:
    """Everything that stands on the broker, as a home sees it."""

    def __init__(self, client: aiomqtt.Client) -> None:
        self.client = client
        self.retained: dict[str, bytes] = {}
        self.history: list[tuple[str, bytes]] = []
        self._changed = asyncio.Condition()

    async def listen(self) -> None:
        """Take in what is published."""
        async for message in self.client.messages:
            async with self._changed:
                payload = bytes(message.payload)
                self.history.append((message.topic.value, payload))
                if payload:
                    self.retained[message.topic.value] = payload
                else:
                    self.retained.pop(message.topic.value, None)
                self._changed.notify_all()

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until something holds."""
        async with asyncio.timeout(WAIT_SECONDS), self._changed:
            await self._changed.wait_for(condition)

    def config(self, board_id: str) -> dict[str, Any]:
        """Return the discovery message of a board; empty when there is none."""
        return json.loads(self.retained.get(f"homeassistant/device/plynx_{board_id}/config", b"{}"))

    def components(self, board_id: str) -> dict[str, Any]:
        """Return the components of a board."""
        return self.config(board_id).get("cmps", {})

    def text(self, topic: str) -> str | None:
        """Return what stands at a topic."""
        payload = self.retained.get(topic)
        return None if payload is None else payload.decode()


@pytest.fixture
async def broker(tmp_path: Path) -> AsyncIterator[Broker]:
    """A broker on a free port."""
    async with running_broker(tmp_path / "broker") as broker:
        yield broker


@asynccontextmanager
async def listening(broker: Broker) -> AsyncGenerator[Home]:
    """Listen to everything on a broker until the block ends."""
    async with aiomqtt.Client("127.0.0.1", broker.port) as client:
        home = Home(client)
        await client.subscribe("#", qos=1)
        task = asyncio.create_task(home.listen())
        yield home
        task.cancel()


@pytest.fixture
async def home(broker: Broker) -> AsyncIterator[Home]:
    """A home that listens to everything."""
    async with listening(broker) as home:
        yield home


@pytest.fixture
async def busbar(start: Start, broker: Broker) -> Running:
    """A server that is set to the broker."""
    return await start(mqtt={"url": broker.url})


@pytest.fixture
async def announced(busbar: Running, alice: Person, bench: Any, home: Home) -> Any:
    """A board of Alice's that is announced, with its first pin written."""
    client = busbar.client("rest", alice.session)
    await client.call("PinService.WritePin", board_id=bench.id, pin_index=0, value=21.5, label="Temp")
    answer = await client.call("HomeDiscoveryService.SetHomeDiscovery", board_id=bench.id, enabled=True)
    assert answer.enabled is True
    await home.until(lambda: bool(home.components(bench.id)))
    return bench
