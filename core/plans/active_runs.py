"""Runs that this process carries out, and what becomes of those whose process died.

A run is a task of the server. It holds a lease in its row and renews it every second; a run that is silent for five seconds is
dead, and whoever notices first ends it: what it had written is kept as a stopped reply, its clients are told, its branch shows
an error. It cannot go on by itself, since the keys of its model providers were in the memory of the process alone.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping

import structlog
from sqlalchemy.exc import IntegrityError
from sqlmodel import col, select

from core.kernel.call import Principal
from core.kernel.clock import MICROSECONDS, Clock
from core.kernel.errors import Aborted, AlreadyExists, DomainError, Unavailable
from core.plans import stream_messages as messages
from core.plans.access import Opened
from core.plans.active_run import ActiveRun, RunFailed, Work
from core.plans.ids import new_uuid
from core.plans.run_activity import deadline_us
from core.plans.run_feed import RunFeed
from core.plans.run_log import Ending, Event, Held, RunLog
from core.plans.run_tables import PlanRunRow
from core.storage.database import Database
from gen.busbar.api.v1.error_reason_pb import ErrorReason
from gen.busbar.plans.v1.runs_pb import StreamMessage

BEAT_SECONDS = 1.0
"""Between two signs of life."""
MOST_SECONDS = 2 * 3600.0
"""A run ends after this time, whatever it does."""
DAY_US = 86_400 * MICROSECONDS
PURGE_US = 3600 * MICROSECONDS
"""Between two looks for runs that are old enough to be forgotten."""
STOPPED_SERVER = "The server stopped while this plan was running"
LOST = "The run was ended by another process, or its plan was deleted"

log = structlog.get_logger("busbar.plans")


KeepPartial = Callable[[PlanRunRow, str], Awaitable[int]]
"""Keeps what a dead run had written, for the process that has taken it over; returns the number of its last event."""


class ActiveRuns:
    """Starts, finds and ends runs."""

    def __init__(
        self, database: Database, clock: Clock, run_log: RunLog, keep_partial: KeepPartial, *, pace_ms: int, keep_days: int
    ) -> None:
        self.owner = new_uuid()
        self._database = database
        self._clock = clock
        self._log = run_log
        self._pace_ms = pace_ms
        self._keep_days = keep_days
        self._next_purge_us = 0
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
        # A task that is cancelled before its first step would never end its run.
        await asyncio.sleep(0)
        return run

    async def end(self, run: ActiveRun, why: str) -> None:
        """Cancel a run and wait until what it had written is kept."""
        task = run.task
        if task is None or task.done():
            return
        _cancel(run, why)
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
        run.ending = True
        await self._finish(run, message, ending)

    def _cut_short(self, run: ActiveRun) -> tuple[StreamMessage, Ending]:
        if run.why == "stopped":
            return messages.aborted(), Ending("stopped")
        return messages.error("other", 503, STOPPED_SERVER), Ending("error", STOPPED_SERVER)

    async def _finish(self, run: ActiveRun, message: StreamMessage, ending: Ending) -> None:
        try:
            await run.feed.end(message, Ending(ending.status, ending.error, run.usage()))
        except Aborted:
            run.feed.abandon(await self._last_of_lost(run))
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

    async def _last_of_lost(self, run: ActiveRun) -> StreamMessage | None:
        """Return the last message of a run that was ended by others; None where its log has one, or is going to."""
        try:
            return None if await self._log.exists(run.held.run_id) else messages.aborted()
        except DomainError as error:
            log.warning("plan_run_not_looked_for", run=run.held.run_id, error=error.message)
            return None

    def _forget(self, run: ActiveRun) -> None:
        if not run.later:
            self._ended.discard(run)

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(BEAT_SECONDS)
            try:
                await self._purge()
                if self._active:
                    await self._beat_for(list(self._active.values()))
                await self._bury_silent()
            except DomainError as error:
                log.warning("plan_runs_not_seen_to", error=error.message)
            except Exception:
                log.exception("plan_runs_not_seen_to")

    async def _beat_for(self, runs: list[ActiveRun]) -> None:
        """Give a sign of life for runs, and end those that are no longer held: nobody would see what they cost."""
        lost = await self._log.beat([run.held for run in runs])
        for run in runs:
            if run.held.run_id in lost:
                _cancel(run, LOST)

    async def _purge(self) -> None:
        now_us = self._clock.now_us()
        if self._keep_days and now_us >= self._next_purge_us:
            await self._log.purge(now_us - self._keep_days * DAY_US)
            self._next_purge_us = now_us + PURGE_US

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
        except Exception:
            # The repository may be damaged, or storage fails. The run has to end all the same; its events have the text.
            log.exception("plan_run_partial_lost", run=row.id)
            events = await self._log.read_all(row.id, row.kept)
            number = events[-1].number if events else row.kept
        held = Held(row.id, row.branch_id, self.owner)
        last = Event(number + 1, messages.error("other", 500, STOPPED_SERVER))
        await self._log.append(held, [last], _nothing, Ending("error", STOPPED_SERVER, row.usage))
        log.info("plan_run_ended_for_dead_process", run=row.id)


def _cancel(run: ActiveRun, why: str) -> None:
    """Cancel a run, unless it is being cancelled or is past that."""
    if run.task is not None and not run.why and not run.ending:
        run.why = why
        run.task.cancel()


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
