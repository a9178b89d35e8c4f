"""Tables of configurations, default settings and what organisations bring along. Times are microseconds since 1970."""

from __future__ import annotations

from sqlalchemy import BigInteger, ForeignKey, UniqueConstraint
from sqlmodel import Field, SQLModel


class UserPlanConfigRow(SQLModel, table=True):
    """The configuration that a user's new plans take over; JSON of its PlanConfig."""

    __tablename__ = "plan_user_config"  # pyright: ignore[reportAssignmentType] - SQLModel takes a plain name

    user_id: str = Field(primary_key=True, max_length=64, sa_column_args=[ForeignKey("user_account.id", ondelete="CASCADE")])
    config: str


class OrgUserConfigRow(SQLModel, table=True):
    """What a user chose for an organisation; JSON of its OrgUserConfig."""

    __tablename__ = "plan_org_user_config"  # pyright: ignore[reportAssignmentType] - SQLModel takes a plain name

    org_id: str = Field(primary_key=True, max_length=64, sa_column_args=[ForeignKey("org.id", ondelete="CASCADE")])
    user_id: str = Field(primary_key=True, max_length=64, sa_column_args=[ForeignKey("user_account.id", ondelete="CASCADE")])
    config: str


class OrgSettingsRow(SQLModel, table=True):
    """The settings that an organisation's new plans begin with.

    Attributes:
        model_pack_name: Name of a pack; empty with a whole one.
        model_pack: JSON of a whole pack; empty with a name.
    """

    __tablename__ = "plan_org_settings"  # pyright: ignore[reportAssignmentType] - SQLModel takes a plain name

    org_id: str = Field(primary_key=True, max_length=64, sa_column_args=[ForeignKey("org.id", ondelete="CASCADE")])
    model_pack_name: str = Field(max_length=200)
    model_pack: str
    updated_us: int = Field(sa_type=BigInteger)


class CustomRow(SQLModel, table=True):
    """A model, provider or pack that an organisation brings along.

    Attributes:
        kind: `model`, `provider` or `pack`.
        name: What it is called by; unlike any other of its kind in the organisation.
        body: JSON of its message, without what the server sets.
    """

    __tablename__ = "plan_custom"  # pyright: ignore[reportAssignmentType] - SQLModel takes a plain name
    __table_args__ = (UniqueConstraint("org_id", "kind", "name"),)

    id: str = Field(primary_key=True, max_length=64)
    org_id: str = Field(max_length=64, sa_column_args=[ForeignKey("org.id", ondelete="CASCADE")])
    kind: str = Field(max_length=16)
    name: str = Field(max_length=200)
    body: str
    created_us: int = Field(sa_type=BigInteger)
    updated_us: int = Field(sa_type=BigInteger)
