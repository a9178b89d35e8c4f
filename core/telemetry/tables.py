"""Tables of the telemetry area. Times are microseconds since the Unix epoch; secrets are here as hashes only."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Text
from sqlmodel import Field, SQLModel


class SourceRow(SQLModel, table=True):
    """What is known about a source besides its device; a source that never said anything about itself has no row."""

    __tablename__ = "source"  # pyright: ignore[reportAssignmentType] - SQLModel takes a plain name

    device_id: int = Field(primary_key=True)
    org_id: str = Field(foreign_key="org.id", max_length=64, index=True)
    source_type: str = Field(default="device", max_length=64)
    device_type: str | None = Field(default=None, max_length=64)
    description: str | None = Field(default=None, max_length=2000)
    metadata_json: str | None = Field(default=None, sa_column=Column("metadata", Text))
    config_json: str | None = Field(default=None, sa_column=Column("config", Text))


class PairingRow(SQLModel, table=True):
    """A pairing code. Codes are short, so that they work once and for minutes only, and guesses are limited."""

    __tablename__ = "pairing"  # pyright: ignore[reportAssignmentType] - SQLModel takes a plain name

    id: str = Field(primary_key=True, max_length=64)
    code_hash: str = Field(unique=True, max_length=64)
    org_id: str = Field(foreign_key="org.id", max_length=64, index=True)
    source_id: str = Field(max_length=256)
    name: str = Field(default="", max_length=200)
    created_us: int = Field(sa_type=BigInteger)
    expires_us: int = Field(sa_type=BigInteger)
    completed_us: int | None = Field(default=None, sa_type=BigInteger)


class DeviceGrantRow(SQLModel, table=True):
    """A browser grant: a device shows a code to its user, who allows it a key in a browser."""

    __tablename__ = "device_grant"  # pyright: ignore[reportAssignmentType] - SQLModel takes a plain name

    id: str = Field(primary_key=True, max_length=64)
    device_code_hash: str = Field(unique=True, max_length=64)
    user_code: str = Field(unique=True, max_length=16)
    org_id: str | None = Field(default=None, max_length=64)
    user_id: str | None = Field(default=None, max_length=64)
    state: str = Field(default="pending", max_length=16)
    created_us: int = Field(sa_type=BigInteger)
    expires_us: int = Field(sa_type=BigInteger)


class CommandAuditRow(SQLModel, table=True):
    """A command that somebody sent to a device, kept so that it can be seen who did what."""

    __tablename__ = "command_audit"  # pyright: ignore[reportAssignmentType] - SQLModel takes a plain name

    id: str = Field(primary_key=True, max_length=64)
    org_id: str = Field(foreign_key="org.id", max_length=64, index=True)
    source_id: str = Field(max_length=256)
    credential_id: str = Field(max_length=64)
    user_id: str | None = Field(default=None, max_length=64)
    command: str = Field(max_length=256)
    outcome: str = Field(max_length=64)
    at_us: int = Field(sa_type=BigInteger)


class PointQuotaRow(SQLModel, table=True):
    """How many points a key may write in a calendar month, UTC, and how many it has written in the newest one it wrote in."""

    __tablename__ = "point_quota"  # pyright: ignore[reportAssignmentType] - SQLModel takes a plain name

    credential_id: str = Field(foreign_key="credential.id", primary_key=True, max_length=64)
    points_per_month: int = Field(sa_type=BigInteger)
    month: int = Field(default=0)
    points: int = Field(default=0, sa_type=BigInteger)
