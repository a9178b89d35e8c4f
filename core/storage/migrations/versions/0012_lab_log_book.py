"""Lab log book."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the change."""
    op.create_table(
        "lab_log",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("public_id", sa.String(length=36), nullable=False),
        sa.Column("org_id", sa.String(length=64), nullable=False),
        sa.Column("user_id", sa.String(length=64), nullable=True),
        sa.Column("content", sa.String(length=500), nullable=False),
        sa.Column("logging_type", sa.String(length=16), nullable=False),
        sa.Column("status_type", sa.String(length=16), nullable=False),
        sa.Column("created_us", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["org_id"],
            ["org.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("public_id"),
    )
    op.create_index(op.f("ix_lab_log_org_id"), "lab_log", ["org_id"], unique=False)
    op.create_index(op.f("ix_lab_log_user_id"), "lab_log", ["user_id"], unique=False)


def downgrade() -> None:
    """Take the change back."""
    op.drop_index(op.f("ix_lab_log_user_id"), table_name="lab_log")
    op.drop_index(op.f("ix_lab_log_org_id"), table_name="lab_log")
    op.drop_table("lab_log")
