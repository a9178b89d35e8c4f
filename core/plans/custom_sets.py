"""The rules for what organisations bring along: which sets of models, providers and packs hold together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from http import HTTPStatus

from core.kernel.call import Call
from core.kernel.errors import InvalidArgument
from core.plans.builtin_models import built_in_models
from core.plans.builtin_packs import built_in_packs
from core.plans.builtin_providers import BUILT_IN, CUSTOM
from core.plans.pack_roles import cast_of
from core.plans.packs import Stock
from gen.busbar.plans.v1.models_pb import CustomModel, CustomProvider, ModelPack, ModelPackSchema


def unprocessable(call: Call, message: str) -> InvalidArgument:
    """Return the refusal of a request that reads well and makes no sense, which has a status of its own over REST."""
    call.status = HTTPStatus.UNPROCESSABLE_ENTITY
    return InvalidArgument(message)


def check_set(
    models: Sequence[CustomModel],
    providers: Sequence[CustomProvider],
    packs: Sequence[ModelPackSchema],
    stock: Stock,
    call: Call,
) -> None:
    """Check a whole set but for the models of its packs, in the order that clients expect.

    Raises:
        InvalidArgument: It does not hold together.
    """
    _check_unlike("model", (model.model_id for model in models))
    _check_unlike("provider", (provider.name for provider in providers))
    _check_unlike("model pack", (pack.name for pack in packs))
    if not all(provider.name for provider in providers):
        raise InvalidArgument("provider name is required")
    if not all(model.model_id for model in models):
        raise InvalidArgument("model id is required")
    for model in models:
        if model.model_id in built_in_models():
            raise unprocessable(call, f"{model.model_id} is a built-in model, so it can't be used for a custom model")
    for pack in packs:
        check_pack_name(pack, call)
    _check_providers(models, {provider.name for provider in providers} | set(stock.providers), call)


def check_pack_name(pack: ModelPackSchema, call: Call) -> None:
    """Check that a pack has a name that is not built in.

    Raises:
        InvalidArgument: It has none, or one that is.
    """
    if not pack.name:
        raise InvalidArgument("model pack name is required")
    if pack.name in built_in_packs():
        raise unprocessable(call, f"{pack.name} is a built-in model pack, so it can't be used for a custom model pack")


def check_cast(pack: ModelPack, known: Iterable[str], call: Call) -> None:
    """Check that the models of a pack are built in or among those that are known.

    Raises:
        InvalidArgument: One of them is not.
    """
    names = {*built_in_models(), *known}
    for role in cast_of(pack):
        if role.model_id not in names:
            raise unprocessable(call, f"'{role.model_id}' is not a built-in model or a custom model")


def _check_unlike(kind: str, names: Iterable[str]) -> None:
    for name, number in Counter(names).items():
        if name and number > 1:
            raise InvalidArgument(f"duplicate {kind}: {name}")


def _check_providers(models: Sequence[CustomModel], names: set[str], call: Call) -> None:
    for uses in (uses for model in models for uses in model.providers):
        if uses.provider == CUSTOM and uses.custom_provider not in names:
            raise unprocessable(call, f"'{uses.custom_provider}' is neither a custom provider nor one that is sent")
        if uses.provider != CUSTOM and uses.provider not in BUILT_IN:
            raise unprocessable(call, f"'{uses.provider}' is not a built-in model provider")
