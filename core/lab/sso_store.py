"""What is kept while somebody signs in through an identity provider: attempts, and the one-time codes that end them."""

from __future__ import annotations

import secrets
from dataclasses import dataclass

from sqlalchemy import delete
from sqlmodel import col
from sqlmodel.ext.asyncio.session import AsyncSession

from core.identity.secrets import hash_secret
from core.kernel.clock import MICROSECONDS, Clock
from core.lab.sso_tables import SsoAttemptRow, SsoCodeRow
from core.storage.database import Database

ATTEMPT_SECONDS = 600
CODE_SECONDS = 60
CODE_BYTES = 48
VERIFIER_BYTES = 64


@dataclass(frozen=True, slots=True)
class Attempt:
    """An attempt as it goes out.

    Attributes:
        state: What the provider sends back with its code.
        verifier: What proves to the provider that its code is redeemed by who asked for it.
    """

    state: str
    verifier: str


class SsoStore:
    """Keeps attempts and codes until they are used or late. Each counts once, however many ask for it at a time."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def begin(self, browser: str, redirect_uri: str) -> Attempt:
        """Keep an attempt of a browser; what is late goes."""
        attempt = Attempt(secrets.token_urlsafe(32), secrets.token_urlsafe(VERIFIER_BYTES))
        now = self._clock.now_us()
        async with self._database.unit_of_work() as session:
            await session.exec(delete(SsoAttemptRow).where(col(SsoAttemptRow.expires_us) < now))
            await session.exec(delete(SsoCodeRow).where(col(SsoCodeRow.expires_us) < now))
            session.add(
                SsoAttemptRow(
                    state_hash=hash_secret(attempt.state),
                    browser_hash=hash_secret(browser),
                    verifier=attempt.verifier,
                    redirect_uri=redirect_uri,
                    expires_us=now + ATTEMPT_SECONDS * MICROSECONDS,
                )
            )
        return attempt

    async def take(self, state: str, browser: str) -> SsoAttemptRow | None:
        """Return the attempt of a state, which counts no longer; None for one that is unknown, late or of another browser."""
        digest, owner = hash_secret(state), hash_secret(browser)
        async with self._database.unit_of_work() as session:
            row = await session.get(SsoAttemptRow, digest)
            if row is None or row.browser_hash != owner:
                return None
            session.expunge(row)
            gone = await session.exec(delete(SsoAttemptRow).where(col(SsoAttemptRow.state_hash) == digest))
        return row if gone.rowcount and row.expires_us > self._clock.now_us() else None

    def issue_code(self, session: AsyncSession, org_id: str, user_id: str) -> str:
        """Return a one-time code for a user, kept in the caller's unit of work."""
        code = secrets.token_urlsafe(CODE_BYTES)
        expires = self._clock.now_us() + CODE_SECONDS * MICROSECONDS
        session.add(SsoCodeRow(code_hash=hash_secret(code), org_id=org_id, user_id=user_id, expires_us=expires))
        return code

    async def redeem(self, session: AsyncSession, code: str) -> SsoCodeRow | None:
        """Return what a code stands for, which counts no longer; None for one that is unknown or late."""
        digest = hash_secret(code)
        row = await session.get(SsoCodeRow, digest)
        if row is None:
            return None
        session.expunge(row)
        gone = await session.exec(delete(SsoCodeRow).where(col(SsoCodeRow.code_hash) == digest))
        return row if gone.rowcount and row.expires_us > self._clock.now_us() else None

    async def forget_user(self, session: AsyncSession, org_id: str, user_id: str) -> None:
        """Delete the codes of a user."""
        await session.exec(delete(SsoCodeRow).where(col(SsoCodeRow.org_id) == org_id, col(SsoCodeRow.user_id) == user_id))
