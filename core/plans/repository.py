"""The git repository of a plan: what is versioned of it. Bare, without a working copy; everything here blocks.

A commit is made of objects that nothing refers to yet, and all of it is on the disk when `commit` returns. References follow
the database; they keep `git gc` from throwing away what is in use, and show a plan to whoever looks at it with git.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, cast

from core.kernel.ids import new_id
from core.plans import git_objects
from core.plans.git_objects import GitObject
from core.plans.ids import new_uuid

if TYPE_CHECKING:
    import pygit2

LOOSE_OBJECTS = 16
"""Objects of one commit that are stored as files of their own; more of them become a pack."""

_BRANCHES, _UNDONE = "refs/heads/", "refs/undone/"


@dataclass(frozen=True, slots=True)
class Entry:
    """An entry of a log.

    Attributes:
        sha: Commit that holds the state.
        seconds: When it was made.
        message: What happened, for people.
    """

    sha: str
    seconds: int
    message: str


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The files of a commit.

    Attributes:
        files: Their bytes, by path.
        ids: Ids of files and folders, by path; the root is the empty path.
    """

    files: Mapping[str, bytes] = field(default_factory=dict[str, bytes])
    ids: Mapping[str, bytes] = field(default_factory=dict[str, bytes])

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(len(data) for data in self.files.values())


class Repository:
    """One repository, in a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def read(self, sha: str) -> Snapshot:
        """Return the files of a commit; none for the empty name.

        Raises:
            KeyError: There is no such commit.
        """
        if not sha:
            return Snapshot()
        repository = self._open()
        if repository is None:
            raise KeyError(sha)
        files: dict[str, bytes] = {}
        root = _commit(repository, sha).tree
        ids: dict[str, bytes] = {"": root.id.raw}
        for entry in root:
            name = entry.name or ""
            ids[name] = entry.id.raw
            if entry.type_str == "tree":
                for member in cast("pygit2.Tree", entry):
                    path = f"{name}/{member.name}"
                    ids[path] = member.id.raw
                    files[path] = cast("pygit2.Blob", member).data
            else:
                files[name] = cast("pygit2.Blob", entry).data
        return Snapshot(files, ids)

    def commit(
        self, parent: str, before: Snapshot, files: Mapping[str, bytes], message: str, *, author: str, seconds: int
    ) -> tuple[str, Snapshot]:
        """Store files as a commit after its parent, durably, and return its name. No reference is moved."""
        made: list[GitObject] = []
        ids: dict[str, bytes] = {}
        folders: dict[str, dict[str, bytes]] = {"": {}}
        for path, data in files.items():
            if before.files.get(path) == data:
                ids[path] = before.ids[path]
            else:
                blob = git_objects.make(git_objects.BLOB, data)
                ids[path] = blob.id
                made.append(blob)
            folder, _, name = path.rpartition("/")
            folders.setdefault(folder, {})[name] = ids[path]
        trees = {name: git_objects.tree_of(members, {}) for name, members in folders.items() if name}
        root = git_objects.tree_of(folders[""], {name: tree.id for name, tree in trees.items()})
        for name, tree in (*trees.items(), ("", root)):
            ids[name] = tree.id
            if before.ids.get(name) != tree.id:
                made.append(tree)
        commit = git_objects.commit_of(root, parent, message, author=author, entry_id=new_uuid(), seconds=seconds)
        self._store([*made, commit])
        return commit.id.hex(), Snapshot(files, ids)

    def log(self, heads: Iterable[str]) -> list[Entry]:
        """Return the entries from which commits come and themselves, children before parents.

        Raises:
            KeyError: There is no such commit.
        """
        wanted = [head for head in heads if head]
        repository = self._open() if wanted else None
        if repository is None:
            if wanted:
                raise KeyError(wanted[0])
            return []
        import pygit2.enums  # noqa: PLC0415 - libgit2 costs memory and start-up time that only plans should pay

        walker = repository.walk(_commit(repository, wanted[0]).id, pygit2.enums.SortMode.TOPOLOGICAL)
        for head in wanted[1:]:
            walker.push(_commit(repository, head).id)
        return [Entry(str(commit.id), commit.commit_time, commit.message) for commit in walker]

    def point(self, branches: Mapping[str, str], undone: Mapping[str, str]) -> None:
        """Make the references those of the branches, by id, and of what their rewinds took away, and no other."""
        targets = {_BRANCHES + name: sha for name, sha in branches.items() if sha}
        targets |= {_UNDONE + name: sha for name, sha in undone.items() if sha}
        repository = self._open()
        if repository is None:
            return
        present = {name: str(repository.references[name].target) for name in repository.references}
        for name in present.keys() - targets.keys():
            repository.references.delete(name)
        for name, sha in targets.items():
            if present.get(name) != sha:
                repository.references.create(name, sha, force=True)

    def delete(self) -> None:
        """Delete the repository with everything in it."""
        if self._folder.exists():
            # Out of sight at once: what a crash leaves of a deletion is no repository any more.
            gone = self._folder.with_name(f"{self._folder.name}.{new_id('gone_')}")
            self._folder.rename(gone)
            shutil.rmtree(gone, ignore_errors=True)

    def _open(self) -> pygit2.Repository | None:
        if not self._folder.exists():
            return None
        import pygit2  # noqa: PLC0415 - libgit2 costs memory and start-up time that only plans should pay

        # Process-wide: objects and references are on the disk before a call returns.
        pygit2.settings.enable_fsync_gitdir(True)  # noqa: FBT003 - it takes no name
        return pygit2.Repository(str(self._folder))

    def _create(self) -> pygit2.Repository:
        import pygit2  # noqa: PLC0415 - libgit2 costs memory and start-up time that only plans should pay

        new = self._folder.with_name(f"{self._folder.name}.{new_id('new_')}")
        pygit2.init_repository(str(new), bare=True)
        for name in ("hooks", "description", "info"):
            path = new / name
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
        (new / "objects" / "pack").mkdir(parents=True, exist_ok=True)
        _sync_all(new)
        try:
            new.rename(self._folder)
        except OSError:
            # Another process was first.
            shutil.rmtree(new, ignore_errors=True)
        _sync(self._folder.parent)
        opened = self._open()
        if opened is None:
            raise FileNotFoundError(self._folder)
        return opened

    def _store(self, objects: Collection[GitObject]) -> None:
        repository = self._open() or self._create()
        if len(objects) <= LOOSE_OBJECTS:
            for one in objects:
                repository.odb.write(one.kind, one.data)
            return
        pack, index, name = git_objects.pack_of(list(objects))
        folder = self._folder / "objects" / "pack"
        folder.mkdir(exist_ok=True)
        # Git looks for indexes, so the pack has to be there first.
        _place(folder / f"pack-{name}.pack", pack)
        _place(folder / f"pack-{name}.idx", index)
        _sync(folder)


def _commit(repository: pygit2.Repository, sha: str) -> pygit2.Commit:
    import pygit2  # noqa: PLC0415 - libgit2 costs memory and start-up time that only plans should pay

    return repository[sha].peel(pygit2.Commit)


def _place(path: Path, data: bytes) -> None:
    """Write a file so that it is whole under its name, and on the disk."""
    new = path.with_name(new_id("tmp_"))
    with new.open("xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    new.chmod(0o444)
    new.rename(path)


def _sync_all(folder: Path) -> None:
    for path in (folder, *folder.rglob("*")):
        _sync(path)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
