"""Packs of the server itself, which ask users for no key: that of its model provider, and that of a model for development.

They are among what every organisation brings along without being stored there.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from core.kernel.settings import Settings
from core.plans.builtin_models import TAGS, TOOL_CALLS
from core.plans.pack_roles import ROLES, role_of
from gen.busbar.plans.v1.models_pb import CustomModel, CustomProvider, ModelPack, UsesProvider

DEV = "dev"
DEV_MODEL = "coder"
SERVER = "server"

_NAMESPACE = uuid.UUID("5f1e8a3c-5d0b-4c0f-9b1e-6f9d5d1c2a70")
_CONVERSATION_SHARE = 8


@dataclass(frozen=True, slots=True)
class OwnPack:
    """A provider of the server with one model, which plays every role of one pack.

    Attributes:
        base_url: Its real address.
        key: Its key.
    """

    provider: CustomProvider
    model: CustomModel
    pack: ModelPack
    base_url: str
    key: str = ""

    @property
    def name(self) -> str:
        """Name of the provider and of the pack."""
        return self.pack.name


def own_packs(settings: Settings) -> list[OwnPack]:
    """Return the packs that the settings make."""
    packs: list[OwnPack] = []
    if settings.plan_models.dev_url:
        packs.append(_own(DEV, DEV_MODEL, "Answers by rule, for development.", settings.plan_models.dev_url))
    if settings.ai_base_url and settings.ai_model:
        key = settings.ai_key.get_secret_value()
        room = settings.plan_models.server_max_tokens
        about = "The model of this server."
        packs.append(
            _own(SERVER, settings.ai_model, about, settings.ai_base_url, key, max_tokens=room, preferred_output_format=TAGS)
        )
    return packs


def default_pack(settings: Settings) -> str | None:
    """Return the name of the pack of whoever chose none; None for the one that is built in."""
    return DEV if settings.plan_models.dev_url else None


def _own(name: str, model_name: str, description: str, base_url: str, key: str = "", **limits: int | str) -> OwnPack:
    model_id = f"{name}/{model_name}"
    known: dict[str, Any] = {
        "max_tokens": 200_000,
        "max_output_tokens": 32_768,
        "reserved_output_tokens": 8_192,
        "preferred_output_format": TOOL_CALLS,
        **limits,
    }
    known["reserved_output_tokens"] = min(known["reserved_output_tokens"], known["max_tokens"] // 4)
    model = CustomModel(
        id=_id("model", name),
        model_id=model_id,
        publisher=name,
        description=description,
        default_max_convo_tokens=known["max_tokens"] // _CONVERSATION_SHARE,
        providers=[UsesProvider(provider="custom", custom_provider=name, model_name=model_name)],
        **known,
    )
    roles = {field: role_of(role, model_id) for field, role in ROLES.items()}
    pack = ModelPack(id=_id("pack", name), name=name, description=description, **roles)  # pyright: ignore[reportArgumentType]
    provider = CustomProvider(id=_id("provider", name), name=name, base_url=_without_user(base_url), skip_auth=True)
    return OwnPack(provider, model, pack, base_url, key)


def _id(kind: str, name: str) -> str:
    return str(uuid.uuid5(_NAMESPACE, f"{kind}/{name}"))


def _without_user(url: str) -> str:
    """Return an address without the credentials that it may hold."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))
