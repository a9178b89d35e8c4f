"""Packs that the server brings itself: which model plays which role."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

from core.plans.pack_roles import Casting, role_of
from gen.busbar.plans.v1.models_pb import ModelPack

DEFAULT_PACK = "daily-driver"

_O4_LOW, _O4_MEDIUM, _O4_HIGH = "openai/o4-mini-low", "openai/o4-mini-medium", "openai/o4-mini-high"
_MINI = "openai/gpt-4.1-mini"
_SONNET, _OPUS = "anthropic/claude-sonnet-4", "anthropic/claude-opus-4"
_GEMINI = "google/gemini-2.5-pro"
_LARGE = Casting("google/gemini-2.5-pro", large_context="google/gemini-pro-1.5")
_DEVSTRAL = "mistral/devstral-small"


@cache
def built_in_packs() -> Mapping[str, ModelPack]:
    """Return the packs by name; the first is the default."""
    sonnet = Casting(_SONNET, large_context=_LARGE)
    packs = [
        _daily(DEFAULT_PACK, "A mix for everyday work: quality, speed and cost in balance.", sonnet),
        _daily(
            "reasoning",
            "As daily-driver, with planning that thinks first.",
            Casting(f"{_SONNET}-thinking-hidden", large_context=_LARGE),
        ),
        _daily(
            "strong",
            "For hard tasks; slower and dearer.",
            Casting("openai/o3-high", large_context=_LARGE),
            coder=Casting(f"{_SONNET}-thinking-hidden", large_context="openai/gpt-4.1"),
            builder=Casting(_O4_HIGH),
        ),
        _daily(
            "cheap",
            "For light tasks at little cost.",
            Casting(_O4_MEDIUM, large_context=_LARGE),
            coder=Casting(_MINI),
            builder=Casting(_O4_LOW),
        ),
        _pack("oss", "Open models on hosts.", Casting("deepseek/r1-hidden"), Casting("deepseek/v3"), Casting("deepseek/v3")),
        _ollama("ollama", "Local models only.", Casting("qwen/qwen3-32b-local")),
        _ollama(
            "ollama-oss", "Open models, the small roles local.", Casting("deepseek/r1-hidden"), coder=Casting("deepseek/v3")
        ),
        _ollama("ollama-daily", "As daily-driver, the small roles local.", sonnet, coder=Casting(_SONNET)),
        _pack(
            "anthropic", "Models of Anthropic only.", Casting(_SONNET), Casting(_SONNET), Casting("anthropic/claude-3.5-haiku")
        ),
        _pack("openai", "Models of OpenAI only.", Casting("openai/o3-medium"), Casting("openai/gpt-4.1"), Casting(_MINI)),
        _pack("google", "Models of Google only.", Casting(_GEMINI), Casting(_GEMINI), Casting("google/gemini-2.5-flash")),
        _daily("gemini-planner", "As daily-driver, planned by Gemini 2.5 Pro.", Casting(_GEMINI)),
        _daily("opus-planner", "As daily-driver, planned by Claude Opus 4.", Casting(_OPUS, large_context=_LARGE)),
        _daily("o3-planner", "As daily-driver, planned by o3.", Casting("openai/o3-medium", large_context=_LARGE)),
        _daily("r1-planner", "As daily-driver, planned by DeepSeek R1.", Casting("deepseek/r1-hidden", large_context=_LARGE)),
        _daily(
            "perplexity-planner",
            "As daily-driver, planned by Sonar Reasoning.",
            Casting("perplexity/sonar-reasoning-hidden", large_context=_LARGE),
        ),
    ]
    return {pack.name: pack for pack in packs}


def _daily(
    name: str, description: str, planner: Casting, *, coder: Casting | None = None, builder: Casting | None = None
) -> ModelPack:
    """Return a variant of the default pack."""
    built = builder or Casting(_O4_MEDIUM, strong=_O4_HIGH)
    return ModelPack(
        id=name,
        name=name,
        description=description,
        planner=role_of("planner", planner),
        coder=role_of("coder", coder or Casting(_SONNET, large_context="openai/gpt-4.1")),
        plan_summary=role_of("summarizer", Casting(_O4_LOW)),
        builder=role_of("builder", built),
        whole_file_builder=role_of("whole-file-builder", Casting(built.model_id)),
        namer=role_of("names", Casting(_MINI)),
        commit_msg=role_of("commit-messages", Casting(_MINI)),
        exec_status=role_of("auto-continue", Casting(_O4_LOW)),
        context_loader=role_of("architect", planner),
    )


def _pack(name: str, description: str, planner: Casting, coder: Casting, small: Casting) -> ModelPack:
    """Return a pack of three models: one plans, one writes files, one does the rest."""
    return ModelPack(
        id=name,
        name=name,
        description=description,
        planner=role_of("planner", planner),
        coder=role_of("coder", coder),
        plan_summary=role_of("summarizer", small),
        builder=role_of("builder", coder),
        whole_file_builder=role_of("whole-file-builder", coder),
        namer=role_of("names", small),
        commit_msg=role_of("commit-messages", small),
        exec_status=role_of("auto-continue", small),
        context_loader=role_of("architect", planner),
    )


def _ollama(name: str, description: str, planner: Casting, *, coder: Casting | None = None) -> ModelPack:
    """Return a pack whose small roles are played by local models; without a coder, all are."""
    small = Casting("qwen/qwen3-8b-local")
    devstral = Casting(_DEVSTRAL)
    return ModelPack(
        id=name,
        name=name,
        local_provider="" if coder else "ollama",
        description=description,
        planner=role_of("planner", planner),
        coder=role_of("coder", coder or devstral),
        plan_summary=role_of("summarizer", devstral),
        builder=role_of("builder", devstral),
        whole_file_builder=role_of("whole-file-builder", devstral),
        namer=role_of("names", small),
        commit_msg=role_of("commit-messages", small),
        exec_status=role_of("auto-continue", devstral),
        context_loader=role_of("architect", planner if coder else devstral),
    )
