"""Refusals as gRPC tells them: a status code, and `google.rpc.Status` with details to program against."""

from __future__ import annotations

import math

import grpc
from protobuf import Message
from protobuf.wkt import Any, Duration

from core.kernel.errors import DOMAIN, DomainError
from core.kernel.validation import field_name
from gen.google.rpc.error_details_pb import BadRequest, ErrorInfo, RequestInfo, RetryInfo
from gen.google.rpc.status_pb import Status

DETAILS = "grpc-status-details-bin"
"""Trailer that carries the `google.rpc.Status`."""

REQUEST_ID = "x-request-id"

MOST_VIOLATIONS = 10
"""Violations told at once; peers refuse trailers of more than 8 KiB, and then nothing of the refusal would arrive."""

MOST_TEXT = 240
"""Characters of any one text in the trailers, for the same reason."""

_NANOS = 1_000_000_000


def status_code(error: DomainError) -> grpc.StatusCode:
    """Return the canonical code of a refusal."""
    return grpc.StatusCode[error.code]


def trailers(error: DomainError, request_id: str) -> tuple[tuple[str, str | bytes], ...]:
    """Return the trailing metadata that goes with a refusal."""
    return (REQUEST_ID, request_id), (DETAILS, status(error, request_id).to_binary())


def status(error: DomainError, request_id: str) -> Status:
    """Return a refusal as `google.rpc.Status`."""
    code: int = status_code(error).value[0]
    return Status(code=code, message=text(error), details=[Any.pack(detail) for detail in _details(error, request_id)])


def text(error: DomainError) -> str:
    """Return the sentence for the caller, short enough for a trailer."""
    return error.message[:MOST_TEXT]


def _details(error: DomainError, request_id: str) -> list[Message]:
    metadata = {name: value[:MOST_TEXT] for name, value in error.metadata.items()}
    found: list[Message] = [
        ErrorInfo(reason=error.reason_name, domain=DOMAIN, metadata=metadata),
        RequestInfo(request_id=request_id),
    ]
    if error.violations:
        shown = [
            BadRequest.FieldViolation(field=field_name(v.path)[:MOST_TEXT], description=v.description[:MOST_TEXT])
            for v in error.violations[:MOST_VIOLATIONS]
        ]
        found.append(BadRequest(field_violations=shown))
    if error.retry_after is not None:
        fraction, whole = math.modf(error.retry_after)
        found.append(RetryInfo(retry_delay=Duration(seconds=int(whole), nanos=int(fraction * _NANOS))))
    return found
