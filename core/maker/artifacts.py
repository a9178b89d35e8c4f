"""Firmware artifacts. Their bytes are blobs in the data directory; a row comes after its blob and goes before it."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

from sqlalchemy import func, tuple_
from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from core.kernel.call import Call, Principal
from core.kernel.clock import Clock, to_timestamp
from core.kernel.errors import FailedPrecondition, InvalidArgument, NotFound, TooLarge, Unavailable
from core.kernel.ids import new_id
from core.kernel.pages import decode_cursor, encode_cursor, page_limit
from core.kernel.settings import Quotas
from core.maker.access import ProjectAccess, Role
from core.maker.ota_tables import LIVE_STATES, ArtifactRow, OtaJobRow
from core.storage.blobs import Arrived, Blobs
from core.storage.database import Database
from gen.busbar.api.v1.error_reason_pb import ErrorReason
from gen.busbar.maker.v1.artifacts_pb import (
    Artifact,
    DeleteArtifactRequest,
    DeleteArtifactResponse,
    GetArtifactRequest,
    ListArtifactsRequest,
    ListArtifactsResponse,
    UploadArtifactRequest,
)

MOST_BYTES = 16 * 1024 * 1024
"""Largest artifact."""


class ArtifactService:
    """Keeps the firmware artifacts of projects."""

    def __init__(self, database: Database, blobs: Blobs, access: ProjectAccess, clock: Clock, quotas: Quotas) -> None:
        self._database = database
        self._blobs = blobs
        self._access = access
        self._clock = clock
        self._quotas = quotas

    async def start(self) -> None:
        """Delete the files to which no row refers: what a crash or the end of a project left."""
        async with self._database.read() as session:
            artifacts = (await session.exec(select(ArtifactRow.sha256))).all()
            jobs = (await session.exec(select(OtaJobRow.sha256).where(col(OtaJobRow.status).in_(LIVE_STATES)))).all()
        await self._blobs.clean({*artifacts, *jobs})

    async def upload_artifact(self, requests: AsyncIterator[UploadArtifactRequest], call: Call) -> Artifact:
        """Write the bytes to disk as they come, then make the artifact."""
        first = await anext(requests, None)
        if first is None:
            raise _empty()
        async with self._database.read() as session:
            await self._require_room(session, first.project_id, call.caller)
        try:
            async with self._blobs.receive(_bytes(first, requests), MOST_BYTES) as arrived:
                if arrived.size == 0:
                    raise _empty()
                row = await self._keep(first, arrived, call.caller)
        except TooLarge as error:
            raise TooLarge(f"an artifact may have at most {MOST_BYTES} bytes", limit_bytes=MOST_BYTES) from error
        call.headers.append(("Location", f"/api/projects/{row.project_id}/firmware/artifacts/{row.id}"))
        return artifact_message(row)

    async def _keep(self, first: UploadArtifactRequest, arrived: Arrived, caller: Principal) -> ArtifactRow:
        """Give the bytes their name and make the row, or neither."""
        async with self._blobs.changing():
            await self._blobs.keep(arrived)
            try:
                async with self._database.unit_of_work() as session:
                    board_type = await self._require_room(session, first.project_id, caller, to_change=True)
                    row = ArtifactRow(
                        id=new_id("art_"),
                        project_id=first.project_id,
                        version=first.version or None,
                        board_type=first.board_type or board_type,
                        sha256=arrived.sha256,
                        size=arrived.size,
                        created_us=self._clock.now_us(),
                    )
                    session.add(row)
            except BaseException:
                # Left for the next start where storage cannot even be asked.
                with contextlib.suppress(Unavailable):
                    await self._remove_unused(arrived.sha256)
                raise
        return row

    async def _require_room(self, session: AsyncSession, project_id: str, caller: Principal, *, to_change: bool = False) -> str:
        """Check that the caller may add an artifact, and return the kind of hardware of the project."""
        seat = await self._access.seat(session, project_id, caller, Role.EDITOR, to_change=to_change)
        counted = select(func.count()).select_from(ArtifactRow).where(col(ArtifactRow.project_id) == project_id)
        used = (await session.exec(counted)).one()
        if used >= self._quotas.artifacts:
            raise FailedPrecondition(
                f"the project holds {used} artifacts, the most is {self._quotas.artifacts}",
                reason=ErrorReason.QUOTA_EXCEEDED,
                limit=self._quotas.artifacts,
                used=used,
            )
        return seat.project.board_type

    async def list_artifacts(self, request: ListArtifactsRequest, call: Call) -> ListArtifactsResponse:
        """List the artifacts of a project, newest first."""
        limit = page_limit(request.limit if request.has_field("limit") else None)
        after = decode_cursor(request.cursor, int, str)
        order = tuple_(col(ArtifactRow.created_us), col(ArtifactRow.id))
        query = select(ArtifactRow).where(col(ArtifactRow.project_id) == request.project_id)
        if after is not None:
            query = query.where(order < after)
        newest = query.order_by(col(ArtifactRow.created_us).desc(), col(ArtifactRow.id).desc()).limit(limit + 1)
        async with self._database.read() as session:
            await self._access.seat(session, request.project_id, call.caller, Role.VIEWER)
            rows = (await session.exec(newest)).all()
        last = rows[limit - 1] if len(rows) > limit else None
        cursor = None if last is None else encode_cursor(last.created_us, last.id)
        return ListArtifactsResponse(artifacts=[artifact_message(row) for row in rows[:limit]], next_cursor=cursor)

    async def get_artifact(self, request: GetArtifactRequest, call: Call) -> Artifact:
        """Read one artifact."""
        async with self._database.read() as session:
            await self._access.seat(session, request.project_id, call.caller, Role.VIEWER)
            return artifact_message(await _find(session, request.project_id, request.artifact_id))

    async def delete_artifact(self, request: DeleteArtifactRequest, call: Call) -> DeleteArtifactResponse:
        """Delete an artifact, and its bytes unless another artifact has the same."""
        async with self._blobs.changing():
            async with self._database.unit_of_work() as session:
                await self._access.seat(session, request.project_id, call.caller, Role.EDITOR, to_change=True)
                # Locked, so that nobody pushes it to a board meanwhile.
                row = await _find(session, request.project_id, request.artifact_id, lock=True)
                under_way = select(OtaJobRow.id).where(
                    col(OtaJobRow.artifact_id) == row.id, col(OtaJobRow.status).in_(LIVE_STATES)
                )
                if (await session.exec(under_way.limit(1))).first() is not None:
                    raise FailedPrecondition(f"artifact {row.id} is on its way to a board", artifact=row.id)
                await session.delete(row)
            await self._remove_unused(row.sha256)
        return DeleteArtifactResponse(ok=True)

    async def _remove_unused(self, sha256: str) -> None:
        artifacts = select(ArtifactRow.id).where(col(ArtifactRow.sha256) == sha256).limit(1)
        jobs = select(OtaJobRow.id).where(col(OtaJobRow.sha256) == sha256, col(OtaJobRow.status).in_(LIVE_STATES)).limit(1)
        async with self._database.read() as session:
            used = (await session.exec(artifacts)).first() or (await session.exec(jobs)).first()
        if used is None:
            await self._blobs.remove(sha256)


def artifact_message(row: ArtifactRow) -> Artifact:
    """Return an artifact as clients see it."""
    return Artifact(
        id=row.id,
        project_id=row.project_id,
        version=row.version,
        board_type=row.board_type,
        sha256=row.sha256,
        size=row.size,
        created_at=to_timestamp(row.created_us),
    )


async def _find(session: AsyncSession, project_id: str, artifact_id: str, *, lock: bool = False) -> ArtifactRow:
    row = await session.get(ArtifactRow, artifact_id, with_for_update=lock)
    if row is None or row.project_id != project_id:
        raise NotFound(f"artifact {artifact_id} not found", artifact=artifact_id)
    return row


async def _bytes(first: UploadArtifactRequest, others: AsyncIterator[UploadArtifactRequest]) -> AsyncIterator[bytes]:
    yield b"" if first.body is None else first.body.data
    async for request in others:
        yield b"" if request.body is None else request.body.data


def _empty() -> InvalidArgument:
    return InvalidArgument.field("body", "must hold the bytes of the artifact")
