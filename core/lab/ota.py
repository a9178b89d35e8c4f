"""Updates of the installation: the book on them, their bundles, and what is newer."""

from __future__ import annotations

from collections.abc import AsyncIterator

from sqlalchemy import update
from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from core.kernel.call import Call
from core.kernel.clock import Clock, to_exact_timestamp
from core.kernel.errors import AlreadyExists, DomainError, TooLarge
from core.lab.bundles import MOST_BYTES, Bundles
from core.lab.ids import already_exists, new_public_id, not_found
from core.lab.installation import Installation
from core.lab.ota_apply import Updater
from core.lab.paging import page_of, read_page
from core.lab.plugin_tables import UpdateRow
from core.lab.releases import Releases, numbers
from core.lab.uploads import bytes_of, checked_name, first_of
from core.storage.database import Database
from core.storage.errors import is_unique_violation
from gen.busbar.lab.v1.common_pb import StatusResponse
from gen.busbar.lab.v1.ota_pb import (
    ApplyUpdateRequest,
    CheckUpdatesRequest,
    CreateUpdateRequest,
    DeleteUpdateRequest,
    FirmwareUpdate,
    GetUpdateRequest,
    ListUpdatesRequest,
    ListUpdatesResponse,
    RollbackUpdateRequest,
    UpdateCheck,
    UploadBundleRequest,
)

ENTITY = "FirmwareUpdate"


class OtaService:
    """Lists, registers, applies and rolls back updates."""

    def __init__(
        self,
        database: Database,
        updater: Updater,
        bundles: Bundles,
        releases: Releases,
        installation: Installation,
        *,
        version: str,
        clock: Clock,
    ) -> None:
        self._database = database
        self._updater = updater
        self._bundles = bundles
        self._releases = releases
        self._installation = installation
        self._version = version
        self._clock = clock

    async def list_updates(self, request: ListUpdatesRequest, call: Call) -> ListUpdatesResponse:
        """List updates in the order in which they were registered."""
        page = page_of(request)
        query = select(UpdateRow).where(col(UpdateRow.org_id) == call.caller.org_id).order_by(col(UpdateRow.id))
        async with self._database.read() as session:
            rows, total = await read_page(session, query, page)
        return ListUpdatesResponse(page=page.number, page_size=page.size, total=total, data=[_message(row) for row in rows])

    async def create_update(self, request: CreateUpdateRequest, call: Call) -> StatusResponse:
        """Register an update."""
        await self._installation.require(call)
        row = UpdateRow(
            public_id=new_public_id(),
            org_id=call.caller.org_id,
            user_id=call.caller.user_id,
            version=request.version,
            changelog=request.changelog if request.has_field("changelog") else None,
            created_us=self._clock.now_us(),
        )
        try:
            async with self._database.unit_of_work() as session:
                session.add(row)
        except Exception as error:
            if is_unique_violation(error):
                raise already_exists(ENTITY) from error
            raise
        return StatusResponse(status="success", message="Firmware update successfully registered.")

    async def check_updates(self, request: CheckUpdatesRequest, call: Call) -> UpdateCheck:
        """Compare what is registered and released with what runs."""
        del request
        release = await self._releases.newest()
        query = select(UpdateRow.version).where(
            col(UpdateRow.org_id) == call.caller.org_id, col(UpdateRow.status).in_(("pending", "completed"))
        )
        async with self._database.read() as session:
            known = list((await session.exec(query)).all())
        mine = numbers(self._version)
        newer = [
            (found, version)
            for version in [*known, release.version]
            if version is not None and (found := numbers(version)) is not None and mine is not None and found > mine
        ]
        return UpdateCheck(
            current_version=self._version,
            latest_version=max(newer)[1] if newer else None,
            update_available=bool(newer),
            github_latest_version=release.version,
            github_download_url=release.download_url,
            github_release_url=release.page_url,
            github_error=release.error,
        )

    async def get_update(self, request: GetUpdateRequest, call: Call) -> FirmwareUpdate:
        """Read an update."""
        async with self._database.read() as session:
            return _message(await _find(session, call.caller.org_id, request.public_id))

    async def apply_update(self, request: ApplyUpdateRequest, call: Call) -> StatusResponse:
        """Download, verify and complete an update, or only complete it."""
        async with self._database.read() as session:
            row = await _find(session, call.caller.org_id, request.public_id)
        url = request.download_url if request.has_field("download_url") else None
        sha256 = request.file_hash_sha256 if request.has_field("file_hash_sha256") else None
        await self._updater.apply(row, url or None, sha256, call)
        return StatusResponse(status="success", message="Firmware update applied successfully.")

    async def rollback_update(self, request: RollbackUpdateRequest, call: Call) -> StatusResponse:
        """Mark an update as rolled back."""
        async with self._database.read() as session:
            row = await _find(session, call.caller.org_id, request.public_id)
        await self._updater.move(row, "completed", "rolled_back")
        return StatusResponse(status="success", message="Firmware update rolled back successfully.")

    async def delete_update(self, request: DeleteUpdateRequest, call: Call) -> StatusResponse:
        """Delete an update, then its bundle."""
        async with self._database.unit_of_work() as session:
            row = await _find(session, call.caller.org_id, request.public_id)
            has_file, version = row.has_file, row.version
            await session.delete(row)
        if has_file:
            await self._updater.remove(version)
        return StatusResponse(status="success", message="FirmwareUpdate successfully deleted.")

    async def upload_bundle(self, requests: AsyncIterator[UploadBundleRequest], call: Call) -> StatusResponse:
        """Write a bundle to disk as it comes, and give it its name when it is whole."""
        await self._installation.require(call)
        first = await first_of(requests)
        name = checked_name(first, ".tar.gz", "File must be a .tar.gz update bundle.", call)
        if await self._bundles.exists(name):
            raise _taken(name)
        try:
            async with self._bundles.receive(bytes_of(first, requests)) as arrived:
                await self._bundles.keep(arrived, name)
        except TooLarge as error:
            raise TooLarge("Bundle exceeds maximum allowed size (500 MB).", limit_bytes=MOST_BYTES) from error
        except FileExistsError as error:
            raise _taken(name) from error
        told = f"Bundle '{name}' uploaded ({arrived.size:,} bytes). Update will be applied automatically."
        return StatusResponse(status="success", message=told)

    async def forget_user(self, session: AsyncSession, org_id: str, user_id: str) -> None:
        """Take the name of a user off updates, which stay."""
        mine = (col(UpdateRow.org_id) == org_id, col(UpdateRow.user_id) == user_id)
        await session.exec(update(UpdateRow).where(*mine).values(user_id=None))


def _taken(name: str) -> DomainError:
    return AlreadyExists(f"Bundle '{name}' already exists.", entity="Bundle")


async def _find(session: AsyncSession, org_id: str, public_id: str) -> UpdateRow:
    query = select(UpdateRow).where(col(UpdateRow.public_id) == public_id, col(UpdateRow.org_id) == org_id)
    row = (await session.exec(query)).one_or_none()
    if row is None:
        raise not_found(ENTITY, public_id)
    return row


def _message(row: UpdateRow) -> FirmwareUpdate:
    return FirmwareUpdate(
        public_id=row.public_id,
        version=row.version,
        changelog=row.changelog,
        file_hash_sha256=row.file_hash,
        file_size_bytes=row.file_size,
        status=row.status,
        error_message=row.error_message,
        created_on=to_exact_timestamp(row.created_us),
        started_on=to_exact_timestamp(row.started_us),
        completed_on=to_exact_timestamp(row.completed_us),
        user_public_id=row.user_id,
        has_firmware_file=row.has_file,
    )
