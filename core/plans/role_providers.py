"""Who answers for a model: the first of its providers whose variables are all present, else the server's own provider."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from core.kernel.errors import Unavailable
from core.kernel.settings import Settings
from core.models.endpoints import Endpoint
from core.plans.builtin_providers import AZURE, AZURE_VERSION, BUILT_IN, CUSTOM, NOT_SPOKEN, OLLAMA, OPENAI, BuiltInProvider
from core.plans.own_models import SERVER
from core.plans.packs import Stock
from gen.busbar.api.v1.error_reason_pb import ErrorReason
from gen.busbar.plans.v1.models_pb import CustomModel, CustomProvider, UsesProvider


@dataclass(frozen=True, slots=True)
class Way:
    """A way to ask a model.

    Attributes:
        provider: Who answers; a custom provider by its name.
        kind: Kind of provider.
        model_name: Name of the model there.
        endpoint: Where to ask.
    """

    provider: str
    kind: str
    model_name: str
    endpoint: Endpoint


class Providers:
    """Finds ways to ask models, with the variables of one caller."""

    def __init__(self, settings: Settings, stock: Stock, auth_vars: Mapping[str, str]) -> None:
        self._settings = settings
        self._stock = stock
        self._vars = auth_vars

    def ways(self, model: CustomModel) -> list[Way]:
        """Return all ways to ask a model, the one to prefer first; none where nothing that it needs is present."""
        ways = [way for uses in model.providers if (way := self._way(uses)) is not None]
        own = self._stock.own.get(SERVER)
        if not ways and own is not None:
            ways.append(Way(SERVER, CUSTOM, own.models[0].providers[0].model_name, _own(own.base_url, own.key)))
        return ways

    def none(self, role: str, model_id: str, model: CustomModel | None) -> Unavailable:
        """Return the refusal where there is no way, with what would make one."""
        if model is None:
            return Unavailable(
                f"no model provider for the role {role}: the model {model_id} is unknown", reason=ErrorReason.NOT_CONFIGURED
            )
        wanted = [text for uses in model.providers if (text := self._wanted(uses))]
        hint = f"; set {' or '.join(dict.fromkeys(wanted))}" if wanted else ""
        return Unavailable(
            f"no model provider for the role {role}: the model {model_id} needs a key that is missing{hint}",
            reason=ErrorReason.NOT_CONFIGURED,
            model=model_id,
        )

    def _way(self, uses: UsesProvider) -> Way | None:
        if uses.provider == CUSTOM:
            return self._custom(uses)
        known = BUILT_IN.get(uses.provider)
        if known is None or known.name in NOT_SPOKEN or known.missing(self._vars):
            return None
        return Way(known.name, known.name, uses.model_name, self._built_in(known, uses.model_name))

    def _built_in(self, known: BuiltInProvider, model_name: str) -> Endpoint:
        if known.name == OLLAMA:
            return _own(self._settings.plan_models.ollama_url)
        key = self._vars[known.key]
        if known.name == AZURE:
            return self._azure(key, model_name)
        organisation = self._vars.get("OPENAI_ORG_ID") if known.name == OPENAI else None
        return Endpoint(known.base_url, key, headers={"OpenAI-Organization": organisation} if organisation else {})

    def _azure(self, key: str, model_name: str) -> Endpoint:
        pairs = [pair.partition("=") for pair in self._vars.get("AZURE_DEPLOYMENTS_MAP", "").replace(";", ",").split(",")]
        deployments = {name.strip(): deployment.strip() for name, _, deployment in pairs if deployment.strip()}
        base = self._vars["AZURE_API_BASE"].rstrip("/")
        return Endpoint(
            f"{base}/openai/deployments/{deployments.get(model_name, model_name)}",
            headers={"api-key": key},
            query={"api-version": self._vars.get("AZURE_API_VERSION") or AZURE_VERSION},
        )

    def _custom(self, uses: UsesProvider) -> Way | None:
        own = self._stock.own.get(uses.custom_provider)
        if own is not None:
            return Way(own.name, CUSTOM, uses.model_name, _own(own.base_url, own.key))
        provider = self._stock.providers.get(uses.custom_provider)
        if provider is None or self._missing(provider):
            return None
        key = "" if provider.skip_auth else self._vars.get(provider.api_key_env_var, "")
        return Way(provider.name, CUSTOM, uses.model_name, Endpoint(provider.base_url, key))

    def _missing(self, provider: CustomProvider) -> list[str]:
        """Return the variables of a custom provider that are not present."""
        names = [] if provider.skip_auth or not provider.api_key_env_var else [provider.api_key_env_var]
        names += [extra.var for extra in provider.extra_auth_vars if extra.required and not extra.default]
        return [name for name in names if not self._vars.get(name)]

    def _wanted(self, uses: UsesProvider) -> str:
        """Return what is missing for a provider, in words; empty where nothing can be set."""
        if uses.provider == CUSTOM:
            provider = self._stock.providers.get(uses.custom_provider)
            return " and ".join(self._missing(provider)) if provider else ""
        known = BUILT_IN.get(uses.provider)
        return " and ".join(known.missing(self._vars)) if known and known.name not in NOT_SPOKEN else ""


def _own(base_url: str, key: str = "") -> Endpoint:
    return Endpoint(base_url, key, trusted=True)
