"""Lab events and experiments."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0022"
down_revision = "0021"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the change."""
    op.create_table(
        "lab_event",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("public_id", sa.String(length=36), nullable=False),
        sa.Column("org_id", sa.String(length=64), nullable=False),
        sa.Column("channel_id", sa.Integer(), nullable=False),
        sa.Column("device_id", sa.Integer(), nullable=False),
        sa.Column("linked", sa.Boolean(), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("min_value", sa.Double[float](), nullable=False),
        sa.Column("max_value", sa.Double[float](), nullable=False),
        sa.Column("unit", sa.String(length=255), nullable=False),
        sa.Column("type", sa.String(length=16), nullable=False),
        sa.Column("user_id", sa.String(length=64), nullable=True),
        sa.Column("created_us", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["org_id"],
            ["org.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("public_id"),
        sa.UniqueConstraint("org_id", "name", name="lab_event_name"),
        sa.UniqueConstraint("channel_id", name="lab_event_channel"),
    )
    op.create_index(op.f("ix_lab_event_user_id"), "lab_event", ["user_id"], unique=False)
    op.create_index(
        "ix_recording_experiment_name",
        "recording",
        ["org_id", "name"],
        unique=True,
        sqlite_where=sa.text("kind = 'experiment'"),
        postgresql_where=sa.text("kind = 'experiment'"),
    )


def downgrade() -> None:
    """Take the change back."""
    op.drop_index("ix_recording_experiment_name", table_name="recording")
    op.drop_index(op.f("ix_lab_event_user_id"), table_name="lab_event")
    op.drop_table("lab_event")
