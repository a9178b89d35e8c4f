"""The packs of a repository: every change is one, and many small ones become one of them again."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from core.kernel.ids import new_id
from core.plans.git_objects import GitObject, ids_in, pack_of

if TYPE_CHECKING:
    import pygit2

MANY = 48
"""Small packs that are put together; git looks into one pack after the other."""

_SMALL_BYTES = 1024 * 1024
_YOUNG_SECONDS = 600.0


class Packs:
    """The packs in one folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def write(self, objects: Sequence[GitObject]) -> None:
        """Store objects as a pack, which is on the disk when this returns."""
        pack, index, name = pack_of(objects)
        # Git looks for indexes, so the pack has to be there first.
        _place(self._folder / f"pack-{name}.pack", pack)
        _place(self._folder / f"pack-{name}.idx", index)
        sync(self._folder)

    def tidy(self, repository: pygit2.Repository) -> None:
        """Put small packs together if there are many. Commits that are being made meanwhile lose nothing."""
        small = [index for index in self._indexes() if index.with_suffix(".pack").stat().st_size < _SMALL_BYTES]
        if len(small) >= MANY:
            self._replace(small, (oid for index in small for oid in ids_in(index.read_bytes())), repository)

    def prune(self, repository: pygit2.Repository, commits: Iterable[pygit2.Oid]) -> None:
        """Keep commits and what they hold, and let go of everything else that is not about to be used by a commit."""
        import pygit2  # noqa: PLC0415 - libgit2 costs memory and start-up time that only plans should pay

        # What a commit of another process has just stored has no reference yet.
        before = time.time() - _YOUNG_SECONDS
        old = [index for index in self._indexes() if index.stat().st_mtime < before]
        wanted: set[bytes] = set()
        for commit in commits:
            wanted.add(commit.raw)
            root = repository[commit].peel(pygit2.Tree)
            _add_tree(root, wanted)
        held = [oid for index in old for oid in ids_in(index.read_bytes())]
        if len(wanted.intersection(held)) < len(held):
            self._replace(old, (oid for oid in held if oid in wanted), repository)

    def _replace(self, indexes: Sequence[Path], objects: Iterable[bytes], repository: pygit2.Repository) -> None:
        """Write objects into one pack, durably, and delete the packs that have them now."""
        import pygit2  # noqa: PLC0415 - libgit2 costs memory and start-up time that only plans should pay

        builder = pygit2.PackBuilder(repository)
        builder.set_threads(1)
        for oid in dict.fromkeys(objects):
            builder.add(pygit2.Oid(raw=oid))
        written = self._written(builder) if len(builder) else ""
        for index in indexes:
            # A crash may have left packs beside the one that they became, which is then made once more.
            if index.stem != written:
                # The index first: a pack without one is none.
                index.unlink(missing_ok=True)
                index.with_suffix(".pack").unlink(missing_ok=True)
        self._clear()

    def _clear(self) -> None:
        """Delete what interrupted work has left."""
        before = time.time() - _YOUNG_SECONDS
        for path in self._folder.iterdir():
            begun = path.name.startswith("tmp_") or (path.suffix == ".pack" and not path.with_suffix(".idx").exists())
            if begun and path.stat().st_mtime < before:
                if path.is_dir():
                    shutil.rmtree(path, ignore_errors=True)
                else:
                    path.unlink(missing_ok=True)

    def _written(self, builder: pygit2.PackBuilder) -> str:
        """Store what a builder has as a pack, which is on the disk when this returns, and return its name."""
        with TemporaryDirectory(prefix="tmp_", dir=self._folder) as made:
            builder.write(made)
            (index,) = Path(made).glob("*.idx")
            for path in (index.with_suffix(".pack"), index):
                sync(path)
                path.rename(self._folder / path.name)
        sync(self._folder)
        return index.stem

    def _indexes(self) -> list[Path]:
        return sorted(self._folder.glob("pack-*.idx"))


def _add_tree(tree: pygit2.Tree, wanted: set[bytes]) -> None:
    """Add a tree and everything in it, unless it was added already."""
    import pygit2  # noqa: PLC0415 - libgit2 costs memory and start-up time that only plans should pay

    if tree.id.raw in wanted:
        return
    wanted.add(tree.id.raw)
    for entry in tree:
        if isinstance(entry, pygit2.Tree):
            _add_tree(entry, wanted)
        else:
            wanted.add(entry.id.raw)


def _place(path: Path, data: bytes) -> None:
    """Write a file so that it is whole under its name, and on the disk."""
    new = path.with_name(new_id("tmp_"))
    with new.open("xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    new.chmod(0o444)
    new.rename(path)


def sync(path: Path) -> None:
    """Wait until a file or the entries of a folder are on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
