"""Tables of signing in through an identity provider. Times are microseconds since the Unix epoch; secrets are hashes."""

from __future__ import annotations

from sqlalchemy import BigInteger
from sqlmodel import Field, SQLModel


class SsoAttemptRow(SQLModel, table=True):
    """A browser on its way to the identity provider and back. The verifier alone is worth nothing: the provider's code is."""

    __tablename__ = "lab_sso_attempt"  # pyright: ignore[reportAssignmentType] - SQLModel takes a plain name

    state_hash: str = Field(primary_key=True, max_length=64)
    browser_hash: str = Field(max_length=64)
    verifier: str = Field(max_length=128)
    redirect_uri: str = Field(max_length=2048)
    expires_us: int = Field(sa_type=BigInteger, index=True)


class SsoCodeRow(SQLModel, table=True):
    """A one-time code, for which the frontend gets an access token."""

    __tablename__ = "lab_sso_code"  # pyright: ignore[reportAssignmentType] - SQLModel takes a plain name

    code_hash: str = Field(primary_key=True, max_length=64)
    org_id: str = Field(foreign_key="org.id", max_length=64)
    user_id: str = Field(max_length=64, index=True)
    expires_us: int = Field(sa_type=BigInteger, index=True)
