"""Firmware artifacts and ota jobs."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the change."""
    op.create_table(
        "artifact",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("project_id", sa.String(length=64), nullable=False),
        sa.Column("version", sa.String(length=64), nullable=True),
        sa.Column("board_type", sa.String(length=64), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("size", sa.Integer(), nullable=False),
        sa.Column("created_us", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["project_id"], ["project.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("artifact_listed", "artifact", ["project_id", "created_us", "id"], unique=False)
    op.create_index(op.f("ix_artifact_sha256"), "artifact", ["sha256"], unique=False)
    op.create_table(
        "ota_job",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("board_id", sa.String(length=64), nullable=False),
        sa.Column("artifact_id", sa.String(length=64), nullable=False),
        sa.Column("version", sa.String(length=64), nullable=True),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("size", sa.Integer(), nullable=False),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("percent", sa.Float(), nullable=True),
        sa.Column("error", sa.String(length=500), nullable=True),
        sa.Column("created_us", sa.BigInteger(), nullable=False),
        sa.Column("updated_us", sa.BigInteger(), nullable=False),
        sa.Column("expires_us", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["board_id"], ["board.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(op.f("ix_ota_job_artifact_id"), "ota_job", ["artifact_id"], unique=False)
    op.create_index("ota_job_listed", "ota_job", ["board_id", "created_us", "id"], unique=False)
    op.create_index(
        "ota_job_live",
        "ota_job",
        ["board_id"],
        unique=True,
        sqlite_where=sa.text("status IN ('queued', 'offered', 'downloading')"),
        postgresql_where=sa.text("status IN ('queued', 'offered', 'downloading')"),
    )


def downgrade() -> None:
    """Take the change back."""
    op.drop_index(
        "ota_job_live",
        table_name="ota_job",
        sqlite_where=sa.text("status IN ('queued', 'offered', 'downloading')"),
        postgresql_where=sa.text("status IN ('queued', 'offered', 'downloading')"),
    )
    op.drop_index("ota_job_listed", table_name="ota_job")
    op.drop_index(op.f("ix_ota_job_artifact_id"), table_name="ota_job")
    op.drop_table("ota_job")
    op.drop_index(op.f("ix_artifact_sha256"), table_name="artifact")
    op.drop_index("artifact_listed", table_name="artifact")
    op.drop_table("artifact")
