"""Tables that the whole lab shares. Times are microseconds since the Unix epoch; `id` is the order in which rows were made."""

from __future__ import annotations

from sqlalchemy import BigInteger
from sqlmodel import Field, SQLModel


class LogEntryRow(SQLModel, table=True):
    """An entry of the log book."""

    __tablename__ = "lab_log"  # pyright: ignore[reportAssignmentType] - SQLModel takes a plain name

    id: int | None = Field(default=None, primary_key=True)
    public_id: str = Field(unique=True, max_length=36)
    org_id: str = Field(foreign_key="org.id", max_length=64, index=True)
    user_id: str | None = Field(default=None, max_length=64, index=True)
    content: str = Field(max_length=500)
    logging_type: str = Field(default="info", max_length=16)
    status_type: str = Field(default="unread", max_length=16)
    created_us: int = Field(sa_type=BigInteger)
