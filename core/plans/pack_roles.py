"""Roles of a pack: how freely each answers, and how the short form of requests becomes the full one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, cast

from protobuf.wkt import Value

from core.kernel.errors import InvalidArgument
from gen.busbar.plans.v1.models_pb import ModelPack, ModelPackSchema, ModelRole

ROLES: Final = {
    "planner": "planner",
    "coder": "coder",
    "plan_summary": "summarizer",
    "builder": "builder",
    "whole_file_builder": "whole-file-builder",
    "namer": "names",
    "commit_msg": "commit-messages",
    "exec_status": "auto-continue",
    "context_loader": "architect",
}
"""Name of the role that each field of a pack casts."""

FIELDS: Final = {role: name for name, role in ROLES.items()}

STANDS_IN: Final = {"coder": "planner", "context_loader": "planner", "whole_file_builder": "builder"}
"""Field whose role plays that of another field when the pack leaves it out."""

FREEDOM: Final = {
    "planner": (0.3, 0.3),
    "coder": (0.3, 0.3),
    "architect": (0.3, 0.3),
    "summarizer": (0.2, 0.2),
    "builder": (0.1, 0.1),
    "whole-file-builder": (0.1, 0.1),
    "names": (0.8, 0.5),
    "commit-messages": (0.8, 0.5),
    "auto-continue": (0.1, 0.1),
}
"""Temperature and top-p of each role where a pack does not say."""

FALLBACKS: Final = ("large_context_fallback", "large_output_fallback", "error_fallback", "strong_model")

_JSON_FALLBACKS = {
    "largeContextFallback": "large_context_fallback",
    "largeOutputFallback": "large_output_fallback",
    "errorFallback": "error_fallback",
    "strongModel": "strong_model",
}
_DEPTH = 8


@dataclass(frozen=True, slots=True)
class Casting:
    """A model for a role, and who helps out."""

    model_id: str
    large_context: Casting | str | None = None
    strong: str | None = None


def role_of(role: str, casting: Casting | str) -> ModelRole:
    """Return the full form of a casting."""
    if isinstance(casting, str):
        casting = Casting(casting)
    temperature, top_p = FREEDOM[role]
    made = ModelRole(role=role, model_id=casting.model_id, temperature=temperature, top_p=top_p)
    if role == "planner":
        # Planners always tell it; 0 takes that of the model.
        made.max_convo_tokens = 0
    if casting.large_context:
        made.large_context_fallback = role_of(role, casting.large_context)
    if casting.strong:
        made.strong_model = role_of(role, casting.strong)
    return made


def role_in(pack: ModelPack, role: str) -> ModelRole:
    """Return who plays a role in a pack, by the name of the role.

    Raises:
        InvalidArgument: The pack leaves out a role that nobody stands in for.
    """
    name = FIELDS[role]
    found: ModelRole | None = getattr(pack, name)
    if (found is None or not found.model_id) and name in STANDS_IN:
        found = getattr(pack, STANDS_IN[name])
    if found is None or not found.model_id:
        raise InvalidArgument(f"the model pack has no model for the role {role}")
    return found


def cast_of(pack: ModelPack) -> Iterator[ModelRole]:
    """Yield every role of a pack with its fallbacks."""
    for name in ROLES:
        role: ModelRole | None = getattr(pack, name)
        if role is not None:
            yield from _with_fallbacks(role)


def _with_fallbacks(role: ModelRole) -> Iterator[ModelRole]:
    yield role
    for name in FALLBACKS:
        fallback: ModelRole | None = getattr(role, name)
        if fallback is not None:
            yield from _with_fallbacks(fallback)


def pack_of(schema: ModelPackSchema, pack_id: str) -> ModelPack:
    """Return the full form of a pack.

    Raises:
        InvalidArgument: A role has another form than a model id or an object with one, or is missing.
    """
    pack = ModelPack(id=pack_id, name=schema.name, description=schema.description, local_provider=schema.local_provider)
    for name, role in ROLES.items():
        value: Value | None = getattr(schema, name)
        plain = None if value is None else value.to_python()
        if plain is not None and plain != "":
            setattr(pack, name, _role_from(role, plain, depth=0))
        elif name not in STANDS_IN:
            raise InvalidArgument(f"model pack {schema.name} has no model for the role {role}")
    return pack


def _role_from(role: str, value: Any, *, depth: int) -> ModelRole:  # noqa: ANN401 - whatever JSON the client sent
    if isinstance(value, str) and value:
        return role_of(role, value)
    given = cast("dict[str, Any]", value) if isinstance(value, dict) else {}
    model_id = given.get("modelId")
    if not isinstance(model_id, str) or not model_id or depth > _DEPTH:
        raise InvalidArgument(f"the model of the role {role} must be a model id or an object with modelId")
    made = role_of(role, model_id)
    made.temperature = _number(role, given, "temperature", made.temperature)
    made.top_p = _number(role, given, "topP", made.top_p)
    made.reserved_output_tokens = int(_number(role, given, "reservedOutputTokens", 0))
    if role == "planner":
        made.max_convo_tokens = int(_number(role, given, "maxConvoTokens", 0))
    for key, name in _JSON_FALLBACKS.items():
        if given.get(key):
            setattr(made, name, _role_from(role, given[key], depth=depth + 1))
    return made


def _number(role: str, value: dict[str, Any], key: str, default: float) -> float:
    number = value.get(key)
    if number is None:
        return default
    if isinstance(number, bool) or not isinstance(number, int | float) or not 0 <= number < 2**31:
        raise InvalidArgument(f"{key} of the role {role} must be a number from 0")
    return number
