"""Runs: recordings with pass criteria, by ids of the server's making."""

from __future__ import annotations

import json
from typing import Any

from protobuf import message_from_json_value
from protobuf.wkt import Value

from core.kernel.call import Call
from core.kernel.clock import Clock
from core.kernel.errors import InvalidArgument
from core.kernel.pages import page_limit
from core.signals.tables import RecordingRow
from core.telemetry.access import require_slug
from core.telemetry.recordings import ACTIVE, Draft, RecordingKeeper, Save, status_of
from core.telemetry.times import format_time, from_epoch, parse_time
from gen.busbar.telemetry.v1.runs_pb import (
    CreateRunRequest,
    DeleteRunRequest,
    DeleteRunResponse,
    GetRunRequest,
    ListRunsRequest,
    ListRunsResponse,
    PassCriterion,
    Run,
    RunEnvelope,
    TestResult,
    UpdateRunRequest,
)

OK = 200


class RunService:
    """Keeps runs."""

    def __init__(self, keeper: RecordingKeeper, clock: Clock) -> None:
        self._keeper = keeper
        self._clock = clock

    async def create_run(self, request: CreateRunRequest, call: Call) -> RunEnvelope:
        """Start a run, or do what an older client wants with the id that it chose."""
        if request.run_id:
            return await self._save(request, call)
        if not request.name.strip():
            raise InvalidArgument.field("name", "must be 1-200 characters and not blank")
        started, ended = parse_time("started_at", request.started_at), parse_time("ended_at", request.ended_at)
        source = await self._keeper.source(call.caller, request.source_id)
        now = self._clock.now_us()
        draft = Draft(request.name, ACTIVE, now if started is None else started)
        draft.device_id = None if source is None else source.id
        draft.attributes = _told(request)
        draft.end(_CURRENT.get(request.status, request.status), ended, now)
        row = await self._keeper.create(call.caller, draft, kind="run")
        call.headers.append(("Location", f"/api/runs/{row.public_id}"))
        return self._envelope(row)

    async def _save(self, request: CreateRunRequest, call: Call) -> RunEnvelope:
        if request.source_id:
            require_slug("source_id", request.source_id)
        at = from_epoch("timestamp", request.timestamp) if request.has_field("timestamp") else None
        told = _told(request)
        wish = Save(request.run_id, "run", request.name, request.source_id, request.status, at, attributes=told)
        row, new = await self._keeper.save(call.caller, wish)
        if not new:
            call.status = OK
        return self._envelope(row)

    async def list_runs(self, request: ListRunsRequest, call: Call) -> ListRunsResponse:
        """List runs and sessions, newest first."""
        limit = page_limit(request.limit if request.has_field("limit") else None)
        rows = await self._keeper.list(call.caller, source=request.source_id, status=request.status, label="", limit=limit)
        return ListRunsResponse(runs=[self._message(row) for row in rows])

    async def get_run(self, request: GetRunRequest, call: Call) -> RunEnvelope:
        """Read one run."""
        return self._envelope(await self._keeper.find(call.caller, request.run_id))

    async def update_run(self, request: UpdateRunRequest, call: Call) -> RunEnvelope:
        """Change the fields that are named."""
        ended, started = parse_time("ended_at", request.ended_at), parse_time("started_at", request.started_at)
        named = _named(request)

        def edit(draft: Draft) -> None:
            if "name" in named:
                draft.name = request.name
            if started is not None:
                draft.started_us = started
            for name in named & {"tags", "metadata", "pass_criteria"}:
                _replace(draft.attributes, name, _told(request).get(name))
            draft.end(request.status, ended, self._clock.now_us())

        return self._envelope(await self._keeper.change(call.caller, request.run_id, edit))

    async def delete_run(self, request: DeleteRunRequest, call: Call) -> DeleteRunResponse:
        """Delete a run; its points stay."""
        await self._keeper.delete(call.caller, request.run_id)
        return DeleteRunResponse()

    def _envelope(self, row: RecordingRow) -> RunEnvelope:
        return RunEnvelope(run=self._message(row))

    def _message(self, row: RecordingRow) -> Run:
        attributes: dict[str, Any] = json.loads(row.attributes)
        # A session that a point opened was never asked for by anybody; it counts as made when it started.
        created = attributes.get("created_us", row.started_us)
        result = attributes.get("test_result")
        criteria: list[dict[str, Any]] = attributes.get("pass_criteria", [])
        return Run(
            id=row.public_id,
            org_id=row.org_id,
            name=row.name or row.external_id,
            source_id=self._keeper.slug(row),
            status=status_of(row),
            started_at=format_time(row.started_us),
            ended_at=None if row.ended_us is None else format_time(row.ended_us),
            tags=Value.from_python(attributes.get("tags", attributes.get("labels"))),
            metadata=Value.from_python(attributes.get("metadata")),
            pass_criteria=[message_from_json_value(PassCriterion, criterion) for criterion in criteria],
            test_result=None if result is None else message_from_json_value(TestResult, result),
            created_by=attributes.get("created_by"),
            created_at=format_time(created),
            updated_at=format_time(attributes.get("updated_us", created)),
        )


_CURRENT = {"started": "", "active": "", "ended": "completed"}
"""Older words of a status; a run that starts needs none."""


def _told(request: CreateRunRequest | UpdateRunRequest) -> dict[str, Any]:
    """Return what a request tells besides name, source and times."""
    told: dict[str, Any] = {
        "tags": None if request.tags is None else request.tags.to_python(),
        "metadata": None if request.metadata is None else request.metadata.to_python(),
        "pass_criteria": [_criterion(criterion) for criterion in request.pass_criteria] or None,
    }
    return {name: value for name, value in told.items() if value is not None}


def _criterion(criterion: PassCriterion) -> dict[str, Any]:
    kept = {"metric": criterion.metric, "operator": criterion.operator, "value": criterion.value}
    return kept | {"label": criterion.label} if criterion.has_field("label") else kept


def _named(request: UpdateRunRequest) -> set[str]:
    """Return the fields to change: those of the mask, or without one those that are present."""
    present = {"name"} if request.has_field("name") else set[str]()
    present |= set(_told(request))
    if request.update_mask is None:
        return present
    named = set(request.update_mask.paths)
    if "name" in named and "name" not in present:
        raise InvalidArgument.field("name", "must not be null")
    return named


def _replace(attributes: dict[str, Any], name: str, value: object) -> None:
    """Set an attribute; None takes it away."""
    if value is None:
        attributes.pop(name, None)
    else:
        attributes[name] = value
