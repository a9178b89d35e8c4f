"""Tables of identity. Times are microseconds since the Unix epoch; secrets are here as hashes only."""

from __future__ import annotations

from sqlalchemy import BigInteger, Index, UniqueConstraint, false
from sqlmodel import Field, SQLModel


class OrgRow(SQLModel, table=True):
    """An organisation: the boundary of every row that somebody may see."""

    __tablename__ = "org"  # pyright: ignore[reportAssignmentType] - SQLModel takes a plain name

    id: str = Field(primary_key=True, max_length=64)
    name: str = Field(max_length=200)
    created_us: int = Field(sa_type=BigInteger)


class UserRow(SQLModel, table=True):
    """A person. One with `deleted_us` is gone: the row stays for what refers to it, under a name that nobody can have."""

    __tablename__ = "user_account"  # pyright: ignore[reportAssignmentType] - SQLModel takes a plain name
    __table_args__ = (Index("ix_user_account_sso", "sso_provider", "sso_subject", unique=True),)

    id: str = Field(primary_key=True, max_length=64)
    email: str = Field(unique=True, max_length=254)
    username: str = Field(unique=True, max_length=64)
    display_name: str = Field(max_length=80)
    bio: str = Field(default="", max_length=500)
    avatar_url: str | None = Field(default=None, max_length=2048)
    website_url: str | None = Field(default=None, max_length=2048)
    role: str = Field(default="user", max_length=16)
    email_verified: bool = False
    password_hash: str = Field(max_length=200)
    sso_provider: str | None = Field(default=None, max_length=100)
    sso_subject: str | None = Field(default=None, max_length=255)
    created_us: int = Field(sa_type=BigInteger)
    deleted_us: int | None = Field(default=None, sa_type=BigInteger)


class MembershipRow(SQLModel, table=True):
    """A user's place in an organisation; the first one is where the user acts by default."""

    __tablename__ = "membership"  # pyright: ignore[reportAssignmentType] - SQLModel takes a plain name
    __table_args__ = (UniqueConstraint("org_id", "user_id"),)

    id: str = Field(primary_key=True, max_length=64)
    org_id: str = Field(foreign_key="org.id", max_length=64)
    user_id: str = Field(foreign_key="user_account.id", max_length=64, index=True)
    role: str = Field(max_length=16)
    created_us: int = Field(sa_type=BigInteger)


class CredentialRow(SQLModel, table=True):
    """A credential of any kind. The secret is 256 random bits, so a plain SHA-256 of it is enough at rest."""

    __tablename__ = "credential"  # pyright: ignore[reportAssignmentType] - SQLModel takes a plain name

    id: str = Field(primary_key=True, max_length=64)
    kind: int
    hash: str = Field(unique=True, max_length=64)
    prefix: str = Field(max_length=16)
    name: str = Field(default="", max_length=200)
    org_id: str = Field(foreign_key="org.id", max_length=64, index=True)
    user_id: str | None = Field(default=None, foreign_key="user_account.id", max_length=64, index=True)
    scopes: str = Field(default="*", max_length=1000)
    bound_to: str | None = Field(default=None, max_length=256, index=True)
    board_ids: str | None = None
    read_only: bool = Field(default=False, sa_column_kwargs={"server_default": false()})
    tools: str | None = None
    created_us: int = Field(sa_type=BigInteger)
    expires_us: int | None = Field(default=None, sa_type=BigInteger)
    last_used_us: int | None = Field(default=None, sa_type=BigInteger)
    revoked_us: int | None = Field(default=None, sa_type=BigInteger, index=True)


class ToolCallRow(SQLModel, table=True):
    """A call of a tool by an agent, and what it came to."""

    __tablename__ = "tool_call"  # pyright: ignore[reportAssignmentType] - SQLModel takes a plain name
    __table_args__ = (Index("ix_tool_call_user", "user_id", "at_us", "id"), Index("ix_tool_call_at", "at_us"))

    id: str = Field(primary_key=True, max_length=64)
    org_id: str = Field(max_length=64)
    user_id: str | None = Field(default=None, max_length=64)
    credential_id: str = Field(max_length=64)
    tool: str = Field(max_length=128)
    outcome: str = Field(max_length=32)
    duration_us: int = Field(sa_type=BigInteger)
    at_us: int = Field(sa_type=BigInteger)
