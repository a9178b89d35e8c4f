"""Configurations: how the commands of a plan behave, and what a user chose for an organisation."""

from __future__ import annotations

from collections.abc import Sequence

from protobuf.wkt import Empty, Timestamp
from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from core.kernel.call import Call, Principal
from core.plans.access import require_plan, user_of
from core.plans.model_tables import OrgUserConfigRow, UserPlanConfigRow
from core.storage.database import Database
from gen.busbar.plans.v1.configs_pb import (
    GetDefaultPlanConfigRequest,
    GetOrgUserConfigRequest,
    GetPlanConfigRequest,
    GetPlanConfigResponse,
    OrgUserConfig,
    PlanConfig,
    UpdateDefaultPlanConfigRequest,
    UpdateOrgUserConfigRequest,
    UpdatePlanConfigRequest,
)

ZERO_TIME = -62_135_596_800
"""Seconds of the zero time, 0001-01-01T00:00:00Z."""


def preset(mode: str) -> PlanConfig:
    """Return the configuration of a mode: full, semi, plus, basic or none."""
    does_most = mode in ("full", "semi", "plus")
    does_all = mode == "full"
    return PlanConfig(
        auto_mode=mode,
        auto_continue=mode != "none",
        auto_build=mode != "none",
        auto_update_context=does_most,
        auto_context=mode in ("full", "semi"),
        smart_context=does_most,
        auto_apply=does_all,
        auto_commit=does_most,
        can_exec=does_most,
        auto_exec=does_all,
        auto_debug=does_all,
        auto_debug_tries=5 if does_all else 0,
        auto_revert_on_rewind=True,
    )


async def default_config(session: AsyncSession, caller: Principal) -> PlanConfig:
    """Return the configuration that the new plans of a user take over."""
    row = await session.get(UserPlanConfigRow, user_of(caller))
    return PlanConfig.from_json(row.config) if row else preset("semi")


async def set_configs(
    session: AsyncSession, org_id: str, user_ids: Sequence[str]
) -> tuple[dict[str, PlanConfig], dict[str, OrgUserConfig]]:
    """Return what users have set, by their ids: configurations of new plans, and what they chose for an organisation."""
    plans = select(UserPlanConfigRow).where(col(UserPlanConfigRow.user_id).in_(user_ids))
    chosen = select(OrgUserConfigRow).where(col(OrgUserConfigRow.org_id) == org_id)
    return (
        {row.user_id: PlanConfig.from_json(row.config) for row in (await session.exec(plans)).all()},
        {row.user_id: _org_user_config(row) for row in (await session.exec(chosen)).all()},
    )


class ConfigService:
    """Keeps configurations."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def get_plan_config(self, request: GetPlanConfigRequest, call: Call) -> GetPlanConfigResponse:
        """Read the configuration of a plan."""
        async with self._database.read() as session:
            plan = await require_plan(session, call.caller, request.plan_id)
            return GetPlanConfigResponse(config=PlanConfig.from_json(plan.config))

    async def update_plan_config(self, request: UpdatePlanConfigRequest, call: Call) -> Empty:
        """Replace the configuration of a plan."""
        async with self._database.unit_of_work() as session:
            plan = await require_plan(session, call.caller, request.plan_id)
            plan.config = _required(request.config).to_json()
            session.add(plan)
        return Empty()

    async def get_default_plan_config(self, request: GetDefaultPlanConfigRequest, call: Call) -> GetPlanConfigResponse:
        """Read the configuration of the caller's new plans."""
        del request
        async with self._database.read() as session:
            return GetPlanConfigResponse(config=await default_config(session, call.caller))

    async def update_default_plan_config(self, request: UpdateDefaultPlanConfigRequest, call: Call) -> Empty:
        """Replace the configuration of the caller's new plans."""
        row = UserPlanConfigRow(user_id=user_of(call.caller), config=_required(request.config).to_json())
        async with self._database.unit_of_work() as session:
            await session.merge(row)
        return Empty()

    async def get_org_user_config(self, request: GetOrgUserConfigRequest, call: Call) -> OrgUserConfig:
        """Read what the caller chose for the organisation."""
        del request
        async with self._database.read() as session:
            row = await session.get(OrgUserConfigRow, (call.caller.org_id, user_of(call.caller)))
        return _org_user_config(row)

    async def update_org_user_config(self, request: UpdateOrgUserConfigRequest, call: Call) -> Empty:
        """Replace what the caller chose for the organisation."""
        config = request.config or OrgUserConfig()
        row = OrgUserConfigRow(org_id=call.caller.org_id, user_id=user_of(call.caller), config=config.to_json())
        async with self._database.unit_of_work() as session:
            await session.merge(row)
        return Empty()


def _org_user_config(row: OrgUserConfigRow | None) -> OrgUserConfig:
    config = OrgUserConfig.from_json(row.config) if row else OrgUserConfig()
    zero = Timestamp(seconds=ZERO_TIME)
    config.claude_subscription_cooldown_started_at = config.claude_subscription_cooldown_started_at or zero
    return config


def _required(config: PlanConfig | None) -> PlanConfig:
    """Return a configuration, whose presence the rules of the request ensure."""
    return config or PlanConfig()
