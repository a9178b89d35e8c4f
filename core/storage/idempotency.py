"""Answers of requests that may be sent again, kept where a restart cannot lose them."""

from __future__ import annotations

import asyncio

import structlog

from core.kernel.clock import MICROSECONDS, Clock
from core.kernel.errors import Aborted, DomainError
from core.storage.database import Database
from core.storage.tx import Row, Tx, fetch_one
from gen.busbar.api.v1.error_reason_pb import ErrorReason

log = structlog.get_logger("busbar.storage")

KEEP_US = 24 * 3600 * MICROSECONDS
"""How long a key is remembered."""
_SWEEP_SECONDS = 3600.0


class IdempotencyKeys:
    """Runs each request at most once for its key.

    A key is claimed in its own commit before the request runs. If the process dies meanwhile, the claim stays without an answer
    and the request is refused when it comes again, because nobody knows how far it got.
    """

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to sweep old keys, once an hour."""
        self._task = asyncio.create_task(self._sweep_for_ever(), name="idempotency-sweep")

    async def stop(self) -> None:
        """Stop sweeping."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    async def begin(self, owner: str, rpc: str, key: str, fingerprint: bytes) -> tuple[bytes, int | None] | None:
        """Claim a key; return the kept answer and its status when the same request was done before.

        Raises:
            Aborted: The key was used with another request, or its first request has not ended.
        """
        now = self._clock.now_us()

        async def claim(tx: Tx) -> Row | None:
            await tx.execute(
                "DELETE FROM idempotency WHERE owner = $1 AND rpc = $2 AND key = $3 AND created_us < $4",
                owner,
                rpc,
                key,
                now - KEEP_US,
            )
            claimed = await tx.execute(
                "INSERT INTO idempotency (owner, rpc, key, fingerprint, created_us) VALUES ($1, $2, $3, $4, $5)"
                " ON CONFLICT (owner, rpc, key) DO NOTHING",
                owner,
                rpc,
                key,
                fingerprint,
                now,
            )
            if claimed:
                return None
            sql = "SELECT fingerprint, answer, status FROM idempotency WHERE owner = $1 AND rpc = $2 AND key = $3"
            return await fetch_one(tx, sql, owner, rpc, key)

        kept = await self._database.submit(claim)
        if kept is None:
            return None
        if bytes(kept[0]) != fingerprint:
            raise _conflict("the idempotency key was used with another request", key)
        if kept[1] is None:
            raise _conflict("the first request with this idempotency key has not ended", key)
        return bytes(kept[1]), kept[2]

    async def finish(self, owner: str, rpc: str, key: str, answer: bytes, status: int | None) -> None:
        """Keep the answer of a request."""

        async def keep(tx: Tx) -> int:
            sql = "UPDATE idempotency SET answer = $4, status = $5 WHERE owner = $1 AND rpc = $2 AND key = $3"
            return await tx.execute(sql, owner, rpc, key, answer, status)

        await self._database.submit(keep)

    async def abandon(self, owner: str, rpc: str, key: str) -> None:
        """Free the key of a request that was refused."""

        async def free(tx: Tx) -> int:
            return await tx.execute("DELETE FROM idempotency WHERE owner = $1 AND rpc = $2 AND key = $3", owner, rpc, key)

        await self._database.submit(free)

    async def sweep(self) -> int:
        """Forget keys older than a day; return how many."""
        before = self._clock.now_us() - KEEP_US

        async def forget(tx: Tx) -> int:
            return await tx.execute("DELETE FROM idempotency WHERE created_us < $1", before)

        return await self._database.submit(forget)

    async def _sweep_for_ever(self) -> None:
        while True:
            try:
                await self.sweep()
            except DomainError as error:
                log.warning("cannot sweep idempotency keys", error=error.message)
            await asyncio.sleep(_SWEEP_SECONDS)


def _conflict(message: str, key: str) -> Aborted:
    return Aborted(message, reason=ErrorReason.IDEMPOTENCY_CONFLICT, key=key)
