"""The history of a branch: its log, and the way back in it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime

from sqlmodel.ext.asyncio.session import AsyncSession

from core.kernel.call import Call
from core.kernel.clock import Clock
from core.kernel.errors import FailedPrecondition
from core.plans.access import Opened
from core.plans.repository import Entry
from core.plans.run_activity import require_idle
from core.plans.shas import named, shown
from core.plans.state import PlanState
from core.plans.store import Change, PlanStore
from core.plans.tables import BranchRow
from core.storage.database import Database
from gen.busbar.plans.v1.history_pb import (
    ListLogsRequest,
    Logs,
    RewindPlanRequest,
    RewindPlanResponse,
    UndoRewindRequest,
)

# Whatever the language of the server is, clients look for these.
_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")

_EMPTY_LINES = re.compile(r"\n(?:\s*\n)+")
"""Clients take an empty line for the end of an entry."""


class HistoryService:
    """Shows histories and goes back in them."""

    def __init__(self, database: Database, store: PlanStore, clock: Clock) -> None:
        self._database = database
        self._store = store
        self._clock = clock

    async def list_logs(self, request: ListLogsRequest, call: Call) -> Logs:
        """Read the log of a branch, newest entry first."""
        opened = await self._store.open(call.caller, request.plan_id, request.branch)
        entries, names = await self._store.log(opened), await self._names(opened)
        return Logs(
            shas=[names[entry.sha] for entry in entries],
            body="\n\n".join(entry_text(entry, names[entry.sha]) for entry in entries),
        )

    async def rewind_plan(self, request: RewindPlanRequest, call: Call) -> RewindPlanResponse:
        """Make a branch what it was at an entry of its log."""
        async with self._store.change(call.caller, request.plan_id, request.branch) as change:
            opened = Opened(change.plan, change.branch)
            entry = named(request.sha, await self._store.log(opened))
            head = change.branch.head
            await self._stand_at(change, entry.sha)
            if entry.sha != head:
                change.branch.undo_head, change.branch.undo_from = head, entry.sha
        return _answer(entry, await self._names(opened))

    async def undo_rewind(self, request: UndoRewindRequest, call: Call) -> RewindPlanResponse:
        """Take the last rewind of a branch back."""
        async with self._store.change(call.caller, request.plan_id, request.branch) as change:
            opened, branch = Opened(change.plan, change.branch), change.branch
            if not branch.undo_head or branch.undo_from != branch.head:
                raise FailedPrecondition("there is no rewind to take back", branch=branch.name)
            await self._stand_at(change, branch.undo_head)
            branch.undo_head = branch.undo_from = ""
        return _answer((await self._store.log(opened))[0], await self._names(opened))

    async def _stand_at(self, change: Change, sha: str) -> None:
        """Let a branch stand at an entry, unless a run is active on it."""
        branch, now_us = change.branch, self._clock.now_us()

        async def still_idle(session: AsyncSession) -> None:
            await require_idle(session, branch.id, now_us)

        change.also = still_idle
        count_tokens(branch, await self._store.state_at(change.plan.id, sha))
        branch.head, branch.updated_us, change.plan.updated_us = sha, now_us, now_us

    async def _names(self, opened: Opened) -> Mapping[str, str]:
        """Return what is shown of each sha of the plan, and of the branch as it was read."""
        return shown([*await self._store.entries(opened.plan.id), *await self._store.log(opened)])


def count_tokens(branch: BranchRow, state: PlanState) -> None:
    """Count the tokens of a branch anew."""
    branch.context_tokens = sum(item.num_tokens for item in state.contexts.values())
    branch.convo_tokens = sum(message.tokens for message in state.messages)


def entry_text(entry: Entry, sha: str) -> str:
    """Return an entry as the log shows it: a header, then what happened, without empty lines."""
    message = _EMPTY_LINES.sub("\n", entry.message.replace("\r\n", "\n")).strip()
    return f"📝 Update {sha} | {time_text(entry.seconds)}\n{message}"


def time_text(seconds: int) -> str:
    """Return a time as clients look for it in a log: `Wed Jul 16, 2025 | 5:04:03pm UTC`."""
    at = datetime.fromtimestamp(seconds, UTC)
    day = f"{_DAYS[at.weekday()]} {_MONTHS[at.month - 1]} {at.day}, {at.year}"
    return f"{day} | {at.hour % 12 or 12}:{at:%M:%S}{'ap'[at.hour // 12]}m UTC"


def _answer(entry: Entry, names: Mapping[str, str]) -> RewindPlanResponse:
    sha = names[entry.sha]
    return RewindPlanResponse(latest_sha=sha, latest_commit=entry_text(entry, sha))
