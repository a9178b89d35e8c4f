"""Summarises the conversation after each reply, in the background, so that there is one when it grows too long."""

from __future__ import annotations

import structlog

from core.kernel.errors import DomainError
from core.plans import prompts
from core.plans.active_runs import ActiveRun
from core.plans.completion import RoleModels
from core.plans.questions import Message
from core.plans.run_parts import RunParts
from core.plans.stages import counts
from core.plans.state import PlanState
from core.plans.summary_tables import PlanSummaryRow
from core.plans.tokens import count_tokens

log = structlog.get_logger("busbar.plans")


class Summarizer:
    """Summarises for one run. What a reply came too late for is part of the next summary."""

    def __init__(self, parts: RunParts, run: ActiveRun, models: RoleModels) -> None:
        self._parts = parts
        self._run = run
        self._models = models
        self._wanted = False
        self._working = False

    def begin(self) -> None:
        """Summarise what was said so far; goes on when the run has ended."""
        self._wanted = True
        if not self._working:
            self._working = True
            self._run.afterwards(self._work(), "plan-run-summary")

    async def _work(self) -> None:
        try:
            while self._wanted:
                self._wanted = False
                await self._summarize()
        except DomainError as error:
            log.warning("plan_not_summarized", run=self._run.held.run_id, error=error.message)
        finally:
            self._working = False

    async def _summarize(self) -> None:
        run, summaries = self._run, self._parts.summaries
        opened = await self._parts.store.open(run.caller, run.plan_id, run.branch)
        state = await self._parts.store.read(opened)
        last = next((message for message in reversed(state.messages) if counts(message)), None)
        if last is None:
            return
        before = await summaries.latest(run.plan_id, state.messages)
        told = conversation_text(state, before)
        if not told:
            return
        question = [
            Message("system", prompts.summarizer()),
            Message("user", prompts.for_summary(before.text if before is not None else "", told)),
        ]
        text = (await self._models.ask("summarizer", question)).strip()
        if text:
            await summaries.add(opened.plan, last, text, count_tokens(text))
        await self._parts.log.set_usage(run.held.run_id, run.usage())


def conversation_text(state: PlanState, before: PlanSummaryRow | None) -> str:
    """Return the part of a conversation that no summary covers yet."""
    lines: list[str] = []
    covered = before is not None
    for message in state.messages:
        if not covered:
            speaker = "The engineer" if message.role == "assistant" else "The user"
            lines.append(f"{speaker}:\n{message.message.strip()}")
        elif before is not None and message.id == before.message_id:
            covered = False
    return "\n\n".join(lines)
