"""Experiments: stretches of time to which datapoints belong. An experiment is a recording."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from typing import Any

from sqlalchemy import update
from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession
from sqlmodel.sql.expression import SelectOfScalar

from core.kernel.call import Call
from core.kernel.clock import Clock, to_exact_timestamp
from core.kernel.patches import named_values
from core.lab.erasing import Erasing
from core.lab.event_directory import EventDirectory
from core.lab.experiment_csv import CSV, ExperimentCsv, disposition
from core.lab.experiment_directory import KIND, ExperimentDirectory, KnownExperiment
from core.lab.hooks import Webhooks
from core.lab.ids import already_exists, new_public_id, not_found
from core.lab.log_book import LogBook
from core.lab.paging import page_of, read_page
from core.signals.service import Signals
from core.signals.tables import RecordingRow
from core.storage.database import Database
from core.storage.errors import is_unique_violation
from gen.busbar.lab.v1.common_pb import StatusResponse
from gen.busbar.lab.v1.experiments_pb import (
    CreateExperimentRequest,
    DeleteExperimentRequest,
    Experiment,
    ExportExperimentRequest,
    GetExperimentRequest,
    ListExperimentsRequest,
    ListExperimentsResponse,
    StopExperimentRequest,
    UpdateExperimentRequest,
)
from gen.google.api.httpbody_pb import HttpBody

STARTED, STOPPED = "experiment.started", "experiment.stopped"
RUNNING, ENDED = "running", "completed"
GONE = "experiment-gone"
"""Kind of the recordings that were experiments and are being deleted."""


class ExperimentService:
    """Keeps experiments."""

    def __init__(
        self,
        database: Database,
        signals: Signals,
        events: EventDirectory,
        directory: ExperimentDirectory,
        book: LogBook,
        *,
        erasing: Erasing,
        clock: Clock,
        hooks: Webhooks,
    ) -> None:
        self._database = database
        self._signals = signals
        self._events = events
        self._directory = directory
        self._book = book
        self._erasing = erasing
        self._clock = clock
        self._hooks = hooks
        self._csv = ExperimentCsv(signals, events)

    async def start(self) -> None:
        """Finish deletions that a stop interrupted."""
        async with self._database.read() as session:
            rows = (await session.exec(select(RecordingRow).where(col(RecordingRow.kind) == GONE))).all()
        for row in rows:
            self._erasing.begin(self._erase(row))

    async def list_experiments(self, request: ListExperimentsRequest, call: Call) -> ListExperimentsResponse:
        """List experiments in the order in which they were started."""
        page = page_of(request)
        query = _of(call.caller.org_id).order_by(col(RecordingRow.id))
        async with self._database.read() as session:
            rows, total = await read_page(session, query, page)
        return ListExperimentsResponse(page=page.number, page_size=page.size, total=total, data=[_message(row) for row in rows])

    async def create_experiment(self, request: CreateExperimentRequest, call: Call) -> StatusResponse:
        """Make an experiment and start it."""
        org_id, user_id, public_id = call.caller.org_id, call.caller.user_id, new_public_id()
        row = RecordingRow(
            public_id=public_id,
            org_id=org_id,
            external_id=public_id,
            name=request.name,
            kind=KIND,
            status=RUNNING,
            started_us=self._clock.now_us(),
            attributes=json.dumps({"user_id": user_id}),
        )
        try:
            async with self._database.unit_of_work() as session:
                session.add(row)
                await self._tell(session, row, STARTED, user_id)
        except Exception as error:
            if is_unique_violation(error):
                raise already_exists("Experiment") from error
            raise
        self._directory.put(row)
        return StatusResponse(status="success", message="Experiment successfully created.")

    async def get_experiment(self, request: GetExperimentRequest, call: Call) -> Experiment:
        """Read an experiment."""
        async with self._database.read() as session:
            return _message(await _require(session, call.caller.org_id, request.public_id))

    async def update_experiment(self, request: UpdateExperimentRequest, call: Call) -> StatusResponse:
        """Change the named fields; none may be null."""
        values: Mapping[str, Any] = named_values(request, "name")
        try:
            async with self._database.unit_of_work() as session:
                row = await _require(session, call.caller.org_id, request.public_id)
                row.sqlmodel_update(values)
        except Exception as error:
            if is_unique_violation(error):
                raise already_exists("Experiment") from error
            raise
        self._directory.put(row)
        return StatusResponse(status="success", message="Experiment successfully updated.")

    async def stop_experiment(self, request: StopExperimentRequest, call: Call) -> StatusResponse:
        """Stop an experiment; one that was stopped stays as it is."""
        async with self._database.unit_of_work() as session:
            row = await _require(session, call.caller.org_id, request.public_id, lock=True)
            if row.ended_us is None:
                row.ended_us, row.status = self._clock.now_us(), ENDED
                await self._tell(session, row, STOPPED, call.caller.user_id)
        self._directory.put(row)
        return StatusResponse(status="success", message="Experiment successfully stopped.")

    async def export_experiment(self, request: ExportExperimentRequest, call: Call) -> AsyncIterator[HttpBody]:
        """Stream the datapoints as CSV."""
        async with self._database.read() as session:
            row = await _require(session, call.caller.org_id, request.public_id)
        call.headers.append(("Content-Disposition", disposition(row.name, row.public_id)))
        async for part in self._csv.parts(row):
            yield HttpBody(content_type=CSV, data=part)

    async def delete_experiment(self, request: DeleteExperimentRequest, call: Call) -> StatusResponse:
        """Delete an experiment with its datapoints. Points of linked channels stay, where they belong to others too."""
        org_id = call.caller.org_id
        async with self._database.unit_of_work() as session:
            row = await _require(session, org_id, request.public_id)
            # The name is free at once; the row goes last, so that a stop in between can be made good.
            row.kind = GONE
        self._directory.remove(KnownExperiment.of(row))
        await self._erase(row)
        return StatusResponse(status="success", message="Experiment successfully deleted.")

    async def forget_user(self, session: AsyncSession, org_id: str, user_id: str) -> None:
        """Delete the experiments of a user."""
        ids = [experiment.id for experiment in self._directory.of_user(org_id, user_id)]
        await session.exec(update(RecordingRow).where(col(RecordingRow.id).in_(ids)).values(kind=GONE))

    async def user_forgotten(self, org_id: str, user_id: str) -> None:
        """Delete the datapoints of the experiments of a user who is gone."""
        owned = self._directory.of_user(org_id, user_id)
        async with self._database.read() as session:
            query = select(RecordingRow).where(col(RecordingRow.id).in_([experiment.id for experiment in owned]))
            rows = (await session.exec(query)).all()
        for experiment in owned:
            self._directory.remove(experiment)
        for row in rows:
            self._erasing.begin(self._erase(row))

    async def _erase(self, row: RecordingRow) -> None:
        """Delete what was stored for an experiment that nobody sees any more, and then its row."""
        for event in self._events.of_org(row.org_id):
            await self._signals.numbers.delete_recorded(event.channel_id, row.id or 0, row.started_us)
        await self._signals.recordings.delete(row)

    async def _tell(self, session: AsyncSession, row: RecordingRow, kind: str, user_id: str | None) -> None:
        """Log what happened, and tell webhooks, as part of the unit of work that makes it happen."""
        word = "started" if kind == STARTED else "stopped"
        self._book.write(session, row.org_id, user_id, f"Experiment '{row.name}' {word}.")
        await self._hooks.dispatch(session, row.org_id, kind, {"experiment": row.name})


def _of(org_id: str) -> SelectOfScalar[RecordingRow]:
    return select(RecordingRow).where(col(RecordingRow.org_id) == org_id, col(RecordingRow.kind) == KIND)


async def _require(session: AsyncSession, org_id: str, public_id: str, *, lock: bool = False) -> RecordingRow:
    query = _of(org_id).where(col(RecordingRow.public_id) == public_id)
    row = (await session.exec(query.with_for_update() if lock else query)).one_or_none()
    if row is None:
        raise not_found("Experiment", public_id)
    return row


def _message(row: RecordingRow) -> Experiment:
    user_id: str | None = json.loads(row.attributes).get("user_id")
    return Experiment(
        public_id=row.public_id,
        name=row.name,
        started_on=to_exact_timestamp(row.started_us),
        stopped_on=to_exact_timestamp(row.ended_us),
        user_public_id=user_id,
    )
