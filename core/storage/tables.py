"""Tables of storage itself."""

from __future__ import annotations

from sqlalchemy import BigInteger, LargeBinary
from sqlmodel import Field, SQLModel


class IdempotencyRow(SQLModel, table=True):
    """A request that may be sent again, with its answer once there is one."""

    __tablename__ = "idempotency"  # pyright: ignore[reportAssignmentType] - SQLModel takes a plain name

    owner: str = Field(primary_key=True, max_length=64)
    rpc: str = Field(primary_key=True, max_length=200)
    key: str = Field(primary_key=True, max_length=255)
    fingerprint: bytes = Field(sa_type=LargeBinary)
    answer: bytes | None = Field(default=None, sa_type=LargeBinary)
    status: int | None = None
    created_us: int = Field(sa_type=BigInteger, index=True)
