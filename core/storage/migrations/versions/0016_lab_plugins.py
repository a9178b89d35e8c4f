"""Lab plugins, packages and updates."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the change."""
    op.create_table(
        "lab_package",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("public_id", sa.String(length=36), nullable=False),
        sa.Column("package_name", sa.String(length=255), nullable=False),
        sa.Column("normal_name", sa.String(length=255), nullable=False),
        sa.Column("version", sa.String(length=100), nullable=False),
        sa.Column("file_name", sa.String(length=255), nullable=False),
        sa.Column("file_size", sa.BigInteger(), nullable=False),
        sa.Column("created_us", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("file_name"),
        sa.UniqueConstraint("normal_name"),
        sa.UniqueConstraint("public_id"),
    )
    op.create_table(
        "lab_package_plugin",
        sa.Column("plugin_id", sa.String(length=100), nullable=False),
        sa.Column("package_id", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["package_id"], ["lab_package.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("plugin_id"),
    )
    op.create_index(op.f("ix_lab_package_plugin_package_id"), "lab_package_plugin", ["package_id"], unique=False)
    op.create_table(
        "lab_plugin",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("public_id", sa.String(length=36), nullable=False),
        sa.Column("org_id", sa.String(length=64), nullable=False),
        sa.Column("user_id", sa.String(length=64), nullable=True),
        sa.Column("plugin_id", sa.String(length=100), nullable=False),
        sa.Column("instance_name", sa.String(length=255), nullable=False),
        sa.Column("demo_mode", sa.Boolean(), nullable=False),
        sa.Column("enabled", sa.Boolean(), nullable=False),
        sa.Column("config_json", sa.String(), nullable=True),
        sa.Column("created_us", sa.BigInteger(), nullable=False),
        sa.Column("updated_us", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(["org_id"], ["org.id"]),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("org_id", "instance_name", name="lab_plugin_name"),
        sa.UniqueConstraint("public_id"),
    )
    op.create_index(op.f("ix_lab_plugin_user_id"), "lab_plugin", ["user_id"], unique=False)
    op.create_table(
        "lab_plugin_channel",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("public_id", sa.String(length=36), nullable=False),
        sa.Column("instance_id", sa.Integer(), nullable=False),
        sa.Column("channel_id", sa.String(length=100), nullable=False),
        sa.Column("channel_name", sa.String(length=255), nullable=False),
        sa.Column("direction", sa.String(length=16), nullable=False),
        sa.Column("unit", sa.String(length=50), nullable=False),
        sa.Column("event_id", sa.String(length=36), nullable=True),
        sa.Column("created_us", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["instance_id"], ["lab_plugin.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("instance_id", "channel_id", name="lab_plugin_channel_once"),
        sa.UniqueConstraint("public_id"),
    )
    op.create_index(op.f("ix_lab_plugin_channel_event_id"), "lab_plugin_channel", ["event_id"], unique=False)
    op.create_table(
        "lab_update",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("public_id", sa.String(length=36), nullable=False),
        sa.Column("org_id", sa.String(length=64), nullable=False),
        sa.Column("user_id", sa.String(length=64), nullable=True),
        sa.Column("version", sa.String(length=50), nullable=False),
        sa.Column("changelog", sa.String(), nullable=True),
        sa.Column("file_hash", sa.String(length=64), nullable=True),
        sa.Column("file_size", sa.BigInteger(), nullable=True),
        sa.Column("has_file", sa.Boolean(), nullable=False),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("error_message", sa.String(length=500), nullable=True),
        sa.Column("created_us", sa.BigInteger(), nullable=False),
        sa.Column("started_us", sa.BigInteger(), nullable=True),
        sa.Column("completed_us", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(["org_id"], ["org.id"]),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("org_id", "version", name="lab_update_version"),
        sa.UniqueConstraint("public_id"),
    )
    op.create_index(op.f("ix_lab_update_user_id"), "lab_update", ["user_id"], unique=False)


def downgrade() -> None:
    """Take the change back."""
    op.drop_index(op.f("ix_lab_update_user_id"), table_name="lab_update")
    op.drop_table("lab_update")
    op.drop_index(op.f("ix_lab_plugin_channel_event_id"), table_name="lab_plugin_channel")
    op.drop_table("lab_plugin_channel")
    op.drop_index(op.f("ix_lab_plugin_user_id"), table_name="lab_plugin")
    op.drop_table("lab_plugin")
    op.drop_index(op.f("ix_lab_package_plugin_package_id"), table_name="lab_package_plugin")
    op.drop_table("lab_package_plugin")
    op.drop_table("lab_package")
