"""Saves the firmware of a project from a plan and dies meanwhile.

usage: python -m tests.plans.killed_saving DATA REQUEST CALLER STEP...

A process is forked for each step before anything is started, so that all of them cost one start of Python.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from core.documents.documents import Documents
from core.kernel.clock import Clock
from core.kernel.settings import Settings
from core.live.bus import Bus
from core.maker.access import ProjectAccess
from core.maker.documents import ProjectDocuments
from core.maker.people import People
from core.maker.shared_projects import MakerProjects
from core.plans.context_keeper import ContextKeeper
from core.plans.map_cache import MapCache
from core.plans.packs import PackBook
from core.plans.project_documents import ProjectDocumentService
from core.plans.repositories import Repositories
from core.plans.repository import Repository
from core.plans.state import Settings as PlanChoice
from core.plans.store import PlanStore
from core.storage.database import Database
from gen.busbar.plans.v1.project_documents_pb import ApplyToProjectRequest
from tests.plans.desk import call_of, principal
from tests.plans.killed import die

store = ProjectDocuments._store  # pyright: ignore[reportPrivateUsage]


async def store_and_die(self: ProjectDocuments, *arguments: Any) -> Any:
    """Save the document within the unit of work, and never commit it."""
    await store(self, *arguments)
    die()


async def store_and_die_later(self: ProjectDocuments, *arguments: Any) -> Any:
    """Save the document within the unit of work, commit it, and let git know nothing of it."""
    Repository.point = die
    return await store(self, *arguments)


async def condense(org_id: str, settings: PlanChoice, auth_vars: Mapping[str, str], messages: Sequence[str]) -> str:
    """Return the first message."""
    return messages[0]


async def service(settings: Settings) -> ProjectDocumentService:
    """Return the service on the data of a server, which need not know of it."""
    clock, database = Clock(), Database(settings.database_url, settings.storage)
    await database.start()
    documents = ProjectDocuments(database, Documents(clock), ProjectAccess(), People(), Bus(clock=clock), clock)
    plans = PlanStore(database, Repositories(settings.data / "plans"), clock)
    keeper = ContextKeeper(PackBook(database, settings), MapCache(database, clock), clock)
    return ProjectDocumentService(database, plans, keeper, lambda: MakerProjects(documents), condense, clock)


def main(data: Path, request: str, caller: str, steps: list[str]) -> None:
    """Die at each step."""
    for step in steps:
        child = os.fork()
        if not child:
            dying = store_and_die if step == "saved without commit" else store_and_die_later
            ProjectDocuments._store = dying  # pyright: ignore[reportPrivateUsage, reportAttributeAccessIssue] - as a test patches
            asyncio.run(apply(data, ApplyToProjectRequest.from_json(request), json.loads(caller)))
            os._exit(1)
        _, status = os.waitpid(child, 0)
        if not os.WIFSIGNALED(status):
            sys.exit(f"nobody died at the step {step}")


async def apply(data: Path, request: ApplyToProjectRequest, caller: list[str]) -> None:
    """Apply what is pending to the project."""
    await (await service(Settings(data=data))).apply_to_project(request, call_of(principal(*caller)))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], sys.argv[3], sys.argv[4:])
