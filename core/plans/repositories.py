"""The repositories of all plans, off the event loop, with what was read last kept in memory."""

from __future__ import annotations

import asyncio
import shutil
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

import structlog

from core.kernel.errors import Unavailable
from core.plans.repository import Entry, Repository, Snapshot
from core.storage.errors import RETRY_AFTER_SECONDS, storage_errors

log = structlog.get_logger("busbar.plans")

T = TypeVar("T")

_SNAPSHOT_BYTES = 64 * 1024 * 1024
_LOGS = 64
_READS = 2
"""Tries at reading: what is read may move into another pack meanwhile."""
_SUFFIX = ".git"
_ABANDONED_SECONDS = 3600.0


class Repositories:
    """One repository for each plan, below one folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._snapshots: OrderedDict[str, Snapshot] = OrderedDict()
        self._bytes = 0
        self._logs: OrderedDict[tuple[str, ...], list[Entry]] = OrderedDict()

    async def read(self, plan_id: str, sha: str) -> Snapshot:
        """Return the files of a commit, which the caller does not change.

        Raises:
            Unavailable: It cannot be read.
        """
        known = self._snapshots.get(sha)
        if known is not None:
            self._snapshots.move_to_end(sha)
            return known
        snapshot = await self._run(plan_id, lambda repository: repository.read(sha), tries=_READS)
        self._keep(sha, snapshot)
        return snapshot

    async def commit(
        self, plan_id: str, parent: str, files: Mapping[str, bytes], message: str, *, author: str, seconds: int
    ) -> str:
        """Store files as a commit after its parent, durably, and return its name. Nothing refers to it yet.

        Raises:
            Unavailable: It cannot be stored.
        """
        before = await self.read(plan_id, parent)
        sha, snapshot = await self._run(
            plan_id,
            lambda repository: repository.commit(parent, before, files, message, author=author, seconds=seconds),
        )
        self._keep(sha, snapshot)
        return sha

    async def log(self, plan_id: str, heads: Sequence[str]) -> list[Entry]:
        """Return the entries from which commits come and themselves, the newest first.

        Raises:
            Unavailable: They cannot be read.
        """
        key = tuple(sorted({head for head in heads if head}))
        known = self._logs.get(key)
        if known is None:
            known = await self._run(plan_id, lambda repository: repository.log(key), tries=_READS)
            self._logs[key] = known
            while len(self._logs) > _LOGS:
                self._logs.popitem(last=False)
        return known

    async def point(self, plan_id: str, branches: Mapping[str, str], undone: Mapping[str, str]) -> bool:
        """Let the references of a plan follow its rows; tells whether they did. Nothing depends on it but what git shows."""
        try:
            await self._run(plan_id, lambda repository: repository.point(branches, undone))
            await self._run(plan_id, lambda repository: repository.tidy())
        except Unavailable:
            return False
        return True

    async def prune(self, plan_id: str, heads: Sequence[str]) -> None:
        """Delete what none of some commits comes from; what cannot be deleted now is once a branch is deleted again."""
        with suppress(Unavailable):
            await self._run(plan_id, lambda repository: repository.prune(heads))

    async def delete(self, plan_id: str) -> None:
        """Delete the repository of a plan; what cannot be deleted now is swept at the next start."""
        try:
            await self._run(plan_id, lambda repository: repository.delete())
        except Unavailable:
            log.warning("a deleted plan is still on the disk", plan=plan_id)

    async def left(self) -> dict[str, Path]:
        """Return the repositories on the disk by the id of their plan, after deleting what interrupted work left behind."""
        return await asyncio.to_thread(self._left)

    async def sweep(self, folders: Iterable[Path]) -> None:
        """Delete repositories of plans that are gone."""
        for folder in folders:
            await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)

    def _left(self) -> dict[str, Path]:
        found: dict[str, Path] = {}
        before = time.time() - _ABANDONED_SECONDS
        for folder in self._folder.glob("??/*"):
            if folder.suffix == _SUFFIX:
                found[folder.stem] = folder
            elif folder.stat().st_mtime < before:
                shutil.rmtree(folder, ignore_errors=True)
        return found

    async def _run(self, plan_id: str, act: Callable[[Repository], T], tries: int = 1) -> T:
        folder = self._folder / plan_id[:2] / _name(plan_id)
        with storage_errors():
            return await asyncio.to_thread(_guarded, act, Repository(folder), tries)

    def _keep(self, sha: str, snapshot: Snapshot) -> None:
        """Keep a snapshot in memory, and let go of those that were not read for longest."""
        if not sha or sha in self._snapshots or snapshot.size > _SNAPSHOT_BYTES:
            return
        self._snapshots[sha] = snapshot
        self._bytes += snapshot.size
        while self._bytes > _SNAPSHOT_BYTES:
            _, gone = self._snapshots.popitem(last=False)
            self._bytes -= gone.size


def _name(plan_id: str) -> str:
    return plan_id + _SUFFIX


def _guarded(act: Callable[[Repository], T], repository: Repository, tries: int) -> T:
    """Do something with a repository, and tell failures of git as failures of storage."""
    import pygit2  # noqa: PLC0415 - libgit2 costs memory and start-up time that only plans should pay

    try:
        return act(repository)
    except (pygit2.GitError, KeyError) as error:
        if tries > 1:
            return _guarded(act, repository, tries - 1)
        log.exception("the repository of a plan failed")
        raise Unavailable("the plan cannot be read or written, try again later", retry_after=RETRY_AFTER_SECONDS) from error
