"""Tables of events. Times are microseconds since the Unix epoch; `id` is the order in which rows were made."""

from __future__ import annotations

from sqlalchemy import BigInteger, Double, UniqueConstraint
from sqlmodel import Field, SQLModel


class EventRow(SQLModel, table=True):
    """An event: a channel under a name of the lab.

    Attributes:
        linked: Whether the channel is a pin or a metric that exists without the event.
    """

    __tablename__ = "lab_event"  # pyright: ignore[reportAssignmentType] - SQLModel takes a plain name
    __table_args__ = (
        UniqueConstraint("org_id", "name", name="lab_event_name"),
        UniqueConstraint("channel_id", name="lab_event_channel"),
    )

    id: int | None = Field(default=None, primary_key=True)
    public_id: str = Field(unique=True, max_length=36)
    org_id: str = Field(foreign_key="org.id", max_length=64)
    channel_id: int
    device_id: int
    linked: bool = False
    name: str = Field(max_length=255)
    min_value: float = Field(sa_type=Double)
    max_value: float = Field(sa_type=Double)
    unit: str = Field(max_length=255)
    type: str = Field(max_length=16)
    user_id: str | None = Field(default=None, max_length=64, index=True)
    created_us: int = Field(sa_type=BigInteger)
