"""Refusals as the domain sees them. Doors turn them into their own dialect; nothing here knows a status line.

DomainError
├── InvalidArgument      a field or body is wrong, whatever the state of the system
├── Unauthenticated      no credential, or one that does not count here
├── PermissionDenied     known, but not allowed
├── NotFound             does not exist, or must not be known to exist
├── AlreadyExists        a unique thing is taken
├── FailedPrecondition   the state of the system forbids it
├── Aborted              lost a race, or a stale revision; `PreconditionFailed` where a header named the revision
├── ResourceExhausted    a rate or quota; `TooLarge` for sizes
├── DeadlineExceeded     took longer than the caller waits
├── Unimplemented        this door cannot do it
├── Unavailable          cannot be done now; a later try may succeed. `UpstreamFailed` for the fault of another server
└── Internal             a defect; the details are in the log only
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from gen.busbar.api.v1.error_reason_pb import ErrorReason

DOMAIN = "busbar.dev"
"""Domain of every google.rpc.ErrorInfo that Busbar sends."""


@dataclass(frozen=True, slots=True)
class FieldViolation:
    """What is wrong with one field.

    Attributes:
        path: Proto field names and list indexes, from the request inwards; empty for the request itself.
        description: What the field must be, fit to follow the field's name and a colon.
        rule: Id of the broken rule, such as `string.max_len`; `type` for a wrong JSON type, `json` for unreadable text.
        limit: Value that the rule compares with.
        value: What came instead. Never a secret.
    """

    path: tuple[str | int, ...]
    description: str
    rule: str = ""
    limit: object = None
    value: object = None


class DomainError(Exception):
    """A call that was refused.

    Attributes:
        code: Name of the canonical status code.
        message: Sentence for the caller.
        reason: Reason to program against.
        metadata: Values that go with the reason.
        violations: Fields that are wrong.
        retry_after: Seconds after which a new try may succeed.
    """

    code: ClassVar[str] = "UNKNOWN"
    default_reason: ClassVar[ErrorReason] = ErrorReason.UNSPECIFIED

    def __init__(
        self,
        message: str,
        *,
        reason: ErrorReason | None = None,
        violations: tuple[FieldViolation, ...] = (),
        retry_after: float | None = None,
        **metadata: object,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.reason = self.default_reason if reason is None else reason
        self.violations = violations
        self.retry_after = retry_after
        self.metadata = {name: str(value) for name, value in metadata.items()}

    @property
    def reason_name(self) -> str:
        """Name of the reason as the proto spells it."""
        return f"ERROR_REASON_{self.reason.name}"


class InvalidArgument(DomainError):
    """A field or the body is wrong, whatever the state of the system."""

    code = "INVALID_ARGUMENT"
    default_reason = ErrorReason.INVALID_FIELD

    @classmethod
    def field(cls, name: str, description: str) -> InvalidArgument:
        """Refuse one top-level field of the request."""
        return cls(f"{name}: {description}", violations=(FieldViolation((name,), description),), field=name)


class Unauthenticated(DomainError):
    """There is no credential, or one that does not count here."""

    code = "UNAUTHENTICATED"
    default_reason = ErrorReason.CREDENTIAL_INVALID


class PermissionDenied(DomainError):
    """The caller is known but not allowed."""

    code = "PERMISSION_DENIED"
    default_reason = ErrorReason.ROLE_INSUFFICIENT


class NotFound(DomainError):
    """The thing does not exist, or the caller must not know that it does."""

    code = "NOT_FOUND"
    default_reason = ErrorReason.RESOURCE_NOT_FOUND


class AlreadyExists(DomainError):
    """A unique thing is taken."""

    code = "ALREADY_EXISTS"
    default_reason = ErrorReason.ALREADY_EXISTS


class FailedPrecondition(DomainError):
    """The state of the system forbids the act."""

    code = "FAILED_PRECONDITION"


class Aborted(DomainError):
    """The call lost a race or named a stale revision."""

    code = "ABORTED"
    default_reason = ErrorReason.REVISION_CONFLICT


class PreconditionFailed(Aborted):
    """The thing is not at the revision that the call's `if_match` names."""


class ResourceExhausted(DomainError):
    """A rate or a quota is used up."""

    code = "RESOURCE_EXHAUSTED"
    default_reason = ErrorReason.RATE_LIMITED


class TooLarge(ResourceExhausted):
    """A body or frame is larger than it may be."""

    default_reason = ErrorReason.TOO_LARGE


class DeadlineExceeded(DomainError):
    """The call took longer than its caller waits."""

    code = "DEADLINE_EXCEEDED"


class Unimplemented(DomainError):
    """The door cannot do what was asked."""

    code = "UNIMPLEMENTED"


class Unavailable(DomainError):
    """It cannot be done now; a later try may succeed. Nothing was changed."""

    code = "UNAVAILABLE"
    default_reason = ErrorReason.STORAGE_UNAVAILABLE


class UpstreamFailed(Unavailable):
    """Another server that the call depends on failed or cannot be reached."""

    default_reason = ErrorReason.UPSTREAM_FAILED


class Internal(DomainError):
    """A defect. The details are in the log under the request id."""

    code = "INTERNAL"
    default_reason = ErrorReason.INTERNAL
