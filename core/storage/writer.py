"""Group commit: all writes that wait become one transaction, and each caller is answered after its commit.

On a disk that takes 0.4 ms to flush, one commit per write caps the server at 2,500 writes a second whatever the processor does.
Sharing a commit lifts the cap without weakening the promise: acknowledged means committed.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from core.kernel.errors import Unavailable
from core.storage.errors import is_transient, unavailable
from core.storage.tx import Job, Tx, isolated
from gen.busbar.api.v1.error_reason_pb import ErrorReason

T = TypeVar("T")

MOST_WAITING = 4096
"""Jobs that may wait; the next one is refused, so that a slow disk cannot eat the memory."""
MOST_TOGETHER = 512
"""Jobs in one transaction; bounds how long the first of them waits for the last."""
GATHER_TURNS = 6
GATHER_SECONDS = 0.002
GATHER_ROWS = 512
"""How long a group waits for company: until so many turns of the loop in a row have brought none, at most so long, and not at
all once so many rows wait, since a batch is better stored while the next one is being read."""
MOST_ROWS_WAITING = 1_000_000
MOST_ROWS_TOGETHER = 100_000
"""The same bounds in rows, for jobs that say how many they bring."""


@dataclass(slots=True, eq=False)
class Entry:
    """A job that waits, and what became of it."""

    job: Job[Any]
    committed: Callable[[Any], None] | None
    answer: asyncio.Future[Any]
    rows: int = 1
    result: Any = None
    error: Exception | None = None


class Lane(Protocol):
    """A connection for writing."""

    async def commit(self, entries: list[Entry]) -> None:
        """Run the jobs in one transaction and commit. Raises when nothing was committed."""
        ...

    async def close(self) -> None:
        """Give the connection back."""
        ...


class Writer:
    """Queues jobs and commits them in groups, in the order in which they came."""

    def __init__(self, lane: Lane, *, wait_seconds: float = 0.0) -> None:
        self._lane = lane
        self._wait_seconds = wait_seconds
        self._waiting: deque[Entry] = deque()
        self._rows = 0
        self._wake = asyncio.Event()
        self._closing = False
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to work."""
        self._task = asyncio.create_task(self._work(), name="storage-writer")

    async def stop(self) -> None:
        """Commit what waits, then close. Later jobs are refused."""
        self._closing = True
        self._wake.set()
        if self._task is not None:
            await self._task
        await self._lane.close()

    async def submit(self, job: Job[T], *, committed: Callable[[T], None] | None = None, rows: int = 1) -> T:
        """Run a job in the next group and return its result once that group is committed.

        `committed` is called with the result right after the commit, in commit order and before any caller is answered, even
        when the caller has gone meanwhile. It must not raise or wait. `rows` is about how many rows the job brings.

        Raises:
            Unavailable: Storage failed, or too many jobs wait. Nothing was changed.
            Exception: Whatever the job raised; its neighbours are not touched by it.
        """
        if self._closing or self._task is None:
            raise Unavailable("the server is going down", reason=ErrorReason.SHUTTING_DOWN, retry_after=1)
        if len(self._waiting) >= MOST_WAITING or (self._waiting and self._rows + rows > MOST_ROWS_WAITING):
            raise Unavailable("too many writes are waiting, try again later", retry_after=1)
        entry = Entry(job, committed, asyncio.get_running_loop().create_future(), rows)
        self._waiting.append(entry)
        self._rows += rows
        self._wake.set()
        return await entry.answer

    async def _work(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            if self._wait_seconds and not self._closing:
                await asyncio.sleep(self._wait_seconds)
            while self._waiting:
                await self._gather()
                await self._commit_some()
            if self._closing:
                return

    async def _gather(self) -> None:
        """Let in the writes that are already on their way through the loop; a commit costs as much as several of them."""
        until = time.perf_counter() + GATHER_SECONDS
        turns_left = GATHER_TURNS
        while turns_left and self._rows < GATHER_ROWS and time.perf_counter() < until and not self._closing:
            waiting = len(self._waiting)
            await asyncio.sleep(0)
            turns_left = GATHER_TURNS if len(self._waiting) > waiting else turns_left - 1

    def _take(self) -> list[Entry]:
        """Take the jobs of the next group, at least one."""
        taken: list[Entry] = []
        rows = 0
        while (
            self._waiting and len(taken) < MOST_TOGETHER and (not taken or rows + self._waiting[0].rows <= MOST_ROWS_TOGETHER)
        ):
            entry = self._waiting.popleft()
            taken.append(entry)
            rows += entry.rows
        self._rows -= rows
        return taken

    async def _commit_some(self) -> None:
        entries = [entry for entry in self._take() if not entry.answer.cancelled()]
        if not entries:
            return
        try:
            await self._lane.commit(entries)
        except Exception as error:  # noqa: BLE001 - every caller of the group learns of it
            failure = unavailable(error) or error
            for entry in entries:
                # Also where the job had refused: it may have seen what a neighbour did, which is undone now.
                entry.error = failure
        for entry in entries:
            _tell_committed(entry)
        for entry in entries:
            _answer(entry)


def _tell_committed(entry: Entry) -> None:
    if entry.error is not None or entry.committed is None:
        return
    try:
        entry.committed(entry.result)
    except Exception as error:  # noqa: BLE001 - a defect in one callback must not stop the writer; its caller learns of it
        entry.error = error


def _answer(entry: Entry) -> None:
    with suppress(asyncio.InvalidStateError):
        if entry.error is None:
            entry.answer.set_result(entry.result)
        else:
            entry.answer.set_exception(entry.error)


async def run_together(tx: Tx, entries: list[Entry], *, apart: bool) -> bool:
    """Run jobs in one transaction; return False when one failed and all must be run again, apart.

    With `apart` each job has its own savepoint and a failure stays where it is. The first pass does without, because savepoints
    cost PostgreSQL two round trips each and failures are rare.

    Raises:
        Exception: Storage failed, or the only job did; the transaction must be rolled back.
    """
    for entry in entries:
        entry.result, entry.error = None, None
        try:
            entry.result = await (isolated(tx, entry.job) if apart else entry.job(tx))
        except Exception as error:
            if len(entries) == 1 or is_transient(error):
                raise
            if not apart:
                return False
            entry.error = error
    return True
