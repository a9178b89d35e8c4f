"""Sessions: named stretches of a source's telemetry, by ids that clients choose."""

from __future__ import annotations

import json
from typing import Any

from protobuf.wkt import Value

from core.kernel.call import Call
from core.kernel.clock import MICROSECONDS, Clock
from core.kernel.errors import InvalidArgument
from core.kernel.pages import page_limit
from core.signals.tables import RecordingRow
from core.telemetry.recordings import Draft, RecordingKeeper, Save, status_of
from core.telemetry.times import format_time, from_epoch, parse_time
from gen.busbar.telemetry.v1.sessions_pb import (
    ListSessionsRequest,
    ListSessionsResponse,
    SaveSessionRequest,
    Session,
    SessionReceipt,
    UpdateSessionRequest,
)

LONGEST_SECONDS = 1e9
OK = 200


class SessionService:
    """Keeps sessions."""

    def __init__(self, keeper: RecordingKeeper, clock: Clock) -> None:
        self._keeper = keeper
        self._clock = clock

    async def save_session(self, request: SaveSessionRequest, call: Call) -> SessionReceipt:
        """Open a session, or return or close the one that has the id."""
        duration = request.duration if request.has_field("duration") else 0
        if not 0 <= duration <= LONGEST_SECONDS:
            raise InvalidArgument.field("duration", "out of range")
        wish = Save(
            request.session_id,
            "session",
            request.name,
            request.source_id or request.device_id,
            request.status,
            from_epoch("timestamp", request.timestamp) if request.has_field("timestamp") else None,
            round(duration * MICROSECONDS),
            _told(request),
        )
        row, new = await self._keeper.save(call.caller, wish)
        if not new:
            call.status = OK
        return SessionReceipt(success=True, session=self._message(row))

    async def list_sessions(self, request: ListSessionsRequest, call: Call) -> ListSessionsResponse:
        """List sessions and runs, newest first."""
        rows = await self._keeper.list(
            call.caller,
            source=request.source_id or request.device_id,
            status=request.status,
            label=request.label,
            limit=page_limit(request.limit if request.has_field("limit") else None),
        )
        return ListSessionsResponse(sessions=[self._message(row) for row in rows])

    async def update_session(self, request: UpdateSessionRequest, call: Call) -> SessionReceipt:
        """Change a session; closing it without a time closes it now."""
        ended = parse_time("ended_at", request.ended_at)

        def edit(draft: Draft) -> None:
            if request.has_field("name"):
                draft.name = request.name
            draft.end(request.status, ended, self._clock.now_us())

        row = await self._keeper.change(call.caller, request.session_id, edit)
        return SessionReceipt(success=True, session=self._message(row))

    def _message(self, row: RecordingRow) -> Session:
        attributes: dict[str, Any] = json.loads(row.attributes)
        end = self._clock.now_us() if row.ended_us is None else row.ended_us
        return Session(
            session_id=row.external_id,
            name=row.name or row.external_id,
            source_id=self._keeper.slug(row),
            status=status_of(row),
            started_at=format_time(row.started_us),
            ended_at=None if row.ended_us is None else format_time(row.ended_us),
            labels=Value.from_python(attributes.get("labels") or attributes.get("tags") or []),
            duration=max(0, end - row.started_us) / MICROSECONDS,
        )


def _told(request: SaveSessionRequest) -> dict[str, Any]:
    """Return what a request tells besides name, source and times."""
    told: dict[str, Any] = {
        "tags": None if request.tags is None else request.tags.to_python(),
        "labels": None if request.labels is None else request.labels.to_python(),
        "description": request.description or None,
        "notes": request.notes or None,
    }
    return {name: value for name, value in told.items() if value is not None}
