"""Tables of the marketplace. Times are microseconds since the Unix epoch, prices the smallest unit of their currency."""

from __future__ import annotations

from sqlalchemy import BigInteger, Index, UniqueConstraint, text
from sqlmodel import Field, SQLModel

DRAFT, PUBLISHED, ARCHIVED = "draft", "published", "archived"
PENDING, COMPLETED, REFUNDED, FAILED = "pending", "completed", "refunded", "failed"

LIVE = "status IN ('pending', 'completed')"
"""Condition of purchases of which a user has at most one for each listing, as the index spells it."""


class ListingRow(SQLModel, table=True):
    """Something that a maker offers. Whoever changes a row locks it first, so that its sums are always right.

    Attributes:
        org_id: Personal organisation of its creator.
        project_id: Project of which buyers get a copy; the database lets go of it when the project is deleted.
        tags: JSON list of lower-case words.
        words: What it is found by: title, summary, description and tags, folded to one case.
        stars_1: Number of reviews with one star, and so on.
        review_count: Number of all reviews.
        rating_sum: Sum of the stars of all reviews.
        score: Mean of the stars, times 10,000; what the marketplace is ordered by.
        purchase_count: Number of completed purchases.
        published_us: When it was first published; never changes afterwards.
    """

    __tablename__ = "listing"  # pyright: ignore[reportAssignmentType] - SQLModel takes a plain name
    __table_args__ = (
        Index("listing_of_creator", "creator_id", "created_us", "id"),
        Index("listing_recent", "status", "published_us", "id"),
        Index("listing_popular", "status", "purchase_count", "published_us", "id"),
        Index("listing_rated", "status", "score", "review_count", "id"),
    )

    id: str = Field(primary_key=True, max_length=64)
    org_id: str = Field(foreign_key="org.id", max_length=64)
    creator_id: str = Field(foreign_key="user_account.id", max_length=64)
    kind: str = Field(max_length=16)
    title: str = Field(max_length=120)
    summary: str = Field(default="", max_length=280)
    description: str = Field(default="", max_length=20_000)
    project_id: str | None = Field(default=None, foreign_key="project.id", ondelete="SET NULL", max_length=64, index=True)
    price_cents: int = 0
    currency: str = Field(default="USD", max_length=3)
    tags: str = "[]"
    cover_url: str | None = Field(default=None, max_length=2048)
    license: str = Field(default="all-rights-reserved", max_length=100)
    status: str = Field(default=DRAFT, max_length=16)
    words: str = ""
    stars_1: int = 0
    stars_2: int = 0
    stars_3: int = 0
    stars_4: int = 0
    stars_5: int = 0
    review_count: int = 0
    rating_sum: int = 0
    score: int = 0
    purchase_count: int = 0
    published_us: int | None = Field(default=None, sa_type=BigInteger)
    created_us: int = Field(sa_type=BigInteger)
    updated_us: int = Field(sa_type=BigInteger)


class ReviewRow(SQLModel, table=True):
    """What a buyer thinks of a listing; each user writes at most one."""

    __tablename__ = "review"  # pyright: ignore[reportAssignmentType] - SQLModel takes a plain name
    __table_args__ = (
        UniqueConstraint("listing_id", "author_id", name="review_once"),
        Index("review_recent", "listing_id", "created_us", "id"),
        Index("review_rated", "listing_id", "rating", "created_us", "id"),
    )

    id: str = Field(primary_key=True, max_length=64)
    listing_id: str = Field(foreign_key="listing.id", max_length=64)
    author_id: str = Field(foreign_key="user_account.id", max_length=64, index=True)
    rating: int
    title: str = Field(default="", max_length=120)
    body: str = Field(default="", max_length=4000)
    created_us: int = Field(sa_type=BigInteger)
    updated_us: int = Field(sa_type=BigInteger)


class PurchaseRow(SQLModel, table=True):
    """A user's acquisition of a listing.

    Attributes:
        org_id: Organisation of the buyer, to which the copy of the project belongs.
        creator_id: Who offered the listing.
        snapshot: JSON object of what the listing was when the purchase was made.
        status: pending, completed, refunded or failed.
        provider: Who takes the money.
        reference: Id of the checkout at the provider.
        checkout_url: Where the buyer pays.
        cloned_project_id: The buyer's copy; the database lets go of it when the copy is deleted.
    """

    __tablename__ = "purchase"  # pyright: ignore[reportAssignmentType] - SQLModel takes a plain name
    __table_args__ = (
        Index(
            "purchase_once",
            "listing_id",
            "buyer_id",
            unique=True,
            sqlite_where=text(LIVE),
            postgresql_where=text(LIVE),
        ),
        Index("purchase_of_buyer", "buyer_id", "created_us", "id"),
        Index("purchase_of_creator", "creator_id", "created_us", "id"),
    )

    id: str = Field(primary_key=True, max_length=64)
    org_id: str = Field(foreign_key="org.id", max_length=64)
    buyer_id: str = Field(foreign_key="user_account.id", max_length=64)
    creator_id: str = Field(foreign_key="user_account.id", max_length=64)
    listing_id: str = Field(foreign_key="listing.id", max_length=64)
    snapshot: str
    price_cents: int
    currency: str = Field(max_length=3)
    status: str = Field(default=PENDING, max_length=16)
    provider: str = Field(max_length=32)
    reference: str | None = Field(default=None, max_length=200)
    checkout_url: str | None = Field(default=None, max_length=2048)
    referral_code: str | None = Field(default=None, max_length=8)
    cloned_project_id: str | None = Field(
        default=None, foreign_key="project.id", ondelete="SET NULL", max_length=64, index=True
    )
    created_us: int = Field(sa_type=BigInteger)
    completed_us: int | None = Field(default=None, sa_type=BigInteger)
    refunded_us: int | None = Field(default=None, sa_type=BigInteger)


class PaymentEventRow(SQLModel, table=True):
    """An event of a payment provider that was carried out; one that comes again is known by its id."""

    __tablename__ = "payment_event"  # pyright: ignore[reportAssignmentType] - SQLModel takes a plain name

    id: str = Field(primary_key=True, max_length=200)
    purchase_id: str = Field(foreign_key="purchase.id", max_length=64, index=True)
    kind: str = Field(max_length=32)
    received_us: int = Field(sa_type=BigInteger)
