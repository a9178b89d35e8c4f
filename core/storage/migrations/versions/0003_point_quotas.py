"""Point quotas."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the change."""
    op.create_table(
        "point_quota",
        sa.Column("credential_id", sa.String(length=64), nullable=False),
        sa.Column("points_per_month", sa.BigInteger(), nullable=False),
        sa.Column("month", sa.Integer(), nullable=False),
        sa.Column("points", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["credential_id"],
            ["credential.id"],
        ),
        sa.PrimaryKeyConstraint("credential_id"),
    )
    op.create_index(op.f("ix_credential_revoked_us"), "credential", ["revoked_us"], unique=False)


def downgrade() -> None:
    """Take the change back."""
    op.drop_index(op.f("ix_credential_revoked_us"), table_name="credential")
    op.drop_table("point_quota")
