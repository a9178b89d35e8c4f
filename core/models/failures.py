"""Failures of a model provider in the words of the domain.

What the provider itself says stays out of them, since it may repeat parts of keys and prompts.
"""

from __future__ import annotations

import math
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from types import ModuleType
from typing import Any

from core.kernel.errors import (
    DeadlineExceeded,
    DomainError,
    InvalidArgument,
    ResourceExhausted,
    Unavailable,
    UpstreamFailed,
)
from gen.busbar.api.v1.error_reason_pb import ErrorReason

PROVIDER = "AI provider"
RETRY_SECONDS = 1.0
"""How long to wait after a refusal for asking too often that does not say."""
LONGEST_RETRY_SECONDS = 86_400.0


def not_configured(setting: str) -> Unavailable:
    """Return the refusal of a server that has no provider."""
    return Unavailable("AI provider is not configured", reason=ErrorReason.NOT_CONFIGURED, setting=setting)


def too_late() -> DeadlineExceeded:
    """Return the refusal for a provider that takes too long."""
    return DeadlineExceeded("the AI provider took too long to answer", upstream=PROVIDER)


def translated(sdk: ModuleType, error: Exception, *, model_was_asked_for: bool) -> DomainError:
    """Return the refusal for a failure of the client library; everything that is not foreseen is the provider's fault."""
    if isinstance(error, DomainError):
        return error
    if isinstance(error, TimeoutError | sdk.APITimeoutError):
        return too_late()
    status: object = getattr(error, "status_code", None)
    if not isinstance(error, sdk.APIStatusError) or not isinstance(status, int):
        return UpstreamFailed("the AI provider cannot be reached or does not answer as one", upstream=PROVIDER)
    if status == HTTPStatus.NOT_FOUND:
        return _unknown_model(asked_for=model_was_asked_for)
    headers: Any = getattr(getattr(error, "response", None), "headers", {})
    return refused(status, headers.get("retry-after"))


def refused(status: int, wait: str | None) -> DomainError:
    """Return the refusal for an answer of the provider by its status and its Retry-After."""
    if status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
        message = "AI provider rejected the configured credentials"
        return Unavailable(message, reason=ErrorReason.NOT_CONFIGURED, setting="ai_key")
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        message = "the AI provider is asked too often, try again later"
        return ResourceExhausted(message, retry_after=retry_after(wait), upstream=PROVIDER)
    if status in (HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.GATEWAY_TIMEOUT):
        return too_late()
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return UpstreamFailed("the AI provider failed", upstream=PROVIDER, status=status)
    return InvalidArgument("the AI provider does not accept the request", upstream=PROVIDER, status=status)


def _unknown_model(*, asked_for: bool) -> DomainError:
    if asked_for:
        return InvalidArgument.field("model", "is not served by the AI provider")
    return Unavailable("AI provider does not serve the configured model", reason=ErrorReason.NOT_CONFIGURED, setting="ai_model")


def retry_after(header: str | None) -> float:
    """Return the seconds of a Retry-After header, which has them as a number or as a date."""
    try:
        seconds = float(header or "nan")
    except ValueError:
        seconds = _until(header or "")
    return min(max(seconds, 0.0), LONGEST_RETRY_SECONDS) if math.isfinite(seconds) else RETRY_SECONDS


def _until(date: str) -> float:
    try:
        at = parsedate_to_datetime(date)
    except ValueError:
        return math.nan
    return (at.replace(tzinfo=at.tzinfo or UTC) - datetime.now(UTC)).total_seconds()
