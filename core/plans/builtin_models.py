"""Models that the server knows of itself: limits, and who serves them under what name."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

from gen.busbar.plans.v1.models_pb import CustomModel, UsesProvider

TOOL_CALLS = "tool-call-json"
TAGS = "xml"

_CLAUDE: dict[str, Any] = {"max_tokens": 200_000, "default_max_convo_tokens": 15_000, "has_image_support": True}
_GPT: dict[str, Any] = {
    "max_tokens": 1_047_576,
    "default_max_convo_tokens": 75_000,
    "max_output_tokens": 32_768,
    "reserved_output_tokens": 32_768,
    "has_image_support": True,
    "preferred_output_format": TOOL_CALLS,
}
_REASONER: dict[str, Any] = {
    "max_tokens": 200_000,
    "default_max_convo_tokens": 15_000,
    "max_output_tokens": 100_000,
    "has_image_support": True,
    "preferred_output_format": TOOL_CALLS,
    "role_params_disabled": True,
    "stop_disabled": True,
    "reasoning_effort_enabled": True,
}
_GEMINI: dict[str, Any] = {
    "max_tokens": 1_048_576,
    "default_max_convo_tokens": 75_000,
    "max_output_tokens": 65_535,
    "reserved_output_tokens": 65_535,
    "has_image_support": True,
}
_OPEN: dict[str, Any] = {"max_tokens": 128_000, "default_max_convo_tokens": 10_000, "max_output_tokens": 8_192}
_R1: dict[str, Any] = {
    "max_tokens": 128_000,
    "default_max_convo_tokens": 10_000,
    "max_output_tokens": 30_000,
    "include_reasoning": True,
}
_THINKING: dict[str, Any] = {"include_reasoning": True, "reasoning_budget": 16_000}


@cache
def built_in_models() -> Mapping[str, CustomModel]:
    """Return the models by id."""
    models = [*_openai(), *_anthropic(), *_google(), *_deepseek(), *_qwen(), *_others()]
    return {model.model_id: model for model in models}


def _openai() -> list[CustomModel]:
    reserved = {"o3": (40_000, 40_000, 40_000), "o4-mini": (40_000, 30_000, 20_000)}
    models = [
        _model(
            f"openai/{name}-{effort}",
            {**_REASONER, "reasoning_effort": effort, "reserved_output_tokens": kept},
            openai=name,
            openrouter=f"openai/{name}",
        )
        for name, tokens in reserved.items()
        for effort, kept in zip(("high", "medium", "low"), tokens, strict=True)
    ]
    names = ("gpt-4.1", "gpt-4.1-mini", "gpt-4.1-nano")
    return models + [_model(f"openai/{name}", _GPT, openai=name, openrouter=f"openai/{name}") for name in names]


def _anthropic() -> list[CustomModel]:
    families = (
        ("claude-opus-4", "claude-opus-4-20250514", 32_000, 20_000, True),
        ("claude-sonnet-4", "claude-sonnet-4-20250514", 64_000, 40_000, True),
        ("claude-3.7-sonnet", "claude-3-7-sonnet-20250219", 64_000, 20_000, True),
        ("claude-3.5-sonnet", "claude-3-5-sonnet-20241022", 20_000, 20_000, False),
        ("claude-3.5-haiku", "claude-3-5-haiku-20241022", 8_192, 8_192, False),
    )
    models: list[CustomModel] = []
    for name, there, written, kept, thinks in families:
        limits = {**_CLAUDE, "max_output_tokens": written, "reserved_output_tokens": kept, "supports_cache_control": True}
        served = {"anthropic": there, "openrouter": f"anthropic/{name}"}
        models += (
            _with_thinking(f"anthropic/{name}", limits, served) if thinks else [_model(f"anthropic/{name}", limits, **served)]
        )
    return models


def _google() -> list[CustomModel]:
    old = {**_GEMINI, "max_tokens": 2_000_000, "max_output_tokens": 8_192, "reserved_output_tokens": 8_192}
    flash = {"google-ai-studio": "gemini-2.5-flash", "openrouter": "google/gemini-2.5-flash"}
    return [
        _model("google/gemini-pro-1.5", old, **{"google-ai-studio": "gemini-1.5-pro", "openrouter": "google/gemini-pro-1.5"}),
        _model(
            "google/gemini-2.5-pro", _GEMINI, **{"google-ai-studio": "gemini-2.5-pro", "openrouter": "google/gemini-2.5-pro"}
        ),
        *_with_thinking("google/gemini-2.5-flash", _GEMINI, flash),
    ]


def _deepseek() -> list[CustomModel]:
    hosted = {"deepseek": "deepseek-reasoner", "openrouter": "deepseek/deepseek-r1-0528"}
    v3 = {"deepseek": "deepseek-chat", "openrouter": "deepseek/deepseek-chat-v3-0324"}
    return [
        _model("deepseek/v3", _OPEN, **v3),
        _model("deepseek/r1", _R1, **hosted),
        _model("deepseek/r1-hidden", {**_R1, "hide_reasoning": True}, **hosted),
        *(_model(f"deepseek/r1-{size}", _R1, ollama=f"deepseek-r1:{size}") for size in ("70b", "32b", "14b", "8b")),
    ]


def _qwen() -> list[CustomModel]:
    sizes = ("32b", "14b", "8b")
    return [
        _model("qwen/qwen-2.5-coder-32b-instruct", _OPEN, openrouter="qwen/qwen-2.5-coder-32b-instruct"),
        _model("qwen/qwen3-235b-local", _OPEN, ollama="qwen3:235b"),
        _model("qwen/qwen3-235b-a22b-cloud", _OPEN, openrouter="qwen/qwen3-235b-a22b"),
        *(_model(f"qwen/qwen3-{size}-local", _OPEN, ollama=f"qwen3:{size}") for size in sizes),
        *(_model(f"qwen/qwen3-{size}-cloud", _OPEN, openrouter=f"qwen/qwen3-{size}") for size in sizes),
    ]


def _others() -> list[CustomModel]:
    r1 = {"perplexity": "r1-1776", "openrouter": "perplexity/r1-1776"}
    sonar = {"perplexity": "sonar-reasoning", "openrouter": "perplexity/sonar-reasoning"}
    return [
        _model("mistral/devstral-small", _OPEN, ollama="devstral:24b", openrouter="mistralai/devstral-small"),
        _model("perplexity/r1-1776", _R1, **r1),
        _model("perplexity/r1-1776-hidden", {**_R1, "hide_reasoning": True}, **r1),
        _model("perplexity/r1-1776-70b", _R1, ollama="r1-1776:70b"),
        _model("perplexity/sonar-reasoning", _R1, **sonar),
        _model("perplexity/sonar-reasoning-hidden", {**_R1, "hide_reasoning": True}, **sonar),
    ]


def _with_thinking(model_id: str, known: dict[str, Any], served: dict[str, str]) -> list[CustomModel]:
    """Return a model with its two variants that think."""
    return [
        _model(model_id, known, **served),
        _model(f"{model_id}-thinking", {**known, **_THINKING}, **served),
        _model(f"{model_id}-thinking-hidden", {**known, **_THINKING, "hide_reasoning": True}, **served),
    ]


def _model(model_id: str, known: dict[str, Any], **served: str) -> CustomModel:
    """Return a model; `served` has its names by provider, the one to prefer first."""
    filled: dict[str, Any] = {"preferred_output_format": TAGS, "reserved_output_tokens": known["max_output_tokens"], **known}
    uses = [UsesProvider(provider=provider, model_name=name) for provider, name in served.items()]
    return CustomModel(model_id=model_id, publisher=model_id.partition("/")[0], providers=uses, **filled)
