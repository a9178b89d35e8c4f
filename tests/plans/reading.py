"""What tests of the context share: its services without doors, plans on a server, and pending changes made by hand."""

from __future__ import annotations

import struct
import zlib
from base64 import b64encode
from collections.abc import Mapping, Sequence
from typing import Any

from core.kernel.clock import to_exact_timestamp
from core.kernel.errors import Unavailable
from core.kernel.settings import Settings
from core.plans.completion import RoleModels, Roles
from core.plans.context_keeper import ContextKeeper
from core.plans.context_names import ContextNames
from core.plans.contexts import ContextService
from core.plans.ids import new_uuid
from core.plans.map_cache import MapCache
from core.plans.packs import PackBook
from core.plans.questions import Function, Message
from core.plans.replacements import result_for
from core.plans.state import PlanState
from core.plans.state import Settings as PlanChoice
from core.plans.store import PlanStore
from core.plans.tables import BranchRow, PlanProjectRow, PlanRow
from gen.busbar.plans.v1.changes_pb import PlanFileResult
from gen.busbar.plans.v1.contexts_pb import (
    Context,
    DeleteContextRequest,
    DeleteContextResponse,
    GetContextBodyRequest,
    ListContextRequest,
    LoadContextParams,
    LoadContextRequest,
    LoadContextResponse,
    UpdateContextParams,
    UpdateContextRequest,
)
from gen.busbar.plans.v1.conversation_pb import ConvoMessageDescription, Operation
from tests.conftest import Person, Running
from tests.plans.desk import US, Desk, call_of

PLAN = {"plan_id": "plan-1", "branch": "main"}
NOW = to_exact_timestamp(US)


class Answering(Roles, RoleModels):  # pyright: ignore[reportUnsafeMultipleInheritance] - neither is set up
    """Models that answer each question with the next of some names; None is a model that fails."""

    def __init__(self, *names: str | None) -> None:
        self.names = list(names)
        self.asked: list[tuple[str, str, str]] = []
        self.auth_vars: Mapping[str, str] = {}

    async def for_branch(self, org_id: str, settings: PlanChoice, auth_vars: Mapping[str, str]) -> RoleModels:
        self.auth_vars = auth_vars
        return self

    async def ask(
        self, role: str, messages: Sequence[Message], *, function: Function | None = None, strong: bool = False
    ) -> Any:
        assert function is not None
        self.asked.append((role, function.name, messages[-1].text))
        name = self.names.pop(0)
        if name is None:
            raise Unavailable("no provider is usable")
        return {"name": name}


class Reading:
    """The context of the plans of a desk, as its service keeps it."""

    def __init__(self, desk: Desk, names: Answering | None = None) -> None:
        self.desk = desk
        self.names = names or Answering()
        self.maps = MapCache(desk.database, desk.clock)
        self.keeper = ContextKeeper(PackBook(desk.database, Settings()), self.maps, desk.clock)
        self.service = ContextService(desk.store, self.keeper, ContextNames(self.names))
        self.call = call_of(desk.alice)

    async def load(self, *items: LoadContextParams, plan_id: str = "plan-1") -> LoadContextResponse:
        """Load items as Alice."""
        request = LoadContextRequest(plan_id=plan_id, branch="main", items=list(items))
        return await self.service.load_context(request, self.call)

    async def update(self, changes: Mapping[str, UpdateContextParams]) -> LoadContextResponse:
        """Update items as Alice."""
        return await self.service.update_context(UpdateContextRequest(**PLAN, contexts=dict(changes)), self.call)

    async def remove(self, *ids: str, **ones: bool) -> DeleteContextResponse:
        """Remove items as Alice."""
        request = DeleteContextRequest(**PLAN, ids={**dict.fromkeys(ids, True), **ones})
        return await self.service.delete_context(request, self.call)

    async def listed(self) -> list[Context]:
        """List the items as Alice."""
        return list((await self.service.list_context(ListContextRequest(**PLAN), self.call)).contexts)

    async def body(self, context_id: str) -> str:
        """Read a body as Alice."""
        request = GetContextBodyRequest(**PLAN, context_id=context_id)
        return (await self.service.get_context_body(request, self.call)).body

    async def log(self) -> list[str]:
        """Return the entries of the branch, newest first."""
        return [entry.message for entry in await self.desk.store.log(await self.desk.main())]

    async def item(self, name: str) -> Context:
        """Return the item of a name, whole."""
        return next(item for item in (await self.desk.state()).contexts.values() if item.name == name)

    async def pend(self, *results: PlanFileResult) -> None:
        """Let results be pending, built from one reply."""
        async with self.desk.store.change(self.desk.alice, "plan-1", "main") as change:
            pend(change.state, *results)
            change.message = "Build pending changes"


def file(path: str, body: str, **more: Any) -> LoadContextParams:
    """Return a file as the command line loads it."""
    return LoadContextParams(context_type="file", name=path, file_path=path, body=body, **more)


def note(body: str, **more: Any) -> LoadContextParams:
    """Return a note as the command line loads it: without a name."""
    return LoadContextParams(context_type="note", body=body, **more)


def map_item(path: str = ".", **parts: str) -> LoadContextParams:
    """Return the map of a directory as the command line loads it; `__` stands for the dot in names of files."""
    bodies = {name.replace("__", "."): text for name, text in parts.items()}
    return LoadContextParams(
        context_type="map",
        name="cwd" if path == "." else path,
        file_path=path,
        map_bodies=bodies,
        input_shas={name: f"sha of {name}" for name in bodies},
        input_tokens=dict.fromkeys(bodies, 7),
        input_sizes=dict.fromkeys(bodies, 28),
    )


def edit(path: str, old: str | None, new: str | None, message_id: str = "reply-1") -> PlanFileResult:
    """Return the result of a build."""
    return result_for(path, old, new, message_id=message_id, build_id="build-1", now=NOW)  # pyright: ignore[reportArgumentType] - set


def pend(state: PlanState, *results: PlanFileResult, message: str = "Blink faster") -> None:
    """Let results be pending, built from one reply."""
    state.results.extend(results)
    operations = [Operation(type="remove" if one.removed_file else "file", path=one.path) for one in results]
    state.descriptions.append(
        ConvoMessageDescription(
            id=new_uuid(),
            convo_message_id=results[0].convo_message_id,
            wrote_files=True,
            did_build=True,
            commit_msg=message,
            operations=operations,
            created_at=NOW,
        )
    )


def png(width: int, height: int) -> str:
    """Return a grey picture in base64."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    rows = chunk(b"IDAT", zlib.compress(b"".join(b"\0" + bytes(width) for _ in range(height))))
    return b64encode(b"\x89PNG\r\n\x1a\n" + header + rows + chunk(b"IEND", b"")).decode()


async def make_plan(busbar: Running, owner: Person, name: str = "plan") -> str:
    """Make a plan with a branch `main` on a server, and return its id."""
    plan_id, project_id = new_uuid(), new_uuid()
    times: dict[str, Any] = {"created_us": US, "updated_us": US}
    async with busbar.app.found.database.unit_of_work() as session:
        session.add(PlanProjectRow(id=project_id, org_id=owner.org_id, name="Code", created_us=US))
        await session.flush()
        whose: dict[str, Any] = {"org_id": owner.org_id, "owner_id": owner.id, **times}
        session.add(PlanRow(id=plan_id, project_id=project_id, name=name, config="{}", **whose))
        await session.flush()
        session.add(BranchRow(id=new_uuid(), plan_id=plan_id, name="main", **whose))
    return plan_id


def store_of(busbar: Running) -> PlanStore:
    """Return the store of a server."""
    return busbar.app.found.part(PlanStore)
