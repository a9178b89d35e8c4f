"""Providers that everybody may use with keys of their own, and the variables that make them usable."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

OPENAI: Final = "openai"
OPENROUTER: Final = "openrouter"
ANTHROPIC: Final = "anthropic"
AZURE: Final = "azure-openai"
OLLAMA: Final = "ollama"
CUSTOM: Final = "custom"


@dataclass(frozen=True, slots=True)
class BuiltInProvider:
    """A provider.

    Attributes:
        name: Its name in models.
        variables: Variables that have to be present for it to be used.
        base_url: Address of its OpenAI-compatible interface; empty where the server speaks to none of its interfaces, or where
            the address is among the variables.
        key: Which of the variables is the key; empty for none.
    """

    name: str
    variables: tuple[str, ...]
    base_url: str = ""
    key: str = ""

    def missing(self, auth_vars: Mapping[str, str]) -> list[str]:
        """Return the variables that are not present."""
        return [name for name in self.variables if not auth_vars.get(name)]


BUILT_IN: Mapping[str, BuiltInProvider] = {
    provider.name: provider
    for provider in (
        BuiltInProvider(OPENROUTER, ("OPENROUTER_API_KEY",), "https://openrouter.ai/api/v1", "OPENROUTER_API_KEY"),
        BuiltInProvider(OPENAI, ("OPENAI_API_KEY",), "https://api.openai.com/v1", "OPENAI_API_KEY"),
        BuiltInProvider(ANTHROPIC, ("ANTHROPIC_API_KEY",), "https://api.anthropic.com/v1", "ANTHROPIC_API_KEY"),
        # Its token is for another interface than the one that the server speaks.
        BuiltInProvider("anthropic-pro", ("ANTHROPIC_CLAUDE_MAX_TOKEN",)),
        BuiltInProvider(
            "google-ai-studio",
            ("GEMINI_API_KEY",),
            "https://generativelanguage.googleapis.com/v1beta/openai",
            "GEMINI_API_KEY",
        ),
        # These two sign each request with an account of their cloud, which the server does not do.
        BuiltInProvider("google-vertex", ("GOOGLE_APPLICATION_CREDENTIALS", "VERTEXAI_PROJECT", "VERTEXAI_LOCATION")),
        BuiltInProvider("aws-bedrock", ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION")),
        BuiltInProvider(AZURE, ("AZURE_OPENAI_API_KEY", "AZURE_API_BASE"), key="AZURE_OPENAI_API_KEY"),
        BuiltInProvider("deepseek", ("DEEPSEEK_API_KEY",), "https://api.deepseek.com/v1", "DEEPSEEK_API_KEY"),
        BuiltInProvider("perplexity", ("PERPLEXITY_API_KEY",), "https://api.perplexity.ai", "PERPLEXITY_API_KEY"),
        BuiltInProvider(OLLAMA, ()),
    )
}

NOT_SPOKEN = frozenset({"anthropic-pro", "google-vertex", "aws-bedrock"})
"""Providers that have no interface that the server speaks."""

AZURE_VERSION = "2025-04-01-preview"
