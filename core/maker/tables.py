"""Tables of the maker area. Times are microseconds since the Unix epoch."""

from __future__ import annotations

from sqlalchemy import BigInteger
from sqlmodel import Field, SQLModel


class BoardRow(SQLModel, table=True):
    """A board. Its pins are channels of the device that it points to, and its id is that device's slug."""

    __tablename__ = "board"  # pyright: ignore[reportAssignmentType] - SQLModel takes a plain name

    id: str = Field(primary_key=True, max_length=64)
    org_id: str = Field(foreign_key="org.id", max_length=64, index=True)
    owner_id: str = Field(foreign_key="user_account.id", max_length=64, index=True)
    device_id: int
    name: str = Field(max_length=80)
    board_type: str = Field(default="esp32", max_length=64)
    connection_type: str = Field(default="wifi", max_length=16)
    firmware_version: str | None = Field(default=None, max_length=64)
    token_prefix: str = Field(max_length=16)
    created_us: int = Field(sa_type=BigInteger)
    updated_us: int = Field(sa_type=BigInteger)
