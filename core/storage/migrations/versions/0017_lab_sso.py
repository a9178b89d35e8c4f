"""Lab single sign-on."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the change."""
    op.create_table(
        "lab_sso_attempt",
        sa.Column("state_hash", sa.String(length=64), nullable=False),
        sa.Column("browser_hash", sa.String(length=64), nullable=False),
        sa.Column("verifier", sa.String(length=128), nullable=False),
        sa.Column("redirect_uri", sa.String(length=2048), nullable=False),
        sa.Column("expires_us", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("state_hash"),
    )
    op.create_index(op.f("ix_lab_sso_attempt_expires_us"), "lab_sso_attempt", ["expires_us"], unique=False)
    op.create_table(
        "lab_sso_code",
        sa.Column("code_hash", sa.String(length=64), nullable=False),
        sa.Column("org_id", sa.String(length=64), nullable=False),
        sa.Column("user_id", sa.String(length=64), nullable=False),
        sa.Column("expires_us", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["org_id"], ["org.id"]),
        sa.PrimaryKeyConstraint("code_hash"),
    )
    op.create_index(op.f("ix_lab_sso_code_expires_us"), "lab_sso_code", ["expires_us"], unique=False)
    op.create_index(op.f("ix_lab_sso_code_user_id"), "lab_sso_code", ["user_id"], unique=False)


def downgrade() -> None:
    """Take the change back."""
    op.drop_table("lab_sso_code")
    op.drop_table("lab_sso_attempt")
