"""The git repository of a plan: what is versioned of it. Bare, without a working copy; everything here blocks.

A commit is made of objects that nothing refers to yet, and all of it is on the disk when `commit` returns. References follow
the database; they keep `git gc` from throwing away what is in use, and show a plan to whoever looks at it with git.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, cast

from core.kernel.ids import new_id
from core.plans import git_objects
from core.plans.git_objects import GitObject
from core.plans.git_packs import Packs, sync
from core.plans.ids import new_uuid

if TYPE_CHECKING:
    import pygit2

_BRANCHES, _UNDONE = "refs/heads/", "refs/undone/"
_PACKED = "# pack-refs with: peeled fully-peeled sorted \n"


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
        self._packs = Packs(folder / "objects" / "pack")

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
        if not self._folder.exists():
            self._create()
        self._packs.write([*made, commit])
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
        """Make the references those of the branches, by id, and of what their rewinds took away, and no other.

        They are made of the rows at any time, so nobody waits until they are on the disk.
        """
        targets = {_BRANCHES + name: sha for name, sha in branches.items() if sha}
        targets |= {_UNDONE + name: sha for name, sha in undone.items() if sha}
        if not self._folder.exists():
            return
        text = _PACKED + "".join(f"{targets[name]} {name}\n" for name in sorted(targets))
        path = self._folder / "packed-refs"
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            new = path.with_name(new_id("packed-refs."))
            new.write_text(text, encoding="utf-8")
            new.rename(path)

    def tidy(self) -> None:
        """Put what many small changes have stored together."""
        repository = self._open()
        if repository is not None:
            self._packs.tidy(repository)

    def prune(self, heads: Iterable[str]) -> None:
        """Let go of everything that no branch comes from."""
        repository = self._open()
        if repository is not None:
            self._packs.prune(repository, [repository[entry.sha].id for entry in self.log(heads)])

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

        return pygit2.Repository(str(self._folder))

    def _create(self) -> None:
        import pygit2  # noqa: PLC0415 - libgit2 costs memory and start-up time that only plans should pay

        new = self._folder.with_name(f"{self._folder.name}.{new_id('new_')}")
        pygit2.init_repository(str(new), bare=True)
        # Examples for people, of which there is one repository too many.
        shutil.rmtree(new / "hooks", ignore_errors=True)
        (new / "objects" / "pack").mkdir(parents=True, exist_ok=True)
        for path in (new, *new.rglob("*")):
            sync(path)
        try:
            new.rename(self._folder)
        except OSError:
            shutil.rmtree(new, ignore_errors=True)
            # Another process may have been first.
            if not self._folder.exists():
                raise
        for folder in list(self._folder.parents)[:3]:
            sync(folder)


def _commit(repository: pygit2.Repository, sha: str) -> pygit2.Commit:
    import pygit2  # noqa: PLC0415 - libgit2 costs memory and start-up time that only plans should pay

    return repository[sha].peel(pygit2.Commit)
