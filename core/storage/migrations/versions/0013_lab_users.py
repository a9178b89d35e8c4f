"""Lab users."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the change."""
    op.add_column("user_account", sa.Column("sso_provider", sa.String(length=100), nullable=True))
    op.add_column("user_account", sa.Column("sso_subject", sa.String(length=255), nullable=True))
    op.add_column("user_account", sa.Column("deleted_us", sa.BigInteger(), nullable=True))
    op.create_index("ix_user_account_sso", "user_account", ["sso_provider", "sso_subject"], unique=True)


def downgrade() -> None:
    """Take the change back."""
    op.drop_index("ix_user_account_sso", table_name="user_account")
    op.drop_column("user_account", "deleted_us")
    op.drop_column("user_account", "sso_subject")
    op.drop_column("user_account", "sso_provider")
