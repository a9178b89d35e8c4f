"""The folder of update bundles. An updater may watch it, so a file of a final name is always whole."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path

from core.kernel.settings import Settings
from core.storage.blobs import Arrived, Blobs

MOST_BYTES = 500 * 1024 * 1024


class Bundles:
    """Bundles by their file names."""

    def __init__(self, settings: Settings) -> None:
        self._folder = settings.lab.update_folder or settings.data / "updates"
        self._blobs = Blobs(self._folder)

    async def start(self) -> None:
        """Delete what never arrived whole."""
        await self._blobs.clean(())

    async def exists(self, name: str) -> bool:
        """Whether there is a bundle of that name."""
        return await asyncio.to_thread(self._path(name).exists)

    def receive(self, chunks: AsyncIterator[bytes]) -> AbstractAsyncContextManager[Arrived]:
        """Write a bundle as it arrives; it is gone with the context unless it was kept.

        Raises:
            TooLarge: It is larger than a bundle may be.
            Unavailable: It cannot be written.
        """
        return self._blobs.receive(chunks, MOST_BYTES)

    async def keep(self, arrived: Arrived, name: str) -> None:
        """Give a bundle its name.

        Raises:
            FileExistsError: There is one of that name.
            Unavailable: The file cannot be made.
        """
        await self._blobs.place(arrived, self._path(name))

    async def remove(self, name: str) -> None:
        """Delete a bundle, if there is one of that name."""
        await asyncio.to_thread(self._path(name).unlink, missing_ok=True)

    def _path(self, name: str) -> Path:
        if name != Path(name).name or name in (".", ".."):
            raise ValueError("no file name")
        return self._folder / name
