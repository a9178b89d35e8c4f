"""Projects, collaborators, notifications, referrals."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the change."""
    op.create_table(
        "notification",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("user_id", sa.String(length=64), nullable=False),
        sa.Column("kind", sa.String(length=32), nullable=False),
        sa.Column("title", sa.String(length=160), nullable=False),
        sa.Column("body", sa.String(length=2000), nullable=False),
        sa.Column("link", sa.String(length=500), nullable=True),
        sa.Column("data", sa.String(), nullable=False),
        sa.Column("read_us", sa.BigInteger(), nullable=True),
        sa.Column("created_us", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["user_id"],
            ["user_account.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("notification_listed", "notification", ["user_id", "created_us", "id"], unique=False)
    op.create_index(
        "notification_unread",
        "notification",
        ["user_id"],
        unique=False,
        sqlite_where=sa.text("read_us IS NULL"),
        postgresql_where=sa.text("read_us IS NULL"),
    )
    op.create_table(
        "project",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("org_id", sa.String(length=64), nullable=False),
        sa.Column("owner_id", sa.String(length=64), nullable=False),
        sa.Column("name", sa.String(length=120), nullable=False),
        sa.Column("slug", sa.String(length=140), nullable=False),
        sa.Column("description", sa.String(length=5000), nullable=False),
        sa.Column("board_type", sa.String(length=64), nullable=False),
        sa.Column("theme", sa.String(length=16), nullable=False),
        sa.Column("visibility", sa.String(length=16), nullable=False),
        sa.Column("tags", sa.String(), nullable=False),
        sa.Column("cover_url", sa.String(length=2048), nullable=True),
        sa.Column("likes", sa.Integer(), nullable=False),
        sa.Column("published_us", sa.BigInteger(), nullable=True),
        sa.Column("created_us", sa.BigInteger(), nullable=False),
        sa.Column("updated_us", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["org_id"],
            ["org.id"],
        ),
        sa.ForeignKeyConstraint(
            ["owner_id"],
            ["user_account.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("owner_id", "slug", name="project_slug"),
    )
    op.create_index("project_changed", "project", ["owner_id", "updated_us"], unique=False)
    op.create_index("project_feed", "project", ["visibility", "published_us"], unique=False)
    op.create_table(
        "referral",
        sa.Column("user_id", sa.String(length=64), nullable=False),
        sa.Column("code", sa.String(length=8), nullable=False),
        sa.Column("created_us", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["user_id"],
            ["user_account.id"],
        ),
        sa.PrimaryKeyConstraint("user_id"),
        sa.UniqueConstraint("code"),
    )
    op.create_table(
        "collaborator",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("project_id", sa.String(length=64), nullable=False),
        sa.Column("user_id", sa.String(length=64), nullable=True),
        sa.Column("email", sa.String(length=254), nullable=True),
        sa.Column("role", sa.String(length=16), nullable=False),
        sa.Column("invited_us", sa.BigInteger(), nullable=False),
        sa.Column("joined_us", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(
            ["project_id"],
            ["project.id"],
        ),
        sa.ForeignKeyConstraint(
            ["user_id"],
            ["user_account.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("project_id", "email", name="collaborator_email"),
        sa.UniqueConstraint("project_id", "user_id", name="collaborator_user"),
    )
    op.create_index(op.f("ix_collaborator_email"), "collaborator", ["email"], unique=False)
    op.create_index(op.f("ix_collaborator_user_id"), "collaborator", ["user_id"], unique=False)
    op.create_table(
        "project_board",
        sa.Column("project_id", sa.String(length=64), nullable=False),
        sa.Column("board_id", sa.String(length=64), nullable=False),
        sa.Column("attached_us", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["board_id"],
            ["board.id"],
        ),
        sa.ForeignKeyConstraint(
            ["project_id"],
            ["project.id"],
        ),
        sa.PrimaryKeyConstraint("project_id", "board_id"),
    )
    op.create_index(op.f("ix_project_board_board_id"), "project_board", ["board_id"], unique=False)
    op.create_table(
        "project_like",
        sa.Column("project_id", sa.String(length=64), nullable=False),
        sa.Column("user_id", sa.String(length=64), nullable=False),
        sa.Column("created_us", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["project_id"],
            ["project.id"],
        ),
        sa.ForeignKeyConstraint(
            ["user_id"],
            ["user_account.id"],
        ),
        sa.PrimaryKeyConstraint("project_id", "user_id"),
    )
    op.create_index(op.f("ix_project_like_user_id"), "project_like", ["user_id"], unique=False)
    op.create_table(
        "referral_use",
        sa.Column("user_id", sa.String(length=64), nullable=False),
        sa.Column("code", sa.String(length=8), nullable=False),
        sa.Column("used_us", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["code"],
            ["referral.code"],
        ),
        sa.ForeignKeyConstraint(
            ["user_id"],
            ["user_account.id"],
        ),
        sa.PrimaryKeyConstraint("user_id"),
    )
    op.create_index(op.f("ix_referral_use_code"), "referral_use", ["code"], unique=False)


def downgrade() -> None:
    """Take the change back."""
    op.drop_index(op.f("ix_referral_use_code"), table_name="referral_use")
    op.drop_table("referral_use")
    op.drop_index(op.f("ix_project_like_user_id"), table_name="project_like")
    op.drop_table("project_like")
    op.drop_index(op.f("ix_project_board_board_id"), table_name="project_board")
    op.drop_table("project_board")
    op.drop_index(op.f("ix_collaborator_user_id"), table_name="collaborator")
    op.drop_index(op.f("ix_collaborator_email"), table_name="collaborator")
    op.drop_table("collaborator")
    op.drop_table("referral")
    op.drop_index("project_feed", table_name="project")
    op.drop_index("project_changed", table_name="project")
    op.drop_table("project")
    op.drop_index(
        "notification_unread",
        table_name="notification",
        sqlite_where=sa.text("read_us IS NULL"),
        postgresql_where=sa.text("read_us IS NULL"),
    )
    op.drop_index("notification_listed", table_name="notification")
    op.drop_table("notification")
