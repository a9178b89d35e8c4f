"""Changes a branch and dies meanwhile, once at each step: `python -m tests.plans.killed FOLDER STEP...`.

A process is forked for each step before anything is started, so that all of them cost one start of Python.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path
from typing import Any

from core.kernel.settings import Storage
from core.plans import git_packs
from core.plans.repository import Repository
from core.plans.store import PlanStore
from core.storage.database import Database
from tests.plans.desk import Desk

place = git_packs._place  # pyright: ignore[reportPrivateUsage]


def die(*_arguments: object, **_named: object) -> Any:
    """End this process as a power cut would."""
    os.kill(os.getpid(), signal.SIGKILL)


def die_at_index(path: Path, data: bytes) -> None:
    """Write a pack, but not its index."""
    if path.suffix == ".idx":
        die()
    place(path, data)


async def change(folder: Path, step: str) -> None:
    """Change the branch `main` of the first plan."""
    database = Database(f"sqlite:///{folder / 'busbar.db'}", Storage())
    await database.start()
    store = Desk(database, folder / "plans").store
    if step == "pack without index":
        git_packs._place = die_at_index  # pyright: ignore[reportPrivateUsage]
    elif step == "objects without rows":
        PlanStore._store = die  # pyright: ignore[reportPrivateUsage]
    async with store.change(Desk(database, folder).alice, "plan-1", "main") as made:
        made.branch.context_tokens += 1
        made.message = step
        if step == "rows without commit":
            made.also = die
        elif step == "rows without references":
            Repository.point = die


def main(folder: Path, steps: list[str]) -> None:
    """Die at each step."""
    for step in steps:
        child = os.fork()
        if not child:
            asyncio.run(change(folder, step))
            os._exit(1)
        _, status = os.waitpid(child, 0)
        if not os.WIFSIGNALED(status):
            sys.exit(f"nobody died at the step {step}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
