"""Who answers for the role of a plan, and what happens when somebody does not."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import pytest

from core.kernel.errors import DeadlineExceeded, InvalidArgument, ResourceExhausted, Unavailable, UpstreamFailed
from core.kernel.http import AddressPolicy
from core.kernel.settings import Outgoing, PlanModels, Settings
from core.models.endpoints import Endpoints
from core.plans.builtin_packs import built_in_packs
from core.plans.completion import RoleModels
from core.plans.own_models import own_packs
from core.plans.pack_roles import ROLES, role_of
from core.plans.packs import Stock
from core.plans.questions import Function, Image, Message, Parameter
from core.plans.state import Settings as Choice
from gen.busbar.plans.v1.models_pb import CustomModel, CustomProvider, ExtraAuthVar, ModelPack, UsesProvider
from tests.plans.scripted_provider import Answer, ScriptedProvider, scripted

ASKED = [Message("system", "You plan."), Message("user", "Plan it.")]
NAME = Function("namePlan", "Names a plan.", {"planName": Parameter("Name of the plan.")})
DONE = Function("didFinish", "Tells.", {"reasoning": Parameter("Why."), "finished": Parameter("Whether.", "boolean")})
KEYS = {"MY_KEY": "sk-1"}


@pytest.fixture
async def provider() -> AsyncIterator[ScriptedProvider]:
    async with scripted() as serving:
        yield serving


@pytest.fixture
async def backup() -> AsyncIterator[ScriptedProvider]:
    async with scripted() as serving:
        yield serving


@pytest.fixture
async def endpoints() -> AsyncIterator[Endpoints]:
    made = Endpoints(AddressPolicy.of(Outgoing()))
    yield made
    await made.stop()


def settings(**more: Any) -> Settings:
    quick: dict[str, Any] = {"retry_seconds": 0.0, "first_token_seconds": 5.0, "chunk_seconds": 5.0}
    return Settings(plan_models=PlanModels(**{**quick, **more.pop("models", {})}), **more)


def model(name: str = "mine/one", provider: str = "mine", **known: Any) -> CustomModel:
    limits: dict[str, Any] = {"max_tokens": 100_000, "max_output_tokens": 8_000, "reserved_output_tokens": 4_000}
    uses = [UsesProvider(provider="custom", custom_provider=provider, model_name=name.rpartition("/")[2])]
    fields: dict[str, Any] = {**limits, "preferred_output_format": "tool-call-json", **known}
    return CustomModel(model_id=name, providers=uses, **fields)


def pack_of(model_id: str = "mine/one") -> ModelPack:
    roles: dict[str, Any] = {field: role_of(role, model_id) for field, role in ROLES.items()}
    return ModelPack(name="mine", **roles)


def stock_of(*providers: CustomProvider, models: list[CustomModel] | None = None) -> Stock:
    listed = models or [model()]
    return Stock({one.model_id: one for one in listed}, {one.name: one for one in providers})


def mine(provider: ScriptedProvider, name: str = "mine", **more: Any) -> CustomProvider:
    fields: dict[str, Any] = {"api_key_env_var": "MY_KEY", **more}
    return CustomProvider(name=name, base_url=provider.url, **fields)


def asking(endpoints: Endpoints, stock: Stock, pack: ModelPack | None = None, **more: Any) -> RoleModels:
    keys = more.pop("keys", KEYS)
    return RoleModels(settings(**more), stock, pack or pack_of(), keys, endpoints)


async def said(models: RoleModels, role: str = "planner", **more: Any) -> str:
    return "".join([piece async for piece in models.stream(role, ASKED, **more)])


async def listen(models: RoleModels, heard: list[str]) -> None:
    async for piece in models.stream("planner", ASKED):
        heard.append(piece)  # noqa: PERF401 - what comes before a failure counts


async def test_a_role_is_streamed_with_the_key_of_the_caller(provider: ScriptedProvider, endpoints: Endpoints) -> None:
    models = asking(endpoints, stock_of(mine(provider)))
    assert await said(models, stop=["<End/>"]) == "Hello world"
    (request,) = provider.requests
    assert provider.paths == ["/v1/chat/completions"]
    assert provider.headers[0]["authorization"] == "Bearer sk-1"
    assert request["stream"] is True
    assert request["stream_options"] == {"include_usage": True}
    assert (request["model"], request["temperature"], request["top_p"], request["stop"]) == ("one", 0.3, 0.3, ["<End/>"])
    assert request["messages"] == [{"role": "system", "content": "You plan."}, {"role": "user", "content": "Plan it."}]


async def test_what_an_answer_cost_is_kept_by_role(provider: ScriptedProvider, endpoints: Endpoints) -> None:
    provider.script = [
        Answer(usage={"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7, "cost": 0.25}),
        Answer(usage=None),
    ]
    models = asking(endpoints, stock_of(mine(provider)))
    await said(models)
    await said(models, "coder")
    told, counted = models.usage
    assert (told.role, told.model_id, told.provider) == ("planner", "mine/one", "mine")
    assert (told.input_tokens, told.output_tokens, told.cost, told.estimated) == (5, 2, 0.25, False)
    assert (counted.role, counted.output_tokens, counted.cost, counted.estimated) == ("coder", 3, None, True)
    assert counted.input_tokens > 0


async def test_a_provider_that_asks_for_no_key_gets_none(provider: ScriptedProvider, endpoints: Endpoints) -> None:
    models = asking(endpoints, stock_of(mine(provider, api_key_env_var="", skip_auth=True)), keys={})
    await said(models)
    assert "authorization" not in provider.headers[0]


async def test_the_environment_of_the_server_is_not_sent(
    provider: ScriptedProvider, endpoints: Endpoints, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_ORG_ID", "org-of-the-operator")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-the-operator")
    await said(asking(endpoints, stock_of(mine(provider))))
    assert "operator" not in str(provider.headers[0])


async def test_the_first_provider_whose_variables_are_present_answers(
    provider: ScriptedProvider, backup: ScriptedProvider, endpoints: Endpoints
) -> None:
    two = model()
    two.providers.append(UsesProvider(provider="custom", custom_provider="other", model_name="uno"))
    stock = stock_of(mine(provider, api_key_env_var="ABSENT"), mine(backup, "other"), models=[two])
    await said(asking(endpoints, stock))
    assert not provider.requests
    assert backup.requests[0]["model"] == "uno"


async def test_without_a_key_the_provider_of_the_server_answers(provider: ScriptedProvider, endpoints: Endpoints) -> None:
    configured = settings(ai_base_url=provider.url, ai_key="sk-server", ai_model="tiny")
    stock = Stock(own={own.name: own for own in own_packs(configured)})
    models = RoleModels(configured, stock, built_in_packs()["daily-driver"], {}, endpoints)
    assert await said(models) == "Hello world"
    assert provider.requests[0]["model"] == "tiny"
    assert provider.headers[0]["authorization"] == "Bearer sk-server"


async def test_without_any_provider_the_missing_variables_are_named(endpoints: Endpoints) -> None:
    models = RoleModels(settings(), Stock(), built_in_packs()["daily-driver"], {}, endpoints)
    with pytest.raises(Unavailable, match="ANTHROPIC_API_KEY or OPENROUTER_API_KEY"):
        await said(models)
    with pytest.raises(Unavailable, match="ANTHROPIC_API_KEY or OPENROUTER_API_KEY"):
        models.require("planner")


async def test_a_required_variable_of_a_custom_provider_is_named(provider: ScriptedProvider, endpoints: Endpoints) -> None:
    custom = mine(provider, extra_auth_vars=[ExtraAuthVar(var="REGION", required=True), ExtraAuthVar(var="MORE")])
    with pytest.raises(Unavailable, match="; set REGION"):
        await said(asking(endpoints, stock_of(custom)))


async def test_an_unknown_model_is_named(endpoints: Endpoints) -> None:
    with pytest.raises(Unavailable, match="mine/gone is unknown"):
        await said(asking(endpoints, stock_of(), pack_of("mine/gone")))


async def test_an_azure_deployment_is_asked_in_its_own_way(provider: ScriptedProvider, endpoints: Endpoints) -> None:
    azure = model()
    azure.providers = [UsesProvider(provider="azure-openai", model_name="gpt")]
    keys = {"AZURE_OPENAI_API_KEY": "az", "AZURE_API_BASE": provider.url, "AZURE_DEPLOYMENTS_MAP": "gpt=mine"}
    await said(asking(endpoints, stock_of(models=[azure]), keys=keys))
    assert provider.paths == ["/v1/openai/deployments/mine/chat/completions?api-version=2025-04-01-preview"]
    assert provider.headers[0]["api-key"] == "az"
    assert "authorization" not in provider.headers[0]


async def test_an_address_that_must_not_be_called_is_not(provider: ScriptedProvider) -> None:
    closed = Endpoints(AddressPolicy.of(Outgoing(local=False)))
    with pytest.raises(InvalidArgument, match="must not be called"):
        await said(asking(closed, stock_of(mine(provider))))
    assert not provider.requests
    await closed.stop()


@pytest.mark.parametrize("status", [429, 500, 503])
async def test_a_failure_before_any_text_is_tried_again(status: int, provider: ScriptedProvider, endpoints: Endpoints) -> None:
    provider.script = [Answer(status=status, headers={"Retry-After": "0"}), Answer(finish=None, pieces=()), Answer()]
    assert await said(asking(endpoints, stock_of(mine(provider)))) == "Hello world"
    assert len(provider.requests) == 3


async def test_after_three_more_tries_the_failure_is_told(provider: ScriptedProvider, endpoints: Endpoints) -> None:
    provider.script = [Answer(status=500)]
    with pytest.raises(UpstreamFailed, match=r"failed \(mine, model one\)"):
        await said(asking(endpoints, stock_of(mine(provider))))
    assert len(provider.requests) == 4


async def test_a_refusal_that_would_last_long_is_not_waited_for(provider: ScriptedProvider, endpoints: Endpoints) -> None:
    provider.script = [Answer(status=429, headers={"Retry-After": "3600"})]
    with pytest.raises(ResourceExhausted):
        await said(asking(endpoints, stock_of(mine(provider))))
    assert len(provider.requests) == 1


async def test_a_rejected_key_is_not_tried_again(provider: ScriptedProvider, endpoints: Endpoints) -> None:
    provider.script = [Answer(status=401)]
    with pytest.raises(Unavailable, match="mine rejected its key"):
        await said(asking(endpoints, stock_of(mine(provider))))
    assert len(provider.requests) == 1


async def test_nothing_is_said_twice(provider: ScriptedProvider, endpoints: Endpoints) -> None:
    provider.script = [Answer(finish=None)]
    models = asking(endpoints, stock_of(mine(provider)))
    heard: list[str] = []
    with pytest.raises(UpstreamFailed, match="broke off"):
        await listen(models, heard)
    assert "".join(heard) == "Hello world"
    assert len(provider.requests) == 1


async def test_the_error_fallback_takes_over(
    provider: ScriptedProvider, backup: ScriptedProvider, endpoints: Endpoints
) -> None:
    provider.script = [Answer(status=500)]
    pack = pack_of()
    assert pack.planner is not None
    pack.planner.error_fallback = role_of("planner", "mine/two")
    stock = stock_of(mine(provider), mine(backup, "other"), models=[model(), model("mine/two", "other")])
    assert await said(asking(endpoints, stock, pack, models={"retries": 1})) == "Hello world"
    assert (len(provider.requests), len(backup.requests)) == (2, 1)


async def test_another_provider_of_the_model_takes_over(
    provider: ScriptedProvider, backup: ScriptedProvider, endpoints: Endpoints
) -> None:
    provider.script = [Answer(status=400)]
    two = model()
    two.providers.append(UsesProvider(provider="custom", custom_provider="other", model_name="uno"))
    models = asking(endpoints, stock_of(mine(provider), mine(backup, "other"), models=[two]))
    assert await said(models) == "Hello world"
    assert (len(provider.requests), len(backup.requests)) == (1, 1)
    assert [used.provider for used in models.usage] == ["other"]


async def test_a_long_question_goes_to_the_model_for_long_ones(provider: ScriptedProvider, endpoints: Endpoints) -> None:
    pack = pack_of()
    assert pack.planner is not None
    pack.planner.large_context_fallback = role_of("planner", "mine/large")
    stock = stock_of(mine(provider), models=[model(), model("mine/large", max_tokens=500_000)])
    models = asking(endpoints, stock, pack)
    await said(models)
    async for _ in models.stream("planner", [Message("user", "word " * 90_000)]):
        pass
    assert [request["model"] for request in provider.requests] == ["one", "large"]


async def test_a_hard_question_goes_to_the_strong_model(provider: ScriptedProvider, endpoints: Endpoints) -> None:
    pack = pack_of()
    assert pack.builder is not None
    pack.builder.strong_model = role_of("builder", "mine/strong")
    models = asking(endpoints, stock_of(mine(provider), models=[model(), model("mine/strong")]), pack)
    await said(models, "builder", strong=True)
    assert provider.requests[0]["model"] == "strong"


async def test_a_long_answer_goes_to_the_model_for_long_ones(provider: ScriptedProvider, endpoints: Endpoints) -> None:
    pack = pack_of()
    assert pack.coder is not None
    pack.coder.large_output_fallback = role_of("coder", "mine/large")
    stock = stock_of(mine(provider), models=[model(), model("mine/large", reserved_output_tokens=50_000)])
    await said(asking(endpoints, stock, pack), "coder", writes=10_000)
    assert provider.requests[0]["model"] == "large"


async def test_the_stop_mark_is_cut_where_the_model_does_not(provider: ScriptedProvider, endpoints: Endpoints) -> None:
    provider.script = [Answer(pieces=("One", "<E", "nd", "/>", "Two"), silent_at=4)]
    models = asking(endpoints, stock_of(mine(provider), models=[model(stop_disabled=True)]))
    assert await said(models, stop=["<End/>"]) == "One"
    assert "stop" not in provider.requests[0]


async def test_what_looks_like_the_stop_mark_and_is_none_is_said(provider: ScriptedProvider, endpoints: Endpoints) -> None:
    provider.script = [
        Answer(
            pieces=(
                "a <E",
                "nv> b <En",
            )
        )
    ]
    assert await said(asking(endpoints, stock_of(mine(provider))), stop=["<End/>"]) == "a <Env> b <En"


async def test_a_model_without_freedom_gets_no_temperature(provider: ScriptedProvider, endpoints: Endpoints) -> None:
    plain = model(role_params_disabled=True, reasoning_effort_enabled=True, reasoning_effort="high")
    await said(asking(endpoints, stock_of(mine(provider), models=[plain])))
    (request,) = provider.requests
    assert not {"temperature", "top_p"} & set(request)
    assert request["reasoning_effort"] == "high"


async def test_a_model_without_a_system_message_gets_it_from_the_user(provider: ScriptedProvider, endpoints: Endpoints) -> None:
    await said(asking(endpoints, stock_of(mine(provider), models=[model(system_prompt_disabled=True)])))
    assert [message["role"] for message in provider.requests[0]["messages"]] == ["user", "user"]


async def test_a_model_that_takes_one_message_gets_one(provider: ScriptedProvider, endpoints: Endpoints) -> None:
    await said(asking(endpoints, stock_of(mine(provider), models=[model(single_message_no_system_prompt=True)])))
    assert provider.requests[0]["messages"] == [{"role": "user", "content": "You plan.\n\nPlan it."}]


@pytest.mark.parametrize("sees", [True, False])
async def test_images_go_to_models_that_see(sees: bool, provider: ScriptedProvider, endpoints: Endpoints) -> None:
    models = asking(endpoints, stock_of(mine(provider), models=[model(has_image_support=sees)]))
    await models.ask("planner", [Message("user", "Look", (Image("data:image/png;base64,AA", "low"),))])
    (message,) = provider.requests[0]["messages"]
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA", "detail": "low"}}
    assert message["content"] == ([{"type": "text", "text": "Look"}, picture] if sees else "Look")


async def test_a_model_that_takes_too_long_to_begin_is_given_up(provider: ScriptedProvider, endpoints: Endpoints) -> None:
    provider.script = [Answer(silent_at=0)]
    with pytest.raises(DeadlineExceeded):
        await said(asking(endpoints, stock_of(mine(provider)), models={"first_token_seconds": 0.1, "retries": 0}))


async def test_a_model_that_pauses_for_too_long_is_given_up(provider: ScriptedProvider, endpoints: Endpoints) -> None:
    provider.script = [Answer(silent_at=1)]
    models = asking(endpoints, stock_of(mine(provider)), models={"chunk_seconds": 0.1})
    heard: list[str] = []
    with pytest.raises(DeadlineExceeded):
        await listen(models, heard)
    assert heard == ["Hello"]
    assert [used.estimated for used in models.usage] == [True]


async def test_whoever_stops_listening_ends_the_answer(provider: ScriptedProvider, endpoints: Endpoints) -> None:
    provider.script = [Answer(silent_at=1)]
    models = asking(endpoints, stock_of(mine(provider)))
    async with aclosing(models.stream("planner", ASKED)) as texts:
        assert await anext(texts) == "Hello"
    provider.release.set()
    await asyncio.wait_for(provider.left.wait(), 5)


async def test_a_structured_answer_is_a_call_of_a_function(provider: ScriptedProvider, endpoints: Endpoints) -> None:
    provider.script = [Answer(arguments=('{"planName": ', '"add-login"}'), finish="tool_calls")]
    models = asking(endpoints, stock_of(mine(provider)))
    assert await models.ask("names", ASKED, function=NAME) == {"planName": "add-login"}
    (request,) = provider.requests
    assert request["tool_choice"] == {"type": "function", "function": {"name": "namePlan"}}
    assert request["tools"][0]["function"]["parameters"]["required"] == ["planName"]
    assert (request["temperature"], request["top_p"]) == (0.8, 0.5)


async def test_a_structured_answer_is_tags_for_models_that_prefer_them(
    provider: ScriptedProvider, endpoints: Endpoints
) -> None:
    provider.script = [Answer(pieces=("Here: <reasoning>all there</reas", "oning><finished> True </finished>"))]
    models = asking(endpoints, stock_of(mine(provider), models=[model(preferred_output_format="xml")]))
    assert await models.ask("auto-continue", ASKED, function=DONE) == {"reasoning": "all there", "finished": True}
    (request,) = provider.requests
    assert "tools" not in request
    assert "<reasoning>" in request["messages"][-1]["content"]


async def test_a_model_that_answers_in_words_is_understood(provider: ScriptedProvider, endpoints: Endpoints) -> None:
    provider.script = [Answer(pieces=('{"planName": "x"}',))]
    assert await asking(endpoints, stock_of(mine(provider))).ask("names", ASKED, function=NAME) == {"planName": "x"}


@pytest.mark.parametrize("wrong", ['{"planName": 3}', '{"planName"', "[]", "{}"])
async def test_an_answer_that_cannot_be_read_is_asked_for_again(
    wrong: str, provider: ScriptedProvider, endpoints: Endpoints
) -> None:
    provider.script = [Answer(arguments=(wrong,)), Answer(arguments=('{"planName": "x"}',))]
    assert await asking(endpoints, stock_of(mine(provider))).ask("names", ASKED, function=NAME) == {"planName": "x"}


async def test_a_whole_answer_that_breaks_off_is_asked_for_again(provider: ScriptedProvider, endpoints: Endpoints) -> None:
    provider.script = [Answer(finish=None), Answer(pieces=("Done",))]
    assert await asking(endpoints, stock_of(mine(provider))).ask("summarizer", ASKED) == "Done"


@pytest.mark.parametrize(
    "raw", [b"data: {\n\n", b"no events at all", b'data: {"error": {"message": "boom"}}\n\n', b"data: 3\n\n"]
)
async def test_what_is_no_answer_is_the_fault_of_the_provider(
    raw: bytes, provider: ScriptedProvider, endpoints: Endpoints
) -> None:
    provider.script = [Answer(raw=raw)]
    with pytest.raises(UpstreamFailed):
        await said(asking(endpoints, stock_of(mine(provider)), models={"retries": 0}))


def test_roles_that_a_pack_leaves_out_are_played_by_others() -> None:
    pack = pack_of()
    pack.coder = pack.context_loader = pack.whole_file_builder = None
    assert pack.planner is not None
    pack.planner.model_id = "mine/two"
    models = RoleModels(
        settings(), stock_of(models=[model(), model("mine/two", max_tokens=7)]), pack, {}, Endpoints(AddressPolicy())
    )
    assert [models.limits(role).max_tokens for role in ("coder", "architect", "whole-file-builder")] == [7, 7, 100_000]


def test_the_choice_of_a_branch_goes_before_that_of_the_organisation() -> None:
    inline, custom = pack_of(), pack_of()
    custom.name = "ours"
    stock = Stock(packs={"ours": custom}, default=Choice("cheap"))
    names = [stock.resolve(choice).name for choice in (Choice(), Choice("ours"), Choice("strong"), Choice("gone"))]
    assert names == ["cheap", "ours", "strong", "daily-driver"]
    assert stock.resolve(Choice(model_pack=inline)) is inline
