"""Lab webhook secrets.

Secrets are sealed with a key that no migration has. Here they are marked, and the server that starts next seals what is marked.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0025"
down_revision = "0024"
branch_labels = None
depends_on = None

_COLUMNS = ("secret", "previous_secret")


def upgrade() -> None:
    """Make the change."""
    with op.batch_alter_table("lab_webhook") as table:
        for name in _COLUMNS:
            table.alter_column(name, existing_type=sa.String(length=255), type_=sa.String(), existing_nullable=True)
    for name in _COLUMNS:
        op.execute(f"UPDATE lab_webhook SET {name} = 'plain:' || {name} WHERE {name} IS NOT NULL")  # noqa: S608 - constants


def downgrade() -> None:
    """Take the change back; secrets that are sealed must be set anew."""
    for name in _COLUMNS:
        plain = f"CASE WHEN {name} LIKE 'plain:%' THEN substr({name}, 7) END"
        op.execute(f"UPDATE lab_webhook SET {name} = {plain}")  # noqa: S608 - constants
    with op.batch_alter_table("lab_webhook") as table:
        for name in _COLUMNS:
            table.alter_column(name, existing_type=sa.String(), type_=sa.String(length=255), existing_nullable=True)
