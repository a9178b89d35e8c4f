"""Tables of rules, webhooks and dashboards.

Times are microseconds since the Unix epoch; `id` is the order in which rows were made.
"""

from __future__ import annotations

from sqlalchemy import BigInteger, Double, UniqueConstraint
from sqlmodel import Field, SQLModel


class RuleRow(SQLModel, table=True):
    """A rule.

    Attributes:
        event_id: Public id of the event whose values it looks at.
        last_triggered_us: When it last fired; whoever moves it forward is the one that fires.
    """

    __tablename__ = "lab_rule"  # pyright: ignore[reportAssignmentType] - SQLModel takes a plain name
    __table_args__ = (UniqueConstraint("org_id", "name", name="lab_rule_name"),)

    id: int | None = Field(default=None, primary_key=True)
    public_id: str = Field(unique=True, max_length=36)
    org_id: str = Field(foreign_key="org.id", max_length=64)
    user_id: str = Field(max_length=64, index=True)
    name: str = Field(max_length=255)
    event_id: str = Field(foreign_key="lab_event.public_id", ondelete="CASCADE", max_length=36, index=True)
    operator: str = Field(max_length=16)
    threshold: float = Field(sa_type=Double)
    threshold_high: float | None = Field(default=None, sa_type=Double)
    action_type: str = Field(max_length=16)
    webhook_event_type: str | None = Field(default=None, max_length=32)
    enabled: bool = True
    cooldown_seconds: int
    last_triggered_us: int | None = Field(default=None, sa_type=BigInteger)
    created_us: int = Field(sa_type=BigInteger)


class EffectRow(SQLModel, table=True):
    """Something that is to follow from a stored value. It comes with the value and goes with what followed.

    Attributes:
        kind: `rule` or `reading`.
        subject: Public id of the rule that is met, or of the event that was read. It may be gone.
        at_us: When it happened.
    """

    __tablename__ = "lab_effect"  # pyright: ignore[reportAssignmentType] - SQLModel takes a plain name

    id: str = Field(primary_key=True, max_length=32)
    org_id: str = Field(foreign_key="org.id", max_length=64)
    kind: str = Field(max_length=16)
    subject: str = Field(max_length=36)
    value: float = Field(sa_type=Double)
    at_us: int = Field(sa_type=BigInteger)
    created_us: int = Field(sa_type=BigInteger, index=True)


class WebhookRow(SQLModel, table=True):
    """A webhook. Its deliveries are side effects in the outbox.

    Attributes:
        url_hash: SHA-256 of the address, in hex: one webhook of an organisation has it. The address itself may be too long
            for an index.
        secret: Signs; sealed (see `webhook_secrets`), never shown and never logged.
        previous_secret: Signs beside it until `previous_until_us`.
        events: JSON array of the kinds that it is told.
    """

    __tablename__ = "lab_webhook"  # pyright: ignore[reportAssignmentType] - SQLModel takes a plain name
    __table_args__ = (UniqueConstraint("org_id", "url_hash", name="lab_webhook_url"),)

    id: int | None = Field(default=None, primary_key=True)
    public_id: str = Field(unique=True, max_length=36)
    org_id: str = Field(foreign_key="org.id", max_length=64)
    user_id: str = Field(max_length=64, index=True)
    url: str = Field(max_length=2048)
    url_hash: str = Field(max_length=64)
    secret: str | None = Field(default=None, repr=False)
    previous_secret: str | None = Field(default=None, repr=False)
    previous_until_us: int | None = Field(default=None, sa_type=BigInteger)
    events: str
    enabled: bool = True
    signature_style: str = Field(default="timestamped", max_length=16)
    created_us: int = Field(sa_type=BigInteger)


class DashboardRow(SQLModel, table=True):
    """A dashboard."""

    __tablename__ = "lab_dashboard"  # pyright: ignore[reportAssignmentType] - SQLModel takes a plain name

    id: int | None = Field(default=None, primary_key=True)
    public_id: str = Field(unique=True, max_length=36)
    org_id: str = Field(foreign_key="org.id", max_length=64, index=True)
    user_id: str = Field(max_length=64, index=True)
    name: str = Field(max_length=255)
    is_global: bool = False
    created_us: int = Field(sa_type=BigInteger)


class WidgetRow(SQLModel, table=True):
    """A widget.

    Attributes:
        event_id: Public id of the event that it shows.
    """

    __tablename__ = "lab_widget"  # pyright: ignore[reportAssignmentType] - SQLModel takes a plain name

    id: int | None = Field(default=None, primary_key=True)
    public_id: str = Field(unique=True, max_length=36)
    dashboard_id: int = Field(foreign_key="lab_dashboard.id", ondelete="CASCADE", index=True)
    widget_type: str = Field(max_length=32)
    title: str = Field(max_length=255)
    event_id: str | None = Field(
        default=None, foreign_key="lab_event.public_id", ondelete="SET NULL", max_length=36, index=True
    )
    x: int = 0
    y: int = 0
    w: int = 4
    h: int = 3
    config_json: str | None = None
