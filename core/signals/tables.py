"""Tables of signals. Times are microseconds since the Unix epoch, UTC; numbers are doubles, every other value is JSON text."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Double, Index, Integer, Table, Text, UniqueConstraint, text
from sqlmodel import Field, SQLModel

_NUMBER: Double[float] = Double()
_NEVER_AGAIN = {"sqlite_autoincrement": True}
"""Keeps SQLite from giving the id of a deleted row to a new one, to which old points and cached ids would then belong."""


class DeviceRow(SQLModel, table=True):
    """A thing that has channels: a board, a telemetry source, a plugin. One with `deleted_us` is being taken away."""

    __tablename__ = "device"  # pyright: ignore[reportAssignmentType] - SQLModel takes a plain name
    __table_args__ = (UniqueConstraint("org_id", "slug"), _NEVER_AGAIN)

    id: int | None = Field(default=None, primary_key=True)
    org_id: str = Field(max_length=64)
    slug: str = Field(max_length=256)
    name: str = Field(max_length=256)
    kind: str = Field(max_length=16)
    seq: int = Field(default=0, sa_type=BigInteger, sa_column_kwargs={"server_default": text("0")})
    recording: bool = Field(default=True)
    last_seen_us: int | None = Field(default=None, sa_type=BigInteger)
    created_us: int = Field(sa_type=BigInteger)
    deleted_us: int | None = Field(default=None, sa_type=BigInteger)


class ChannelRow(SQLModel, table=True):
    """A named series of a device."""

    __tablename__ = "channel"  # pyright: ignore[reportAssignmentType] - SQLModel takes a plain name
    __table_args__ = (UniqueConstraint("device_id", "name"), _NEVER_AGAIN)

    id: int | None = Field(default=None, primary_key=True)
    device_id: int = Field(foreign_key="device.id")
    name: str = Field(max_length=256)
    kind: str = Field(max_length=16)
    unit: str | None = Field(default=None, max_length=32)
    label: str | None = Field(default=None, max_length=80)
    created_us: int = Field(sa_type=BigInteger)


class RecordingRow(SQLModel, table=True):
    """A stretch of time with a name: a session, a run, an experiment."""

    __tablename__ = "recording"  # pyright: ignore[reportAssignmentType] - SQLModel takes a plain name
    __table_args__ = (
        UniqueConstraint("org_id", "external_id"),
        Index("ix_recording_started", "org_id", "started_us"),
        Index(
            "ix_recording_experiment_name",
            "org_id",
            "name",
            unique=True,
            sqlite_where=text("kind = 'experiment'"),
            postgresql_where=text("kind = 'experiment'"),
        ),
        _NEVER_AGAIN,
    )

    id: int | None = Field(default=None, primary_key=True)
    public_id: str = Field(unique=True, max_length=36)
    org_id: str = Field(max_length=64)
    external_id: str = Field(max_length=256)
    name: str = Field(default="", max_length=256)
    device_id: int | None = Field(default=None, index=True)
    kind: str = Field(max_length=16)
    status: str = Field(max_length=16)
    started_us: int = Field(sa_type=BigInteger)
    ended_us: int | None = Field(default=None, sa_type=BigInteger)
    attributes: str = Field(default="{}", sa_type=Text)


class TagSetRow(SQLModel, table=True):
    """A set of labels, kept once however many points carry it."""

    __tablename__ = "tagset"  # pyright: ignore[reportAssignmentType] - SQLModel takes a plain name

    id: int | None = Field(default=None, primary_key=True)
    hash: str = Field(unique=True, max_length=64)
    body: str = Field(sa_type=Text)


# The rest is only ever touched by plain statements, so it has no classes. Channels of points are not foreign keys: the check
# would cost a seek for each point, and channels are only deleted after their points. `lag_us` is from a point's own time to the
# number of its arrival.
point = Table(
    "point",
    SQLModel.metadata,
    Column("channel_id", Integer, primary_key=True, autoincrement=False),
    Column("at_us", BigInteger, primary_key=True, autoincrement=False),
    Column("n", Integer, primary_key=True, autoincrement=False, server_default=text("0")),
    Column("num", _NUMBER, nullable=True),
    Column("text", Text, nullable=True),
    Column("recording_id", Integer, nullable=True),
    Column("tagset_id", Integer, nullable=True),
    Column("lag_us", BigInteger, nullable=True),
    sqlite_with_rowid=False,
    postgresql_partition_by="RANGE (at_us)",
)

latest = Table(
    "latest",
    SQLModel.metadata,
    Column("channel_id", Integer, primary_key=True, autoincrement=False),
    Column("at_us", BigInteger, nullable=False),
    Column("num", _NUMBER, nullable=True),
    Column("text", Text, nullable=True),
    Column("seq", BigInteger, nullable=False),
    Column("updated_by", Text, nullable=True),
    Column("written_us", BigInteger, nullable=False),
)

recording_span = Table(
    "recording_span",
    SQLModel.metadata,
    Column("recording_id", Integer, primary_key=True, autoincrement=False),
    Column("channel_id", Integer, primary_key=True, autoincrement=False),
    Column("start_us", BigInteger, nullable=False),
    Column("end_us", BigInteger, nullable=False),
    Index("ix_recording_span_channel", "channel_id"),
    sqlite_with_rowid=False,
)

late_span = Table(
    "late_span",
    SQLModel.metadata,
    Column("bucket_us", BigInteger, primary_key=True, autoincrement=False),
    Column("channel_id", Integer, primary_key=True, autoincrement=False),
    Column("start_us", BigInteger, nullable=False),
    Column("end_us", BigInteger, nullable=False),
    sqlite_with_rowid=False,
)

rollup = Table(
    "rollup",
    SQLModel.metadata,
    Column("channel_id", Integer, primary_key=True, autoincrement=False),
    Column("width_us", BigInteger, primary_key=True, autoincrement=False),
    Column("bucket_us", BigInteger, primary_key=True, autoincrement=False),
    Column("low", _NUMBER, nullable=False),
    Column("high", _NUMBER, nullable=False),
    sqlite_with_rowid=False,
)
