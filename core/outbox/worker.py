"""Carries out side effects: leases what is due, runs its handler, writes the outcome.

A row is leased in one transaction and its outcome is written in another, by whoever still holds the lease. A worker that dies
in between leaves a lease that ends, and then any worker takes the row again. So every row is carried out at least once, and in
the normal case exactly once, however many workers there are.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from types import TracebackType
from typing import Self

import structlog

from core.kernel.clock import MICROSECONDS, Clock
from core.kernel.errors import Unavailable
from core.kernel.ids import new_id
from core.outbox.delivery import AttemptFailed, Delivery, Handler, PermanentFailure
from core.outbox.outbox import Outbox
from core.outbox.tables import DEAD_LETTER, DELIVERED, LEASED, OPEN, PENDING
from core.storage.database import Database
from core.storage.tx import Dialect, Tx, fetch_one

log = structlog.get_logger("busbar.outbox")

POLL_SECONDS = 5.0
"""Longest wait before looking again, for rows that another process enqueued."""
LEASE_MARGIN_SECONDS = 5.0
"""By how much a lease outlives the longest attempt, so that its outcome can still be written."""
MOST_AT_ONCE = 10
KEEP_DAYS = 30
ERROR_LENGTH = 500

_FINISH = """
UPDATE outbox SET state = $3, attempts = $4, next_attempt_us = $5, lease = NULL, last_error = $6, response_code = $7,
    delivered_us = $8
WHERE id = $1 AND state = 'leased' AND lease = $2
"""
_PURGE = "DELETE FROM outbox WHERE state IN ('delivered', 'dead_letter') AND created_us < $1"
_RELEASE = (
    "UPDATE outbox SET state = 'pending', lease = NULL, next_attempt_us = $3 WHERE id = $1 AND state = 'leased' AND lease = $2"
)


@dataclass(slots=True)
class Counters:
    """What a worker has done since it began.

    Attributes:
        delivered: Attempts that succeeded.
        retried: Attempts that failed and will be followed by another.
        dead: Rows given up.
        lost: Outcomes that came after the lease had ended; the row is carried out again.
    """

    delivered: int = 0
    retried: int = 0
    dead: int = 0
    lost: int = 0


@dataclass(frozen=True, slots=True)
class _Outcome:
    """How an attempt ended."""

    state: str
    due_us: int
    error: str | None = None
    response_code: int | None = None
    delivered_us: int | None = None


class OutboxWorker:
    """Carries out the kinds of side effects that it has handlers for, and leaves others alone."""

    def __init__(
        self,
        database: Database,
        outbox: Outbox,
        handlers: Mapping[str, Handler],
        *,
        clock: Clock | None = None,
        most_at_once: int = MOST_AT_ONCE,
        poll_seconds: float = POLL_SECONDS,
        lease_margin_seconds: float = LEASE_MARGIN_SECONDS,
        keep_days: float = KEEP_DAYS,
    ) -> None:
        self.counters = Counters()
        self._database = database
        self._outbox = outbox
        self._handlers = dict(handlers)
        self._clock = clock or Clock()
        self._most_at_once = most_at_once
        self._poll_seconds = poll_seconds
        # Of each kind its own: after a crash nobody waits for the lease of a slower kind to end.
        self._lease_us = {
            kind: int((handler.seconds + lease_margin_seconds) * MICROSECONDS) for kind, handler in self._handlers.items()
        }
        self._keep_us = int(keep_days * 86_400 * MICROSECONDS)
        self._next_purge_us = 0
        self._wake = asyncio.Event()
        self._attempts: set[asyncio.Task[None]] = set()
        self._loop: asyncio.Task[None] | None = None
        self._stopping = False

    @property
    def running(self) -> int:
        """Attempts under way."""
        return len(self._attempts)

    def start(self) -> None:
        """Begin to carry out what is due."""
        self._stopping = False
        self._loop = asyncio.create_task(self._run(), name="outbox")

    async def stop(self, grace_seconds: float = 10.0) -> None:
        """Take nothing more, let attempts under way end, and hand back those that do not end in time."""
        if self._loop is None:
            return
        self._stopping = True
        self._wake.set()
        await self._loop
        self._loop = None
        if not self._attempts:
            return
        _, late = await asyncio.wait(self._attempts, timeout=grace_seconds)
        for attempt in late:
            attempt.cancel()
        await asyncio.gather(*late, return_exceptions=True)

    async def __aenter__(self) -> Self:
        self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def _run(self) -> None:
        ignore = self._outbox.on_enqueue(self._wake.set)
        try:
            while not self._stopping:
                self._wake.clear()
                seconds = await self._round()
                if seconds > 0:
                    with contextlib.suppress(TimeoutError):
                        await asyncio.wait_for(self._wake.wait(), seconds)
        finally:
            ignore()

    async def _round(self) -> float:
        """Start what is due and return the seconds until something may be due again."""
        try:
            await self._purge()
            free = self._most_at_once - len(self._attempts)
            leased = await self._take(free) if free else []
            for delivery, lease in leased:
                self._begin(delivery, lease)
            # Full hands wait for an attempt to end, which wakes the worker; a full catch may not be all there is.
            return self._poll_seconds if free == 0 else 0.0 if len(leased) == free else await self._pause()
        except Unavailable:
            return self._poll_seconds
        except Exception:
            # The worker must outlive whatever goes wrong in one round.
            log.exception("outbox round failed")
            return self._poll_seconds

    def _begin(self, delivery: Delivery, lease: str) -> None:
        attempt = asyncio.create_task(self._attempt(delivery, lease), name=f"outbox {delivery.id}")
        self._attempts.add(attempt)
        attempt.add_done_callback(self._ended)

    def _ended(self, attempt: asyncio.Task[None]) -> None:
        self._attempts.discard(attempt)
        self._wake.set()

    async def _take(self, most: int) -> list[tuple[Delivery, str]]:
        """Lease rows that are due."""
        kinds = list(self._handlers)
        if not kinds:
            return []
        lease, now = new_id("lse_"), self._clock.now_us()
        ends = [now + self._lease_us[kind] for kind in kinds]

        async def job(tx: Tx) -> list[Delivery]:
            rows = await tx.fetch(_lease_sql(tx.dialect, len(kinds)), lease, now, most, *kinds, *ends)
            return sorted((Delivery(*row) for row in rows), key=lambda delivery: delivery.created_us)

        return [(delivery, lease) for delivery in await self._database.submit(job)]

    async def _pause(self) -> float:
        """Return the seconds until the next row is due, but no more than the time between two looks."""
        kinds = list(self._handlers)

        async def job(tx: Tx) -> int | None:
            row = await fetch_one(tx, _next_sql(len(kinds)), *kinds)
            return None if row is None else row[0]

        due = await self._database.query(job) if kinds else None
        if due is None:
            return self._poll_seconds
        return min(self._poll_seconds, max(due - self._clock.now_us(), 0) / MICROSECONDS + 0.001)

    async def _attempt(self, delivery: Delivery, lease: str) -> None:
        try:
            outcome = await self._carry_out(delivery)
            await self._finish(delivery, lease, outcome)
        except asyncio.CancelledError:
            await self._release(delivery, lease)
            raise
        except Unavailable:
            log.warning("outcome not written, the row will be carried out again", delivery=delivery.id)

    async def _carry_out(self, delivery: Delivery) -> _Outcome:
        handler = self._handlers[delivery.kind]
        try:
            async with asyncio.timeout(handler.seconds):
                code = await handler.run(delivery)
        except AttemptFailed as failure:
            return self._failed(delivery, failure)
        except TimeoutError:
            return self._failed(delivery, AttemptFailed("Timeout"))
        except Exception:
            # A defect of one handler: its text is for the log, and the row is tried again like any other.
            log.exception("outbox handler failed", kind=delivery.kind, delivery=delivery.id)
            return self._failed(delivery, AttemptFailed("internal error"))
        now = self._clock.now_us()
        return _Outcome(DELIVERED, now, response_code=code, delivered_us=now)

    def _failed(self, delivery: Delivery, failure: AttemptFailed) -> _Outcome:
        now = self._clock.now_us()
        error = failure.message[:ERROR_LENGTH]
        if isinstance(failure, PermanentFailure) or delivery.attempt >= delivery.max_attempts:
            return _Outcome(DEAD_LETTER, now, error, failure.response_code)
        wait = self._handlers[delivery.kind].backoff.delay_us(delivery.attempt)
        return _Outcome(PENDING, now + wait, error, failure.response_code)

    async def _finish(self, delivery: Delivery, lease: str, outcome: _Outcome) -> None:
        async def job(tx: Tx) -> int:
            return await tx.execute(
                _FINISH,
                delivery.id,
                lease,
                outcome.state,
                delivery.attempt,
                outcome.due_us,
                outcome.error,
                outcome.response_code,
                outcome.delivered_us,
            )

        if not await self._database.submit(job):
            self.counters.lost += 1
        elif outcome.state == DELIVERED:
            self.counters.delivered += 1
        elif outcome.state == PENDING:
            self.counters.retried += 1
        else:
            self.counters.dead += 1
            log.warning("given up", kind=delivery.kind, delivery=delivery.id, error=outcome.error)

    async def _release(self, delivery: Delivery, lease: str) -> None:
        """Hand a row back, so that nobody has to wait for the end of its lease."""
        now = self._clock.now_us()

        async def job(tx: Tx) -> int:
            return await tx.execute(_RELEASE, delivery.id, lease, now)

        with contextlib.suppress(Unavailable):
            await self._database.submit(job)

    async def _purge(self) -> None:
        """Delete, once an hour, what came to its end long ago."""
        now = self._clock.now_us()
        if now < self._next_purge_us:
            return
        self._next_purge_us = now + 3600 * MICROSECONDS

        async def job(tx: Tx) -> int:
            return await tx.execute(_PURGE, now - self._keep_us)

        await self._database.submit(job)


@lru_cache
def _lease_sql(dialect: Dialect, kinds: int) -> str:
    """Return the statement that leases rows. Two workers never get the same one.

    SQLite has one writer at a time; PostgreSQL passes over rows that another transaction holds.
    """
    skip = "FOR UPDATE SKIP LOCKED" if dialect == "postgresql" else ""
    ends = " ".join(f"WHEN ${4 + number} THEN CAST(${4 + kinds + number} AS BIGINT)" for number in range(kinds))
    return f"""
        WITH due AS (
            SELECT id FROM outbox WHERE {OPEN} AND next_attempt_us <= $2 AND kind IN ({_places(4, kinds)})
            ORDER BY next_attempt_us, created_us LIMIT $3 {skip}
        )
        UPDATE outbox SET state = '{LEASED}', lease = $1, next_attempt_us = CASE kind {ends} END
        WHERE id IN (SELECT id FROM due)
        RETURNING id, org_id, kind, subject, payload, attempts + 1, max_attempts, created_us
    """  # noqa: S608 - constants and placeholders


@lru_cache
def _next_sql(kinds: int) -> str:
    return f"SELECT min(next_attempt_us) FROM outbox WHERE {OPEN} AND kind IN ({_places(1, kinds)})"  # noqa: S608 - placeholders


def _places(first: int, count: int) -> str:
    return ", ".join(f"${number}" for number in range(first, first + count))
