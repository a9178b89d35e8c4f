"""Tables of summaries. Times are microseconds since the Unix epoch."""

from __future__ import annotations

from sqlalchemy import BigInteger, Index
from sqlmodel import Field, SQLModel


class PlanSummaryRow(SQLModel, table=True):
    """A summary of a conversation.

    Attributes:
        message_id: The last message that it covers. Branches share messages of before their fork, and so their summaries.
    """

    __tablename__ = "plan_summary"  # pyright: ignore[reportAssignmentType] - SQLModel takes a plain name
    __table_args__ = (Index("ix_plan_summary_message", "plan_id", "message_id"),)

    id: str = Field(primary_key=True, max_length=64)
    org_id: str = Field(foreign_key="org.id", max_length=64)
    plan_id: str = Field(foreign_key="plan.id", ondelete="CASCADE", max_length=64)
    message_id: str = Field(max_length=64)
    text: str
    tokens: int = 0
    created_us: int = Field(sa_type=BigInteger)
