"""Tables of maps."""

from __future__ import annotations

from sqlalchemy import BigInteger
from sqlmodel import Field, SQLModel


class PlanMapRow(SQLModel, table=True):
    """The newest map of a directory that any plan of a project has loaded.

    Attributes:
        content: JSON of the item of context that it was.
    """

    __tablename__ = "plan_map"  # pyright: ignore[reportAssignmentType] - SQLModel takes a plain name

    project_id: str = Field(primary_key=True, foreign_key="plan_project.id", max_length=64)
    path: str = Field(primary_key=True, max_length=4096)
    content: str
    updated_us: int = Field(sa_type=BigInteger)
