"""Pins and codes: short secrets by which somebody proves a mail address, or signs in another client.

A secret of six characters can be guessed, so it counts for minutes and a few wrong tries only, and what is stored of it is a
hash with a key that the database does not hold.
"""

from __future__ import annotations

import hmac
import secrets
from dataclasses import dataclass

from sqlalchemy import delete, update
from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from core.identity.secrets import BASE62
from core.identity.signing import ServerSecret
from core.identity.tables import ProofRow
from core.kernel.clock import MICROSECONDS, Clock
from core.kernel.ids import new_id
from core.storage.locks import lock_name

LENGTH = 6
LIFE_US = 5 * 60 * MICROSECONDS
MOST_FAILURES = 5
"""Wrong pins after which those that an address has at that time are dead."""


@dataclass(frozen=True, slots=True)
class Pin:
    """A pin that was found; a used one proves nothing any more."""

    id: str
    used: bool


class Proofs:
    """Makes and checks pins and codes within units of work of others."""

    def __init__(self, secret: ServerSecret, clock: Clock) -> None:
        self._secret = secret
        self._clock = clock

    async def new_pin(self, session: AsyncSession, email: str) -> str:
        """Return a new pin for an address; earlier ones count on."""
        return await self._new(session, email=email)

    async def new_code(self, session: AsyncSession, user_id: str, org_id: str) -> str:
        """Return a new code that signs a user in to an organisation, once."""
        return await self._new(session, user_id=user_id, org_id=org_id)

    async def find_pin(self, session: AsyncSession, email: str, pin: str) -> Pin | None:
        """Look for a pin of an address. A wrong one counts against all that the address has, so commit in any case."""
        now = self._clock.now_us()
        # Tries come one after the other, or many at once would all come before the count.
        await lock_name(session, f"pin:{email}")
        live = (col(ProofRow.email) == email, col(ProofRow.expires_us) > now, col(ProofRow.failures) < MOST_FAILURES)
        found = await session.exec(select(ProofRow).where(*live, col(ProofRow.hash) == self._hash(email, pin)))
        row = found.first()
        if row is None:
            await session.exec(update(ProofRow).where(*live).values(failures=col(ProofRow.failures) + 1))
            return None
        return Pin(row.id, used=row.used_us is not None)

    async def use_pin(self, session: AsyncSession, email: str, pin: str) -> bool:
        """Use a pin up; tell whether it counted. Commit the unit of work in either case."""
        found = await self.find_pin(session, email, pin)
        return found is not None and not found.used and await self._use(session, found.id)

    async def use_code(self, session: AsyncSession, code: str) -> tuple[str, str] | None:
        """Use a code up and return its user and organisation; None for one that does not count."""
        query = select(ProofRow).where(
            col(ProofRow.hash) == self._hash("", code),
            col(ProofRow.email) == "",
            col(ProofRow.expires_us) > self._clock.now_us(),
            col(ProofRow.used_us).is_(None),
        )
        row = (await session.exec(query)).first()
        if row is None or row.user_id is None or row.org_id is None or not await self._use(session, row.id):
            return None
        return row.user_id, row.org_id

    async def _new(
        self, session: AsyncSession, *, email: str = "", user_id: str | None = None, org_id: str | None = None
    ) -> str:
        now = self._clock.now_us()
        await session.exec(delete(ProofRow).where(col(ProofRow.expires_us) < now))
        secret = "".join(secrets.choice(BASE62) for _ in range(LENGTH))
        session.add(
            ProofRow(
                id=new_id("prf_"),
                hash=self._hash(email, secret),
                email=email,
                user_id=user_id,
                org_id=org_id,
                created_us=now,
                expires_us=now + LIFE_US,
            )
        )
        return secret

    async def _use(self, session: AsyncSession, proof_id: str) -> bool:
        """Mark as used; of several calls at once, one succeeds."""
        used = await session.exec(
            update(ProofRow)
            .where(col(ProofRow.id) == proof_id, col(ProofRow.used_us).is_(None))
            .values(used_us=self._clock.now_us())
        )
        return used.rowcount == 1

    def _hash(self, email: str, secret: str) -> str:
        text = f"{email}\n{secret}".encode("utf-8", "surrogatepass")
        return hmac.digest(self._secret.derive("proofs"), text, "sha256").hex()
