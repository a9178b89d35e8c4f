"""The conversation of a branch."""

from __future__ import annotations

from core.kernel.call import Call
from core.plans.store import PlanStore
from core.plans.summaries import Summaries
from gen.busbar.plans.v1.conversation_pb import (
    GetSummaryRequest,
    ListMessagesRequest,
    ListMessagesResponse,
    Summary,
)


class ConversationService:
    """Reads conversations."""

    def __init__(self, store: PlanStore, summaries: Summaries) -> None:
        self._store = store
        self._summaries = summaries

    async def list_messages(self, request: ListMessagesRequest, call: Call) -> ListMessagesResponse:
        """List the messages of a branch, oldest first."""
        opened = await self._store.open(call.caller, request.plan_id, request.branch)
        return ListMessagesResponse(messages=(await self._store.read(opened)).messages)

    async def get_summary(self, request: GetSummaryRequest, call: Call) -> Summary:
        """Read the newest summary of what is still in the conversation."""
        opened = await self._store.open(call.caller, request.plan_id, request.branch)
        state = await self._store.read(opened)
        found = await self._summaries.latest(opened.plan.id, state.messages)
        return Summary(text="" if found is None else found.text)
