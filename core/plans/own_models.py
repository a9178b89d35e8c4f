"""Packs of the server itself, which ask users for no key: that of its model provider, and that of a model for development.

They are among what every organisation brings along without being stored there.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from core.kernel.settings import Settings
from core.plans.builtin_models import TAGS, TOOL_CALLS
from core.plans.pack_roles import ROLES, role_of
from gen.busbar.plans.v1.models_pb import CustomModel, CustomProvider, ModelPack, UsesProvider

DEV = "dev"
SERVER = "server"

_NAMESPACE = uuid.UUID("5f1e8a3c-5d0b-4c0f-9b1e-6f9d5d1c2a70")
_CONVERSATION_SHARE = 8
_RESERVED = 8_192
_DEV_TOKENS = 200_000


@dataclass(frozen=True, slots=True)
class OwnPack:
    """A provider of the server, whose models play every role of one pack.

    Attributes:
        models: Its models; one for all roles, or one for each.
        base_url: Its real address.
        key: Its key.
    """

    provider: CustomProvider
    models: tuple[CustomModel, ...]
    pack: ModelPack
    base_url: str
    key: str = field(default="", repr=False)

    @property
    def name(self) -> str:
        """Name of the provider and of the pack."""
        return self.pack.name


def own_packs(settings: Settings) -> list[OwnPack]:
    """Return the packs that the settings make."""
    packs: list[OwnPack] = []
    if settings.plan_models.dev_url:
        url = settings.plan_models.dev_url
        cast = {role: _model(DEV, role, max_tokens=_DEV_TOKENS, preferred_output_format=TOOL_CALLS) for role in ROLES.values()}
        packs.append(_own(DEV, "Answers by rule, for development.", cast, url))
    if settings.ai_base_url and settings.ai_model:
        room = settings.plan_models.server_max_tokens
        model = _model(SERVER, settings.ai_model, max_tokens=room, preferred_output_format=TAGS)
        key = settings.ai_key.get_secret_value()
        packs.append(_own(SERVER, "The model of this server.", dict.fromkeys(ROLES.values(), model), settings.ai_base_url, key))
    return packs


def default_pack(settings: Settings) -> str | None:
    """Return the name of the pack of whoever chose none; None for the one that is built in."""
    return DEV if settings.plan_models.dev_url else None


def _own(name: str, description: str, cast: Mapping[str, CustomModel], base_url: str, key: str = "") -> OwnPack:
    """Return a pack in which each role is played by its model."""
    roles: dict[str, Any] = {field: role_of(role, cast[role].model_id) for field, role in ROLES.items()}
    pack = ModelPack(id=_id("pack", name), name=name, description=description, **roles)
    provider = CustomProvider(id=_id("provider", name), name=name, base_url=_without_user(base_url), skip_auth=True)
    models = {model.model_id: model for model in cast.values()}
    return OwnPack(provider, tuple(models.values()), pack, base_url, key)


def _model(name: str, model_name: str, *, max_tokens: int, preferred_output_format: str) -> CustomModel:
    model_id = f"{name}/{model_name}"
    return CustomModel(
        id=_id("model", model_id),
        model_id=model_id,
        publisher=name,
        description=f"Plays roles of the pack {name}.",
        default_max_convo_tokens=max_tokens // _CONVERSATION_SHARE,
        max_tokens=max_tokens,
        max_output_tokens=max_tokens // 4,
        reserved_output_tokens=min(_RESERVED, max_tokens // 4),
        preferred_output_format=preferred_output_format,
        providers=[UsesProvider(provider="custom", custom_provider=name, model_name=model_name)],
    )


def _id(kind: str, name: str) -> str:
    return str(uuid.uuid5(_NAMESPACE, f"{kind}/{name}"))


def _without_user(url: str) -> str:
    """Return an address without the credentials that it may hold."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))
