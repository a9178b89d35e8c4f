"""Files in the data directory that are named by what they hold."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from core.kernel.errors import TooLarge, Unavailable
from core.storage.blobs import Blobs

DATA = b"firmware" * 40_000


async def chunks(*parts: bytes) -> AsyncIterator[bytes]:
    """Yield some bytes as they would arrive."""
    for part in parts:
        yield part


async def kept(blobs: Blobs, data: bytes) -> str:
    """Keep some bytes and return their name."""
    async with blobs.receive(chunks(data[:1000], data[1000:]), len(data)) as arrived, blobs.changing():
        await blobs.keep(arrived)
    return arrived.sha256


def files(folder: Path) -> list[str]:
    """Return the names of all files below a folder."""
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


@pytest.fixture
def blobs(tmp_path: Path) -> Blobs:
    """Blobs in a folder of their own."""
    return Blobs(tmp_path / "blobs")


async def test_what_was_kept_reads_as_it_came(blobs: Blobs, tmp_path: Path) -> None:
    name = await kept(blobs, DATA)
    assert name == hashlib.sha256(DATA).hexdigest()
    assert b"".join([chunk async for chunk in blobs.read(name)]) == DATA
    assert files(tmp_path) == [name]


async def test_equal_bytes_are_one_file(blobs: Blobs, tmp_path: Path) -> None:
    names = await asyncio.gather(*(kept(blobs, DATA) for _ in range(4)))
    assert files(tmp_path) == [names[0]]


async def test_too_many_bytes_leave_nothing(blobs: Blobs, tmp_path: Path) -> None:
    with pytest.raises(TooLarge):
        async with blobs.receive(chunks(b"a" * 10, b"b"), 10):
            pass
    assert files(tmp_path) == []


async def test_bytes_that_nobody_keeps_are_deleted(blobs: Blobs, tmp_path: Path) -> None:
    async with blobs.receive(chunks(b"half"), 10) as arrived:
        assert arrived.size == 4
    assert files(tmp_path) == []


async def test_an_upload_that_is_cut_off_leaves_nothing(blobs: Blobs, tmp_path: Path) -> None:
    async def cut() -> AsyncIterator[bytes]:
        yield b"half"
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        async with blobs.receive(cut(), 10):
            pass
    assert files(tmp_path) == []


async def test_a_start_deletes_what_nobody_wants_and_what_never_arrived(blobs: Blobs, tmp_path: Path) -> None:
    wanted, orphan = await kept(blobs, b"wanted"), await kept(blobs, b"orphan")
    half = tmp_path / "blobs" / "incoming" / "in_1"
    half.parent.mkdir(exist_ok=True)
    half.write_bytes(b"half")
    assert await blobs.clean({wanted}) == 1
    assert files(tmp_path) == [wanted]
    assert not await blobs.exists(orphan)


async def test_a_reader_is_not_disturbed_by_a_removal(blobs: Blobs) -> None:
    name = await kept(blobs, DATA)
    reader = blobs.read(name)
    first = await anext(reader)
    await blobs.remove(name)
    assert first + b"".join([chunk async for chunk in reader]) == DATA
    with pytest.raises(FileNotFoundError):
        await anext(blobs.read(name))


async def test_a_name_cannot_lead_elsewhere(blobs: Blobs) -> None:
    for name in ("../../etc/passwd", "a" * 63, "A" * 64, ""):
        with pytest.raises(ValueError, match="SHA-256"):
            blobs.path(name)


async def test_a_folder_that_takes_no_files_is_unavailable(tmp_path: Path) -> None:
    (tmp_path / "blobs").write_text("a file where the folder should be")
    with pytest.raises(Unavailable):
        async with Blobs(tmp_path / "blobs").receive(chunks(b"a"), 10):
            pass
