"""Agent keys and calls."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the change."""
    op.create_table(
        "tool_call",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("org_id", sa.String(length=64), nullable=False),
        sa.Column("user_id", sa.String(length=64), nullable=True),
        sa.Column("credential_id", sa.String(length=64), nullable=False),
        sa.Column("tool", sa.String(length=128), nullable=False),
        sa.Column("outcome", sa.String(length=32), nullable=False),
        sa.Column("duration_us", sa.BigInteger(), nullable=False),
        sa.Column("at_us", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ix_tool_call_at", "tool_call", ["at_us"], unique=False)
    op.create_index("ix_tool_call_user", "tool_call", ["user_id", "at_us", "id"], unique=False)
    op.add_column("credential", sa.Column("read_only", sa.Boolean(), server_default=sa.false(), nullable=False))
    op.add_column("credential", sa.Column("tools", sa.String(), nullable=True))


def downgrade() -> None:
    """Take the change back."""
    op.drop_column("credential", "tools")
    op.drop_column("credential", "read_only")
    op.drop_index("ix_tool_call_user", table_name="tool_call")
    op.drop_index("ix_tool_call_at", table_name="tool_call")
    op.drop_table("tool_call")
