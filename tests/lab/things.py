"""Things of a lab that several tests need."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx

from core.lab.effects import Effects
from core.lab.event_directory import EventDirectory
from core.lab.hooks import Webhooks
from core.lab.log_book import LogBook
from core.lab.points_watch import PointsWatch
from core.lab.readings import Readings
from core.lab.rule_engine import RuleEngine
from core.signals.model import Column
from core.signals.service import Signals
from tests.conftest import Person, Running

WAIT_SECONDS = 60.0


async def measure(busbar: Running, owner: Person, value: object, at_us: int | None = None) -> None:
    """Store a point of the metric `temp` of the source `rig-1`, as telemetry does."""
    at_us = busbar.clock.now_us() if at_us is None else at_us
    await busbar.app.signals.write(owner.org_id, [Column("rig-1", "temp", [at_us], [value])])  # pyright: ignore[reportArgumentType] - any JSON value


@dataclass
class Worker:
    """What stores points and carries out what follows from them: a server, or one more process on its database."""

    signals: Signals
    effects: Effects

    @classmethod
    def of(cls, busbar: Running) -> Worker:
        """Return that of a server."""
        return cls(busbar.app.signals, busbar.app.found.part(Effects))

    async def see(self, owner: Person, value: float, at_us: int = 1) -> None:
        """Store a point of the metric `temp` of the source `rig-1`, and wait until what follows from it was tried."""
        written = await self.signals.write(owner.org_id, [Column("rig-1", "temp", [at_us], [value])])
        await self.effects.settled(written.notes)


@asynccontextmanager
async def another_worker(busbar: Running) -> AsyncGenerator[Worker]:
    """Run one more process's part on the database of a server."""
    database, clock, readings = busbar.app.database, busbar.clock, Readings()
    signals = Signals(database, lambda _events: None, clock)
    hooks = Webhooks(database, busbar.app.outbox, clock)
    events, engine = EventDirectory(database, signals), RuleEngine(database, hooks, LogBook(clock), clock)
    watch = PointsWatch(signals, events, engine, hooks, readings, clock)
    effects = Effects(database, signals, watch, engine, hooks, readings=readings, clock=clock)
    for part in (signals, hooks, events, engine, effects):
        await part.start()
    yield Worker(signals, effects)
    await effects.stop()
    await signals.stop()


async def until(check: Callable[[], Awaitable[Any]]) -> Any:
    """Wait until a check answers with something true, and return it."""
    async with asyncio.timeout(WAIT_SECONDS):
        while not (found := await check()):  # noqa: ASYNC110 - nothing tells when another process or the outbox is done
            await asyncio.sleep(0.02)
    return found


def rule(event: str, **more: object) -> dict[str, object]:
    """Return the body of a rule that fires above 30."""
    return {
        "name": "hot", "event_public_id": event, "operator": "gt", "threshold": 30, "action_type": "webhook", **more,
    }  # fmt: skip


async def make(client: httpx.AsyncClient, kind: str, body: dict[str, object]) -> dict[str, Any]:
    """Make a rule or a webhook, and return it as the list shows it."""
    answer = await client.post(f"/api/v1/{kind}", json=body)
    assert answer.status_code == 201, answer.text
    return (await client.get(f"/api/v1/{kind}?page_size=100")).json()["data"][-1]


async def fired(client: httpx.AsyncClient, rule_id: str) -> str | None:
    """Return when a rule fired last."""
    return (await client.get(f"/api/v1/rules/{rule_id}")).json()["last_triggered_at"]


async def log_of(client: httpx.AsyncClient) -> list[dict[str, Any]]:
    """Return the warnings in the log book."""
    entries = (await client.get("/api/v1/logging?page_size=100")).json()["data"]
    return [entry for entry in entries if entry["logging_type"] == "warning"]
