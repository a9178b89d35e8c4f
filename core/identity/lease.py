"""Ends a connection together with the credential that opened it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from core.identity.credentials import Credentials
from core.kernel.call import Principal
from core.kernel.clock import MICROSECONDS, Clock

DAY_SECONDS = 86_400.0


class Lease:
    """Calls back once when a credential is revoked or has expired."""

    def __init__(
        self, credentials: Credentials, clock: Clock, principal: Principal, secret: str, ended: Callable[[], None]
    ) -> None:
        self._credentials = credentials
        self._clock = clock
        self._principal = principal
        self._secret = secret
        self._ended = ended
        self._timer: asyncio.TimerHandle | None = None
        self._unwatch = credentials.watch(principal.credential_id, ended)
        self._await_expiry()

    def close(self) -> None:
        """Stop watching."""
        self._unwatch()
        if self._timer is not None:
            self._timer.cancel()

    def _await_expiry(self) -> None:
        # A session that is used meanwhile lives on, so it is looked at again.
        principal = self._credentials.known(self._secret) or self._principal
        if principal.expires_at_us is None:
            return
        left = (principal.expires_at_us - self._clock.now_us()) / MICROSECONDS
        if left <= 0:
            self._ended()
        else:
            self._timer = asyncio.get_running_loop().call_later(min(left, DAY_SECONDS), self._await_expiry)
