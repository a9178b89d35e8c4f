"""Tables of firmware artifacts and of their way to boards. Times are microseconds since the Unix epoch."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, ForeignKey, Index, String, text
from sqlmodel import Field, SQLModel

QUEUED = "queued"
OFFERED = "offered"
DOWNLOADING = "downloading"
APPLIED = "applied"
FAILED = "failed"
EXPIRED = "expired"

LIVE_STATES = (QUEUED, OFFERED, DOWNLOADING)
LIVE = "status IN ('queued', 'offered', 'downloading')"
"""Condition of the jobs that have not ended."""


class ArtifactRow(SQLModel, table=True):
    """A firmware artifact; its bytes are the blob of that SHA-256, which several artifacts may share."""

    __tablename__ = "artifact"  # pyright: ignore[reportAssignmentType] - SQLModel takes a plain name
    __table_args__ = (Index("artifact_listed", "project_id", "created_us", "id"),)

    id: str = Field(primary_key=True, max_length=64)
    project_id: str = Field(sa_column=Column(String(64), ForeignKey("project.id", ondelete="CASCADE"), nullable=False))
    version: str | None = Field(default=None, max_length=64)
    board_type: str = Field(max_length=64)
    sha256: str = Field(max_length=64, index=True)
    size: int
    created_us: int = Field(sa_type=BigInteger)


class OtaJobRow(SQLModel, table=True):
    """One artifact on its way to one board. It keeps what it must know of the artifact, which may be deleted.

    Attributes:
        percent: How much the board has done, as far as it has told.
        expires_us: When it ends by itself.
    """

    __tablename__ = "ota_job"  # pyright: ignore[reportAssignmentType] - SQLModel takes a plain name
    __table_args__ = (
        Index("ota_job_live", "board_id", unique=True, sqlite_where=text(LIVE), postgresql_where=text(LIVE)),
        Index("ota_job_listed", "board_id", "created_us", "id"),
    )

    id: str = Field(primary_key=True, max_length=64)
    board_id: str = Field(sa_column=Column(String(64), ForeignKey("board.id", ondelete="CASCADE"), nullable=False))
    artifact_id: str = Field(max_length=64, index=True)
    version: str | None = Field(default=None, max_length=64)
    sha256: str = Field(max_length=64)
    size: int
    status: str = Field(default=QUEUED, max_length=16)
    percent: float | None = None
    error: str | None = Field(default=None, max_length=500)
    created_us: int = Field(sa_type=BigInteger)
    updated_us: int = Field(sa_type=BigInteger)
    expires_us: int = Field(sa_type=BigInteger)
