"""Tables of runs and of what they told their clients. Times are microseconds since the Unix epoch."""

from __future__ import annotations

from sqlalchemy import BigInteger, Index, LargeBinary, text
from sqlmodel import Field, SQLModel

_OPEN = text("finished_us IS NULL")


class PlanRunRow(SQLModel, table=True):
    """A run: a model at work on a branch.

    Attributes:
        kind: `tell` or `build`.
        request: JSON of what was asked for, without secrets and without the paths of the project.
        status: `active`, `waiting`, `finished`, `stopped` or `error`.
        owner: Process that carries it out.
        lease_us: When that process last said that it does.
        kept: Number of the newest event whose text is in the conversation.
        missing_file: File that it asks about.
        load_files: JSON list of the files that it asks for.
        usage: JSON list of what it cost.
    """

    __tablename__ = "plan_run"  # pyright: ignore[reportAssignmentType] - SQLModel takes a plain name
    __table_args__ = (
        # One run at a time on a branch, whoever starts it.
        Index("uq_plan_run_open", "branch_id", unique=True, sqlite_where=_OPEN, postgresql_where=_OPEN),
        Index("ix_plan_run_branch", "branch_id", "started_us"),
        Index("ix_plan_run_plan", "plan_id"),
    )

    id: str = Field(primary_key=True, max_length=64)
    org_id: str = Field(foreign_key="org.id", max_length=64)
    plan_id: str = Field(foreign_key="plan.id", ondelete="CASCADE", max_length=64)
    branch_id: str = Field(foreign_key="plan_branch.id", ondelete="CASCADE", max_length=64)
    branch: str = Field(max_length=255)
    user_id: str = Field(max_length=64)
    kind: str = Field(max_length=16)
    request: str
    prompt: str
    status: str = Field(default="active", max_length=16)
    owner: str = Field(max_length=64)
    lease_us: int = Field(sa_type=BigInteger)
    kept: int = 0
    missing_file: str = ""
    load_files: str = "[]"
    error: str = ""
    usage: str = "[]"
    started_us: int = Field(sa_type=BigInteger)
    finished_us: int | None = Field(default=None, sa_type=BigInteger)


class PlanRunEventRow(SQLModel, table=True):
    """What a run told its clients at one moment.

    Attributes:
        number: From 1, without holes.
        message: Binary form of its StreamMessage.
        raw: What the model wrote meanwhile, as it wrote it.
        cut: How many characters of the reply before it still count; null for all.
    """

    __tablename__ = "plan_run_event"  # pyright: ignore[reportAssignmentType] - SQLModel takes a plain name

    run_id: str = Field(primary_key=True, foreign_key="plan_run.id", ondelete="CASCADE", max_length=64)
    number: int = Field(primary_key=True)
    message: bytes = Field(sa_type=LargeBinary)
    raw: str = ""
    cut: int | None = None
