"""Bytes that are too large for the database: files in the data directory, named by their SHA-256.

A blob is written beside its place, made durable, and then renamed into it, so a file of that name is always whole. Equal bytes
are one file. Which rows refer to it is the caller's affair: whoever links a row to a blob or takes the last row away does so
within `changing()`, and names at each start the blobs that are still wanted.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
import shutil
from collections.abc import AsyncGenerator, AsyncIterator, Collection
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from core.kernel.errors import TooLarge
from core.kernel.ids import new_id
from core.storage.errors import storage_errors

CHUNK_BYTES = 65_536
"""Bytes that are read at once."""

_NAME = re.compile(r"[0-9a-f]{64}")
_INCOMING = "incoming"


@dataclass(frozen=True, slots=True)
class Arrived:
    """Bytes that have arrived whole, but have no name yet.

    Attributes:
        path: Where they lie.
        sha256: Their SHA-256, in hexadecimal.
        size: How many there are.
    """

    path: Path
    sha256: str
    size: int


class Blobs:
    """The blobs below one folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._changing = asyncio.Lock()

    def changing(self) -> AbstractAsyncContextManager[None]:
        """Keep others from linking and removing blobs meanwhile."""
        return _held(self._changing)

    @asynccontextmanager
    async def receive(self, chunks: AsyncIterator[bytes], limit: int) -> AsyncGenerator[Arrived]:
        """Write bytes as they arrive; what was not kept when the context ends is deleted.

        Raises:
            TooLarge: There are more than the limit.
            Unavailable: They cannot be written.
        """
        path = self._folder / _INCOMING / new_id("in_")
        with storage_errors():
            file = await asyncio.to_thread(_create, path)
        try:
            try:
                arrived = await _write(file, path, chunks, limit)
            finally:
                await asyncio.to_thread(file.close)
            yield arrived
        finally:
            await asyncio.to_thread(path.unlink, missing_ok=True)

    async def keep(self, arrived: Arrived) -> None:
        """Give bytes their name for good. Call it within `changing()`, before a row refers to them.

        Raises:
            Unavailable: The file cannot be moved.
        """
        with storage_errors():
            await asyncio.to_thread(_place, arrived.path, self.path(arrived.sha256))

    async def place(self, arrived: Arrived, target: Path) -> None:
        """Give bytes a name of the caller's own in this file system instead, for good.

        Raises:
            FileExistsError: There is a file of that name, which stays as it is.
            Unavailable: The file cannot be made.
        """
        try:
            await asyncio.to_thread(_link, arrived.path, target)
        except FileExistsError:
            raise
        except OSError:
            with storage_errors():
                raise

    async def remove(self, sha256: str) -> None:
        """Delete a blob that no row refers to any more. Call it within `changing()`."""
        await asyncio.to_thread(self.path(sha256).unlink, missing_ok=True)

    async def exists(self, sha256: str) -> bool:
        """Whether there is a blob of that name."""
        return await asyncio.to_thread(self.path(sha256).is_file)

    async def read(self, sha256: str) -> AsyncGenerator[bytes]:
        """Yield a blob in chunks. Once it has begun, removing the blob does not disturb it.

        Raises:
            FileNotFoundError: There is no such blob.
        """
        file = await asyncio.to_thread(self.path(sha256).open, "rb")
        try:
            while chunk := await asyncio.to_thread(file.read, CHUNK_BYTES):
                yield chunk
        finally:
            await asyncio.to_thread(file.close)

    async def clean(self, wanted: Collection[str]) -> int:
        """Delete what no row wants and what never arrived whole, while nothing is received; returns the number of blobs."""
        return await asyncio.to_thread(self._clean, frozenset(wanted))

    def path(self, sha256: str) -> Path:
        """Return where a blob lies."""
        if not _NAME.fullmatch(sha256):
            raise ValueError("no SHA-256")
        return self._folder / sha256[:2] / sha256

    def _clean(self, wanted: frozenset[str]) -> int:
        shutil.rmtree(self._folder / _INCOMING, ignore_errors=True)
        orphans = [path for path in self._folder.glob("??/*") if _NAME.fullmatch(path.name) and path.name not in wanted]
        for path in orphans:
            path.unlink(missing_ok=True)
        return len(orphans)


@asynccontextmanager
async def _held(lock: asyncio.Lock) -> AsyncGenerator[None]:
    async with lock:
        yield


async def _write(file: IO[bytes], path: Path, chunks: AsyncIterator[bytes], limit: int) -> Arrived:
    digest, size = hashlib.sha256(), 0
    async for chunk in chunks:
        size += len(chunk)
        if size > limit:
            raise TooLarge(f"there are more than {limit} bytes", limit_bytes=limit)
        with storage_errors():
            await asyncio.to_thread(file.write, chunk)
        digest.update(chunk)
    with storage_errors():
        await asyncio.to_thread(_sync, file)
    return Arrived(path, digest.hexdigest(), size)


def _create(path: Path) -> IO[bytes]:
    path.parent.mkdir(parents=True, exist_ok=True)
    return path.open("xb")


def _sync(file: IO[bytes]) -> None:
    file.flush()
    os.fsync(file.fileno())


def _place(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    source.replace(target)
    for folder in (target.parent, target.parent.parent):
        _sync_folder(folder)


def _link(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    target.hardlink_to(source)
    _sync_folder(target.parent)


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
