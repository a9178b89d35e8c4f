"""The opening handshake, which is plain HTTP until the connection is accepted."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from protobuf import DescMessage

from adapters.live.styles import POLICY, Ending
from adapters.rest.answers import Answer
from adapters.rest.dialects import Asked, Dialect, retry_after
from adapters.rest.request import Request
from core.kernel.errors import DomainError

Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

DENIAL = "websocket.http.response"


class Handshake:
    """Accepts a connection, or refuses it with an HTTP answer in the style of the surface."""

    def __init__(
        self, request: Request, dialect: Dialect, send: Send, request_id: str, scope: MutableMapping[str, Any]
    ) -> None:
        self.accepted = False
        self.send = send
        self._request = request
        self._dialect = dialect
        self._request_id = request_id
        self._can_answer = DENIAL in (scope.get("extensions") or {})

    def acceptance(self) -> MutableMapping[str, Any]:
        """Return the event that turns the connection into a WebSocket."""
        self.accepted = True
        return {"type": "websocket.accept", "headers": [(b"x-request-id", self._request_id.encode("latin-1"))]}

    async def refuse(self, error: DomainError, message: DescMessage | None = None) -> None:
        """Answer with a refusal; `message` is the type whose fields it may name."""
        if not self._can_answer:
            await self.send({"type": "websocket.close", "code": POLICY, "reason": ""})
            return
        asked = Asked(self._request.path, self._request.accept, message)
        refusal = self._dialect.refusal(error, asked)
        answer = Answer(refusal.status, self._request_id)
        answer.content_type, answer.content = self._dialect.envelope(refusal, asked)
        wait = retry_after(error)
        if wait is not None:
            answer.headers.append((b"retry-after", wait.encode()))
        await answer.send(self._deny)

    async def accept_and_close(self, ending: Ending) -> None:
        """Tell a refusal by accepting the connection and closing it at once."""
        await self.send(self.acceptance())
        await self.send({"type": "websocket.close", "code": ending.code, "reason": ending.short_reason})

    async def _deny(self, event: MutableMapping[str, Any]) -> None:
        await self.send({**event, "type": event["type"].replace("http.response", DENIAL)})
