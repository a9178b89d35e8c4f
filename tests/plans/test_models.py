"""Models, providers and packs that an organisation brings along."""

from __future__ import annotations

import json
from typing import Any

import pytest

from core.kernel.errors import AlreadyExists, InvalidArgument, NotFound
from core.kernel.settings import PlanModels, Settings
from core.plans.builtin_models import built_in_models
from core.plans.builtin_packs import built_in_packs
from core.plans.models import ModelService
from core.plans.pack_roles import ROLES, cast_of
from core.plans.packs import PackBook
from gen.busbar.plans.v1.models_pb import (
    CreateModelSetRequest,
    CustomModel,
    CustomProvider,
    GetCustomModelRequest,
    GetCustomProviderRequest,
    ListCustomModelsRequest,
    ListCustomProvidersRequest,
    ListModelSetsRequest,
    ModelPackSchema,
    UpdateModelSetRequest,
    UpsertCustomModelsRequest,
)
from tests.plans.desk import Desk, call_of

MINI = "openai/gpt-4.1-mini"


def service_of(desk: Desk, **settings: Any) -> ModelService:
    return ModelService(desk.database, PackBook(desk.database, Settings(**settings)), desk.clock)


def schema(name: str = "ours", **roles: Any) -> ModelPackSchema:
    """Return a pack in the short form, whose roles are played by one model where none is given."""
    cast = {
        "planner": MINI,
        "planSummary": MINI,
        "builder": MINI,
        "namer": MINI,
        "commitMsg": MINI,
        "execStatus": MINI,
        **roles,
    }
    return ModelPackSchema.from_json(json.dumps({"name": name, **cast}))


def model(name: str = "ours/one", **more: Any) -> CustomModel:
    return CustomModel(model_id=name, publisher="ours", max_tokens=1000, **more)


class Set:
    """The set of an organisation, through the service."""

    def __init__(self, desk: Desk, **settings: Any) -> None:
        self.service = service_of(desk, **settings)
        self.desk = desk
        self.call = call_of(desk.alice)

    async def replace(self, *things: CustomModel | CustomProvider | ModelPackSchema) -> None:
        self.call = call_of(self.desk.alice)
        request = UpsertCustomModelsRequest(
            models=[one for one in things if isinstance(one, CustomModel)],
            providers=[one for one in things if isinstance(one, CustomProvider)],
            model_packs=[one for one in things if isinstance(one, ModelPackSchema)],
        )
        await self.service.upsert_custom_models(request, self.call)

    async def models(self, **more: Any) -> list[CustomModel]:
        call = more.get("call", self.call)
        return (await self.service.list_custom_models(ListCustomModelsRequest(), call)).models

    async def names(self) -> tuple[list[str], list[str], list[str]]:
        models = await self.models()
        providers = (await self.service.list_custom_providers(ListCustomProvidersRequest(), self.call)).providers
        packs = (await self.service.list_model_sets(ListModelSetsRequest(), self.call)).packs
        return [one.model_id for one in models], [one.name for one in providers], [one.name for one in packs]


def test_every_model_of_a_built_in_pack_is_known() -> None:
    packs = built_in_packs()
    assert len(packs) == 16
    assert {role.model_id for pack in packs.values() for role in cast_of(pack)} <= set(built_in_models())
    assert all(getattr(pack, name) is not None for pack in packs.values() for name in ROLES)


def test_the_default_pack_has_the_roles_that_clients_know() -> None:
    pack = built_in_packs()["daily-driver"]
    assert pack.planner is not None
    assert pack.coder is not None
    assert pack.builder is not None
    assert pack.planner.large_context_fallback is not None
    assert pack.planner.large_context_fallback.large_context_fallback is not None
    assert pack.planner.model_id == "anthropic/claude-sonnet-4"
    assert pack.planner.large_context_fallback.large_context_fallback.model_id == "google/gemini-pro-1.5"
    assert (pack.coder.temperature, pack.coder.top_p) == (0.3, 0.3)
    assert pack.builder.strong_model is not None
    assert pack.builder.strong_model.model_id == "openai/o4-mini-high"


async def test_a_set_replaces_the_one_before(any_desk: Desk) -> None:
    ours = Set(any_desk)
    await ours.replace(
        model(), model("ours/two"), CustomProvider(name="gate", base_url="https://gate"), schema(coder="ours/one")
    )
    assert await ours.names() == (["ours/one", "ours/two"], ["gate"], ["ours"])
    await ours.replace(model("ours/two"), model("ours/three"))
    assert (await ours.names())[0] == ["ours/two", "ours/three"]
    assert (await ours.names())[1:] == ([], [])


async def test_what_stays_the_same_is_left_alone(desk: Desk) -> None:
    ours = Set(desk)
    await ours.replace(model(), model("ours/two"))
    before = {one.model_id: one for one in await ours.models()}
    desk.clock.forward(seconds=60)
    await ours.replace(model(), model("ours/two", description="new"))
    after = {one.model_id: one for one in await ours.models()}
    assert after["ours/one"] == before["ours/one"]
    assert after["ours/two"].id == before["ours/two"].id
    assert after["ours/two"].created_at == before["ours/two"].created_at
    assert after["ours/two"].updated_at != before["ours/two"].updated_at


async def test_a_set_that_comes_back_as_it_was_read_changes_nothing(desk: Desk) -> None:
    ours = Set(desk)
    await ours.replace(model())
    before = await ours.models()
    await ours.replace(*before)
    assert await ours.models() == before


async def test_other_organisations_see_none_of_it(desk: Desk) -> None:
    ours = Set(desk)
    await ours.replace(model())
    (made,) = await ours.models()
    assert await ours.models(call=call_of(desk.eve)) == []
    with pytest.raises(NotFound, match="Custom model not found"):
        await ours.service.get_custom_model(GetCustomModelRequest(model_id=made.id), call_of(desk.eve))


async def test_a_model_is_read_by_its_record_or_its_name(desk: Desk) -> None:
    ours = Set(desk)
    await ours.replace(model("plain"), CustomProvider(name="gate", base_url="https://gate", has_aws_auth=True))
    (made,) = await ours.models()
    for name in (made.id, "plain"):
        assert await ours.service.get_custom_model(GetCustomModelRequest(model_id=name), ours.call) == made
    (provider,) = (await ours.service.list_custom_providers(ListCustomProvidersRequest(), ours.call)).providers
    assert provider.has_aws_auth
    assert provider.created_at is not None
    request = GetCustomProviderRequest(provider_id=provider.id)
    assert await ours.service.get_custom_provider(request, ours.call) == provider


def uses(provider: str, custom: str = "") -> CustomModel:
    return CustomModel.from_json(
        f'{{"modelId": "ours/x", "providers": [{{"provider": "{provider}", "customProvider": "{custom}", "modelName": "x"}}]}}'
    )


BUILT_IN_PACK = schema("cheap")
BUILT_IN_MODEL = model(MINI)


@pytest.mark.parametrize(
    ("things", "status", "sentence"),
    [
        ([model(), model(), BUILT_IN_MODEL], None, "duplicate model: ours/one"),
        ([schema(), schema()], None, "duplicate model pack: ours"),
        ([CustomProvider(name="a"), CustomProvider(name="a")], None, "duplicate provider: a"),
        ([CustomProvider(), BUILT_IN_MODEL], None, "provider name is required"),
        ([model(""), BUILT_IN_MODEL], None, "model id is required"),
        ([BUILT_IN_MODEL, schema("")], 422, f"{MINI} is a built-in model"),
        ([schema(""), uses("gone")], None, "model pack name is required"),
        ([BUILT_IN_PACK, uses("gone")], 422, "cheap is a built-in model pack"),
        ([uses("custom", "gone"), schema(coder="gone/x")], 422, "'gone' is neither a custom provider"),
        ([uses("gone"), schema(coder="gone/x")], 422, "'gone' is not a built-in model provider"),
        ([schema(coder="gone/x")], 422, "'gone/x' is not a built-in model or a custom model"),
        ([schema(coder={"modelId": MINI, "errorFallback": "gone/y"})], 422, "'gone/y'"),
    ],
)
async def test_a_set_that_does_not_hold_together_is_refused_whole(
    things: list[Any], status: int | None, sentence: str, desk: Desk
) -> None:
    ours = Set(desk)
    await ours.replace(model("kept"))
    with pytest.raises(InvalidArgument, match=sentence):
        await ours.replace(*things)
    assert ours.call.status == status
    assert (await ours.names())[0] == ["kept"]


async def test_models_and_providers_that_exist_may_be_referred_to(desk: Desk) -> None:
    ours = Set(desk)
    await ours.replace(model(), CustomProvider(name="gate", base_url="https://gate"))
    await ours.replace(uses("custom", "gate"), schema(coder="ours/one"))
    assert (await ours.names())[2] == ["ours"]


async def test_the_short_form_of_a_pack_becomes_the_full_one(desk: Desk) -> None:
    ours = Set(desk)
    planner = {
        "modelId": MINI,
        "temperature": 0.7,
        "maxConvoTokens": 5000,
        "reservedOutputTokens": 100,
        "largeContextFallback": {"modelId": "openai/gpt-4.1", "strongModel": "openai/o3-high"},
    }
    await ours.replace(schema(planner=planner))
    (pack,) = (await ours.service.list_model_sets(ListModelSetsRequest(), ours.call)).packs
    assert pack.id
    role = pack.planner
    assert role is not None
    assert role.large_context_fallback is not None
    assert role.large_context_fallback.strong_model is not None
    assert (role.role, role.temperature, role.top_p, role.max_convo_tokens, role.reserved_output_tokens) == (
        "planner",
        0.7,
        0.3,
        5000,
        100,
    )
    assert role.large_context_fallback.strong_model.model_id == "openai/o3-high"
    assert pack.coder is None
    assert pack.namer is not None
    assert (pack.namer.temperature, pack.namer.top_p) == (0.8, 0.5)


@pytest.mark.parametrize("role", [3, {"temperature": 1}, {"modelId": MINI, "temperature": "hot"}, [MINI]])
async def test_a_role_of_another_form_is_refused(role: Any, desk: Desk) -> None:
    with pytest.raises(InvalidArgument):
        await Set(desk).replace(schema(coder=role))


async def test_a_pack_without_a_role_that_it_needs_is_refused(desk: Desk) -> None:
    with pytest.raises(InvalidArgument, match="names"):
        await Set(desk).replace(schema(namer=None))


async def test_packs_can_be_made_and_replaced_one_by_one(desk: Desk) -> None:
    ours = Set(desk)
    made = await ours.service.create_model_set(CreateModelSetRequest(pack=schema()), ours.call)
    with pytest.raises(AlreadyExists):
        await ours.service.create_model_set(CreateModelSetRequest(pack=schema()), ours.call)
    renamed = UpdateModelSetRequest(set_id=made.id, pack=schema("theirs", coder="openai/gpt-4.1"))
    await ours.service.update_model_set(renamed, ours.call)
    (pack,) = (await ours.service.list_model_sets(ListModelSetsRequest(), ours.call)).packs
    assert (pack.id, pack.name) == (made.id, "theirs")
    with pytest.raises(NotFound):
        await ours.service.update_model_set(renamed, call_of(desk.eve))


async def test_the_servers_own_are_listed_and_never_stored(desk: Desk) -> None:
    ours = Set(desk, plan_models=PlanModels(dev_url="http://127.0.0.1:9/v1"))
    models, providers, packs = await ours.names()
    assert "dev/coder" in models
    assert (providers, packs) == (["dev"], ["dev"])
    await ours.replace(model(), *(await ours.models()), CustomProvider(name="dev", base_url="http://elsewhere"))
    plain = Set(desk)
    assert await plain.names() == (["ours/one"], [], [])
