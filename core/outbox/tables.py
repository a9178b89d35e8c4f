"""The table of side effects. Times are microseconds since the Unix epoch."""

from __future__ import annotations

from sqlalchemy import BigInteger, Index, UniqueConstraint, text
from sqlmodel import Field, SQLModel

PENDING = "pending"
LEASED = "leased"
DELIVERED = "delivered"
DEAD_LETTER = "dead_letter"

OPEN = "state IN ('pending', 'leased')"
"""Condition of the rows that are still to be carried out, as the index spells it; a query must spell it so too."""


class OutboxRow(SQLModel, table=True):
    """One side effect.

    Attributes:
        id: Stays the same over all attempts, so that a receiver can drop repeats.
        kind: Names the handler that carries it out.
        subject: Id of what it belongs to, such as a webhook; empty for nothing.
        payload: JSON text, handed to the handler as it was written.
        state: pending, leased, delivered or dead_letter.
        attempts: Attempts that came to an end. One that died with its process does not count.
        next_attempt_us: When it is due; while it is leased, when the lease ends and another worker may take it.
        lease: Names the worker's hold on it; only who holds it may write the outcome.
        last_error: Why the last attempt failed, fit to be shown to the owner.
        response_code: Status of the last answer, where the handler speaks HTTP.
        dedupe_key: At most one row of an organisation and kind has it.
    """

    __tablename__ = "outbox"  # pyright: ignore[reportAssignmentType] - SQLModel takes a plain name
    __table_args__ = (
        UniqueConstraint("org_id", "kind", "dedupe_key", name="outbox_once"),
        Index("outbox_due", "next_attempt_us", sqlite_where=text(OPEN), postgresql_where=text(OPEN)),
        Index("outbox_listed", "org_id", "subject", "created_us"),
        Index("outbox_created", "created_us"),
    )

    id: str = Field(primary_key=True, max_length=64)
    org_id: str = Field(max_length=64)
    kind: str = Field(max_length=64)
    subject: str = Field(default="", max_length=64)
    payload: str
    state: str = Field(default=PENDING, max_length=16)
    attempts: int = 0
    max_attempts: int
    next_attempt_us: int = Field(sa_type=BigInteger)
    lease: str | None = Field(default=None, max_length=64)
    last_error: str | None = Field(default=None, max_length=500)
    response_code: int | None = None
    created_us: int = Field(sa_type=BigInteger)
    delivered_us: int | None = Field(default=None, sa_type=BigInteger)
    dedupe_key: str | None = Field(default=None, max_length=200)
