"""Frames that devices and dashboards are told, and the errors among them."""

from __future__ import annotations

from typing import Any

from protobuf import Oneof
from protobuf.wkt import Struct, Value

from core.kernel.errors import DomainError
from gen.busbar.api.v1.error_reason_pb import ErrorReason
from gen.busbar.telemetry.v1.stream_pb import StreamError

Frame = Oneof[Any, Any]
"""A member of the oneof of an answer; all three rpcs have the same members for the same things."""

CODES = {
    ErrorReason.INVALID_FIELD: "INVALID_MESSAGE",
    ErrorReason.MALFORMED_BODY: "INVALID_JSON",
    ErrorReason.STORAGE_UNAVAILABLE: "REDIS_UNAVAILABLE",
}
"""Codes of the wire protocol that differ from the names of our reasons."""


def error_frame(code: str, sentence: str, seq: int | None = None) -> Frame:
    """Return the frame of an error; `seq` tells which telemetry frame it ends."""
    return Oneof(field="error", value=StreamError(code=code, detail=sentence, message=sentence, seq=seq))


def refusal(error: DomainError, seq: int | None = None) -> Frame:
    """Return the frame of a refusal."""
    return error_frame(CODES.get(error.reason, error.reason.name), error.message, seq)


def passed_on(kind: str, members: Struct, source_id: str, **more: str | int) -> Frame:
    """Return a frame of a device as dashboards see it: whatever it holds, but for the organisation, and whose it is."""
    fields = {name: value for name, value in members.fields.items() if name != "org_id"}
    own: dict[str, str | int] = {"type": kind, "source_id": source_id, **more}
    return Oneof(field="relayed", value=Struct(fields={**fields, **{k: Value.from_python(v) for k, v in own.items()}}))


def text_of(members: Struct, name: str) -> str:
    """Return a member that is a text; empty when it is none."""
    value = members.fields.get(name)
    kind = None if value is None else value.kind
    return kind.value if kind is not None and kind.field == "string_value" else ""


def number_of(members: Struct, name: str) -> float | None:
    """Return a member that is a number."""
    value = members.fields.get(name)
    kind = None if value is None else value.kind
    return kind.value if kind is not None and kind.field == "number_value" else None
