"""From when to when a recording has points, for each channel."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

# Whole minutes, and one more on either side: division rounds towards zero.
FILL = """
INSERT INTO recording_span (recording_id, channel_id, start_us, end_us)
SELECT recording_id, channel_id, (min(at_us) / 60000000 - 1) * 60000000, (max(at_us) / 60000000 + 1) * 60000000
FROM point WHERE recording_id IS NOT NULL GROUP BY recording_id, channel_id
"""


def upgrade() -> None:
    """Make the change."""
    op.create_table(
        "recording_span",
        sa.Column("recording_id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("channel_id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("start_us", sa.BigInteger(), nullable=False),
        sa.Column("end_us", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("recording_id", "channel_id"),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_recording_span_channel", "recording_span", ["channel_id"], unique=False)
    op.execute(FILL)


def downgrade() -> None:
    """Take the change back."""
    op.drop_index("ix_recording_span_channel", table_name="recording_span")
    op.drop_table("recording_span")
