"""Invites, mail domains, pins and codes; owners and guests of organisations; credentials of no organisation."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None

OLDEST_ADMINS = """
UPDATE membership SET owner = true WHERE role = 'admin' AND NOT EXISTS (
    SELECT 1 FROM membership AS other WHERE other.org_id = membership.org_id AND other.role = 'admin' AND (
        other.created_us < membership.created_us OR (other.created_us = membership.created_us AND other.id < membership.id)))
"""


def upgrade() -> None:
    """Make the change."""
    op.add_column("membership", sa.Column("owner", sa.Boolean(), server_default=sa.false(), nullable=False))
    op.add_column("membership", sa.Column("guest", sa.Boolean(), server_default=sa.false(), nullable=False))
    op.execute(OLDEST_ADMINS)
    _alter_credential(nullable=True)
    op.create_table(
        "invite",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("org_id", sa.String(length=64), nullable=False),
        sa.Column("email", sa.String(length=254), nullable=False),
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column("role", sa.String(length=16), nullable=False),
        sa.Column("owner", sa.Boolean(), nullable=False),
        sa.Column("inviter_id", sa.String(length=64), nullable=False),
        sa.Column("invitee_id", sa.String(length=64), nullable=True),
        sa.Column("created_us", sa.BigInteger(), nullable=False),
        sa.Column("accepted_us", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(["invitee_id"], ["user_account.id"]),
        sa.ForeignKeyConstraint(["inviter_id"], ["user_account.id"]),
        sa.ForeignKeyConstraint(["org_id"], ["org.id"]),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ix_invite_email", "invite", ["email", "org_id"], unique=False)
    op.create_index("ix_invite_org", "invite", ["org_id", "created_us"], unique=False)
    op.create_table(
        "org_domain",
        sa.Column("domain", sa.String(length=253), nullable=False),
        sa.Column("org_id", sa.String(length=64), nullable=False),
        sa.Column("created_us", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["org_id"], ["org.id"]),
        sa.PrimaryKeyConstraint("domain"),
        sa.UniqueConstraint("org_id"),
    )
    op.create_table(
        "proof",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("hash", sa.String(length=64), nullable=False),
        sa.Column("email", sa.String(length=254), nullable=False),
        sa.Column("user_id", sa.String(length=64), nullable=True),
        sa.Column("org_id", sa.String(length=64), nullable=True),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("created_us", sa.BigInteger(), nullable=False),
        sa.Column("expires_us", sa.BigInteger(), nullable=False),
        sa.Column("used_us", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(["org_id"], ["org.id"]),
        sa.ForeignKeyConstraint(["user_id"], ["user_account.id"]),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ix_proof_email", "proof", ["email", "expires_us"], unique=False)
    op.create_index("ix_proof_expires", "proof", ["expires_us"], unique=False)
    op.create_index(op.f("ix_proof_hash"), "proof", ["hash"], unique=False)


def downgrade() -> None:
    """Take the change back: credentials that belong to no organisation cannot stay."""
    op.drop_table("proof")
    op.drop_table("org_domain")
    op.drop_table("invite")
    op.execute("DELETE FROM credential WHERE org_id IS NULL")
    _alter_credential(nullable=False)
    op.drop_column("membership", "guest")
    op.drop_column("membership", "owner")


def _alter_credential(*, nullable: bool) -> None:
    """Say whether a credential must have an organisation.

    SQLite writes the table anew for it and deletes the old one, which rows that refer to it forbid: they wait elsewhere.
    """
    sqlite = op.get_bind().dialect.name == "sqlite"
    if sqlite:
        op.execute("CREATE TEMPORARY TABLE point_quota_kept AS SELECT * FROM point_quota")
        op.execute("DELETE FROM point_quota")
    with op.batch_alter_table("credential") as batch:
        batch.alter_column("org_id", existing_type=sa.String(length=64), nullable=nullable)
    if sqlite:
        op.execute("INSERT INTO point_quota SELECT * FROM point_quota_kept")
        op.execute("DROP TABLE point_quota_kept")
