"""Plans about the projects of makers: their documents as context, and pending changes saved as firmware."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping

from sqlmodel.ext.asyncio.session import AsyncSession

from core.documents.shared import SharedProject, SharedProjects
from core.kernel.call import Call
from core.kernel.clock import Clock, to_exact_timestamp
from core.kernel.errors import Aborted, FailedPrecondition
from core.plans.access import require_branch, user_of
from core.plans.applying import SCRIPT, apply
from core.plans.commit_messages import Condense, commit_message
from core.plans.context_items import FILE
from core.plans.context_keeper import ContextKeeper, tokens_of
from core.plans.current import current_files, file_contexts
from core.plans.run_activity import require_idle
from core.plans.state import PlanState
from core.plans.store import PlanStore
from core.storage.database import Database
from gen.busbar.plans.v1.changes_pb import CurrentPlanFiles
from gen.busbar.plans.v1.contexts_pb import LoadContextParams, LoadContextResponse, UpdateContextParams
from gen.busbar.plans.v1.project_documents_pb import (
    ApplyToProjectRequest,
    ApplyToProjectResponse,
    LoadProjectDocumentsRequest,
)

WIRING = "wiring.json"
NOT_FIRMWARE = frozenset({SCRIPT, WIRING})
KINDS = ("firmware", "wiring")


class ProjectDocumentService:
    """Loads documents of projects into plans and saves them back."""

    def __init__(
        self,
        database: Database,
        store: PlanStore,
        keeper: ContextKeeper,
        projects: Callable[[], SharedProjects],
        condense: Condense,
        clock: Clock,
    ) -> None:
        self._database = database
        self._store = store
        self._keeper = keeper
        self._projects = projects
        self._condense = condense
        self._clock = clock

    async def load_project_documents(self, request: LoadProjectDocumentsRequest, call: Call) -> LoadContextResponse:
        """Load what is new and update what changed, each as an entry of its own."""
        project = await self._projects().read(request.project_id, call.caller)
        texts = _texts(project, request.kinds or KINDS)
        async with self._store.change(call.caller, request.plan_id, request.branch) as change:
            held = file_contexts(change.state)
            updates = {
                held[path].id: UpdateContextParams(body=text)
                for path, text in texts.items()
                if path in held and held[path].body != text
            }
            updated = await self._keeper.update(change, updates)
        if updated.max_tokens_exceeded:
            return updated
        items = [LoadContextParams(context_type=FILE, name=path, file_path=path, body=text) for path, text in texts.items()]
        async with self._store.change(call.caller, request.plan_id, request.branch) as change:
            loaded = await self._keeper.load(change, items, owner=user_of(call.caller))
        return _both(updated, loaded) if updates else loaded

    async def apply_to_project(self, request: ApplyToProjectRequest, call: Call) -> ApplyToProjectResponse:
        """Save the firmware and mark the changes as applied in one unit of work: both are done, or neither."""
        project = await self._projects().read(request.project_id, call.caller)
        async with self._database.read() as session:
            opened = await require_branch(session, call.caller, request.plan_id, request.branch)
            await require_idle(session, opened.branch.id, self._clock.now_us())
        state = await self._store.read(opened)
        pending = await asyncio.to_thread(_firmware_changes, state, project)
        paths = frozenset({*pending.files, *pending.removed_by_path})
        message = await commit_message(self._condense, opened.plan.org_id, state, request.auth_vars, paths)
        revisions: list[int] = []
        saving = self._projects().saving(request.project_id, _applied(project.firmware, pending), project.revision, call)
        async with saving as save, self._store.change(call.caller, request.plan_id, request.branch) as change:
            branch, now_us = change.branch, self._clock.now_us()
            if branch.head != opened.branch.head:
                raise Aborted("the branch changed meanwhile, try again", branch=branch.name)

            async def also(session: AsyncSession) -> None:
                await require_idle(session, branch.id, now_us)
                revisions.append(await save(session))

            change.also = also
            now = to_exact_timestamp(now_us)
            change.message = await asyncio.to_thread(apply, change.state, user_of(call.caller), message, now, paths)
            branch.context_tokens = tokens_of(change.state)
        return ApplyToProjectResponse(commit_msg=message, revision=revisions[-1], paths=sorted(paths))


def _texts(project: SharedProject, kinds: Collection[str]) -> dict[str, str]:
    """Return the text of each file that a plan is to read, by path; a file of the firmware comes before the wiring."""
    texts = dict(project.firmware) if "firmware" in kinds else {}
    if "wiring" in kinds and project.wiring is not None:
        texts.setdefault(WIRING, project.wiring)
    return texts


def _both(updated: LoadContextResponse, loaded: LoadContextResponse) -> LoadContextResponse:
    """Return what an update and a load came to together."""
    messages = [updated.msg, *([loaded.msg] if loaded.tokens_added else [])]
    return LoadContextResponse(
        tokens_added=updated.tokens_added + loaded.tokens_added,
        total_tokens=loaded.total_tokens,
        max_tokens_exceeded=loaded.max_tokens_exceeded,
        max_tokens=loaded.max_tokens,
        msg="\n\n".join(messages),
    )


def _firmware_changes(state: PlanState, project: SharedProject) -> CurrentPlanFiles:
    """Return the pending changes of files that are in the firmware, or that are new.

    Raises:
        FailedPrecondition: Nothing of the project is loaded, nothing of its firmware is pending, or a file is not what it was
            when it was loaded.
    """
    held, made = file_contexts(state), current_files(state)
    if not any(path in held for path in _texts(project, KINDS)):
        raise FailedPrecondition("no document of this project is loaded into the plan")
    changes = CurrentPlanFiles()
    for path, text in made.files.items():
        if path in project.firmware or (path not in held and path not in NOT_FIRMWARE):
            changes.files[path] = text
    for path in made.removed_by_path:
        if path in project.firmware:
            changes.removed_by_path[path] = True
    for path in (*changes.files, *changes.removed_by_path):
        read = held[path].body if path in held else None
        if project.firmware.get(path) != read:
            raise FailedPrecondition(f"{path} has changed in the project since it was loaded: load it again", path=path)
    if not changes.files and not changes.removed_by_path:
        raise FailedPrecondition("no change of the firmware is pending")
    return changes


def _applied(firmware: Mapping[str, str], changes: CurrentPlanFiles) -> dict[str, str]:
    """Return the files of the firmware as the changes make them."""
    kept = {path: text for path, text in firmware.items() if path not in changes.removed_by_path}
    return {**kept, **changes.files}
