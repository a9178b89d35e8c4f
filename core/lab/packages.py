"""Packages: wheels that bring plugins.

A row comes after its folder and goes before it; a start deletes folders without a row.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import structlog
from packaging.utils import canonicalize_name
from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from core.kernel.call import Call
from core.kernel.clock import Clock, to_exact_timestamp
from core.kernel.errors import AlreadyExists, Internal, InvalidArgument, PermissionDenied, TooLarge
from core.lab.ids import new_public_id, not_found
from core.lab.installation import Installation
from core.lab.plugin_catalog import BUNDLED, PluginCatalog
from core.lab.plugin_directory import PluginDirectory
from core.lab.plugin_tables import PackagePluginRow, PackageRow
from core.lab.uploads import bad_request, bytes_of, checked_name, first_of
from core.lab.wheels import Wheel, WheelRefused, inspect, unpack
from core.storage.blobs import Blobs
from core.storage.database import Database
from core.storage.errors import is_unique_violation
from gen.busbar.lab.v1.common_pb import StatusResponse
from gen.busbar.lab.v1.packages_pb import (
    DeletePackageRequest,
    ListPackagesRequest,
    ListPackagesResponse,
    PluginPackage,
    UploadPackageRequest,
)

MOST_BYTES = 50 * 1024 * 1024

log = structlog.get_logger("busbar.lab")


class PackageService:
    """Lists, installs and uninstalls packages."""

    def __init__(
        self,
        database: Database,
        catalog: PluginCatalog,
        directory: PluginDirectory,
        installation: Installation,
        *,
        folder: Path,
        uploads: bool,
        clock: Clock,
    ) -> None:
        self._database = database
        self._catalog = catalog
        self._directory = directory
        self._installation = installation
        self._arriving = Blobs(folder)
        self._staging = folder / "staging"
        self._packages = folder / "packages"
        self._uploads = uploads
        self._clock = clock
        self._started_us = clock.now_us()

    async def start(self) -> None:
        """Delete what a stop left of uploads and of packages that are gone."""
        async with self._database.read() as session:
            kept = set((await session.exec(select(PackageRow.public_id))).all())
        await self._arriving.clean(())
        await asyncio.to_thread(_clean, self._staging, self._packages, kept)

    async def list_packages(self, request: ListPackagesRequest, call: Call) -> ListPackagesResponse:
        """List packages, bundled ones first, then oldest first."""
        del request, call
        async with self._database.read() as session:
            rows = (await session.exec(select(PackageRow).order_by(col(PackageRow.id)))).all()
            plugins = (await session.exec(select(PackagePluginRow).order_by(col(PackagePluginRow.plugin_id)))).all()
        bundled = [self._bundled(plugin.meta.id, plugin.meta.version) for plugin in BUNDLED]
        uploaded = [_message(row, [one.plugin_id for one in plugins if one.package_id == row.id]) for row in rows]
        return ListPackagesResponse(packages=bundled + uploaded)

    async def upload_package(self, requests: AsyncIterator[UploadPackageRequest], call: Call) -> StatusResponse:
        """Write a wheel to disk as it comes, check it, unpack it, and then make it known."""
        await self._installation.require(call)
        if not self._uploads:
            raise PermissionDenied("Plugin uploads are disabled.")
        first = await first_of(requests)
        name = checked_name(first, ".whl", "File must be a .whl (Python wheel) package.", call)
        async with self._database.read() as session:
            if (await session.exec(select(PackageRow.id).where(col(PackageRow.file_name) == name))).first() is not None:
                raise _taken(name)
        public_id = new_public_id()
        staging = self._staging / public_id
        try:
            async with self._arriving.receive(bytes_of(first, requests), MOST_BYTES) as arrived:
                await self._arriving.place(arrived, staging / name)
                row, wheel = await self._install(public_id, staging / name, arrived.size)
        except TooLarge as error:
            raise TooLarge("Wheel exceeds maximum size (50 MB).", limit_bytes=MOST_BYTES) from error
        finally:
            await asyncio.to_thread(shutil.rmtree, staging, ignore_errors=True)
        await self._reload(wheel.plugins)
        told = f"Plugin package '{row.package_name}' v{row.version} installed ({row.file_size:,} bytes)."
        return StatusResponse(status="success", message=f"{told} Restart the controller to activate.")

    async def delete_package(self, request: DeletePackageRequest, call: Call) -> StatusResponse:
        """Uninstall a package: first its row, then what runs of it, then its files."""
        if any(request.public_id == _bundled_id(plugin.meta.id) for plugin in BUNDLED):
            raise bad_request(call, "Bundled plugins cannot be removed.")
        async with self._database.read() as session:
            await _find(session, request.public_id)
        await self._installation.require(call)
        async with self._database.unit_of_work() as session:
            row = await _find(session, request.public_id)
            query = select(PackagePluginRow).where(col(PackagePluginRow.package_id) == row.id)
            found = (await session.exec(query)).all()
            plugins = [one.plugin_id for one in found]
            name = row.package_name
            for one in found:
                await session.delete(one)
            await session.flush()
            await session.delete(row)
        self._catalog.forget(request.public_id)
        await self._reload(plugins)
        await asyncio.to_thread(shutil.rmtree, self._packages / request.public_id, ignore_errors=True)
        told = f"Plugin package '{name}' uninstalled. Restart the controller to apply."
        return StatusResponse(status="success", message=told)

    async def _install(self, public_id: str, file: Path, size: int) -> tuple[PackageRow, Wheel]:
        """Check a wheel and make its folder and its row, or neither."""
        try:
            wheel = await asyncio.to_thread(inspect, file)
        except WheelRefused as error:
            raise InvalidArgument(str(error)) from error
        await self._refuse_taken(wheel)
        target = self._packages / public_id
        try:
            await asyncio.to_thread(_unpack, file, target)
            row = PackageRow(
                public_id=public_id,
                package_name=wheel.name,
                normal_name=canonicalize_name(wheel.name),
                version=wheel.version[:100],
                file_name=file.name,
                file_size=size,
                created_us=self._clock.now_us(),
            )
            await self._insert(row, wheel)
        except BaseException:
            await asyncio.to_thread(shutil.rmtree, target, ignore_errors=True)
            raise
        return row, wheel

    async def _insert(self, row: PackageRow, wheel: Wheel) -> None:
        try:
            async with self._database.unit_of_work() as session:
                session.add(row)
                await session.flush()
                session.add_all([PackagePluginRow(plugin_id=plugin, package_id=row.id or 0) for plugin in wheel.plugins])
        except Exception as error:
            if is_unique_violation(error):
                raise _taken(row.package_name) from error
            raise

    async def _refuse_taken(self, wheel: Wheel) -> None:
        by_name = select(PackageRow.id).where(col(PackageRow.normal_name) == canonicalize_name(wheel.name))
        by_plugin = select(PackagePluginRow.plugin_id).where(col(PackagePluginRow.plugin_id).in_(wheel.plugins))
        async with self._database.read() as session:
            if (await session.exec(by_name)).first() is not None:
                raise _taken(wheel.name)
            plugin = (await session.exec(by_plugin)).first()
        for plugin_id in wheel.plugins:
            if plugin is None and await self._catalog.taken(plugin_id):
                plugin = plugin_id
        if plugin is not None:
            raise AlreadyExists(f"Plugin '{plugin}' already exists.", entity="Plugin")

    async def _reload(self, plugins: list[str] | tuple[str, ...]) -> None:
        """Let instances of some plugins begin or end."""
        await self._directory.reload(*[one.public_id for one in self._directory.all() if one.plugin_id in plugins])

    def _bundled(self, plugin_id: str, version: str) -> PluginPackage:
        return PluginPackage(
            public_id=_bundled_id(plugin_id),
            package_name=f"busbar-{plugin_id}",
            version=version,
            source="bundled",
            plugin_ids=[plugin_id],
            installed_on=to_exact_timestamp(self._started_us),
            removable=False,
        )


def _bundled_id(plugin_id: str) -> str:
    return f"bundled-{plugin_id}"


def _taken(name: str) -> AlreadyExists:
    return AlreadyExists(f"Package '{name}' already exists.", entity="Package")


def _unpack(file: Path, target: Path) -> None:
    try:
        unpack(file, target)
    except Exception as error:
        log.exception("wheel was not unpacked", file=file.name)
        # What the system says of a full disk is of use, and names no file.
        reason = (isinstance(error, OSError) and error.strerror) or type(error).__name__
        raise Internal(f"Plugin install failed: {reason}") from error


def _clean(staging: Path, packages: Path, kept: set[str]) -> None:
    shutil.rmtree(staging, ignore_errors=True)
    with contextlib.suppress(FileNotFoundError):
        for folder in packages.iterdir():
            if folder.name not in kept:
                shutil.rmtree(folder, ignore_errors=True)


async def _find(session: AsyncSession, public_id: str) -> PackageRow:
    row = (await session.exec(select(PackageRow).where(col(PackageRow.public_id) == public_id))).one_or_none()
    if row is None:
        raise not_found("Plugin package", public_id)
    return row


def _message(row: PackageRow, plugins: list[str]) -> PluginPackage:
    return PluginPackage(
        public_id=row.public_id,
        package_name=row.package_name,
        version=row.version,
        source="uploaded",
        plugin_ids=plugins,
        file_size_bytes=row.file_size,
        installed_on=to_exact_timestamp(row.created_us),
        removable=True,
    )
