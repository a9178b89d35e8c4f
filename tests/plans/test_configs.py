"""How the commands of a plan behave, and what users chose."""

from __future__ import annotations

import pytest

from core.kernel.errors import NotFound, Unauthenticated
from core.plans.configs import ConfigService, default_config, preset
from gen.busbar.plans.v1.configs_pb import (
    GetDefaultPlanConfigRequest,
    GetOrgUserConfigRequest,
    GetPlanConfigRequest,
    OrgUserConfig,
    PlanConfig,
    UpdateDefaultPlanConfigRequest,
    UpdateOrgUserConfigRequest,
    UpdatePlanConfigRequest,
)
from tests.plans.desk import Desk, call_of

SWITCHES = (
    "auto_continue",
    "auto_build",
    "auto_update_context",
    "auto_context",
    "smart_context",
    "auto_apply",
    "auto_commit",
    "can_exec",
    "auto_exec",
    "auto_debug",
    "auto_revert_on_rewind",
    "skip_changes_menu",
)


@pytest.mark.parametrize(
    ("mode", "switches", "tries"),
    [
        ("full", "TTTTTTTTTTTF", 5),
        ("semi", "TTTTTFTTFFTF", 0),
        ("plus", "TTTFTFTTFFTF", 0),
        ("basic", "TTFFFFFFFFTF", 0),
        ("none", "FFFFFFFFFFTF", 0),
    ],
)
def test_each_mode_switches_what_its_name_promises(mode: str, switches: str, tries: int) -> None:
    config = preset(mode)
    assert "".join("T" if getattr(config, name) else "F" for name in SWITCHES) == switches
    assert (config.auto_mode, config.auto_debug_tries, config.editor) == (mode, tries, "")


async def test_a_new_user_works_half_by_hand(desk: Desk) -> None:
    service = ConfigService(desk.database)
    answer = await service.get_default_plan_config(GetDefaultPlanConfigRequest(), call_of(desk.alice))
    assert answer.config == preset("semi")


async def test_the_default_is_of_the_user_and_for_plans_to_come(any_desk: Desk) -> None:
    service = ConfigService(any_desk.database)
    await any_desk.plan()
    for mode in ("basic", "full"):
        wanted = UpdateDefaultPlanConfigRequest(config=preset(mode))
        await service.update_default_plan_config(wanted, call_of(any_desk.alice))
    async with any_desk.database.read() as session:
        assert (await default_config(session, any_desk.alice)).auto_mode == "full"
        assert (await default_config(session, any_desk.bob)).auto_mode == "semi"
    plan = await service.get_plan_config(GetPlanConfigRequest(plan_id="plan-1"), call_of(any_desk.alice))
    assert plan.config == PlanConfig()


async def test_the_configuration_of_a_plan_is_replaced_whole(desk: Desk) -> None:
    service = ConfigService(desk.database)
    await desk.plan()
    wanted = PlanConfig(auto_mode="custom", editor="vim", editor_args=["-n"], auto_debug_tries=3)
    await service.update_plan_config(UpdatePlanConfigRequest(plan_id="plan-1", config=preset("full")), call_of(desk.alice))
    await service.update_plan_config(UpdatePlanConfigRequest(plan_id="plan-1", config=wanted), call_of(desk.alice))
    answer = await service.get_plan_config(GetPlanConfigRequest(plan_id="plan-1"), call_of(desk.alice))
    assert answer.config == wanted


async def test_the_plans_of_others_stay_closed(desk: Desk) -> None:
    service = ConfigService(desk.database)
    await desk.plan()
    wanted = UpdatePlanConfigRequest(plan_id="plan-1", config=preset("none"))
    with pytest.raises(Unauthenticated, match="no access to plan"):
        await service.update_plan_config(wanted, call_of(desk.bob))
    with pytest.raises(NotFound):
        await service.update_plan_config(wanted, call_of(desk.eve))


async def test_what_a_user_chose_is_kept_by_organisation(any_desk: Desk) -> None:
    service = ConfigService(any_desk.database)
    before = await service.get_org_user_config(GetOrgUserConfigRequest(), call_of(any_desk.alice))
    assert before.to_json() == '{"claudeSubscriptionCooldownStartedAt":"0001-01-01T00:00:00Z"}'
    wanted = OrgUserConfig(prompted_claude_max=True)
    for _ in range(2):
        await service.update_org_user_config(UpdateOrgUserConfigRequest(config=wanted), call_of(any_desk.alice))
    assert (await service.get_org_user_config(GetOrgUserConfigRequest(), call_of(any_desk.alice))).prompted_claude_max
    assert not (await service.get_org_user_config(GetOrgUserConfigRequest(), call_of(any_desk.bob))).prompted_claude_max
