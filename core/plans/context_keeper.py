"""Changes of the context within a change of a branch. Whoever holds the branch calls this: rpcs, runs, applied changes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from copy import deepcopy

from sqlmodel.ext.asyncio.session import AsyncSession

from core.kernel.clock import Clock, to_exact_timestamp
from core.kernel.errors import InvalidArgument, NotFound
from core.plans import context_log
from core.plans.context_items import FILE, IMAGE, MAP, change_item, item_of, require_room
from core.plans.current import invalidate
from core.plans.map_cache import MapCache
from core.plans.packs import PackBook, Stock, context_limit
from core.plans.state import PlanState
from core.plans.store import Change
from gen.busbar.plans.v1.configs_pb import PlanConfig
from gen.busbar.plans.v1.contexts_pb import (
    Context,
    DeleteContextResponse,
    LoadContextParams,
    LoadContextResponse,
    UpdateContextParams,
)


class ContextKeeper:
    """Loads, updates and removes items. Each call makes the entry of the change, or leaves the state as it was."""

    def __init__(self, packs: PackBook, maps: MapCache, clock: Clock) -> None:
        self._packs = packs
        self._maps = maps
        self._clock = clock

    async def load(
        self, change: Change, items: Iterable[LoadContextParams], *, owner: str, auto_loaded: bool = False
    ) -> LoadContextResponse:
        """Load items; those of a name and kind that are there already are passed over.

        Raises:
            InvalidArgument: An item, or all together, are too large, or the planner cannot see a picture.
        """
        state, now = change.state, to_exact_timestamp(self._clock.now_us())
        known = {_key(item) for item in state.contexts.values()}
        fresh: dict[tuple[str, str], Context] = {}
        for params in items:
            item = item_of(params, owner=owner, now=now, auto_loaded=auto_loaded)
            if _key(item) not in known:
                fresh.setdefault(_key(item), item)
        if not fresh:
            return _nothing(change)
        added = list(fresh.values())
        stock = await self._packs.stock(change.plan.org_id)
        if any(item.context_type == IMAGE for item in added):
            _require_sight(stock, state)
        contexts = {**state.contexts, **{item.id: item for item in added}}
        require_room(contexts.values())
        refusal = _too_much(change, stock, contexts)
        if refusal is not None:
            return refusal
        state.contexts = contexts
        return self._loaded(change, added)

    def _loaded(self, change: Change, added: list[Context]) -> LoadContextResponse:
        _invalidate(change.state, added)
        tokens = sum(item.num_tokens for item in added)
        change.branch.context_tokens = tokens_of(change.state)
        change.message = context_log.loaded(added, tokens, change.branch.context_tokens)
        self._remember(change, added)
        return _answer(change, tokens)

    async def update(self, change: Change, updates: Mapping[str, UpdateContextParams]) -> LoadContextResponse:
        """Replace bodies of items and parts of maps.

        Raises:
            NotFound: The context has no such item.
            InvalidArgument: An item, or all together, are too large now.
        """
        state, now = change.state, to_exact_timestamp(self._clock.now_us())
        before = tokens_of(state)
        changed: list[Context] = []
        for context_id, params in updates.items():
            item = state.contexts.get(context_id)
            if item is None:
                raise NotFound(f"context {context_id} not found", context=context_id)
            changed.append(deepcopy(item))
            change_item(changed[-1], params, now)
        if not changed:
            return _nothing(change)
        contexts = {**state.contexts, **{item.id: item for item in changed}}
        require_room(contexts.values())
        refusal = _too_much(change, await self._packs.stock(change.plan.org_id), contexts)
        if refusal is not None:
            return refusal
        state.contexts = contexts
        _invalidate(state, changed)
        change.branch.context_tokens = tokens_of(state)
        tokens = change.branch.context_tokens - before
        change.message = context_log.updated(changed, tokens, change.branch.context_tokens)
        self._remember(change, changed)
        return _answer(change, tokens)

    def remove(self, change: Change, ids: Iterable[str]) -> DeleteContextResponse:
        """Remove items; unknown ids are passed over."""
        state = change.state
        gone = [item for context_id in ids if (item := state.contexts.pop(context_id, None)) is not None]
        # A pending edit is made of pieces of the text that is gone, so it cannot stand without it.
        _invalidate(state, gone, removed=True)
        tokens = sum(item.num_tokens for item in gone)
        change.branch.context_tokens = tokens_of(state)
        if gone:
            change.message = context_log.removed(gone, tokens, change.branch.context_tokens)
        return DeleteContextResponse(
            tokens_removed=tokens, total_tokens=change.branch.context_tokens, msg=change.message or "No context removed"
        )

    def _remember(self, change: Change, items: Iterable[Context]) -> None:
        """Keep maps for other plans of the project, in the unit of work of the change."""
        maps = [item for item in items if item.context_type == MAP]
        if not maps:
            return
        before = change.also

        async def also(session: AsyncSession) -> None:
            await before(session)
            for item in maps:
                await self._maps.keep(session, change.plan.project_id, item)

        change.also = also


def tokens_of(state: PlanState) -> int:
    """Return the tokens of the whole context."""
    return sum(item.num_tokens for item in state.contexts.values())


def _key(item: Context) -> tuple[str, str]:
    return item.context_type, item.name


def _invalidate(state: PlanState, files: Iterable[Context], *, removed: bool = False) -> None:
    """Drop pending changes that no longer fit files whose text is another now."""
    for item in files:
        if item.context_type == FILE and item.file_path:
            invalidate(state, item.file_path, "" if removed else item.body)


def _nothing(change: Change) -> LoadContextResponse:
    return LoadContextResponse(total_tokens=change.branch.context_tokens, msg=context_log.NOTHING_ADDED)


def _answer(change: Change, tokens: int) -> LoadContextResponse:
    return LoadContextResponse(tokens_added=tokens, total_tokens=change.branch.context_tokens, msg=change.message)


def _require_sight(stock: Stock, state: PlanState) -> None:
    planner = stock.resolve(state.settings).planner
    model = stock.model(planner.model_id) if planner is not None else None
    if model is None or not model.has_image_support:
        name = "" if planner is None else planner.model_id
        raise InvalidArgument(f"{name} cannot see images: choose a planner that can")


def _too_much(change: Change, stock: Stock, contexts: Mapping[str, Context]) -> LoadContextResponse | None:
    """Return the answer for a context that its models could not read; None when they can.

    Where the architect chooses files, it reads the maps, and the planner what was loaded by hand. Else the planner reads all.
    """
    pack = stock.resolve(change.state.settings)
    before = change.branch.context_tokens
    total = sum(item.num_tokens for item in contexts.values())
    loads = {"planner": list(contexts.values())}
    if PlanConfig.from_json(change.plan.config, ignore_unknown_fields=True).auto_context:
        by_hand = [item for item in contexts.values() if item.context_type != MAP and not item.auto_loaded]
        loads = {"planner": by_hand, "architect": [item for item in contexts.values() if item.context_type == MAP]}
    for role, items in loads.items():
        limit = context_limit(stock, pack, role)
        if sum(item.num_tokens for item in items) > limit:
            return LoadContextResponse(
                tokens_added=total - before, total_tokens=total, max_tokens_exceeded=True, max_tokens=limit
            )
    return None
