"""Tells webhooks when the state of the server changes."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque

from core.kernel.errors import Unavailable
from core.kernel.health import OK, HealthChange, HealthCheck
from core.lab.hooks import HEALTH_CHANGED, Webhooks
from core.storage.database import Database

POLL_SECONDS = 5.0
"""How often the state is asked for where nobody else does."""
MOST_WAITING = 100
"""Changes that wait for storage to answer; of more, the newest are told."""


class HealthWatch:
    """Looks at the state of the server, and keeps its changes until storage takes the deliveries."""

    def __init__(self, health: HealthCheck, database: Database, webhooks: Webhooks) -> None:
        self._health = health
        self._database = database
        self._webhooks = webhooks
        self._waiting: deque[HealthChange] = deque(maxlen=MOST_WAITING)
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        health.on_change(self._changed)

    def _changed(self, change: HealthChange) -> None:
        self._waiting.append(change)
        self._wake.set()

    async def start(self) -> None:
        """Begin to look."""
        self._task = asyncio.create_task(self._run(), name="lab-health-watch")

    async def stop(self) -> None:
        """Stop looking."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def _run(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), POLL_SECONDS)
            self._wake.clear()
            await self._health.check()
            await self._tell()

    async def _tell(self) -> None:
        """Enqueue deliveries for the changes that wait, oldest first; they go on waiting while storage does not answer."""
        while self._waiting and self._health.status == OK:
            change = self._waiting[0]
            payload = {"status": change.status, "previous_status": change.previous}
            try:
                async with self._database.unit_of_work() as session:
                    for org_id in self._webhooks.organisations(HEALTH_CHANGED):
                        await self._webhooks.dispatch(session, org_id, HEALTH_CHANGED, payload, change.at_us)
            except Unavailable:
                return
            if self._waiting[0] is change:
                self._waiting.popleft()
