"""Lab rules."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the change."""
    op.create_table(
        "lab_dashboard",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("public_id", sa.String(length=36), nullable=False),
        sa.Column("org_id", sa.String(length=64), nullable=False),
        sa.Column("user_id", sa.String(length=64), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("is_global", sa.Boolean(), nullable=False),
        sa.Column("created_us", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["org_id"],
            ["org.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("public_id"),
    )
    op.create_index(op.f("ix_lab_dashboard_org_id"), "lab_dashboard", ["org_id"], unique=False)
    op.create_index(op.f("ix_lab_dashboard_user_id"), "lab_dashboard", ["user_id"], unique=False)
    op.create_table(
        "lab_rule",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("public_id", sa.String(length=36), nullable=False),
        sa.Column("org_id", sa.String(length=64), nullable=False),
        sa.Column("user_id", sa.String(length=64), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("event_id", sa.String(length=36), nullable=False),
        sa.Column("operator", sa.String(length=16), nullable=False),
        sa.Column("threshold", sa.Double[float](), nullable=False),
        sa.Column("threshold_high", sa.Double[float](), nullable=True),
        sa.Column("action_type", sa.String(length=16), nullable=False),
        sa.Column("webhook_event_type", sa.String(length=32), nullable=True),
        sa.Column("enabled", sa.Boolean(), nullable=False),
        sa.Column("cooldown_seconds", sa.Integer(), nullable=False),
        sa.Column("last_triggered_us", sa.BigInteger(), nullable=True),
        sa.Column("created_us", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["org_id"],
            ["org.id"],
        ),
        sa.ForeignKeyConstraint(["event_id"], ["lab_event.public_id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("org_id", "name", name="lab_rule_name"),
        sa.UniqueConstraint("public_id"),
    )
    op.create_index(op.f("ix_lab_rule_event_id"), "lab_rule", ["event_id"], unique=False)
    op.create_index(op.f("ix_lab_rule_user_id"), "lab_rule", ["user_id"], unique=False)
    op.create_table(
        "lab_webhook",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("public_id", sa.String(length=36), nullable=False),
        sa.Column("org_id", sa.String(length=64), nullable=False),
        sa.Column("user_id", sa.String(length=64), nullable=False),
        sa.Column("url", sa.String(length=2048), nullable=False),
        sa.Column("url_hash", sa.String(length=64), nullable=False),
        sa.Column("secret", sa.String(length=255), nullable=True),
        sa.Column("previous_secret", sa.String(length=255), nullable=True),
        sa.Column("previous_until_us", sa.BigInteger(), nullable=True),
        sa.Column("events", sa.String(), nullable=False),
        sa.Column("enabled", sa.Boolean(), nullable=False),
        sa.Column("signature_style", sa.String(length=16), nullable=False),
        sa.Column("created_us", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["org_id"],
            ["org.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("org_id", "url_hash", name="lab_webhook_url"),
        sa.UniqueConstraint("public_id"),
    )
    op.create_index(op.f("ix_lab_webhook_user_id"), "lab_webhook", ["user_id"], unique=False)
    op.create_table(
        "lab_widget",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("public_id", sa.String(length=36), nullable=False),
        sa.Column("dashboard_id", sa.Integer(), nullable=False),
        sa.Column("widget_type", sa.String(length=32), nullable=False),
        sa.Column("title", sa.String(length=255), nullable=False),
        sa.Column("event_id", sa.String(length=36), nullable=True),
        sa.Column("x", sa.Integer(), nullable=False),
        sa.Column("y", sa.Integer(), nullable=False),
        sa.Column("w", sa.Integer(), nullable=False),
        sa.Column("h", sa.Integer(), nullable=False),
        sa.Column("config_json", sa.String(), nullable=True),
        sa.ForeignKeyConstraint(["dashboard_id"], ["lab_dashboard.id"], ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["event_id"], ["lab_event.public_id"], ondelete="SET NULL"),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("public_id"),
    )
    op.create_index(op.f("ix_lab_widget_dashboard_id"), "lab_widget", ["dashboard_id"], unique=False)
    op.create_index(op.f("ix_lab_widget_event_id"), "lab_widget", ["event_id"], unique=False)


def downgrade() -> None:
    """Take the change back."""
    op.drop_index(op.f("ix_lab_widget_event_id"), table_name="lab_widget")
    op.drop_index(op.f("ix_lab_widget_dashboard_id"), table_name="lab_widget")
    op.drop_table("lab_widget")
    op.drop_index(op.f("ix_lab_webhook_user_id"), table_name="lab_webhook")
    op.drop_table("lab_webhook")
    op.drop_index(op.f("ix_lab_rule_user_id"), table_name="lab_rule")
    op.drop_index(op.f("ix_lab_rule_event_id"), table_name="lab_rule")
    op.drop_table("lab_rule")
    op.drop_index(op.f("ix_lab_dashboard_user_id"), table_name="lab_dashboard")
    op.drop_index(op.f("ix_lab_dashboard_org_id"), table_name="lab_dashboard")
    op.drop_table("lab_dashboard")
