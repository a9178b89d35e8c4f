"""The context of plans, as rpcs."""

from __future__ import annotations

from collections.abc import Iterable

from core.kernel.call import Call
from core.kernel.errors import NotFound
from core.plans.access import Opened, user_of
from core.plans.context_items import body_of
from core.plans.context_keeper import ContextKeeper
from core.plans.context_names import ContextNames, lacks_name
from core.plans.store import PlanStore
from gen.busbar.plans.v1.contexts_pb import (
    Context,
    DeleteContextRequest,
    DeleteContextResponse,
    GetContextBodyRequest,
    GetContextBodyResponse,
    ListContextRequest,
    ListContextResponse,
    LoadContextParams,
    LoadContextRequest,
    LoadContextResponse,
    UpdateContextRequest,
)


class ContextService:
    """Keeps the context of branches."""

    def __init__(self, store: PlanStore, keeper: ContextKeeper, names: ContextNames) -> None:
        self._store = store
        self._keeper = keeper
        self._names = names

    async def list_context(self, request: ListContextRequest, call: Call) -> ListContextResponse:
        """Return the items without what makes them large."""
        state = await self._store.read(await self._store.open(call.caller, request.plan_id, request.branch))
        return ListContextResponse(contexts=[_listed(item) for item in state.contexts.values()])

    async def load_context(self, request: LoadContextRequest, call: Call) -> LoadContextResponse:
        """Name what has no name, which may take a model some time, then load it."""
        opened = await self._store.open(call.caller, request.plan_id, request.branch)
        await self._name(opened, request)
        async with self._store.change(call.caller, request.plan_id, request.branch) as change:
            return await self._keeper.load(change, request.items, owner=user_of(call.caller))

    async def update_context(self, request: UpdateContextRequest, call: Call) -> LoadContextResponse:
        """Replace what is named."""
        async with self._store.change(call.caller, request.plan_id, request.branch) as change:
            return await self._keeper.update(change, request.contexts)

    async def delete_context(self, request: DeleteContextRequest, call: Call) -> DeleteContextResponse:
        """Remove what is named and true."""
        async with self._store.change(call.caller, request.plan_id, request.branch) as change:
            return self._keeper.remove(change, [context_id for context_id, gone in request.ids.items() if gone])

    async def get_context_body(self, request: GetContextBodyRequest, call: Call) -> GetContextBodyResponse:
        """Return the text of an item."""
        state = await self._store.read(await self._store.open(call.caller, request.plan_id, request.branch))
        item = state.contexts.get(request.context_id)
        if item is None:
            raise NotFound("Context not found", context=request.context_id)
        return GetContextBodyResponse(body=body_of(item))

    async def _name(self, opened: Opened, request: LoadContextRequest) -> None:
        if any(lacks_name(item) for item in request.items):
            state = await self._store.read(opened)
            await self._names.fill(opened.plan.org_id, state, request.items, _auth_vars(request.items))


def _auth_vars(items: Iterable[LoadContextParams]) -> dict[str, str]:
    return {name: value for item in items for name, value in item.auth_vars.items()}


def _listed(item: Context) -> Context:
    item.body = ""
    item.map_parts = {}
    return item
