"""What ends a live connection besides its own two sides: the credential, and an error in either."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Any

from core.identity.credentials import Credentials
from core.kernel.call import Call
from core.kernel.clock import MICROSECONDS, Clock
from core.kernel.errors import Unauthenticated
from core.live.mailbox import Mailbox

DAY_SECONDS = 86_400.0


class Lifeline:
    """Runs the work of a connection while its credential lives; whatever ends it closes the mailbox that the reader reads."""

    def __init__(self, credentials: Credentials, clock: Clock, call: Call, out: Mailbox[Any]) -> None:
        self._credentials = credentials
        self._clock = clock
        self._call = call
        self._out = out
        self._expiry: asyncio.TimerHandle | None = None
        self._unwatch: Callable[[], None] = lambda: None
        self._tasks: list[asyncio.Task[None]] = []

    def start(self, *works: Callable[[], Awaitable[None]]) -> None:
        """Begin the work; the failure of one part ends the connection with that error."""
        self._unwatch = self._credentials.watch(self._call.caller.credential_id, self._ended)
        self._await_expiry()
        self._tasks = [asyncio.create_task(self._guarded(work)) for work in works]

    async def stop(self) -> None:
        """Stop the work and wait until it has cleaned up."""
        self._unwatch()
        if self._expiry is not None:
            self._expiry.cancel()
        for task in self._tasks:
            task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.gather(*self._tasks, return_exceptions=True)

    def _ended(self) -> None:
        self._out.close(Unauthenticated("the credential has ended"))

    def _await_expiry(self) -> None:
        """End with the credential; a session that was used meanwhile lives on, and is looked at again."""
        principal = self._credentials.known(self._call.credential or "") or self._call.caller
        if principal.expires_at_us is None:
            return
        left = (principal.expires_at_us - self._clock.now_us()) / MICROSECONDS
        if left <= 0:
            self._ended()
        else:
            self._expiry = asyncio.get_running_loop().call_later(min(left, DAY_SECONDS), self._await_expiry)

    async def _guarded(self, work: Callable[[], Awaitable[None]]) -> None:
        try:
            await work()
        except Exception as error:  # noqa: BLE001 - handed to the reader, where the pipeline maps it
            self._out.close(error)
