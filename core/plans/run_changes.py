"""Changes that a run makes to its branch. They count while the run is held, so that one which was ended changes nothing."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial

from sqlalchemy import update
from sqlmodel import col
from sqlmodel.ext.asyncio.session import AsyncSession

from core.kernel.call import Principal
from core.kernel.clock import Clock
from core.plans.replies import Said, add_reply
from core.plans.run_log import Held, RunLog, lost, partial_text
from core.plans.run_tables import PlanRunRow
from core.plans.store import Change, PlanStore
from gen.busbar.api.v1.options_pb import CredentialKind
from gen.busbar.plans.v1.conversation_pb import ConvoMessage


@asynccontextmanager
async def held_change(
    store: PlanStore, held: Held, caller: Principal, plan_id: str, branch: str, *, kept: int | None = None
) -> AsyncGenerator[Change]:
    """Change a branch for a run, as `PlanStore.change` does.

    Args:
        store: The store.
        held: The run.
        caller: Who started it.
        plan_id: The plan.
        branch: Name of the branch.
        kept: Number of the newest event whose text is in the conversation with this change.

    Raises:
        Aborted: The run was ended by another process; nothing is stored.
    """
    async with store.change(caller, plan_id, branch) as change:
        yield change
        change.also = partial(_require_held, held, kept, change.also)


async def _require_held(
    held: Held, kept: int | None, also: Callable[[AsyncSession], Awaitable[None]], session: AsyncSession
) -> None:
    await also(session)
    mine = (col(PlanRunRow.id) == held.run_id, col(PlanRunRow.owner) == held.owner, col(PlanRunRow.finished_us).is_(None))
    values = {"owner": held.owner} if kept is None else {"kept": kept}
    found = await session.exec(update(PlanRunRow).where(*mine).values(**values))
    if found.rowcount != 1:
        raise lost()


async def keep_reply(
    store: PlanStore, held: Held, caller: Principal, plan_id: str, branch: str, said: Said, *, kept: int, now_us: int
) -> ConvoMessage:
    """Put a reply of a run into the conversation."""
    async with held_change(store, held, caller, plan_id, branch, kept=kept) as change:
        return add_reply(change, said, now_us)


class PartialReplies:
    """Keeps what runs had written whose process died."""

    def __init__(self, store: PlanStore, log: RunLog, clock: Clock) -> None:
        self._store = store
        self._log = log
        self._clock = clock

    async def keep(self, row: PlanRunRow, owner: str) -> int:
        """Put the reply that a run was writing into the conversation, as a stopped one; return the number of its last event."""
        events = await self._log.read_all(row.id, row.kept)
        text = partial_text(events)
        newest = events[-1].number if events else row.kept
        if text.strip():
            caller = Principal(f"run {row.id}", CredentialKind.PLANS_TOKEN, row.org_id, row.user_id)
            said = Said(text, row.user_id, stopped=True)
            held = Held(row.id, row.branch_id, owner)
            now_us = self._clock.now_us()
            await keep_reply(self._store, held, caller, row.plan_id, row.branch, said, kept=newest, now_us=now_us)
        return newest
