"""How the server is: `ok` while storage answers, else `degraded`. Whoever asks also notices when that has changed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from core.kernel.clock import Clock
from core.kernel.errors import DomainError

OK, DEGRADED = "ok", "degraded"


@dataclass(frozen=True, slots=True)
class HealthChange:
    """The state of the server became another one."""

    previous: str
    status: str
    at_us: int


class Storage(Protocol):
    """What the server cannot work without."""

    async def ping(self) -> None:
        """Prove that it answers; Unavailable otherwise."""
        ...


class HealthCheck:
    """Asks storage, and tells listeners of changes. They are called at once and must neither wait nor raise."""

    def __init__(self, storage: Storage, clock: Clock) -> None:
        self.status = OK
        self._storage = storage
        self._clock = clock
        self._listeners: list[Callable[[HealthChange], None]] = []

    def on_change(self, listener: Callable[[HealthChange], None]) -> None:
        """Call a listener with every change from now on."""
        self._listeners.append(listener)

    async def check(self) -> str:
        """Return `ok` or `degraded`."""
        try:
            await self._storage.ping()
            status = OK
        except DomainError:
            status = DEGRADED
        if status != self.status:
            change = HealthChange(self.status, status, self._clock.now_us())
            self.status = status
            for listener in self._listeners:
                listener(change)
        return status
