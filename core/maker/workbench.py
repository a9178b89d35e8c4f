"""The assistant of the workbench: conversations and completions of code, with the caller's project as context."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import cast

from protobuf import Oneof

from core.kernel.call import Call, Principal
from core.kernel.errors import InvalidArgument
from core.maker.workbench_context import ProjectContext
from core.models.answers import Reply, Speaker, Turn, Usage, Wishes
from core.models.provider import Models
from core.storage.database import Database
from gen.busbar.maker.v1.workbench_pb import (
    ChatEvent,
    ChatMessage,
    ChatRequest,
    ChatResponse,
    CompleteCodeRequest,
    CompleteCodeResponse,
    StreamChatRequest,
    TokenUsage,
)

COMPLETION_TOKENS = 128
CHAT_PROMPT = (
    "You help makers with microcontroller projects: firmware, wiring and dashboards of virtual pins. Answer briefly, and say "
    "so when you do not know."
)
COMPLETION_PROMPT = (
    "You complete {language} code at the cursor. The user sends the code before the cursor between <prefix> and </prefix>, "
    "and the code after it between <suffix> and </suffix>. Answer with exactly the text to insert at the cursor: no "
    "explanation, no fence, nothing of the prefix or the suffix. Answer with nothing when nothing is missing."
)
_FENCE = re.compile(r"\s*```[\w+-]*\n(?P<code>.*?)\n?```\s*", re.DOTALL)


class WorkbenchService:
    """Asks the model provider on behalf of callers."""

    def __init__(self, database: Database, models: Models, context: ProjectContext) -> None:
        self._database = database
        self._models = models
        self._context = context

    async def chat(self, request: ChatRequest, call: Call) -> ChatResponse:
        """Answer a conversation."""
        turns = await self._turns(request, call.caller)
        reply = await self._models.chat(turns, _wishes(request))
        return ChatResponse(
            reply=ChatMessage(role="assistant", content=reply.text),
            model=reply.model,
            finish_reason=reply.finish_reason,
            usage=_usage(reply.usage),
        )

    async def stream_chat(self, request: StreamChatRequest, call: Call) -> AsyncIterator[ChatEvent]:
        """Answer a conversation in pieces."""
        chat = request.chat or ChatRequest()
        turns = await self._turns(chat, call.caller)
        async with aclosing(self._models.stream(turns, _wishes(chat))) as pieces:
            async for piece in pieces:
                yield _end(piece) if isinstance(piece, Reply) else ChatEvent(part=Oneof(field="delta", value=piece))

    async def complete_code(self, request: CompleteCodeRequest, call: Call) -> CompleteCodeResponse:
        """Complete code at the cursor."""
        context = await self._about(request.project_id, call.caller)
        tokens = request.max_tokens if request.has_field("max_tokens") else COMPLETION_TOKENS
        wishes = Wishes(max_tokens=tokens)
        if self._models.completes_text:
            reply = await self._models.complete(request.prefix, request.suffix, wishes)
            text = reply.text
        else:
            reply = await self._models.chat(_cursor_turns(request, context), wishes)
            text = _without_fence(reply.text)
        return CompleteCodeResponse(
            completion=text, model=reply.model, finish_reason=reply.finish_reason, usage=_usage(reply.usage)
        )

    async def _turns(self, request: ChatRequest, caller: Principal) -> list[Turn]:
        """Return the conversation with what goes before it."""
        said = _said(request)
        context = await self._about(request.project_id, caller)
        return [Turn("system", text) for text in (CHAT_PROMPT, context) if text] + said

    async def _about(self, project_id: str, caller: Principal) -> str:
        if not project_id:
            return ""
        async with self._database.read() as session:
            return await self._context.describe(session, project_id, caller)


def _said(request: ChatRequest) -> list[Turn]:
    if bool(request.messages) == bool(request.message):
        raise InvalidArgument.field("messages", "name either messages or a message")
    if request.message:
        return [Turn("user", request.message)]
    if request.messages[-1].role != "user":
        raise InvalidArgument.field("messages", "the last one must be from the user")
    return [Turn(cast("Speaker", message.role), message.content) for message in request.messages]


def _wishes(request: ChatRequest) -> Wishes:
    return Wishes(
        model=request.model or None,
        temperature=request.temperature if request.has_field("temperature") else None,
        max_tokens=request.max_tokens if request.has_field("max_tokens") else None,
    )


def _cursor_turns(request: CompleteCodeRequest, context: str) -> list[Turn]:
    prompt = COMPLETION_PROMPT.format(language=request.language or "cpp")
    path = f"File: {request.path}\n" if request.path else ""
    asked = f"{path}<prefix>{request.prefix}</prefix>\n<suffix>{request.suffix}</suffix>"
    return [Turn("system", text) for text in (prompt, context) if text] + [Turn("user", asked)]


def _without_fence(text: str) -> str:
    """Return the code of an answer that is one fenced block, as models send in spite of all requests."""
    found = _FENCE.fullmatch(text)
    return text if found is None else found["code"]


def _end(reply: Reply) -> ChatEvent:
    return ChatEvent(
        part=Oneof(field="done", value=True), model=reply.model, finish_reason=reply.finish_reason, usage=_usage(reply.usage)
    )


def _usage(usage: Usage | None) -> TokenUsage | None:
    if usage is None:
        return None
    return TokenUsage(
        prompt_tokens=usage.prompt_tokens, completion_tokens=usage.completion_tokens, total_tokens=usage.total_tokens
    )
