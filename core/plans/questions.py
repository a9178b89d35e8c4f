"""What a role is asked, in the words of the protocol, with regard to what its model can and cannot take."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, cast

from core.models.answers import unreadable
from core.plans.builtin_models import TOOL_CALLS
from core.plans.builtin_providers import ANTHROPIC, OPENROUTER
from core.plans.tokens import count_tokens
from gen.busbar.plans.v1.models_pb import CustomModel, ModelRole

Speaker = Literal["system", "user", "assistant"]

_IMAGE_TOKENS = 1_500
_TURN_TOKENS = 4


@dataclass(frozen=True, slots=True)
class Image:
    """A picture for a model that sees.

    Attributes:
        url: Its address, or `data:image/png;base64,...`.
        detail: `high`, `low` or `auto`.
        tokens: Tokens that it costs.
    """

    url: str
    detail: str = "auto"
    tokens: int = _IMAGE_TOKENS


@dataclass(frozen=True, slots=True)
class Message:
    """One message of a question."""

    role: Speaker
    text: str
    images: tuple[Image, ...] = ()

    @property
    def tokens(self) -> int:
        """Tokens that it costs, about."""
        return count_tokens(self.text) + sum(image.tokens for image in self.images) + _TURN_TOKENS


@dataclass(frozen=True, slots=True)
class Parameter:
    """One value of a structured answer."""

    description: str
    kind: Literal["string", "boolean"] = "string"


@dataclass(frozen=True, slots=True)
class Function:
    """A structured answer: a call of a function, or tags named like its parameters, as the model is used to."""

    name: str
    description: str
    parameters: Mapping[str, Parameter]

    def as_tool(self) -> dict[str, Any]:
        """Return the function in the words of the protocol."""
        properties = {name: {"type": one.kind, "description": one.description} for name, one in self.parameters.items()}
        schema = {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}
        return {"type": "function", "function": {"name": self.name, "description": self.description, "parameters": schema}}

    def as_tags(self) -> str:
        """Return what a model is told that answers in tags."""
        tags = "\n".join(f"<{name}>{one.description}</{name}>" for name, one in self.parameters.items())
        return f"Answer with these tags and nothing else, each filled with what it says:\n{tags}"

    def read(self, text: str) -> dict[str, Any]:
        """Return the values of an answer, whichever form it has.

        Raises:
            UpstreamFailed: It has none of them, or not all.
        """
        values = _read_json(text) or self._read_tags(text)
        found = {name: _value(values.get(name), one.kind) for name, one in self.parameters.items()}
        if any(value is None for value in found.values()):
            raise unreadable()
        return found

    def _read_tags(self, text: str) -> dict[str, Any]:
        tags = {name: re.search(rf"<{name}>(.*?)</{name}>", text, re.DOTALL) for name in self.parameters}
        return {name: tag[1].strip() for name, tag in tags.items() if tag}


def _read_json(text: str) -> dict[str, Any] | None:
    try:
        value: object = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return cast("dict[str, Any]", value) if isinstance(value, dict) else None


def _value(value: object, kind: str) -> str | bool | None:
    if kind == "string":
        return value if isinstance(value, str) else None
    if isinstance(value, str) and value.strip().lower() in ("true", "false"):
        return value.strip().lower() == "true"
    return value if isinstance(value, bool) else None


@dataclass(frozen=True, slots=True)
class Question:
    """What a role is asked.

    Attributes:
        messages: The messages, the system's first.
        stop: Where the answer ends; what it ends with is left out.
        function: Structured answer that is wanted; None for text.
        writes: Tokens that the answer has at least, where that is known.
        strong: Whether the question is hard.
    """

    messages: Sequence[Message]
    stop: tuple[str, ...] = ()
    function: Function | None = None
    writes: int = 0
    strong: bool = False
    tokens: int = field(default=0)

    def counted(self) -> Question:
        """Return the question with its tokens."""
        return replace(self, tokens=sum(message.tokens for message in self.messages))


def calls_function(model: CustomModel, question: Question) -> bool:
    """Whether a model answers a question by calling its function."""
    return question.function is not None and model.preferred_output_format == TOOL_CALLS


def request_for(model: CustomModel, role: ModelRole, provider: str, model_name: str, question: Question) -> dict[str, Any]:
    """Return the fields of the request for a question."""
    request: dict[str, Any] = {"model": model_name, "messages": _messages(model, question)}
    if not model.role_params_disabled:
        request |= {"temperature": role.temperature, "top_p": role.top_p}
    if question.stop and not model.stop_disabled:
        request["stop"] = list(question.stop)
    if question.function is not None and calls_function(model, question):
        choice = {"type": "function", "function": {"name": question.function.name}}
        request |= {"tools": [question.function.as_tool()], "tool_choice": choice}
    return request | _reasoning(model, provider)


def _reasoning(model: CustomModel, provider: str) -> dict[str, Any]:
    """Return what a request says of thinking, which each provider spells in its own way."""
    if provider == OPENROUTER and (model.reasoning_budget or model.reasoning_effort_enabled):
        wanted: dict[str, Any] = {"max_tokens": model.reasoning_budget} if model.reasoning_budget else {}
        if model.reasoning_effort_enabled and model.reasoning_effort:
            wanted["effort"] = model.reasoning_effort
        return {"extra_body": {"reasoning": {**wanted, "exclude": not model.include_reasoning or model.hide_reasoning}}}
    if provider == ANTHROPIC:
        limit = {"max_tokens": model.max_output_tokens} if model.max_output_tokens else {}
        if not model.reasoning_budget:
            return limit
        return {**limit, "extra_body": {"thinking": {"type": "enabled", "budget_tokens": model.reasoning_budget}}}
    if model.reasoning_effort_enabled and model.reasoning_effort:
        return {"reasoning_effort": model.reasoning_effort}
    return {}


def _messages(model: CustomModel, question: Question) -> list[dict[str, Any]]:
    messages = list(question.messages)
    if question.function is not None and not calls_function(model, question):
        messages.append(Message("user", question.function.as_tags()))
    if model.single_message_no_system_prompt:
        images = tuple(image for message in messages for image in message.images)
        messages = [Message("user", "\n\n".join(message.text for message in messages), images)]
    elif model.system_prompt_disabled:
        messages = [replace(message, role="user") if message.role == "system" else message for message in messages]
    return [{"role": message.role, "content": _content(model, message)} for message in messages]


def _content(model: CustomModel, message: Message) -> str | list[dict[str, Any]]:
    if not message.images or not model.has_image_support:
        return message.text
    parts: list[dict[str, Any]] = [{"type": "text", "text": message.text}] if message.text else []
    pictures = [{"type": "image_url", "image_url": {"url": image.url, "detail": image.detail}} for image in message.images]
    return parts + pictures
