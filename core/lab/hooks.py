"""Webhooks at work: what happened becomes one delivery for each webhook that wants to know, and the outbox carries it out."""

from __future__ import annotations

import asyncio
import json
from collections import defaultdict
from collections.abc import Mapping, Sequence

import structlog
from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from core.kernel.clock import Clock, to_datetime
from core.kernel.errors import Unavailable
from core.lab.ids import new_public_id
from core.lab.rules_tables import WebhookRow
from core.outbox.outbox import Outbox
from core.storage.database import Database

KIND = "lab.webhook"
"""Kind of the side effects that are deliveries; their subject is the webhook's public id."""
ATTEMPTS = 3

THRESHOLD_EXCEEDED = "sensor.threshold_exceeded"
SENSOR_READING = "sensor.reading"
EXPERIMENT_STARTED = "experiment.started"
EXPERIMENT_STOPPED = "experiment.stopped"
HEALTH_CHANGED = "system.health_changed"

Wanting = dict[str, tuple[str, ...]]
"""Public ids of the enabled webhooks of an organisation, by the kind that they want to know of."""

log = structlog.get_logger("busbar.lab")


class Webhooks:
    """Knows which webhooks want what, from memory, so that nothing is asked of storage when nobody listens."""

    def __init__(self, database: Database, outbox: Outbox, clock: Clock) -> None:
        self._database = database
        self._outbox = outbox
        self._clock = clock
        self._wanting: dict[str, Wanting] = {}
        self._refreshing = asyncio.Lock()

    async def start(self) -> None:
        """Learn about all webhooks."""
        async with self._database.read() as session:
            rows = (await session.exec(select(WebhookRow).order_by(col(WebhookRow.id)))).all()
        by_org: defaultdict[str, list[WebhookRow]] = defaultdict(list)
        for row in rows:
            by_org[row.org_id].append(row)
        self._wanting = {org_id: _wanting(found) for org_id, found in by_org.items()}

    async def refresh(self, org_id: str) -> None:
        """Learn about the webhooks of an organisation after a commit that changed them."""
        query = select(WebhookRow).where(col(WebhookRow.org_id) == org_id).order_by(col(WebhookRow.id))
        # One at a time: whoever reads last has read what was committed last.
        async with self._refreshing:
            async with self._database.read() as session:
                rows = (await session.exec(query)).all()
            self._wanting[org_id] = _wanting(rows)

    def wanted(self, org_id: str, event_type: str) -> bool:
        """Whether an enabled webhook of an organisation wants to know of a kind."""
        return event_type in self._wanting.get(org_id, {})

    def organisations(self, event_type: str) -> list[str]:
        """Return the organisations in which `wanted` is true."""
        return [org_id for org_id, wanting in self._wanting.items() if event_type in wanting]

    async def dispatch(
        self,
        session: AsyncSession,
        org_id: str,
        event_type: str,
        payload: Mapping[str, object],
        at_us: int | None = None,
    ) -> None:
        """Enqueue one delivery for each webhook that wants it, in the caller's unit of work.

        The body is `type`, `time` and the payload, in that order; the time is now unless one is given.
        """
        hooks = self._wanting.get(org_id, {}).get(event_type, ())
        time = to_datetime(self._clock.now_us() if at_us is None else at_us).isoformat()
        body = {"type": event_type, "time": time, **payload}
        for hook in hooks:
            await self._outbox.enqueue(session, KIND, body, org_id, id=new_public_id(), subject=hook, max_attempts=ATTEMPTS)

    async def dispatch_later(
        self, org_id: str, event_type: str, payload: Mapping[str, object], at_us: int | None = None
    ) -> None:
        """Do the same in a unit of work of its own, after a commit that cannot be taken back: a failure is only logged."""
        if not self.wanted(org_id, event_type):
            return
        try:
            async with self._database.unit_of_work() as session:
                await self.dispatch(session, org_id, event_type, payload, at_us)
        except Unavailable as error:
            log.warning("webhooks were not told", kind=event_type, error=error.message)


def kinds_of(row: WebhookRow) -> list[str]:
    """Return the kinds that a webhook is told."""
    return json.loads(row.events)


def _wanting(rows: Sequence[WebhookRow]) -> Wanting:
    wanting: defaultdict[str, list[str]] = defaultdict(list)
    for row in rows:
        for kind in dict.fromkeys(kinds_of(row)) if row.enabled else ():
            wanting[kind].append(row.public_id)
    return {kind: tuple(hooks) for kind, hooks in wanting.items()}
