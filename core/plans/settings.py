"""Settings of plans: which models they use. Those of a branch are part of its history; an organisation has a default."""

from __future__ import annotations

from core.kernel.call import Call
from core.kernel.clock import Clock, to_exact_timestamp
from core.kernel.errors import InvalidArgument
from core.plans.access import user_of
from core.plans.builtin_providers import CUSTOM
from core.plans.custom_sets import check_cast, unprocessable
from core.plans.model_tables import OrgSettingsRow
from core.plans.pack_roles import ROLES, STANDS_IN
from core.plans.packs import PackBook, Stock
from core.plans.settings_changes import BRANCH_TITLE, DEFAULT_TITLE, NO_CHANGES, changes
from core.plans.state import Settings
from core.plans.store import PlanStore
from core.storage.database import Database
from gen.busbar.plans.v1.models_pb import ModelPack, UsesProviderList
from gen.busbar.plans.v1.settings_pb import (
    GetDefaultSettingsRequest,
    GetSettingsRequest,
    PlanSettings,
    UpdateDefaultSettingsRequest,
    UpdateSettingsRequest,
    UpdateSettingsResponse,
)


class SettingsService:
    """Keeps settings."""

    def __init__(self, database: Database, store: PlanStore, packs: PackBook, clock: Clock) -> None:
        self._database = database
        self._store = store
        self._packs = packs
        self._clock = clock

    async def get_settings(self, request: GetSettingsRequest, call: Call) -> PlanSettings:
        """Read the settings of a branch."""
        opened = await self._store.open(call.caller, request.plan_id, request.branch)
        state = await self._store.read(opened)
        stock = await self._packs.stock(call.caller.org_id)
        return _message(stock, state.settings, opened.branch.updated_us)

    async def update_settings(self, request: UpdateSettingsRequest, call: Call) -> UpdateSettingsResponse:
        """Choose the pack of a branch; the message is the entry in the log."""
        stock = await self._packs.stock(call.caller.org_id)
        async with self._store.change(call.caller, request.plan_id, request.branch) as change:
            wanted = _checked(request, stock, call)
            lines = changes(stock, change.state.settings, wanted)
            if lines:
                change.state.settings = wanted
                change.message = "\n".join((BRANCH_TITLE, *lines))
            return UpdateSettingsResponse(msg=change.message or NO_CHANGES)

    async def get_default_settings(self, request: GetDefaultSettingsRequest, call: Call) -> PlanSettings:
        """Read the default settings of the organisation."""
        del request
        async with self._database.read() as session:
            stock = await self._packs.stock_in(session, call.caller.org_id)
            row = await session.get(OrgSettingsRow, call.caller.org_id)
        return _message(stock, stock.default, row.updated_us if row else None)

    async def update_default_settings(self, request: UpdateDefaultSettingsRequest, call: Call) -> UpdateSettingsResponse:
        """Choose the pack that the organisation's new plans begin with."""
        user_of(call.caller)
        async with self._database.unit_of_work() as session:
            stock = await self._packs.stock_in(session, call.caller.org_id)
            wanted = _checked(request, stock, call)
            lines = changes(stock, stock.default, wanted)
            if not lines:
                return UpdateSettingsResponse(msg=NO_CHANGES)
            pack = wanted.model_pack.to_json() if wanted.model_pack else ""
            row = OrgSettingsRow(
                org_id=call.caller.org_id,
                model_pack_name=wanted.model_pack_name,
                model_pack=pack,
                updated_us=self._clock.now_us(),
            )
            await session.merge(row)
        return UpdateSettingsResponse(msg="\n".join((DEFAULT_TITLE, *lines)))


def _checked(request: UpdateSettingsRequest | UpdateDefaultSettingsRequest, stock: Stock, call: Call) -> Settings:
    """Return the settings that a request asks for.

    Raises:
        InvalidArgument: It names no pack, one that is unknown, or brings one that cannot be used.
    """
    pack = request.model_pack
    if pack is not None:
        _check_inline(pack, stock, call)
        return Settings(model_pack=pack)
    if not request.model_pack_name:
        raise InvalidArgument("No model pack name or model pack provided")
    if stock.pack(request.model_pack_name) is None:
        raise unprocessable(call, f"'{request.model_pack_name}' is not a built-in model pack or a custom model pack")
    return Settings(request.model_pack_name)


def _check_inline(pack: ModelPack, stock: Stock, call: Call) -> None:
    for name, role in ROLES.items():
        found = getattr(pack, name)
        if (found is None or not found.model_id) and name not in STANDS_IN:
            raise unprocessable(call, f"the model pack has no model for the role {role}")
    check_cast(pack, stock.models, call)


def _message(stock: Stock, settings: Settings, updated_us: int | None) -> PlanSettings:
    """Return settings with what there is to choose from. `configured` is always true: clients break without."""
    chosen = stock.chosen(settings)
    uses = {
        model.model_id: UsesProviderList(providers=[one for one in model.providers if one.provider == CUSTOM])
        for model in stock.models.values()
    }
    return PlanSettings(
        model_pack_name="" if chosen.model_pack is not None else chosen.model_pack_name,
        model_pack=chosen.model_pack,
        custom_model_packs=list(stock.packs.values()),
        custom_models=list(stock.models.values()),
        custom_models_by_id=dict(stock.models),
        custom_providers=list(stock.providers.values()),
        uses_custom_provider_by_model_id={model_id: listed for model_id, listed in uses.items() if listed.providers},
        configured=True,
        updated_at=to_exact_timestamp(updated_us),
    )
