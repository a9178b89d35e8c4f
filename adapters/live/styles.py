"""How each surface speaks on sockets, beyond what it says over REST: error frames and close codes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from adapters.rest.dialects import lab_sentence
from core.kernel.errors import DomainError
from gen.busbar.api.v1.error_reason_pb import ErrorReason
from gen.busbar.api.v1.options_pb import Surface

NORMAL = 1000
GOING_DOWN = 1001
UNSUPPORTED = 1003
POLICY = 1008
TOO_BIG = 1009
INTERNAL = 1011
TRY_LATER = 1013

LONGEST_REASON = 123
"""Bytes of a close reason that fit into its frame."""

Members = Mapping[str, Any]
NO_MEMBERS: Members = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Ending:
    """How a connection ends: the close code, the reason for people, and a last frame to send before."""

    code: int
    reason: str = ""
    last: Members | None = None

    @property
    def short_reason(self) -> str:
        """The reason, cut to what a close frame holds."""
        return self.reason.encode()[:LONGEST_REASON].decode(errors="ignore")


@dataclass(frozen=True, slots=True)
class Style:
    """How one surface speaks on sockets.

    Attributes:
        error: Writes an error frame from the refusal, its sentence, and the members of the refused frame.
        codes: Close codes by canonical status code.
        other: Close code of every other refusal.
        too_large: Close code for a frame over the limit.
        last_words: Whether the refusal that ends a connection is told in an error frame before the close.
        reason: Writes the close reason of a refusal.
    """

    error: Callable[[DomainError, str, Members], Members]
    codes: Mapping[str, int]
    other: int
    too_large: int
    last_words: bool
    reason: Callable[[DomainError], str] = lambda error: error.message

    def ending(self, error: DomainError) -> Ending:
        """Return how a refusal ends a connection."""
        if error.reason == ErrorReason.SHUTTING_DOWN:
            return Ending(GOING_DOWN, error.message)
        code = self.too_large if error.reason == ErrorReason.TOO_LARGE else self.codes.get(error.code, self.other)
        last = self.error(error, error.message, NO_MEMBERS) if self.last_words else None
        return Ending(code, self.reason(error), last)


def _maker_error(_error: DomainError, sentence: str, frame: Members) -> Members:
    given = frame.get("id")
    known = given if isinstance(given, str | int | float) and not isinstance(given, bool) else None
    return {"type": "error", "id": known, "error": sentence}


def _telemetry_error(error: DomainError, sentence: str, frame: Members) -> Members:
    # Some clients read `detail`, others `message`.
    members: dict[str, Any] = {"type": "error", "code": _telemetry_code(error), "detail": sentence, "message": sentence}
    # Tells a client that counts its frames that this one is dealt with and need not come again.
    if isinstance(frame.get("seq"), int):
        members["seq"] = frame["seq"]
    return members


def _telemetry_code(error: DomainError) -> str:
    if error.reason == ErrorReason.MALFORMED_BODY:
        return "INVALID_JSON"
    if error.reason == ErrorReason.STORAGE_UNAVAILABLE:
        # Clients know the loss of storage by the name of what kept it when their protocol was made.
        return "REDIS_UNAVAILABLE"
    return "INVALID_MESSAGE" if error.reason == ErrorReason.INVALID_FIELD else error.reason.name


LAB_REASONS = {"API token has expired": "API token expired", "Token owner not found": "User not found"}
"""Reasons that are put otherwise than over REST."""


def _lab_reason(error: DomainError) -> str:
    sentence = (lab_sentence(error) or error.message).removesuffix(".")
    return LAB_REASONS.get(sentence, sentence)


MAKER = Style(
    error=_maker_error,
    codes={
        "UNAUTHENTICATED": 4401,
        "PERMISSION_DENIED": 4403,
        "NOT_FOUND": 4404,
        "ABORTED": 4409,
        "RESOURCE_EXHAUSTED": 4429,
        "UNAVAILABLE": TRY_LATER,
        "INTERNAL": INTERNAL,
        "UNKNOWN": INTERNAL,
    },
    other=POLICY,
    too_large=4413,
    last_words=False,
)

TELEMETRY = Style(
    error=_telemetry_error,
    codes={"RESOURCE_EXHAUSTED": TRY_LATER, "UNAVAILABLE": TRY_LATER, "INTERNAL": INTERNAL, "UNKNOWN": INTERNAL},
    other=POLICY,
    too_large=TOO_BIG,
    last_words=True,
)

LAB = Style(
    error=lambda _error, sentence, _frame: {"type": "error", "message": sentence},
    codes={"UNAVAILABLE": TRY_LATER, "INTERNAL": INTERNAL, "UNKNOWN": INTERNAL},
    other=POLICY,
    too_large=TOO_BIG,
    last_words=False,
    reason=_lab_reason,
)

STYLES = {Surface.TELEMETRY: TELEMETRY, Surface.LAB: LAB}


def style_of(surface: Surface) -> Style:
    """Return the style of a surface; those without one of their own speak as maker does."""
    return STYLES.get(surface, MAKER)
