"""Access tokens: what a sign-in hands out. Each is signed and also a credential, so ending it acts at once everywhere."""

from __future__ import annotations

import asyncio
import contextlib
import secrets

import structlog
from sqlmodel.ext.asyncio.session import AsyncSession

from core.identity.credentials import Credentials
from core.identity.signing import Signer
from core.kernel.clock import MICROSECONDS, Clock
from core.kernel.errors import Unavailable
from gen.busbar.api.v1.options_pb import CredentialKind

_PURGE_SECONDS = 3600.0

log = structlog.get_logger("busbar.lab")


class AccessTokens:
    """Issues access tokens, and forgets those that have ended long ago."""

    def __init__(self, credentials: Credentials, signer: Signer, clock: Clock, minutes: int) -> None:
        self._credentials = credentials
        self._signer = signer
        self._clock = clock
        self._seconds = minutes * 60
        self._task: asyncio.Task[None] | None = None

    async def issue(self, session: AsyncSession, org_id: str, user_id: str, role: str) -> str:
        """Return a token for a user, issued in the caller's unit of work. Its `role` informs; the present role counts."""
        claims = {"sub": user_id, "role": role, "jti": secrets.token_urlsafe(16)}
        token = self._signer.sign(claims, self._seconds)
        expires = self._clock.now_us() + self._seconds * MICROSECONDS
        await self._credentials.issue(
            session, CredentialKind.LAB_JWT, org_id, user_id=user_id, expires_us=expires, secret=token
        )
        return token

    async def start(self) -> None:
        """Begin to delete ended tokens, once an hour."""
        self._task = asyncio.create_task(self._purge_often(), name="lab-token-purge")

    async def stop(self) -> None:
        """Stop deleting."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def purge(self) -> None:
        """Delete tokens that ended longer ago than they ever counted: until then a refusal can say why."""
        await self._credentials.purge(CredentialKind.LAB_JWT, self._clock.now_us() - self._seconds * MICROSECONDS)

    async def _purge_often(self) -> None:
        while True:
            await asyncio.sleep(_PURGE_SECONDS)
            try:
                await self.purge()
            except Unavailable:
                # Storage is away; the next hour brings the next try.
                log.warning("ended access tokens were not deleted")
