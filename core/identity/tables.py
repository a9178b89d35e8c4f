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
    """A user's place in an organisation; the first one is where the user acts by default.

    Attributes:
        role: viewer, operator or admin.
        owner: Whether an administrator owns the organisation, beside others perhaps.
        guest: Whether the account is the person's own, who came by an invite or a mail domain or made the organisation: it may
            end their membership, but neither change nor delete their account.
    """

    __tablename__ = "membership"  # pyright: ignore[reportAssignmentType] - SQLModel takes a plain name
    __table_args__ = (UniqueConstraint("org_id", "user_id"),)

    id: str = Field(primary_key=True, max_length=64)
    org_id: str = Field(foreign_key="org.id", max_length=64)
    user_id: str = Field(foreign_key="user_account.id", max_length=64, index=True)
    role: str = Field(max_length=16)
    owner: bool = Field(default=False, sa_column_kwargs={"server_default": false()})
    guest: bool = Field(default=False, sa_column_kwargs={"server_default": false()})
    created_us: int = Field(sa_type=BigInteger)


class InviteRow(SQLModel, table=True):
    """A mail address that an organisation invites to a place; `role` and `owner` are those of the membership to come."""

    __tablename__ = "invite"  # pyright: ignore[reportAssignmentType] - SQLModel takes a plain name
    __table_args__ = (Index("ix_invite_email", "email", "org_id"), Index("ix_invite_org", "org_id", "created_us"))

    id: str = Field(primary_key=True, max_length=64)
    org_id: str = Field(foreign_key="org.id", max_length=64)
    email: str = Field(max_length=254)
    name: str = Field(default="", max_length=200)
    role: str = Field(max_length=16)
    owner: bool = False
    inviter_id: str = Field(foreign_key="user_account.id", max_length=64)
    invitee_id: str | None = Field(default=None, foreign_key="user_account.id", max_length=64)
    created_us: int = Field(sa_type=BigInteger)
    accepted_us: int | None = Field(default=None, sa_type=BigInteger)


class OrgDomainRow(SQLModel, table=True):
    """A mail domain whose users become members of an organisation by themselves."""

    __tablename__ = "org_domain"  # pyright: ignore[reportAssignmentType] - SQLModel takes a plain name

    domain: str = Field(primary_key=True, max_length=253)
    org_id: str = Field(foreign_key="org.id", max_length=64, unique=True)
    created_us: int = Field(sa_type=BigInteger)


class ProofRow(SQLModel, table=True):
    """A short secret by which somebody signs in: a pin that was sent to a mail address, or a code from another client.

    Attributes:
        hash: Of the secret, with a key that the database does not hold: the secret is too short for a plain hash.
        email: Address that a pin was sent to; empty for a code.
        user_id: User whom a code signs in; None for a pin.
        org_id: Organisation that a code is for; None for a pin.
        failures: Wrong pins that were tried for the address while this one counted.
    """

    __tablename__ = "proof"  # pyright: ignore[reportAssignmentType] - SQLModel takes a plain name
    __table_args__ = (Index("ix_proof_email", "email", "expires_us"), Index("ix_proof_expires", "expires_us"))

    id: str = Field(primary_key=True, max_length=64)
    hash: str = Field(max_length=64, index=True)
    email: str = Field(default="", max_length=254)
    user_id: str | None = Field(default=None, foreign_key="user_account.id", max_length=64)
    org_id: str | None = Field(default=None, foreign_key="org.id", max_length=64)
    failures: int = 0
    created_us: int = Field(sa_type=BigInteger)
    expires_us: int = Field(sa_type=BigInteger)
    used_us: int | None = Field(default=None, sa_type=BigInteger)


class CredentialRow(SQLModel, table=True):
    """A credential of any kind. The secret is random and long, so a plain SHA-256 of it is enough at rest.

    Attributes:
        org_id: Organisation for which it counts; None where each call says for which of the user's it is.
    """

    __tablename__ = "credential"  # pyright: ignore[reportAssignmentType] - SQLModel takes a plain name

    id: str = Field(primary_key=True, max_length=64)
    kind: int
    hash: str = Field(unique=True, max_length=64)
    prefix: str = Field(max_length=16)
    name: str = Field(default="", max_length=200)
    org_id: str | None = Field(default=None, foreign_key="org.id", max_length=64, index=True)
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
