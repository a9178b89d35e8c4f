"""What the areas build their services on. The composition root makes it once; each area takes from it what it needs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol, TypeVar, runtime_checkable

from core.documents.documents import Documents
from core.identity.accounts import Accounts
from core.identity.credentials import Credentials
from core.identity.signing import ServerSecret
from core.identity.tool_calls import ToolCalls
from core.kernel.clock import Clock
from core.kernel.health import HealthCheck
from core.kernel.limits import Limiter
from core.kernel.settings import Settings
from core.live.events import EventBus
from core.mail.post import Post
from core.outbox.delivery import Handler
from core.outbox.outbox import Outbox
from core.signals.service import Signals
from core.storage.database import Database

T = TypeVar("T")


@runtime_checkable
class Starts(Protocol):
    """A part that has work to do before the first call."""

    async def start(self) -> None:
        """Get ready; the database is migrated."""
        ...


@runtime_checkable
class Opens(Protocol):
    """A part that has work to do once every door answers."""

    async def opened(self) -> None:
        """Do it; callers may be there already."""
        ...


@runtime_checkable
class Stops(Protocol):
    """A part that has work to do after the last call."""

    async def stop(self) -> None:
        """Finish; the database is still open."""
        ...


@dataclass
class Foundations:
    """The foundations, and what the areas hand to the server besides their services.

    Attributes:
        settings: What was set.
        database: Where everything is kept.
        bus: Live events.
        signals: Devices, channels and points.
        credentials: Credentials of every kind.
        identity: Users, organisations and credentials.
        secret: What short-lived tokens are signed with.
        outbox: Where side effects that survive a restart are put in.
        mail: Where mails are handed over.
        limiter: Rate limits of every kind.
        tool_calls: What agents did.
        documents: Revisioned JSON of every area.
        health: How the server is.
        handlers: How each kind of side effect is carried out; areas put theirs in.
        draining: Tells whether the server is going down; set once there is a platform.
        tools: Names of all tools of all areas; set once there is a platform.
    """

    settings: Settings
    clock: Clock
    database: Database
    bus: EventBus
    signals: Signals
    credentials: Credentials
    identity: Accounts
    secret: ServerSecret
    outbox: Outbox
    mail: Post
    limiter: Limiter
    tool_calls: ToolCalls
    documents: Documents
    health: HealthCheck
    handlers: dict[str, Handler] = field(default_factory=dict[str, Handler])
    draining: Callable[[], bool] = lambda: False
    tools: frozenset[str] = frozenset()
    _parts: list[object] = field(default_factory=list[object])

    def is_draining(self) -> bool:
        """Whether the server is going down, asked anew at each call."""
        return self.draining()

    def handle(self, kind: str, handler: Handler) -> None:
        """Say how a kind of side effect is carried out.

        Raises:
            ValueError: The kind has a handler already.
        """
        if kind in self.handlers:
            raise ValueError(f"side effects of kind {kind} have a handler already")
        self.handlers[kind] = handler

    def keep(self, part: T) -> T:
        """Start and stop a part together with the server, as far as it can be, and let it be found by its class."""
        self._parts.append(part)
        return part

    def part(self, kind: type[T]) -> T:
        """Return the part of a class. Raises LookupError when no area keeps one."""
        for part in self._parts:
            if isinstance(part, kind):
                return part
        raise LookupError(f"no area keeps a {kind.__name__}")

    async def start_parts(self) -> None:
        """Start the parts in the order in which they were kept."""
        for part in self._parts:
            if isinstance(part, Starts):
                await part.start()

    async def opened(self) -> None:
        """Tell the parts that every door answers."""
        for part in self._parts:
            if isinstance(part, Opens):
                await part.opened()

    @property
    def stopping(self) -> list[Stops]:
        """The parts to stop, in order: the last one kept first."""
        return [part for part in reversed(self._parts) if isinstance(part, Stops)]
