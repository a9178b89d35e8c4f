"""Runs that this process carries out, and what becomes of those whose process died.

A run is a task of the server. It holds a lease in its row and renews it every second; a run that is silent for five seconds is
dead, and whoever notices first ends it: what it had written is kept as a stopped reply, its clients are told, its branch shows
an error. It cannot go on by itself, since the keys of its model providers were in the memory of the process alone.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

import structlog
from sqlalchemy.exc import IntegrityError
from sqlmodel import col, select

from core.kernel.call import Principal
from core.kernel.clock import Clock
from core.kernel.errors import Aborted, AlreadyExists, DomainError, Unavailable
from core.plans import stream_messages as messages
from core.plans.access import Opened
from core.plans.ids import new_uuid
from core.plans.run_activity import deadline_us
from core.plans.run_feed import RunFeed
from core.plans.run_log import Ending, Event, Held, RunLog
from core.plans.run_tables import PlanRunRow
from core.storage.database import Database
from gen.busbar.api.v1.error_reason_pb import ErrorReason
from gen.busbar.plans.v1.runs_pb import ApiError, StreamMessage

BEAT_SECONDS = 1.0
"""Between two signs of life."""
MOST_SECONDS = 2 * 3600.0
"""A run ends after this time, whatever it does."""
STOPPED_SERVER = "The server stopped while this plan was running"
Choice = Literal["load", "skip", "overwrite"]

log = structlog.get_logger("busbar.plans")


class RunFailed(Exception):
    """A run cannot go on, for a reason that its client knows by a word."""

    def __init__(self, kind: str, status: int, text: str) -> None:
        super().__init__(text)
        self.error = ApiError(type=kind, status=status, msg=text)


@dataclass(eq=False)
class ActiveRun:
    """A run that this process carries out.

    Attributes:
        held: Its id, its branch and this process.
        caller: Who started it; it acts for them.
        plan_id: Plan that it works on.
        branch: Name of the branch that it works on.
        prompt: What was asked for.
        builds_only: Whether no model talks in it.
        feed: What it tells.
        auth_vars: Keys of its model providers. Nowhere but here.
        usage: Returns what it has cost, as JSON.
        missing_file: File that it asks about; empty for none.
        load_files: Files that it asks for.
        building: Whether each file of its builds is built, by path.
        answer: Where the answer about that file is awaited.
        loading: Set when those files begin to be loaded.
        loaded: Where they are awaited.
        later: Work beside it that may outlive it.
        task: What carries it out.
        why: Why its task is cancelled: empty, `stopped` by its user, or that the server goes down.
    """

    held: Held
    caller: Principal
    plan_id: str
    branch: str
    prompt: str
    builds_only: bool
    feed: RunFeed
    auth_vars: dict[str, str] = field(default_factory=dict[str, str], repr=False)
    usage: Callable[[], str] = lambda: "[]"
    missing_file: str = ""
    load_files: tuple[str, ...] = ()
    building: dict[str, bool] = field(default_factory=dict[str, bool])
    answer: asyncio.Future[Choice] | None = None
    loading: asyncio.Event | None = None
    loaded: asyncio.Future[None] | None = None
    why: str = ""
    task: asyncio.Task[None] | None = None
    later: set[asyncio.Task[None]] = field(default_factory=set[asyncio.Task[None]])

    def afterwards(self, work: Awaitable[None], name: str) -> asyncio.Task[None]:
        """Do work beside the run that may outlive it."""

        async def carry_out() -> None:
            await work

        task = asyncio.create_task(carry_out(), name=name)
        self.later.add(task)
        task.add_done_callback(self.later.discard)
        return task


Work = Callable[[ActiveRun], Awaitable[None]]
"""Carries a run out; returns when it did what it was asked for."""
KeepPartial = Callable[[PlanRunRow, str], Awaitable[int]]
"""Keeps what a dead run had written, for the process that has taken it over; returns the number of its last event."""


class ActiveRuns:
    """Starts, finds and ends runs."""

    def __init__(self, database: Database, clock: Clock, run_log: RunLog, keep_partial: KeepPartial, *, pace_ms: int) -> None:
        self.owner = new_uuid()
        self._database = database
        self._clock = clock
        self._log = run_log
        self._pace_ms = pace_ms
        self._active: dict[str, ActiveRun] = {}
        self._ended: set[ActiveRun] = set()
        self._beating: asyncio.Task[None] | None = None
        self._stopping = False
        self._keep_partial = keep_partial

    async def start(self) -> None:
        """End the runs of processes that died, and begin to give signs of life."""
        await self._bury_silent()
        self._beating = asyncio.create_task(self._beat(), name="plan-runs")

    async def stop(self) -> None:
        """End all runs; what they had written is kept."""
        self._stopping = True
        await asyncio.gather(*(self.end(run, STOPPED_SERVER) for run in list(self._active.values())))
        later = [task for run in self._ended for task in run.later]
        for task in later:
            task.cancel()
        if later:
            await asyncio.wait(later)
        if self._beating is not None:
            self._beating.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._beating

    def of_branch(self, branch_id: str) -> ActiveRun | None:
        """Return the run of a branch that this process carries out."""
        return self._active.get(branch_id)

    async def begin(
        self, opened: Opened, caller: Principal, row: PlanRunRow, work: Work, *, auth_vars: Mapping[str, str]
    ) -> ActiveRun:
        """Start a run of a branch; it goes on by itself.

        Raises:
            AlreadyExists: A run is active on the branch.
            Unavailable: The server is going down.
        """
        if self._stopping:
            raise Unavailable("the server is going down", reason=ErrorReason.SHUTTING_DOWN, retry_after=1)
        await self.bury_if_dead(opened.branch.id)
        row.owner, row.lease_us = self.owner, self._clock.now_us()
        try:
            async with self._database.unit_of_work() as session:
                session.add(row)
        except IntegrityError as error:
            raise AlreadyExists(
                f"Error {'building' if row.kind == 'build' else 'telling'} plan: "
                f"branch {opened.branch.name} of plan {opened.plan.id} already has an active stream"
            ) from error
        held = Held(row.id, row.branch_id, self.owner)
        run = ActiveRun(
            held,
            caller,
            plan_id=row.plan_id,
            branch=row.branch,
            prompt=row.prompt,
            builds_only=row.kind == "build",
            feed=RunFeed(self._log, held, self._pace_ms),
            auth_vars=dict(auth_vars),
        )
        self._active[row.branch_id] = run
        run.task = asyncio.create_task(self._carry_out(run, work), name="plan-run")
        return run

    async def end(self, run: ActiveRun, why: str) -> None:
        """Cancel a run and wait until what it had written is kept."""
        task = run.task
        if task is None or task.done():
            return
        if not run.why:
            run.why = why
            task.cancel()
        await asyncio.wait([task])

    async def bury_if_dead(self, branch_id: str) -> None:
        """End the run of a branch when its process died."""
        async with self._database.read() as session:
            found = await session.exec(
                select(PlanRunRow).where(
                    col(PlanRunRow.branch_id) == branch_id,
                    col(PlanRunRow.finished_us).is_(None),
                    col(PlanRunRow.lease_us) < deadline_us(self._clock.now_us()),
                )
            )
            row = found.one_or_none()
        if row is not None:
            await self._bury(row)

    async def _carry_out(self, run: ActiveRun, work: Work) -> None:
        message, ending = messages.finished(), Ending("finished")
        try:
            async with asyncio.timeout(MOST_SECONDS):
                await run.feed.tell(messages.start())
                await work(run)
        except asyncio.CancelledError:
            message, ending = self._cut_short(run)
        except Exception as error:  # noqa: BLE001 - its client is told
            message, ending = _failed(run, error)
        await self._finish(run, message, ending)

    def _cut_short(self, run: ActiveRun) -> tuple[StreamMessage, Ending]:
        if run.why == "stopped":
            return messages.aborted(), Ending("stopped")
        return messages.error("other", 503, STOPPED_SERVER), Ending("error", STOPPED_SERVER)

    async def _finish(self, run: ActiveRun, message: StreamMessage, ending: Ending) -> None:
        try:
            await run.feed.end(message, Ending(ending.status, ending.error, run.usage()))
        except Aborted:
            run.feed.abandon()
        except DomainError as error:
            # Storage failed: the lease ends with the process or after five seconds, and then the run is ended from its row.
            log.warning("plan_run_not_ended", run=run.held.run_id, error=error.message)
            run.feed.abandon()
        finally:
            self._active.pop(run.held.branch_id, None)
            if run.later:
                self._ended.add(run)
                for task in run.later:
                    task.add_done_callback(lambda _task: self._forget(run))

    def _forget(self, run: ActiveRun) -> None:
        if not run.later:
            self._ended.discard(run)

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(BEAT_SECONDS)
            try:
                if self._active:
                    await self._log.beat([run.held for run in self._active.values()])
                await self._bury_silent()
            except DomainError as error:
                log.warning("plan_runs_not_seen_to", error=error.message)
            except Exception:
                log.exception("plan_runs_not_seen_to")

    async def _bury_silent(self) -> None:
        for run_id in await self._log.silent():
            async with self._database.read() as session:
                row = await session.get(PlanRunRow, run_id)
            if row is not None:
                await self._bury(row)

    async def _bury(self, row: PlanRunRow) -> None:
        """End a run whose process died, unless somebody else does or it lives after all."""
        mine = self._active.get(row.branch_id)
        if mine is not None and mine.held.run_id == row.id:
            return
        if not await self._log.take_over(row.id, row.owner, self.owner):
            return
        try:
            number = await self._keep_partial(row, self.owner)
        except DomainError as error:
            # The branch may be gone, or storage fails. The run has to end all the same; its events have the text.
            log.warning("plan_run_partial_lost", run=row.id, error=error.message)
            events = await self._log.read_all(row.id, row.kept)
            number = events[-1].number if events else row.kept
        held = Held(row.id, row.branch_id, self.owner)
        last = Event(number + 1, messages.error("other", 500, STOPPED_SERVER))
        await self._log.append(held, [last], _nothing, Ending("error", STOPPED_SERVER, row.usage))
        log.info("plan_run_ended_for_dead_process", run=row.id)


def _nothing(_result: None) -> None:
    """Nobody in this process follows."""


def _failed(run: ActiveRun, error: Exception) -> tuple[StreamMessage, Ending]:
    """Return how a run ends that failed."""
    if isinstance(error, RunFailed):
        return StreamMessage(type="error", error=error.error), Ending("error", error.error.msg)
    if isinstance(error, TimeoutError):
        text = "The run took longer than two hours"
        return messages.error("other", 504, text), Ending("error", text)
    if isinstance(error, DomainError):
        return messages.failure(error), Ending("error", error.message)
    log.error("plan_run_failed", run=run.held.run_id, exc_info=error)
    text = f"internal error in run {run.held.run_id}"
    return messages.error("other", 500, text), Ending("error", text)
