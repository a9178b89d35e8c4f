"""Which plugins there are: those of Busbar, those that the one who runs the server installed beside it, and uploaded ones.

Only the first are code of this process. The others are found and run by processes of their own: those beside the server by its
own interpreter, uploaded ones by that of an environment in the data directory which has nothing but the standard library.
"""

from __future__ import annotations

import asyncio
import platform
import shutil
import sys
import venv
from pathlib import Path
from typing import Any

import structlog
from sqlmodel import col, select

from core.lab.plugin_api import DevicePlugin, PluginMeta
from core.lab.plugin_drivers import Driver, LocalDriver, Place, PluginFailed, ProcessDriver, describe
from core.lab.plugin_revpi import RevPiPlugin
from core.lab.plugin_simulated import SimulatedPlugin
from core.lab.plugin_system import SystemPlugin
from core.lab.plugin_tables import PackagePluginRow, PackageRow
from core.storage.database import Database

BUNDLED: tuple[type[DevicePlugin], ...] = (RevPiPlugin, SimulatedPlugin, SystemPlugin)
"""Plugins of Busbar, by id."""

log = structlog.get_logger("busbar.lab")


class PluginCatalog:
    """Knows plugins, and makes instances of them."""

    def __init__(self, database: Database, folder: Path, seconds: float) -> None:
        self._database = database
        self._folder = folder.resolve()
        self._seconds = seconds
        self._bundled = {plugin.meta.id: plugin for plugin in BUNDLED}
        self._beside: dict[str, PluginMeta] | None = None
        self._packages: dict[str, dict[str, PluginMeta]] = {}
        self._asking = asyncio.Lock()

    def folder_of(self, package_id: str) -> Path:
        """Return where a package is unpacked."""
        return self._folder / "packages" / package_id

    async def available(self) -> list[PluginMeta]:
        """Return every plugin that can be loaded, by id."""
        found = {meta.id: meta for meta in await self._installed_beside()}
        for package_id, plugins in (await self._uploaded()).items():
            found |= {meta.id: meta for meta in await self._of_package(package_id) if meta.id in plugins}
        found |= {plugin_id: plugin.meta for plugin_id, plugin in self._bundled.items()}
        return [found[plugin_id] for plugin_id in sorted(found)]

    async def taken(self, plugin_id: str) -> bool:
        """Whether a plugin that is no uploaded one has an id."""
        return plugin_id in self._bundled or any(meta.id == plugin_id for meta in await self._installed_beside())

    async def driver(self, plugin_id: str) -> Driver | None:
        """Return a new instance of a plugin; None when there is no such plugin.

        Raises:
            PluginFailed: The environment of uploaded plugins cannot be made.
        """
        bundled = self._bundled.get(plugin_id)
        if bundled is not None:
            return LocalDriver(bundled, self._seconds)
        package_id = await self._package_of(plugin_id)
        if package_id is not None:
            return ProcessDriver(await self._place(package_id), plugin_id, self._seconds)
        if any(meta.id == plugin_id for meta in await self._installed_beside()):
            return ProcessDriver(Place(Path(sys.executable)), plugin_id, self._seconds)
        return None

    async def has(self, plugin_id: str) -> bool:
        """Whether there is a plugin."""
        return await self.taken(plugin_id) or await self._package_of(plugin_id) is not None

    def forget(self, package_id: str) -> None:
        """Forget what a package said that is gone."""
        self._packages.pop(package_id, None)

    async def _package_of(self, plugin_id: str) -> str | None:
        query = select(PackageRow.public_id).join(PackagePluginRow).where(col(PackagePluginRow.plugin_id) == plugin_id)
        async with self._database.read() as session:
            return (await session.exec(query)).first()

    async def _uploaded(self) -> dict[str, set[str]]:
        """Return the plugins of each uploaded package."""
        query = select(PackageRow.public_id, PackagePluginRow.plugin_id).join(PackagePluginRow).order_by(col(PackageRow.id))
        found: dict[str, set[str]] = {}
        async with self._database.read() as session:
            for package_id, plugin_id in (await session.exec(query)).all():
                found.setdefault(package_id, set()).add(plugin_id)
        return found

    async def _of_package(self, package_id: str) -> list[PluginMeta]:
        async with self._asking:
            if package_id not in self._packages:
                self._packages[package_id] = await self._ask(package_id)
            return list(self._packages[package_id].values())

    async def _installed_beside(self) -> list[PluginMeta]:
        async with self._asking:
            if self._beside is None:
                self._beside = await self._ask(None)
            return list(self._beside.values())

    async def _ask(self, package_id: str | None) -> dict[str, PluginMeta]:
        """Return the plugins of a place that can be loaded; a failure is logged and leaves out what failed."""
        try:
            place = Place(Path(sys.executable)) if package_id is None else await self._place(package_id)
            said = await describe(place, self._seconds)
        except PluginFailed as error:
            log.warning("plugins were not found", package=package_id, error=str(error))
            return {}
        for one in said:
            if "error" in one:
                log.warning("plugin cannot be loaded", package=package_id, plugin=str(one.get("id")), error=str(one["error"]))
        return {str(one["id"]): _meta(one["id"], one["meta"]) for one in said if isinstance(one.get("meta"), dict)}

    async def _place(self, package_id: str) -> Place:
        try:
            interpreter = await asyncio.to_thread(_environment, self._folder / "environment")
        except OSError as error:
            raise PluginFailed(f"the environment of plugins cannot be made: {error.strerror}") from error
        return Place(interpreter, self.folder_of(package_id) / "site")


def _environment(folder: Path) -> Path:
    """Return the interpreter of an environment without packages, which is made anew after a change of the Python version."""
    interpreter, mark = folder / "bin" / "python", folder / "made-by"
    made_by = f"{platform.python_version()} {sys.base_prefix}"
    if not (interpreter.exists() and mark.is_file() and mark.read_text() == made_by):
        shutil.rmtree(folder, ignore_errors=True)
        venv.EnvBuilder(with_pip=False, symlinks=True).create(folder)
        mark.write_text(made_by)
    return interpreter


def _meta(plugin_id: object, said: dict[str, Any]) -> PluginMeta:
    text = {name: str(said.get(name) or "")[:2000] for name in ("name", "version", "vendor", "description")}
    url = said.get("url")
    return PluginMeta(str(plugin_id), **{**text, "name": text["name"] or str(plugin_id)}, url=str(url)[:2048] if url else None)
