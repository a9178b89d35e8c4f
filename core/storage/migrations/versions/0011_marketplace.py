"""Marketplace."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the change."""
    op.create_table(
        "listing",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("org_id", sa.String(length=64), nullable=False),
        sa.Column("creator_id", sa.String(length=64), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("title", sa.String(length=120), nullable=False),
        sa.Column("summary", sa.String(length=280), nullable=False),
        sa.Column("description", sa.String(length=20000), nullable=False),
        sa.Column("project_id", sa.String(length=64), nullable=True),
        sa.Column("price_cents", sa.Integer(), nullable=False),
        sa.Column("currency", sa.String(length=3), nullable=False),
        sa.Column("tags", sa.String(), nullable=False),
        sa.Column("cover_url", sa.String(length=2048), nullable=True),
        sa.Column("license", sa.String(length=100), nullable=False),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("words", sa.String(), nullable=False),
        sa.Column("stars_1", sa.Integer(), nullable=False),
        sa.Column("stars_2", sa.Integer(), nullable=False),
        sa.Column("stars_3", sa.Integer(), nullable=False),
        sa.Column("stars_4", sa.Integer(), nullable=False),
        sa.Column("stars_5", sa.Integer(), nullable=False),
        sa.Column("review_count", sa.Integer(), nullable=False),
        sa.Column("rating_sum", sa.Integer(), nullable=False),
        sa.Column("score", sa.Integer(), nullable=False),
        sa.Column("purchase_count", sa.Integer(), nullable=False),
        sa.Column("published_us", sa.BigInteger(), nullable=True),
        sa.Column("created_us", sa.BigInteger(), nullable=False),
        sa.Column("updated_us", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["creator_id"],
            ["user_account.id"],
        ),
        sa.ForeignKeyConstraint(
            ["org_id"],
            ["org.id"],
        ),
        sa.ForeignKeyConstraint(["project_id"], ["project.id"], ondelete="SET NULL"),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(op.f("ix_listing_project_id"), "listing", ["project_id"], unique=False)
    op.create_index("listing_of_creator", "listing", ["creator_id", "created_us", "id"], unique=False)
    op.create_index("listing_popular", "listing", ["status", "purchase_count", "published_us", "id"], unique=False)
    op.create_index("listing_rated", "listing", ["status", "score", "review_count", "id"], unique=False)
    op.create_index("listing_recent", "listing", ["status", "published_us", "id"], unique=False)
    op.create_table(
        "purchase",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("org_id", sa.String(length=64), nullable=False),
        sa.Column("buyer_id", sa.String(length=64), nullable=False),
        sa.Column("creator_id", sa.String(length=64), nullable=False),
        sa.Column("listing_id", sa.String(length=64), nullable=False),
        sa.Column("snapshot", sa.String(), nullable=False),
        sa.Column("price_cents", sa.Integer(), nullable=False),
        sa.Column("currency", sa.String(length=3), nullable=False),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("provider", sa.String(length=32), nullable=False),
        sa.Column("reference", sa.String(length=200), nullable=True),
        sa.Column("checkout_url", sa.String(length=2048), nullable=True),
        sa.Column("referral_code", sa.String(length=8), nullable=True),
        sa.Column("cloned_project_id", sa.String(length=64), nullable=True),
        sa.Column("created_us", sa.BigInteger(), nullable=False),
        sa.Column("completed_us", sa.BigInteger(), nullable=True),
        sa.Column("refunded_us", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(
            ["buyer_id"],
            ["user_account.id"],
        ),
        sa.ForeignKeyConstraint(["cloned_project_id"], ["project.id"], ondelete="SET NULL"),
        sa.ForeignKeyConstraint(
            ["creator_id"],
            ["user_account.id"],
        ),
        sa.ForeignKeyConstraint(
            ["listing_id"],
            ["listing.id"],
        ),
        sa.ForeignKeyConstraint(
            ["org_id"],
            ["org.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(op.f("ix_purchase_cloned_project_id"), "purchase", ["cloned_project_id"], unique=False)
    op.create_index("purchase_of_buyer", "purchase", ["buyer_id", "created_us", "id"], unique=False)
    op.create_index("purchase_of_creator", "purchase", ["creator_id", "created_us", "id"], unique=False)
    op.create_index(
        "purchase_once",
        "purchase",
        ["listing_id", "buyer_id"],
        unique=True,
        sqlite_where=sa.text("status IN ('pending', 'completed')"),
        postgresql_where=sa.text("status IN ('pending', 'completed')"),
    )
    op.create_table(
        "review",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("listing_id", sa.String(length=64), nullable=False),
        sa.Column("author_id", sa.String(length=64), nullable=False),
        sa.Column("rating", sa.Integer(), nullable=False),
        sa.Column("title", sa.String(length=120), nullable=False),
        sa.Column("body", sa.String(length=4000), nullable=False),
        sa.Column("created_us", sa.BigInteger(), nullable=False),
        sa.Column("updated_us", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["author_id"],
            ["user_account.id"],
        ),
        sa.ForeignKeyConstraint(
            ["listing_id"],
            ["listing.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("listing_id", "author_id", name="review_once"),
    )
    op.create_index(op.f("ix_review_author_id"), "review", ["author_id"], unique=False)
    op.create_index("review_rated", "review", ["listing_id", "rating", "created_us", "id"], unique=False)
    op.create_index("review_recent", "review", ["listing_id", "created_us", "id"], unique=False)
    op.create_table(
        "payment_event",
        sa.Column("id", sa.String(length=200), nullable=False),
        sa.Column("purchase_id", sa.String(length=64), nullable=False),
        sa.Column("kind", sa.String(length=32), nullable=False),
        sa.Column("received_us", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["purchase_id"],
            ["purchase.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(op.f("ix_payment_event_purchase_id"), "payment_event", ["purchase_id"], unique=False)


def downgrade() -> None:
    """Take the change back."""
    op.drop_index(op.f("ix_payment_event_purchase_id"), table_name="payment_event")
    op.drop_table("payment_event")
    op.drop_index("review_recent", table_name="review")
    op.drop_index("review_rated", table_name="review")
    op.drop_index(op.f("ix_review_author_id"), table_name="review")
    op.drop_table("review")
    op.drop_index(
        "purchase_once",
        table_name="purchase",
        sqlite_where=sa.text("status IN ('pending', 'completed')"),
        postgresql_where=sa.text("status IN ('pending', 'completed')"),
    )
    op.drop_index("purchase_of_creator", table_name="purchase")
    op.drop_index("purchase_of_buyer", table_name="purchase")
    op.drop_index(op.f("ix_purchase_cloned_project_id"), table_name="purchase")
    op.drop_table("purchase")
    op.drop_index("listing_recent", table_name="listing")
    op.drop_index("listing_rated", table_name="listing")
    op.drop_index("listing_popular", table_name="listing")
    op.drop_index("listing_of_creator", table_name="listing")
    op.drop_index(op.f("ix_listing_project_id"), table_name="listing")
    op.drop_table("listing")
