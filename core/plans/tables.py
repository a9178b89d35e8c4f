"""Tables of plans and their branches. Times are microseconds since the Unix epoch.

What is versioned (context, conversation, results, settings) is in the git repository of a plan, not here; a branch row says at
which commit its branch stands, and is right where the two differ.
"""

from __future__ import annotations

from sqlalchemy import BigInteger, Index, UniqueConstraint
from sqlmodel import Field, SQLModel


class PlanProjectRow(SQLModel, table=True):
    """A directory of source code that plans are about."""

    __tablename__ = "plan_project"  # pyright: ignore[reportAssignmentType] - SQLModel takes a plain name

    id: str = Field(primary_key=True, max_length=64)
    org_id: str = Field(foreign_key="org.id", max_length=64, index=True)
    name: str = Field(max_length=200)
    created_us: int = Field(sa_type=BigInteger)


class ChosenPlanRow(SQLModel, table=True):
    """The plan of a project that a user works on."""

    __tablename__ = "plan_chosen"  # pyright: ignore[reportAssignmentType] - SQLModel takes a plain name

    project_id: str = Field(primary_key=True, foreign_key="plan_project.id", max_length=64)
    user_id: str = Field(primary_key=True, foreign_key="user_account.id", max_length=64)
    plan_id: str = Field(max_length=64)


class PlanRow(SQLModel, table=True):
    """A plan.

    Attributes:
        config: JSON of its PlanConfig.
        replies: Replies of the model, over all branches, with those that were rewound.
    """

    __tablename__ = "plan"  # pyright: ignore[reportAssignmentType] - SQLModel takes a plain name
    __table_args__ = (Index("ix_plan_owner", "owner_id", "project_id", "updated_us"),)

    id: str = Field(primary_key=True, max_length=64)
    org_id: str = Field(foreign_key="org.id", max_length=64, index=True)
    owner_id: str = Field(foreign_key="user_account.id", max_length=64)
    project_id: str = Field(foreign_key="plan_project.id", max_length=64, index=True)
    name: str = Field(max_length=200)
    config: str
    replies: int = 0
    shared_us: int | None = Field(default=None, sa_type=BigInteger)
    archived_us: int | None = Field(default=None, sa_type=BigInteger)
    created_us: int = Field(sa_type=BigInteger)
    updated_us: int = Field(sa_type=BigInteger)


class BranchRow(SQLModel, table=True):
    """A branch of a plan.

    Attributes:
        head: Commit at which it stands; empty before its first entry.
        undo_head: Commit at which it stood before its last rewind.
        undo_from: Commit to which that rewind went; the rewind can be undone while the branch stands there.
    """

    __tablename__ = "plan_branch"  # pyright: ignore[reportAssignmentType] - SQLModel takes a plain name
    __table_args__ = (UniqueConstraint("plan_id", "name"),)

    id: str = Field(primary_key=True, max_length=64)
    org_id: str = Field(foreign_key="org.id", max_length=64)
    plan_id: str = Field(foreign_key="plan.id", max_length=64)
    owner_id: str = Field(foreign_key="user_account.id", max_length=64)
    parent_id: str | None = Field(default=None, max_length=64)
    name: str = Field(max_length=255)
    status: str = Field(default="draft", max_length=16)
    head: str = Field(default="", max_length=64)
    undo_head: str = Field(default="", max_length=64)
    undo_from: str = Field(default="", max_length=64)
    context_tokens: int = 0
    convo_tokens: int = 0
    created_us: int = Field(sa_type=BigInteger)
    updated_us: int = Field(sa_type=BigInteger)
