"""What agents did: each call of a tool, by which credential, and what it came to."""

from __future__ import annotations

import asyncio
import contextlib

import structlog
from sqlalchemy import delete, tuple_
from sqlmodel import col, select

from core.identity.tables import CredentialRow, ToolCallRow
from core.kernel.call import Principal
from core.kernel.clock import MICROSECONDS, Clock
from core.kernel.errors import Unavailable
from core.kernel.ids import new_id
from core.storage.database import Database
from core.storage.tx import Tx

MOST_NAME = 128
_DAY_US = 86_400 * MICROSECONDS
_SWEEP_SECONDS = 3600.0
_INSERT = """
INSERT INTO tool_call (id, org_id, user_id, credential_id, tool, outcome, duration_us, at_us)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
"""

log = structlog.get_logger("busbar.identity")


class ToolCalls:
    """Keeps calls of tools for as many days as are set."""

    def __init__(self, database: Database, clock: Clock, days: int) -> None:
        self._database = database
        self._clock = clock
        self._days = days
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin to delete calls that are too old, once an hour."""
        self._task = asyncio.create_task(self._sweep_often(), name="tool-call-sweep")

    async def stop(self) -> None:
        """Stop deleting."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def record(self, principal: Principal, tool: str, outcome: str, seconds: float) -> None:
        """Store a call that has ended. Returns after the commit; storage that is away is told in the log only.

        Args:
            principal: Who called.
            tool: Name as it was called, whether or not there is such a tool.
            outcome: Canonical status code, `OK` for success.
            seconds: How long the call took.
        """
        row = (
            new_id("tcl_"),
            principal.org_id,
            principal.user_id,
            principal.credential_id,
            tool[:MOST_NAME],
            outcome,
            int(seconds * MICROSECONDS),
            self._clock.now_us(),
        )

        async def insert(tx: Tx) -> None:
            await tx.execute(_INSERT, *row)

        try:
            await self._database.submit(insert)
        except Unavailable:
            # The call itself is done; to refuse its answer now would hide that.
            log.warning("a call of a tool was not recorded", tool=tool, outcome=outcome, credential=principal.credential_id)

    async def page(
        self, user_id: str, credential_id: str, after: tuple[str | int, ...] | None, limit: int
    ) -> list[tuple[ToolCallRow, str]]:
        """Return calls by a user's credentials, newest first, each with the name of its credential.

        Args:
            user_id: The user.
            credential_id: Credential to which to narrow; empty for all.
            after: Time and id of the call before the page.
            limit: Most calls to return.
        """
        query = (
            select(ToolCallRow, CredentialRow.name)
            .join(CredentialRow, col(CredentialRow.id) == col(ToolCallRow.credential_id))
            .where(col(ToolCallRow.user_id) == user_id)
        )
        if credential_id:
            query = query.where(col(ToolCallRow.credential_id) == credential_id)
        if after is not None:
            query = query.where(tuple_(col(ToolCallRow.at_us), col(ToolCallRow.id)) < after)
        newest = query.order_by(col(ToolCallRow.at_us).desc(), col(ToolCallRow.id).desc()).limit(limit)
        async with self._database.read() as session:
            return [(row, name) for row, name in (await session.exec(newest)).all()]

    async def sweep(self) -> None:
        """Delete calls that are too old."""
        if self._days > 0:
            async with self._database.unit_of_work() as session:
                before = self._clock.now_us() - self._days * _DAY_US
                await session.exec(delete(ToolCallRow).where(col(ToolCallRow.at_us) < before))

    async def _sweep_often(self) -> None:
        while True:
            await asyncio.sleep(_SWEEP_SECONDS)
            try:
                await self.sweep()
            except Unavailable:
                # Storage is away; the next hour brings the next try.
                log.warning("old calls of tools were not deleted")
