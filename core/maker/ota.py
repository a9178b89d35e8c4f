"""Firmware updates over the air, as callers ask for them; `ota_jobs` knows how a job lives."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing

from sqlalchemy import tuple_
from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from core.kernel.call import Call, Principal
from core.kernel.errors import InvalidArgument, NotFound, PermissionDenied, Unavailable
from core.kernel.pages import decode_cursor, encode_cursor, page_limit
from core.maker.access import ProjectAccess, Role
from core.maker.boards import BoardService, KnownBoard
from core.maker.ota_jobs import OtaJobs, no_artifact, not_found
from core.maker.ota_tables import ArtifactRow, OtaJobRow
from core.storage.blobs import Blobs
from core.storage.database import Database
from gen.busbar.maker.v1.ota_jobs_pb import OtaJob
from gen.busbar.maker.v1.ota_pb import (
    CancelOtaJobRequest,
    DownloadOtaArtifactRequest,
    GetOtaJobRequest,
    ListOtaJobsRequest,
    ListOtaJobsResponse,
    PushOtaRequest,
)
from gen.google.api.httpbody_pb import HttpBody

CONTENT_TYPE = "application/octet-stream"


class OtaService:
    """Pushes firmware to boards."""

    def __init__(self, database: Database, blobs: Blobs, access: ProjectAccess, boards: BoardService, jobs: OtaJobs) -> None:
        self._database = database
        self._blobs = blobs
        self._access = access
        self._boards = boards
        self._jobs = jobs

    async def push_ota(self, request: PushOtaRequest, call: Call) -> OtaJob:
        """Queue an artifact for a board."""
        if bool(request.artifact_id) == bool(request.project_id):
            raise InvalidArgument.field("artifact_id", "name either an artifact or a project")
        board = await self._require_owned(request.board_id, call.caller)
        async with self._database.read() as session:
            artifact_id = await self._choose(session, request, call.caller)
        job = await self._jobs.begin(board, artifact_id)
        call.headers.append(("Location", f"/api/ota/{job.id}"))
        return job

    async def _choose(self, session: AsyncSession, request: PushOtaRequest, caller: Principal) -> str:
        """Return the artifact that is meant, after checking that the caller may read it."""
        if request.project_id:
            await self._access.seat(session, request.project_id, caller, Role.VIEWER)
            query = select(ArtifactRow.id).where(col(ArtifactRow.project_id) == request.project_id)
            newest = query.order_by(col(ArtifactRow.created_us).desc(), col(ArtifactRow.id).desc()).limit(1)
            found = (await session.exec(newest)).first()
            if found is None:
                raise no_artifact()
            return found
        artifact = await session.get(ArtifactRow, request.artifact_id)
        if artifact is None:
            raise no_artifact()
        try:
            await self._access.seat(session, artifact.project_id, caller, Role.VIEWER)
        except (NotFound, PermissionDenied) as error:
            # Whoever may not read the firmware of a project must not learn which artifacts it has.
            raise no_artifact() from error
        return artifact.id

    async def list_ota_jobs(self, request: ListOtaJobsRequest, call: Call) -> ListOtaJobsResponse:
        """List the jobs of a board, newest first."""
        limit = page_limit(request.limit if request.has_field("limit") else None)
        after = decode_cursor(request.cursor, int, str)
        board = await self._boards.require(request.board_id, call.caller)
        query = select(OtaJobRow).where(col(OtaJobRow.board_id) == board.id)
        if after is not None:
            query = query.where(tuple_(col(OtaJobRow.created_us), col(OtaJobRow.id)) < after)
        newest = query.order_by(col(OtaJobRow.created_us).desc(), col(OtaJobRow.id).desc()).limit(limit + 1)
        async with self._database.read() as session:
            rows = (await session.exec(newest)).all()
        last = rows[limit - 1] if len(rows) > limit else None
        cursor = None if last is None else encode_cursor(last.created_us, last.id)
        return ListOtaJobsResponse(jobs=[self._jobs.message(row) for row in rows[:limit]], next_cursor=cursor)

    async def get_ota_job(self, request: GetOtaJobRequest, call: Call) -> OtaJob:
        """Read one job."""
        job, _ = await self._visible(request.job_id, call.caller)
        return self._jobs.message(job)

    async def cancel_ota_job(self, request: CancelOtaJobRequest, call: Call) -> OtaJob:
        """Call a job off."""
        job, board = await self._visible(request.job_id, call.caller)
        _check_owner(board, call.caller)
        return await self._jobs.cancel(board, job.id)

    async def download_ota_artifact(self, request: DownloadOtaArtifactRequest, call: Call) -> AsyncIterator[HttpBody]:
        """Stream the bytes of an artifact to the board that is to install it."""
        job = await self._jobs.downloading(call.caller.bound_to or "", request.job_id)
        if not await self._blobs.exists(job.sha256):
            raise Unavailable("the bytes of the artifact are missing", artifact=job.artifact_id)
        call.headers += [
            ("Content-Length", str(job.size)),
            ("ETag", f'"{job.sha256}"'),
            ("X-Artifact-Sha256", job.sha256),
        ]
        async with aclosing(self._blobs.read(job.sha256)) as chunks:
            async for chunk in chunks:
                yield HttpBody(content_type=CONTENT_TYPE, data=chunk)

    async def _visible(self, job_id: str, caller: Principal) -> tuple[OtaJobRow, KnownBoard]:
        async with self._database.read() as session:
            job = await session.get(OtaJobRow, job_id)
        if job is None:
            raise not_found(job_id)
        try:
            return job, await self._boards.require(job.board_id, caller)
        except NotFound as error:
            raise not_found(job_id) from error

    async def _require_owned(self, board_id: str, caller: Principal) -> KnownBoard:
        board = await self._boards.require(board_id, caller)
        _check_owner(board, caller)
        return board


def _check_owner(board: KnownBoard, caller: Principal) -> None:
    if board.owner_id != caller.user_id:
        raise PermissionDenied("only the owner may change the firmware of a board")
