"""The log of runs: what each told its clients, stored before it is told.

Whoever carries a run out holds a lease on it. Every write names the holder, so that a process which was taken for dead and is
not can add nothing to a run that has been ended for it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

from core.kernel.clock import Clock
from core.kernel.errors import Aborted
from core.plans.run_activity import deadline_us
from core.plans.stream_messages import numbered
from core.storage.database import Database
from core.storage.tx import Tx
from gen.busbar.plans.v1.runs_pb import StreamMessage

PAGE = 256
"""Events that are read at once."""

_ADD = "INSERT INTO plan_run_event (run_id, number, message, raw, cut) VALUES ($1, $2, $3, $4, $5)"
_READ = "SELECT number, message, raw, cut FROM plan_run_event WHERE run_id = $1 AND number > $2 ORDER BY number LIMIT $3"
_HOLD = "UPDATE plan_run SET lease_us = $3 WHERE id = $1 AND owner = $2 AND finished_us IS NULL"
_TAKE = "UPDATE plan_run SET owner = $3, lease_us = $4 WHERE id = $1 AND owner = $2 AND finished_us IS NULL AND lease_us < $5"
_WAIT = "UPDATE plan_run SET status = $3, missing_file = $4, load_files = $5 WHERE id = $1 AND owner = $2"
_END = """
UPDATE plan_run SET status = $3, error = $4, usage = $5, finished_us = $6, missing_file = '', load_files = '[]'
WHERE id = $1 AND owner = $2 AND finished_us IS NULL
"""
_STATUS = "UPDATE plan_branch SET status = $2, updated_us = $3 WHERE id = $1 AND status <> $2"
_USAGE = "UPDATE plan_run SET usage = $2 WHERE id = $1"
_PURGE_EVENTS = "DELETE FROM plan_run_event WHERE run_id IN (SELECT id FROM plan_run WHERE finished_us < $1)"
_PURGE = "DELETE FROM plan_run WHERE finished_us < $1"
_EXISTS = "SELECT id FROM plan_run WHERE id = $1"
_SILENT = "SELECT id FROM plan_run WHERE finished_us IS NULL AND lease_us < $1"


@dataclass(frozen=True)
class Event:
    """What a run told its clients at one moment.

    Attributes:
        number: From 1, without holes.
        message: What it told.
        raw: What the model wrote meanwhile.
        cut: How many characters of the reply before it still count; None for all.
    """

    number: int
    message: StreamMessage
    raw: str = ""
    cut: int | None = None

    @cached_property
    def numbered(self) -> StreamMessage:
        """The message with its position; shared by all who want it, so that nobody may change it."""
        return numbered(self.message, self.number)


@dataclass(frozen=True, slots=True)
class Ending:
    """How a run ended.

    Attributes:
        status: `finished`, `stopped` or `error`; the branch gets the same.
        error: Why it failed.
        usage: JSON list of what it cost.
    """

    status: str
    error: str = ""
    usage: str = "[]"


@dataclass(frozen=True, slots=True)
class Held:
    """A run that this process carries out."""

    run_id: str
    branch_id: str
    owner: str


def lost() -> Aborted:
    """Return the refusal for a process that no longer holds a run."""
    return Aborted("the run was ended by another process")


def partial_text(events: Sequence[Event]) -> str:
    """Return what the model wrote in some events, without what was cut off again."""
    text = ""
    for event in events:
        text = (text if event.cut is None else text[: event.cut]) + event.raw
    return text


class RunLog:
    """Writes and reads the log."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def append(
        self, held: Held, events: Sequence[Event], committed: Callable[[None], None], ending: Ending | None = None
    ) -> None:
        """Store events, and with the last of them how the run ended; `committed` is called in the order of the log.

        Raises:
            Aborted: The run is no longer held.
            Unavailable: Storage failed; nothing was stored.
        """
        rows = [(held.run_id, e.number, e.message.to_binary(), e.raw, e.cut) for e in events]
        now = self._clock.now_us()

        async def job(tx: Tx) -> None:
            if not await tx.execute(_HOLD, held.run_id, held.owner, now):
                raise lost()
            await tx.executemany(_ADD, rows)
            if ending is not None:
                await tx.execute(_END, held.run_id, held.owner, ending.status, ending.error, ending.usage, now)
                await tx.execute(_STATUS, held.branch_id, ending.status, now)

        await self._database.submit(job, committed=committed, rows=len(rows))

    async def read(self, run_id: str, after: int, most: int = PAGE) -> list[Event]:
        """Return the events that follow one, oldest first."""

        async def job(tx: Tx) -> list[Event]:
            rows = await tx.fetch(_READ, run_id, after, most)
            return [Event(number, StreamMessage.from_binary(message), raw, cut) for number, message, raw, cut in rows]

        return await self._database.query(job)

    async def read_all(self, run_id: str, after: int) -> list[Event]:
        """Return all events that follow one."""
        events: list[Event] = []
        while page := await self.read(run_id, events[-1].number if events else after):
            events += page
        return events

    async def beat(self, held: Sequence[Held]) -> set[str]:
        """Give a sign of life for runs; returns the ids of those that are no longer held."""
        now = self._clock.now_us()

        async def job(tx: Tx) -> set[str]:
            return {one.run_id for one in held if not await tx.execute(_HOLD, one.run_id, one.owner, now)}

        return await self._database.submit(job)

    async def exists(self, run_id: str) -> bool:
        """Tell whether a run is known, which it no longer is once its plan is deleted."""

        async def job(tx: Tx) -> bool:
            return bool(await tx.fetch(_EXISTS, run_id))

        return await self._database.query(job)

    async def silent(self) -> list[str]:
        """Return the ids of runs that give no sign of life."""
        before = deadline_us(self._clock.now_us())

        async def job(tx: Tx) -> list[str]:
            return [str(row[0]) for row in await tx.fetch(_SILENT, before)]

        return await self._database.query(job)

    async def take_over(self, run_id: str, owner: str, by: str) -> bool:
        """Take a run whose holder is silent; False when somebody was faster, or the holder lives."""
        now = self._clock.now_us()

        async def job(tx: Tx) -> bool:
            return bool(await tx.execute(_TAKE, run_id, owner, by, now, deadline_us(now)))

        return await self._database.submit(job)

    async def set_waiting(self, held: Held, *, missing_file: str = "", load_files: str = "[]") -> None:
        """Note what a run waits for; nothing ends the wait."""
        status = "waiting" if missing_file or load_files != "[]" else "active"

        async def job(tx: Tx) -> None:
            await tx.execute(_WAIT, held.run_id, held.owner, status, missing_file, load_files)

        await self._database.submit(job)

    async def set_status(self, branch_id: str, status: str) -> None:
        """Note what happens on a branch."""
        now = self._clock.now_us()

        async def job(tx: Tx) -> None:
            await tx.execute(_STATUS, branch_id, status, now)

        await self._database.submit(job)

    async def purge(self, before_us: int) -> None:
        """Forget runs that ended before a time, and what they told."""

        async def job(tx: Tx) -> None:
            await tx.execute(_PURGE_EVENTS, before_us)
            await tx.execute(_PURGE, before_us)

        await self._database.submit(job)

    async def set_usage(self, run_id: str, usage: str) -> None:
        """Note what a run has cost."""

        async def job(tx: Tx) -> None:
            await tx.execute(_USAGE, run_id, usage)

        await self._database.submit(job)
