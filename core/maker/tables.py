"""Tables of the maker area. Times are microseconds since the Unix epoch."""

from __future__ import annotations

from sqlalchemy import BigInteger, Index, UniqueConstraint, text
from sqlmodel import Field, SQLModel

UNREAD = "read_us IS NULL"
"""Condition of unread notifications, as the index spells it; a query must spell it so too."""


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


class ProjectRow(SQLModel, table=True):
    """A project.

    Attributes:
        org_id: Personal organisation of its owner.
        slug: Name for addresses, unique among the projects of the owner.
        tags: JSON list of lower-case words.
        likes: Number of its likes, kept so that the feed can be ordered by it.
        published_us: When it first became public; never changes afterwards.
    """

    __tablename__ = "project"  # pyright: ignore[reportAssignmentType] - SQLModel takes a plain name
    __table_args__ = (
        UniqueConstraint("owner_id", "slug", name="project_slug"),
        Index("project_changed", "owner_id", "updated_us"),
        Index("project_feed", "visibility", "published_us"),
    )

    id: str = Field(primary_key=True, max_length=64)
    org_id: str = Field(foreign_key="org.id", max_length=64)
    owner_id: str = Field(foreign_key="user_account.id", max_length=64)
    name: str = Field(max_length=120)
    slug: str = Field(max_length=140)
    description: str = Field(default="", max_length=5000)
    board_type: str = Field(default="esp32", max_length=64)
    theme: str = Field(default="light", max_length=16)
    visibility: str = Field(default="private", max_length=16)
    tags: str = "[]"
    cover_url: str | None = Field(default=None, max_length=2048)
    likes: int = 0
    published_us: int | None = Field(default=None, sa_type=BigInteger)
    created_us: int = Field(sa_type=BigInteger)
    updated_us: int = Field(sa_type=BigInteger)


class AttachmentRow(SQLModel, table=True):
    """A board that is attached to a project."""

    __tablename__ = "project_board"  # pyright: ignore[reportAssignmentType] - SQLModel takes a plain name

    project_id: str = Field(primary_key=True, foreign_key="project.id", max_length=64)
    board_id: str = Field(primary_key=True, foreign_key="board.id", max_length=64, index=True)
    attached_us: int = Field(sa_type=BigInteger)


class CollaboratorRow(SQLModel, table=True):
    """Somebody's place in a project besides its owner.

    Attributes:
        user_id: The user; None while an address without an account is only invited.
        email: The invited address, until somebody registers with it.
        role: editor or viewer.
    """

    __tablename__ = "collaborator"  # pyright: ignore[reportAssignmentType] - SQLModel takes a plain name
    __table_args__ = (
        UniqueConstraint("project_id", "user_id", name="collaborator_user"),
        UniqueConstraint("project_id", "email", name="collaborator_email"),
    )

    id: str = Field(primary_key=True, max_length=64)
    project_id: str = Field(foreign_key="project.id", max_length=64)
    user_id: str | None = Field(default=None, foreign_key="user_account.id", max_length=64, index=True)
    email: str | None = Field(default=None, max_length=254, index=True)
    role: str = Field(max_length=16)
    invited_us: int = Field(sa_type=BigInteger)
    joined_us: int | None = Field(default=None, sa_type=BigInteger)


class LikeRow(SQLModel, table=True):
    """A user's like of a project."""

    __tablename__ = "project_like"  # pyright: ignore[reportAssignmentType] - SQLModel takes a plain name

    project_id: str = Field(primary_key=True, foreign_key="project.id", max_length=64)
    user_id: str = Field(primary_key=True, foreign_key="user_account.id", max_length=64, index=True)
    created_us: int = Field(sa_type=BigInteger)


class NotificationRow(SQLModel, table=True):
    """Something that happened to a user. Its id follows from the side effect that made it, so it is made once.

    Attributes:
        data: JSON object.
    """

    __tablename__ = "notification"  # pyright: ignore[reportAssignmentType] - SQLModel takes a plain name
    __table_args__ = (
        Index("notification_listed", "user_id", "created_us", "id"),
        Index("notification_unread", "user_id", sqlite_where=text(UNREAD), postgresql_where=text(UNREAD)),
    )

    id: str = Field(primary_key=True, max_length=64)
    user_id: str = Field(foreign_key="user_account.id", max_length=64)
    kind: str = Field(max_length=32)
    title: str = Field(max_length=160)
    body: str = Field(default="", max_length=2000)
    link: str | None = Field(default=None, max_length=500)
    data: str = "{}"
    read_us: int | None = Field(default=None, sa_type=BigInteger)
    created_us: int = Field(sa_type=BigInteger)


class ReferralRow(SQLModel, table=True):
    """A user's referral code."""

    __tablename__ = "referral"  # pyright: ignore[reportAssignmentType] - SQLModel takes a plain name

    user_id: str = Field(primary_key=True, foreign_key="user_account.id", max_length=64)
    code: str = Field(unique=True, max_length=8)
    created_us: int = Field(sa_type=BigInteger)


class ReferralUseRow(SQLModel, table=True):
    """A registration with somebody's code; a user registers once, so it counts once."""

    __tablename__ = "referral_use"  # pyright: ignore[reportAssignmentType] - SQLModel takes a plain name

    user_id: str = Field(primary_key=True, foreign_key="user_account.id", max_length=64)
    code: str = Field(foreign_key="referral.code", max_length=8, index=True)
    used_us: int = Field(sa_type=BigInteger)
