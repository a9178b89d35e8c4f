"""Which models plans use."""

from __future__ import annotations

from typing import Any

import pytest

from core.kernel.errors import InvalidArgument, NotFound, Unauthenticated
from core.kernel.settings import PlanModels, Settings
from core.plans.builtin_packs import built_in_packs
from core.plans.models import ModelService
from core.plans.packs import PackBook
from core.plans.settings import SettingsService
from core.plans.state import Settings as Choice
from gen.busbar.plans.v1.models_pb import CustomModel, CustomProvider, ModelPack, UpsertCustomModelsRequest, UsesProvider
from gen.busbar.plans.v1.settings_pb import (
    GetDefaultSettingsRequest,
    GetSettingsRequest,
    PlanSettings,
    UpdateDefaultSettingsRequest,
    UpdateSettingsRequest,
)
from tests.plans.desk import Desk, call_of


class Choosing:
    """The settings of a plan, through the service."""

    def __init__(self, desk: Desk, **settings: Any) -> None:
        self.desk = desk
        self.packs = PackBook(desk.database, Settings(**settings))
        self.service = SettingsService(desk.database, desk.store, self.packs, desk.clock)
        self.call = call_of(desk.alice)

    async def read(self) -> PlanSettings:
        return await self.service.get_settings(GetSettingsRequest(plan_id="plan-1", branch="main"), self.call)

    async def choose(self, name: str = "", pack: ModelPack | None = None) -> str:
        self.call = call_of(self.desk.alice)
        request = UpdateSettingsRequest(plan_id="plan-1", branch="main", model_pack_name=name, model_pack=pack)
        return (await self.service.update_settings(request, self.call)).msg

    async def choose_default(self, name: str = "", pack: ModelPack | None = None) -> str:
        request = UpdateDefaultSettingsRequest(model_pack_name=name, model_pack=pack)
        return (await self.service.update_default_settings(request, self.call)).msg

    async def default(self) -> PlanSettings:
        return await self.service.get_default_settings(GetDefaultSettingsRequest(), self.call)


@pytest.fixture
async def choosing(desk: Desk) -> Choosing:
    await desk.plan()
    return Choosing(desk)


def changed_pack() -> ModelPack:
    """Return the default pack with two fields changed."""
    pack = ModelPack.from_binary(built_in_packs()["daily-driver"].to_binary())
    assert pack.planner is not None
    assert pack.coder is not None
    pack.planner.temperature = 0.9
    pack.coder.large_context_fallback = None
    return pack


async def test_a_new_plan_uses_the_default_pack(choosing: Choosing) -> None:
    settings = await choosing.read()
    assert (settings.model_pack_name, settings.model_pack) == ("daily-driver", None)
    assert settings.configured
    assert not settings.is_cloud
    assert settings.updated_at is not None


async def test_the_message_of_a_choice_is_the_entry_in_the_log(choosing: Choosing) -> None:
    message = await choosing.choose("cheap")
    assert message == "⚙️  Updated model settings:\n  • model-pack | daily-driver → cheap"
    assert (await choosing.read()).model_pack_name == "cheap"
    entries = await choosing.desk.store.log(await choosing.desk.main())
    assert entries[0].message.strip() == message


async def test_choosing_the_same_makes_no_entry(choosing: Choosing) -> None:
    await choosing.choose("cheap")
    before = (await choosing.desk.main()).branch.head
    assert await choosing.choose("cheap") == "No changes to settings"
    assert (await choosing.desk.main()).branch.head == before


async def test_a_whole_pack_is_told_field_by_field(choosing: Choosing) -> None:
    message = await choosing.choose(pack=changed_pack())
    assert message.split("\n") == [
        "⚙️  Updated model settings:",
        "  • planner-temperature | 0.3 → 0.9",
        "  • coder-large-context-fallback-model-id | openai/gpt-4.1 → none",
        "  • coder-large-context-fallback-temperature | 0.3 → none",
        "  • coder-large-context-fallback-top-p | 0.3 → none",
    ]
    settings = await choosing.read()
    assert settings.model_pack_name == ""
    assert settings.model_pack == changed_pack()


async def test_a_name_takes_the_place_of_a_whole_pack(choosing: Choosing) -> None:
    await choosing.choose(pack=changed_pack())
    await choosing.choose("daily-driver")
    settings = await choosing.read()
    assert (settings.model_pack_name, settings.model_pack) == ("daily-driver", None)


async def test_a_pack_for_local_models_may_be_chosen(choosing: Choosing) -> None:
    assert "→ ollama" in await choosing.choose("ollama")
    pack = changed_pack()
    pack.local_provider = "ollama"
    await choosing.choose(pack=pack)


async def test_nothing_chosen_is_refused(choosing: Choosing) -> None:
    with pytest.raises(InvalidArgument, match="No model pack name or model pack provided"):
        await choosing.choose()
    assert choosing.call.status is None


async def test_an_unknown_pack_is_refused(choosing: Choosing) -> None:
    with pytest.raises(InvalidArgument, match="'gone'"):
        await choosing.choose("gone")
    assert choosing.call.status == 422
    assert (await choosing.read()).model_pack_name == "daily-driver"


async def test_a_pack_with_an_unknown_model_is_refused(choosing: Choosing) -> None:
    pack = changed_pack()
    assert pack.planner is not None
    pack.planner.model_id = "gone/x"
    with pytest.raises(InvalidArgument, match="gone/x"):
        await choosing.choose(pack=pack)
    pack = changed_pack()
    pack.namer = None
    with pytest.raises(InvalidArgument, match="names"):
        await choosing.choose(pack=pack)


async def test_the_default_of_an_organisation_holds_for_plans_that_chose_nothing(any_desk: Desk) -> None:
    await any_desk.plan()
    choosing = Choosing(any_desk)
    assert (await choosing.default()).model_pack_name == "daily-driver"
    message = await choosing.choose_default("strong")
    assert message == "⚙️  Updated org-wide default settings:\n  • model-pack | daily-driver → strong"
    assert await choosing.choose_default("strong") == "No changes to settings"
    assert (await choosing.read()).model_pack_name == "strong"
    await choosing.choose("cheap")
    await choosing.choose_default(pack=changed_pack())
    assert (await choosing.default()).model_pack == changed_pack()
    assert (await choosing.read()).model_pack_name == "cheap"
    assert (await choosing.packs.resolve("org-2", Choice())).name == "daily-driver"


async def test_settings_show_what_the_organisation_brings_along(choosing: Choosing, desk: Desk) -> None:
    model = CustomModel(
        model_id="ours/one",
        providers=[UsesProvider(provider="openai", model_name="x"), UsesProvider(provider="custom", custom_provider="gate")],
    )
    request = UpsertCustomModelsRequest(
        models=[model, CustomModel(model_id="ours/two")], providers=[CustomProvider(name="gate")]
    )
    await ModelService(desk.database, choosing.packs, desk.clock).upsert_custom_models(request, choosing.call)
    settings = await choosing.read()
    assert list(settings.custom_models_by_id) == ["ours/one", "ours/two"]
    assert [provider.name for provider in settings.custom_providers] == ["gate"]
    (uses,) = settings.uses_custom_provider_by_model_id.items()
    assert uses[0] == "ours/one"
    assert [one.custom_provider for one in uses[1].providers] == ["gate"]


async def test_the_settings_of_others_stay_closed(choosing: Choosing, desk: Desk) -> None:
    request = GetSettingsRequest(plan_id="plan-1", branch="main")
    with pytest.raises(Unauthenticated):
        await choosing.service.get_settings(request, call_of(desk.bob))
    with pytest.raises(NotFound):
        await choosing.service.get_settings(request, call_of(desk.eve))


async def test_a_development_model_needs_no_key_and_is_the_default(desk: Desk) -> None:
    await desk.plan()
    choosing = Choosing(desk, plan_models=PlanModels(dev_url="http://user:secret@127.0.0.1:9/v1"))
    settings = await choosing.read()
    assert settings.model_pack_name == "dev"
    (pack,) = settings.custom_model_packs
    assert pack.coder is not None
    assert pack.coder.model_id in settings.custom_models_by_id
    assert pack.coder.model_id in settings.uses_custom_provider_by_model_id
    (provider,) = settings.custom_providers
    assert (provider.name, provider.base_url, provider.skip_auth) == ("dev", "http://127.0.0.1:9/v1", True)
    await choosing.choose("cheap")
    assert (await choosing.read()).model_pack_name == "cheap"


async def test_the_model_of_the_server_may_be_chosen_and_is_not_the_default(desk: Desk) -> None:
    await desk.plan()
    choosing = Choosing(desk, ai_base_url="http://127.0.0.1:9/v1", ai_model="tiny", ai_key="sk-secret")
    settings = await choosing.read()
    assert settings.model_pack_name == "daily-driver"
    assert [pack.name for pack in settings.custom_model_packs] == ["server"]
    assert "sk-secret" not in settings.to_json()
    assert "→ server" in await choosing.choose("server")


async def test_the_room_for_context_is_that_of_the_largest_planner(choosing: Choosing) -> None:
    assert await choosing.packs.planner_limit("org-1", Choice()) == 2_000_000 - 8_192
    assert await choosing.packs.planner_limit("org-1", Choice("anthropic")) == 200_000 - 40_000
    assert await choosing.packs.architect_limit("org-1", Choice("ollama")) == 128_000 - 8_192
