"""What ends a live connection besides its own two sides: the credential, the role of its user, and an error in either."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Any

from core.identity.credentials import Credentials
from core.identity.lease import Lease
from core.kernel.call import Call
from core.kernel.clock import Clock
from core.kernel.pipeline import authorise
from core.live.mailbox import Mailbox


class Lifeline:
    """Runs the work of a connection while its caller may go on; whatever ends it closes the mailbox that the reader reads."""

    def __init__(self, credentials: Credentials, clock: Clock, call: Call, out: Mailbox[Any]) -> None:
        self._credentials = credentials
        self._clock = clock
        self._call = call
        self._secret = call.credential or ""
        self._out = out
        self._lease: Lease | None = None
        self._unwatch: Callable[[], None] = lambda: None
        self._tasks: list[asyncio.Task[None]] = []

    def start(self, *works: Callable[[], Awaitable[None]]) -> None:
        """Begin the work; the failure of one part ends the connection with that error."""
        caller = self._call.caller
        self._lease = Lease(self._credentials, self._clock, caller, self._secret, self._ended)
        if caller.user_id is not None:
            self._unwatch = self._credentials.watch_user(caller.user_id, self._changed)
        self._tasks = [asyncio.create_task(self._guarded(work)) for work in works]
        if self._secret and self._credentials.known(self._secret) is None:
            # It ended, or the role changed, between the admission and the watch.
            self._changed()

    async def stop(self) -> None:
        """Stop the work and wait until it has cleaned up."""
        self._unwatch()
        if self._lease is not None:
            self._lease.close()
        for task in self._tasks:
            task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.gather(*self._tasks, return_exceptions=True)

    def _ended(self) -> None:
        self._out.close(self._credentials.why_not(self._secret).refusal("the credential has ended"))

    def _changed(self) -> None:
        if self._secret:
            self._tasks.append(asyncio.create_task(self._guarded(self._look_again)))

    async def _look_again(self) -> None:
        """Hold the caller to what they may do now."""
        principal = await self._credentials.authenticate(self._secret)
        if principal is None:
            self._ended()
        elif self._call.admitted is not None and not self._call.admitted.gate.public:
            authorise(self._call.admitted, principal)

    async def _guarded(self, work: Callable[[], Awaitable[None]]) -> None:
        try:
            await work()
        except Exception as error:  # noqa: BLE001 - handed to the reader, where the pipeline maps it
            self._out.close(error)
