"""Maps of source files, kept for the next plan of a project."""

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
        "plan_map",
        sa.Column("project_id", sa.String(length=64), nullable=False),
        sa.Column("path", sa.String(length=4096), nullable=False),
        sa.Column("content", sa.String(), nullable=False),
        sa.Column("updated_us", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["project_id"], ["plan_project.id"]),
        sa.PrimaryKeyConstraint("project_id", "path"),
    )


def downgrade() -> None:
    """Take the change back."""
    op.drop_table("plan_map")
