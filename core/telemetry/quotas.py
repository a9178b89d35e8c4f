"""Point quotas: how many points a key may write in a calendar month.

Ingest asks and counts in memory. What was counted is written in the background, so a crash may forget the points of the last
seconds; a stop forgets none. Of several processes each knows what the others counted some seconds ago.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass

import structlog
from sqlalchemy import case, update
from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from core.kernel.call import Call
from core.kernel.clock import Clock, to_datetime
from core.kernel.errors import ResourceExhausted, Unavailable
from core.storage.database import Database
from core.telemetry.tables import PointQuotaRow
from gen.busbar.api.v1.error_reason_pb import ErrorReason

FLUSH_SECONDS = 5.0
"""How late the counts may be in storage."""

PAYMENT_REQUIRED = 402

log = structlog.get_logger("busbar.quotas")


@dataclass(slots=True)
class _Quota:
    """A quota in memory: what storage has counted in a month, and what is on its way into it."""

    limit: int
    month: int
    stored: int
    held: int = 0


class PointQuotas:
    """The quotas of all keys that have one; all others cost a dictionary look-up."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._quotas: dict[str, _Quota] = {}
        self._counted: Counter[tuple[str, int]] = Counter()
        self._flusher: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Load the quotas and begin to write counts in the background."""
        await self._load()
        self._flusher = asyncio.create_task(self._flush_often(), name="point-quota-flush")

    async def stop(self) -> None:
        """Write what is still unwritten."""
        if self._flusher is not None:
            self._flusher.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._flusher
        await self._flush()

    def set(self, session: AsyncSession, credential_id: str, points_per_month: int) -> None:
        """Give a new key a quota in the caller's unit of work. Call `known` once it is committed."""
        session.add(PointQuotaRow(credential_id=credential_id, points_per_month=points_per_month))

    def known(self, credential_id: str, points_per_month: int) -> None:
        """Begin to apply a quota that is committed."""
        self._quotas[credential_id] = _Quota(points_per_month, self._month(), 0)

    def usage(self, credential_id: str) -> tuple[int, int] | None:
        """Return the points that a key may write in a month and has written in this one; None without a quota."""
        quota = self._quotas.get(credential_id)
        if quota is None:
            return None
        month = self._month()
        return quota.limit, self._used(credential_id, quota, month)

    @contextmanager
    def counted(self, call: Call, points: int) -> Generator[None]:
        """Count points around their commit; those that fail to be stored do not count.

        Raises:
            ResourceExhausted: They would exceed the quota. Over HTTP it is answered 402.
        """
        credential_id = call.caller.credential_id
        quota = self._quotas.get(credential_id)
        if quota is None:
            yield
            return
        month = self._month()
        used = self._used(credential_id, quota, month) + quota.held
        if used + points > quota.limit:
            call.status = PAYMENT_REQUIRED
            raise ResourceExhausted(
                f"point quota exceeded: {used} of {quota.limit} points of this month are used",
                reason=ErrorReason.QUOTA_EXCEEDED,
                limit=quota.limit,
                used=used,
            )
        # Batches of one key overlap while they wait for their commits; together they stay below the quota too.
        quota.held += points
        try:
            yield
            self._counted[credential_id, month] += points
        finally:
            quota.held -= points

    def _used(self, credential_id: str, quota: _Quota, month: int) -> int:
        stored = quota.stored if quota.month == month else 0
        return stored + self._counted[credential_id, month]

    def _month(self) -> int:
        now = to_datetime(self._clock.now_us())
        return now.year * 12 + now.month

    async def _load(self) -> None:
        async with self._database.read() as session:
            rows = (await session.exec(select(PointQuotaRow))).all()
        for row in rows:
            quota = self._quotas.setdefault(row.credential_id, _Quota(row.points_per_month, row.month, row.points))
            quota.limit, quota.month, quota.stored = row.points_per_month, row.month, row.points

    async def _flush(self) -> None:
        written = Counter({key: points for key, points in self._counted.items() if points})
        if not written:
            return
        async with self._database.unit_of_work() as session:
            for (credential_id, month), points in written.items():
                await session.exec(_add(credential_id, month, points))
        # Storage has them now. Memory says so in one step, without a moment at which they count twice or not at all.
        for (credential_id, month), points in written.items():
            quota = self._quotas[credential_id]
            quota.stored = points if quota.month < month else quota.stored + points if quota.month == month else quota.stored
            quota.month = max(quota.month, month)
            self._counted[credential_id, month] -= points
        self._counted = +self._counted

    async def _flush_often(self) -> None:
        while True:
            await asyncio.sleep(FLUSH_SECONDS)
            try:
                await self._flush()
                await self._load()
            except Unavailable:
                log.warning("point counts were not written")


def _add(credential_id: str, month: int, points: int):  # noqa: ANN202 - SQLAlchemy's type has no public name
    """Return the statement that adds points to a month; a newer month begins anew, an older one no longer counts."""
    row = PointQuotaRow
    added = case(
        (col(row.month) == month, col(row.points) + points),
        (col(row.month) < month, points),
        else_=col(row.points),
    )
    newest = case((col(row.month) < month, month), else_=col(row.month))
    return update(row).where(col(row.credential_id) == credential_id).values(points=added, month=newest)
