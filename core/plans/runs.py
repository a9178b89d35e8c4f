"""Runs: a model at work on a branch, as a job of the server that its clients start, follow and stop."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from copy import copy

from protobuf.wkt import Empty

from core.kernel.call import Call, Principal
from core.kernel.clock import Clock, to_exact_timestamp
from core.kernel.errors import FailedPrecondition, InvalidArgument, NotFound
from core.plans.access import Opened, user_of
from core.plans.active_run import ActiveRun, Choice
from core.plans.active_runs import ActiveRuns
from core.plans.builder import Builder, unbuilt
from core.plans.ids import new_uuid
from core.plans.run_directory import RunDirectory
from core.plans.run_parts import RunParts
from core.plans.run_tables import PlanRunRow
from core.plans.run_usage import read_usage
from core.plans.stream_messages import start, text_of, without_nul
from core.plans.tell import Tell
from core.plans.writers import Writers
from gen.busbar.plans.v1.contexts_pb import LoadContextParams, LoadContextResponse
from gen.busbar.plans.v1.runs_pb import (
    AutoLoadContextRequest,
    BuildRequest,
    BuildStatus,
    ConnectRunRequest,
    GetBuildStatusRequest,
    GetRunRequest,
    ListRunsRequest,
    ListRunsResponse,
    RespondMissingFileRequest,
    Run,
    StopRunRequest,
    StreamBuildRequest,
    StreamMessage,
    StreamTellRequest,
    TellRequest,
)

CHOICES: dict[str, Choice] = {"load": "load", "skip": "skip", "overwrite": "overwrite"}
NOTHING_ASKED = "No active plan asks for this"


class RunService:
    """Starts, follows and stops runs."""

    def __init__(self, runs: ActiveRuns, parts: RunParts, directory: RunDirectory, clock: Clock) -> None:
        self._runs = runs
        self._parts = parts
        self._directory = directory
        self._clock = clock

    async def tell(self, request: TellRequest, call: Call) -> Run:
        """Start a run with a prompt."""
        run = await self._tell(request, call.caller)
        return await self._view(await self._directory.row(run.held.run_id), 0)

    async def stream_tell(self, request: StreamTellRequest, call: Call) -> AsyncIterator[StreamMessage]:
        """Start a run with a prompt and follow it."""
        run = await self._tell(request.tell or TellRequest(), call.caller)
        async for message in _told(run, 0, with_positions=call.door != "rest"):
            yield message

    async def build(self, request: BuildRequest, call: Call) -> Run:
        """Start a run that builds what is not built."""
        run = await self._build(request, call.caller)
        return await self._view(await self._directory.row(run.held.run_id), 0)

    async def stream_build(self, request: StreamBuildRequest, call: Call) -> AsyncIterator[StreamMessage]:
        """Start a run that builds what is not built and follow it."""
        run = await self._build(request.build or BuildRequest(), call.caller)
        async for message in _told(run, 0, with_positions=call.door != "rest"):
            yield message

    async def connect_run(self, request: ConnectRunRequest, call: Call) -> AsyncIterator[StreamMessage]:
        """Follow the active run from now on, or any run from a position on."""
        opened = await self._opened(call.caller, request.plan_id, request.branch)
        run = self._runs.of_branch(opened.branch.id)
        if request.has_field("position"):
            row = await self._directory.of_branch(opened.branch.id, request.run_id or "latest")
            if row is None:
                raise NotFound("No active plan for plan")
            if run is not None and run.held.run_id == row.id:
                async for message in _told(run, request.position, with_positions=True):
                    yield message
                return
            async for event in self._directory.follow(row.id, request.position):
                yield event.numbered
            return
        if run is None:
            raise NotFound("No active plan for plan")
        async for message in _joined(run, with_positions=call.door != "rest"):
            yield message

    async def stop_run(self, request: StopRunRequest, call: Call) -> Empty:
        """Stop the active run; returns when what it had written is kept."""
        run = await self._active(call.caller, request.plan_id, request.branch)
        if run is None:
            raise NotFound("No active model stream for plan")
        await self._runs.end(run, "stopped")
        return Empty()

    async def respond_missing_file(self, request: RespondMissingFileRequest, call: Call) -> Empty:
        """Tell a run what to do about a file; one that is handed over is loaded before the run goes on."""
        run = await self._active(call.caller, request.plan_id, request.branch)
        waiting = run.answer if run is not None else None
        if run is None or waiting is None or waiting.done() or run.missing_file != request.file_path:
            raise NotFound(NOTHING_ASKED)
        if request.choice == "load":
            params = LoadContextParams(
                context_type="file", name=request.file_path, file_path=request.file_path, body=request.body, auto_loaded=True
            )
            loaded = await self._load(run, call.caller, [params])
            if loaded.max_tokens_exceeded:
                raise FailedPrecondition(f"{request.file_path} is too large for the context that the model can read")
        if not waiting.done():
            waiting.set_result(CHOICES[request.choice])
        return Empty()

    async def auto_load_context(self, request: AutoLoadContextRequest, call: Call) -> LoadContextResponse:
        """Load the files that a run asked for, and let it go on."""
        run = await self._active(call.caller, request.plan_id, request.branch)
        waiting, loading = (run.loaded, run.loading) if run is not None else (None, None)
        if run is None or waiting is None or loading is None or loading.is_set():
            raise NotFound(NOTHING_ASKED)
        loading.set()
        items = list(request.items)
        try:
            return await self._load(run, call.caller, items) if items else LoadContextResponse()
        finally:
            # The run goes on with what it has, also when nothing could be loaded.
            if not waiting.done():
                waiting.set_result(None)

    async def get_build_status(self, request: GetBuildStatusRequest, call: Call) -> BuildStatus:
        """Tell which files the active run has built and which it builds."""
        run = await self._active(call.caller, request.plan_id, request.branch)
        if run is None:
            raise NotFound("No active plan for plan")
        return BuildStatus(
            built_files={path: True for path, built in run.building.items() if built},
            is_building_by_path={path: True for path, built in run.building.items() if not built},
        )

    async def list_runs(self, request: ListRunsRequest, call: Call) -> ListRunsResponse:
        """List branches on which a run is active, or was of late."""
        if not request.project_id:
            raise InvalidArgument("No project ids provided")
        return await self._directory.list(call.caller, list(request.project_id), recent=request.recent)

    async def get_run(self, request: GetRunRequest, call: Call) -> Run:
        """Read how a run stands."""
        opened = await self._opened(call.caller, request.plan_id, request.branch)
        row = await self._directory.of_branch(opened.branch.id, request.run_id)
        if row is None:
            raise NotFound("run not found", run=request.run_id)
        return await self._view(row, request.position)

    async def _tell(self, request: TellRequest, caller: Principal) -> ActiveRun:
        opened = await self._opened(caller, request.plan_id, request.branch)
        request = copy(request)
        request.prompt = without_nul(request.prompt)
        kept = copy(request)
        kept.auth_vars = {}
        kept.project_paths = {}
        row = self._row(opened, caller, "tell", kept.to_json())
        row.prompt = request.prompt
        return await self._runs.begin(opened, caller, row, Tell(self._parts, request).carry_out, auth_vars=request.auth_vars)

    async def _build(self, request: BuildRequest, caller: Principal) -> ActiveRun:
        opened = await self._opened(caller, request.plan_id, request.branch)
        if not unbuilt(await self._parts.store.read(opened)):
            raise NotFound("No builds")
        row = self._row(opened, caller, "build", "{}")
        return await self._runs.begin(opened, caller, row, self._carry_out_build, auth_vars=request.auth_vars)

    async def _carry_out_build(self, run: ActiveRun) -> None:
        parts = self._parts
        models = await parts.models(run, await parts.state(run))
        builder = Builder(parts.store, run, Writers(models), parts.clock)
        await parts.log.set_status(run.held.branch_id, "building")
        builder.begin()
        try:
            await builder.finish()
        finally:
            await builder.cancel()

    def _row(self, opened: Opened, caller: Principal, kind: str, request: str) -> PlanRunRow:
        now_us = self._clock.now_us()
        return PlanRunRow(
            id=new_uuid(),
            org_id=opened.plan.org_id,
            plan_id=opened.plan.id,
            branch_id=opened.branch.id,
            branch=opened.branch.name,
            user_id=user_of(caller),
            kind=kind,
            request=request,
            prompt="",
            owner=self._runs.owner,
            lease_us=now_us,
            started_us=now_us,
        )

    async def _load(self, run: ActiveRun, caller: Principal, items: list[LoadContextParams]) -> LoadContextResponse:
        async with self._parts.store.change(caller, run.plan_id, run.branch) as change:
            return await self._parts.keeper.load(change, items, owner=user_of(caller), auto_loaded=True)

    async def _opened(self, caller: Principal, plan_id: str, branch: str) -> Opened:
        opened = await self._parts.store.open(caller, plan_id, branch)
        await self._runs.bury_if_dead(opened.branch.id)
        return opened

    async def _active(self, caller: Principal, plan_id: str, branch: str) -> ActiveRun | None:
        opened = await self._opened(caller, plan_id, branch)
        return self._runs.of_branch(opened.branch.id)

    async def _view(self, row: PlanRunRow, position: int) -> Run:
        """Return a run with what it has told after a position."""
        events = await self._parts.log.read_all(row.id, position)
        active = self._runs.of_branch(row.branch_id)
        mine = active if active is not None and active.held.run_id == row.id else None
        return Run(
            id=row.id,
            plan_id=row.plan_id,
            branch=row.branch,
            status=row.status,
            error=row.error,
            text="".join(text_of(event.message) for event in events),
            position=events[-1].number if events else position,
            missing_file_path=row.missing_file,
            load_context_files=json.loads(row.load_files),
            usage=read_usage(mine.usage() if mine is not None else row.usage),
            started_at=to_exact_timestamp(row.started_us),
            finished_at=to_exact_timestamp(row.finished_us),
        )


async def _told(run: ActiveRun, position: int, *, with_positions: bool) -> AsyncIterator[StreamMessage]:
    """Yield what a run tells after a position, until it has ended."""
    async for event in run.feed.follow(position):
        yield event.numbered if with_positions else event.message


async def _joined(run: ActiveRun, *, with_positions: bool) -> AsyncIterator[StreamMessage]:
    """Yield how a run stands, then what it tells from now on."""
    standing = run.feed.standing
    number, question = standing.number, standing.question
    builds = list(standing.builds.values())
    active = StreamMessage(
        type="connectActive",
        init_prompt=run.prompt,
        init_replies=list(standing.replies),
        init_build_only=run.builds_only,
        missing_file_path=question.missing_file_path if question is not None else "",
    )
    yield start()
    yield active
    for build in builds:
        yield StreamMessage(type="buildInfo", build_info=build)
    if question is not None and question.type == "loadContext":
        yield question
    async for message in _told(run, number, with_positions=with_positions):
        yield message
