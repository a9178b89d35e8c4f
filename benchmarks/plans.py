"""Applying a plan that changes 1,000 files, against committing the same files from a working copy, both durably.

Applying runs the pending replacements, marks results as applied, brings the context up to date and stores all of it as an entry
of the history. The peer writes the files, adds them and commits, by libgit2 with its flushing to the disk on.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from protobuf.wkt import Timestamp

from benchmarks.rows import Budget, Row, absolute, compare
from core.identity.tables import OrgRow, UserRow
from core.kernel.call import Call, Principal
from core.kernel.clock import Clock
from core.kernel.settings import Storage
from core.plans.changes import ChangeService
from core.plans.replacements import result_for
from core.plans.repositories import Repositories
from core.plans.state import Settings
from core.plans.store import PlanStore
from core.plans.tables import BranchRow, PlanProjectRow, PlanRow
from core.storage.database import Database
from gen.busbar.api.v1.options_pb import CredentialKind
from gen.busbar.plans.v1.changes_pb import ApplyPlanRequest
from gen.busbar.plans.v1.contexts_pb import Context

FILES, LINES, ROUNDS = 1000, 150, 3
PEER, LAX_PEER = "libgit2 in a working copy, flushed", "libgit2 in a working copy, not flushed"
CALLER = Principal("credential", CredentialKind.SESSION, "org", "user")
NOW = Timestamp(seconds=1_750_000_000)


async def run() -> list[Row]:
    """Measure."""
    with tempfile.TemporaryDirectory() as folder:
        database = Database(f"sqlite:///{folder}/busbar.db", Storage())
        await database.start()
        await database.migrate()
        try:
            plan = _Plan(database, Path(folder) / "plans")
            await plan.start()
            copy = _WorkingCopy(Path(folder) / "copy")
            lax = _WorkingCopy(Path(folder) / "lax", flushed=False)
            rounds = [
                (
                    await plan.round(number),
                    await asyncio.to_thread(copy.round, number),
                    await asyncio.to_thread(lax.round, number),
                )
                for number in range(ROUNDS)
            ]
            one = [await plan.one_file(number) for number in range(20)]
        finally:
            await database.stop()
    ours, flushed, not_flushed = zip(*rounds, strict=True)
    what = f"apply of {FILES:,} changed files, durable"
    return [
        compare(what, "files/s", ours, PEER, flushed, Budget(1)),
        compare(what, "files/s", ours, LAX_PEER, not_flushed),
        absolute(f"entry of one file in a plan of {FILES:,}, durable", "ms", one),
    ]


def _text(path: str, number: int) -> str:
    """Return a file of which a line differs in each round."""
    return "".join(f"{path} line {line}\n" if line != LINES // 2 else f"round {number}\n" for line in range(LINES))


def _paths() -> list[str]:
    return [f"src/package{number % 20}/module{number}.py" for number in range(FILES)]


class _Plan:
    """A plan whose context is the files."""

    def __init__(self, database: Database, folder: Path) -> None:
        clock = Clock()
        self._database = database
        self._store = PlanStore(database, Repositories(folder), clock)
        self._service = ChangeService(database, self._store, _no_model, clock)

    async def start(self) -> None:
        """Make the plan, with all files in its context."""
        async with self._database.unit_of_work() as session:
            for row in (
                OrgRow(id="org", name="org", created_us=0),
                UserRow(id="user", email="u@example.com", username="user", display_name="", password_hash="", created_us=0),
                PlanProjectRow(id="project", org_id="org", name="project", created_us=0),
                PlanRow(
                    id="plan",
                    org_id="org",
                    owner_id="user",
                    project_id="project",
                    name="plan",
                    config="{}",
                    created_us=0,
                    updated_us=0,
                ),
                BranchRow(id="branch", org_id="org", plan_id="plan", owner_id="user", name="main", created_us=0, updated_us=0),
            ):
                session.add(row)
                await session.flush()
        async with self._store.change(CALLER, "plan", "main") as change:
            for path in _paths():
                item = Context(id=path.replace("/", "-"), context_type="file", name=path, file_path=path)
                item.body = _text(path, -1)
                change.state.contexts[item.id] = item
            change.message = "Loaded files"

    async def round(self, number: int) -> float:
        """Return files a second."""
        async with self._store.change(CALLER, "plan", "main") as change:
            # What was applied in earlier rounds is history.
            change.state.results = [
                result_for(path, _text(path, number - 1), _text(path, number), message_id="m", build_id="b", now=NOW)
                for path in _paths()
            ]
            change.message = "Built"
        began = time.perf_counter()
        await self._service.apply_plan(ApplyPlanRequest(plan_id="plan", branch="main"), Call(principal=CALLER))
        return FILES / (time.perf_counter() - began)

    async def one_file(self, number: int) -> float:
        """Return the milliseconds that an entry of one changed file takes."""
        began = time.perf_counter()
        async with self._store.change(CALLER, "plan", "main") as change:
            next(iter(change.state.contexts.values())).body = str(number)
            change.message = "Updated a file"
        return (time.perf_counter() - began) * 1000


class _WorkingCopy:
    """The same files in a working copy of git."""

    def __init__(self, folder: Path, *, flushed: bool = True) -> None:
        import pygit2  # noqa: PLC0415 - as in the product

        self._folder = folder
        self._flushed = flushed
        self._repository: Any = pygit2.init_repository(str(folder))
        self._write(-1)

    def round(self, number: int) -> float:
        """Return files a second."""
        import pygit2  # noqa: PLC0415 - as in the product

        pygit2.settings.enable_fsync_gitdir(self._flushed)
        began = time.perf_counter()
        self._write(number)
        seconds = time.perf_counter() - began
        pygit2.settings.enable_fsync_gitdir(False)  # noqa: FBT003 - it takes no name
        return FILES / seconds

    def _write(self, number: int) -> None:
        import pygit2  # noqa: PLC0415 - as in the product

        for path in _paths():
            file = self._folder / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(_text(path, number))
        index = self._repository.index
        index.add_all()
        index.write()
        who = pygit2.Signature("user", "user@example.com")
        parents = [] if self._repository.head_is_unborn else [self._repository.head.target]
        self._repository.create_commit("HEAD", who, who, f"Round {number}", index.write_tree(), parents)


async def _no_model(org_id: str, settings: Settings, auth_vars: Mapping[str, str], messages: Sequence[str]) -> str:
    raise AssertionError(f"no message needs a model: {org_id} {settings} {auth_vars} {messages}")
