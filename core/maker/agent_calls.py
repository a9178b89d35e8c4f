"""What agents did with the user's keys."""

from __future__ import annotations

from core.identity.tool_calls import ToolCalls
from core.kernel.call import Call
from core.kernel.clock import to_timestamp
from core.kernel.pages import decode_cursor, encode_cursor, page_limit
from gen.busbar.maker.v1.agent_calls_pb import AgentCall, ListAgentCallsRequest, ListAgentCallsResponse


class AgentCallService:
    """Lists calls of tools."""

    def __init__(self, calls: ToolCalls) -> None:
        self._calls = calls

    async def list_agent_calls(self, request: ListAgentCallsRequest, call: Call) -> ListAgentCallsResponse:
        """List the caller's calls, newest first."""
        limit = page_limit(request.limit if request.has_field("limit") else None)
        after = decode_cursor(request.cursor, int, str)
        rows = await self._calls.page(call.caller.user_id or "", request.key_id, after, limit + 1)
        last = rows[limit - 1][0] if len(rows) > limit else None
        calls = [
            AgentCall(
                id=row.id,
                key_id=row.credential_id,
                key_name=name,
                tool=row.tool,
                outcome=row.outcome,
                duration_ms=row.duration_us / 1000,
                at=to_timestamp(row.at_us),
            )
            for row, name in rows[:limit]
        ]
        return ListAgentCallsResponse(calls=calls, next_cursor=None if last is None else encode_cursor(last.at_us, last.id))
