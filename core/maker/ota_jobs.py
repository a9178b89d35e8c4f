"""The life of a firmware job: queued, offered, downloading, and one of three ends.

    queued ── the board is connected ──> offered ── it reads the artifact ──> downloading ──> applied
       └────────────────────────────────────┴───────────────┴──> failed, expired

Each step is one transaction, and whoever watches the board is told after its commit. A board that connects finds its job in
storage, so a restart loses nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy.exc import IntegrityError
from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from core.kernel.clock import MICROSECONDS, Clock, to_timestamp
from core.kernel.errors import AlreadyExists, FailedPrecondition, NotFound
from core.kernel.ids import new_id
from core.live.events import EventBus
from core.maker.boards import KnownBoard
from core.maker.events import OtaChanged, board_topic
from core.maker.notices import Notices
from core.maker.ota_tables import (
    APPLIED,
    DOWNLOADING,
    EXPIRED,
    FAILED,
    LIVE_STATES,
    OFFERED,
    QUEUED,
    ArtifactRow,
    OtaJobRow,
)
from core.maker.tables import BoardRow
from core.outbox.delivery import Delivery, Handler
from core.outbox.outbox import Outbox
from core.storage.database import Database
from core.storage.errors import is_unique_violation
from gen.busbar.maker.v1.ota_jobs_pb import OtaJob, OtaNews, OtaProgress

LIFE_US = 24 * 3600 * MICROSECONDS
"""How long a board has to install what was pushed to it."""
EXPIRE_KIND = "ota.expire"
FINISHED = "ota.finished"

TITLES = {APPLIED: "{board} runs new firmware", FAILED: "{board} did not take its firmware", EXPIRED: "{board} never answered"}


@dataclass(frozen=True, slots=True)
class _Told:
    """What to tell after a commit."""

    org_id: str
    job: OtaJobRow
    for_board: bool
    begins: bool = False


class OtaJobs:
    """Carries jobs from step to step."""

    def __init__(self, database: Database, outbox: Outbox, notices: Notices, bus: EventBus, clock: Clock) -> None:
        self._database = database
        self._outbox = outbox
        self._notices = notices
        self._bus = bus
        self._clock = clock
        self.handler = Handler(self._expire)

    async def begin(self, board: KnownBoard, artifact_id: str) -> OtaJob:
        """Queue an artifact for a board.

        Raises:
            NotFound: The artifact was deleted meanwhile.
            AlreadyExists: Another job of the board is under way.
        """
        try:
            async with self._database.unit_of_work() as session:
                overdue = await self._end_overdue(session, board)
                job = await self._add(session, board, artifact_id)
        except IntegrityError as error:
            # Of several pushes at once the unique index lets one through.
            if not is_unique_violation(error):
                raise
            raise AlreadyExists("another firmware job of the board is under way", board=board.id) from error
        if overdue is not None:
            self._tell(_Told(board.org_id, overdue, for_board=False))
        self._tell(_Told(board.org_id, job, for_board=True, begins=True))
        return self.message(job)

    async def _add(self, session: AsyncSession, board: KnownBoard, artifact_id: str) -> OtaJobRow:
        artifact = await session.get(ArtifactRow, artifact_id, with_for_update=True)
        if artifact is None:
            raise no_artifact()
        now = self._clock.now_us()
        job = OtaJobRow(
            id=new_id("ota_"),
            board_id=board.id,
            artifact_id=artifact.id,
            version=artifact.version,
            sha256=artifact.sha256,
            size=artifact.size,
            created_us=now,
            updated_us=now,
            expires_us=now + LIFE_US,
        )
        session.add(job)
        await session.flush()
        payload = {"job": job.id}
        await self._outbox.enqueue(
            session, EXPIRE_KIND, payload, board.org_id, subject=board.id, delay_us=LIFE_US, dedupe_key=job.id
        )
        return job

    async def _end_overdue(self, session: AsyncSession, board: KnownBoard) -> OtaJobRow | None:
        """End the job of a board whose time is over but whose end has not been carried out yet."""
        job = await _live_job(session, board.id)
        if job is None or job.expires_us > self._clock.now_us():
            return None
        await self._end(session, job, EXPIRED)
        await session.flush()
        return job

    async def offer(self, board: KnownBoard, *, again: bool) -> OtaNews | None:
        """Return what a connected board is to be told: its live job, which counts as offered from now on.

        Args:
            board: The board.
            again: Whether to return a job that was offered before, as to a board that has just connected.
        """
        async with self._database.read() as session:
            found = await _live_job(session, board.id, lock=False)
        if found is None or found.expires_us <= self._clock.now_us() or not (again or found.status == QUEUED):
            return None
        if found.status != QUEUED:
            return self.news(found)
        async with self._database.unit_of_work() as session:
            job = await _live_job(session, board.id)
            if job is None:
                return None
            if job.status == QUEUED:
                self._step(job, OFFERED)
        self._tell(_Told(board.org_id, job, for_board=False))
        return self.news(job)

    async def downloading(self, board_id: str, job_id: str) -> OtaJobRow:
        """Note that a board reads its artifact, and return the job.

        Raises:
            NotFound: The board has no such job, or it has ended.
        """
        async with self._database.unit_of_work() as session:
            job = await self._require(session, job_id)
            if job.board_id != board_id or not self.is_live(job):
                raise not_found(job_id)
            begins = job.status != DOWNLOADING
            if begins:
                self._step(job, DOWNLOADING)
            org_id = await _org_of(session, board_id)
        if begins:
            self._tell(_Told(org_id, job, for_board=False))
        return job

    async def progress(self, board: KnownBoard, told: OtaProgress) -> None:
        """Take in what a board tells.

        Raises:
            NotFound: The board has no such job.
            FailedPrecondition: The job has ended.
        """
        async with self._database.unit_of_work() as session:
            job = await self._require(session, told.job_id)
            if job.board_id != board.id:
                raise not_found(told.job_id)
            self._require_live(job)
            if told.has_field("percent"):
                job.percent = told.percent
            if told.status == DOWNLOADING:
                self._step(job, DOWNLOADING)
            else:
                await self._end(session, job, told.status, _reason(told))
        self._tell(_Told(board.org_id, job, for_board=False))

    async def cancel(self, board: KnownBoard, job_id: str) -> OtaJob:
        """Call a job off.

        Raises:
            FailedPrecondition: It has ended.
        """
        async with self._database.unit_of_work() as session:
            job = await self._require(session, job_id)
            self._require_live(job)
            job.error = "cancelled"
            self._step(job, FAILED)
        self._tell(_Told(board.org_id, job, for_board=True))
        return self.message(job)

    async def _expire(self, delivery: Delivery) -> None:
        """End a job whose time is over; one that has ended stays as it is."""
        async with self._database.unit_of_work() as session:
            job = await session.get(OtaJobRow, str(delivery.json()["job"]), with_for_update=True)
            if job is None or job.status not in LIVE_STATES:
                return
            await self._end(session, job, EXPIRED)
        self._tell(_Told(delivery.org_id, job, for_board=True))

    async def _end(self, session: AsyncSession, job: OtaJobRow, status: str, error: str | None = None) -> None:
        """End a job, and tell its owner in the same transaction. What a board runs from now on it shows."""
        job.error = error
        self._step(job, status)
        board = await session.get_one(BoardRow, job.board_id)
        if status == APPLIED and job.version is not None:
            board.firmware_version = job.version
        title = TITLES[status].format(board=board.name)
        data: dict[str, object] = {"jobId": job.id, "boardId": board.id, "status": status, "version": job.version}
        body = error or ""
        await self._notices.post(session, board.owner_id, FINISHED, title, body=body, link=f"/boards/{board.id}", data=data)

    def _step(self, job: OtaJobRow, status: str) -> None:
        job.status = status
        job.updated_us = self._clock.now_us()

    async def _require(self, session: AsyncSession, job_id: str) -> OtaJobRow:
        job = await session.get(OtaJobRow, job_id, with_for_update=True)
        if job is None:
            raise not_found(job_id)
        return job

    def _require_live(self, job: OtaJobRow) -> None:
        if not self.is_live(job):
            status = self.status(job)
            raise FailedPrecondition(f"ota job {job.id} has ended: it is {status}", job=job.id, status=status)

    def is_live(self, job: OtaJobRow) -> bool:
        """Whether a job has not ended."""
        return self.status(job) in LIVE_STATES

    def status(self, job: OtaJobRow) -> str:
        """Return the status of a job; one whose time is over is expired, even if that was not carried out yet."""
        return EXPIRED if job.status in LIVE_STATES and job.expires_us <= self._clock.now_us() else job.status

    def message(self, job: OtaJobRow) -> OtaJob:
        """Return a job as clients see it."""
        return OtaJob(
            id=job.id,
            board_id=job.board_id,
            artifact_id=job.artifact_id,
            version=job.version,
            sha256=job.sha256,
            size=job.size,
            status=self.status(job),
            error=job.error,
            created_at=to_timestamp(job.created_us),
            updated_at=to_timestamp(job.updated_us),
        )

    def news(self, job: OtaJobRow) -> OtaNews:
        """Return a job as sockets show it."""
        return OtaNews(job=self.message(job), percent=job.percent)

    def _tell(self, told: _Told) -> None:
        topic = board_topic(told.org_id, told.job.board_id)
        self._bus.publish(topic, OtaChanged(self.news(told.job), told.for_board, told.begins))


def not_found(job_id: str) -> NotFound:
    """Return the refusal of a job that does not exist for the caller."""
    return NotFound(f"ota job {job_id} not found", job=job_id)


def no_artifact() -> NotFound:
    """Return the refusal of a push that has nothing to push."""
    return NotFound("no firmware artifact")


def _reason(told: OtaProgress) -> str | None:
    return (told.error or "the board told no reason") if told.status == FAILED else None


async def _live_job(session: AsyncSession, board_id: str, *, lock: bool = True) -> OtaJobRow | None:
    live = select(OtaJobRow).where(col(OtaJobRow.board_id) == board_id, col(OtaJobRow.status).in_(LIVE_STATES))
    return (await session.exec(live.with_for_update() if lock else live)).one_or_none()


async def _org_of(session: AsyncSession, board_id: str) -> str:
    return (await session.exec(select(BoardRow.org_id).where(col(BoardRow.id) == board_id))).one()
