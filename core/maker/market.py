"""The marketplace as its services share it: who sees a listing, what it looks like, and how a page of rows is cut."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from sqlalchemy import ColumnElement, and_, func, or_
from sqlmodel import SQLModel, col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from core.kernel.call import Principal
from core.kernel.clock import to_timestamp
from core.kernel.errors import InvalidArgument, NotFound, PermissionDenied
from core.kernel.pages import decode_cursor, encode_cursor
from core.maker.market_tables import ARCHIVED, COMPLETED, DRAFT, PUBLISHED, ListingRow, PurchaseRow
from core.maker.people import People
from gen.busbar.maker.v1.listings_pb import Listing
from gen.busbar.maker.v1.people_pb import UserCard
from gen.busbar.maker.v1.reviews_pb import ReviewAggregate

Row = TypeVar("Row", bound=SQLModel)

STARS = range(1, 6)
MOST_TIME, MOST_COUNT = 2**63, 2**31
SCORE = 10_000
"""What the mean of the stars is multiplied by, to be ordered by as an integer."""


@dataclass(frozen=True, slots=True)
class Page(Generic[Row]):
    """A page of rows, and where the next one begins; None at the end."""

    rows: list[Row]
    next_cursor: str | None


@dataclass(frozen=True, slots=True)
class Order:
    """How a list goes.

    Attributes:
        name: Stands in the cursors of the list, so that they fit no other.
        columns: Columns from the first to the one that tells all rows apart, with whether the greatest comes first.
    """

    name: str
    columns: tuple[tuple[str, bool], ...]

    @classmethod
    def greatest(cls, name: str, *columns: str) -> Order:
        """Return an order in which the greatest comes first, and of equals the one with the greatest id."""
        return cls(name, tuple((column, True) for column in (*columns, "id")))


async def page_of(
    session: AsyncSession, table: type[Row], order: Order, conditions: Sequence[ColumnElement[bool]], cursor: str, limit: int
) -> Page[Row]:
    """Return a page of a table.

    Raises:
        InvalidArgument: The cursor is not one of this list and order.
    """
    query = select(table).where(*conditions)
    names = [name for name, _ in order.columns]
    after = decode_cursor(cursor, str, *(str if name == "id" else int for name in names))
    if after is not None:
        if after[0] != order.name or not all(_fits(name, value) for name, value in zip(names, after[1:], strict=True)):
            raise InvalidArgument("invalid cursor", field="cursor")
        query = query.where(_beyond(table, order, after[1:]))
    columns = [(col(getattr(table, name)), falls) for name, falls in order.columns]
    query = query.order_by(*(column.desc() if falls else column.asc() for column, falls in columns)).limit(limit + 1)
    rows = list((await session.exec(query)).all())
    if len(rows) <= limit:
        return Page(rows, None)
    return Page(rows[:limit], encode_cursor(order.name, *(getattr(rows[limit - 1], name) for name in names)))


def _fits(name: str, value: object) -> bool:
    """Whether a value can be that of a column: a database refuses to compare with a larger number than it holds."""
    return not isinstance(value, int) or abs(value) < (MOST_TIME if name.endswith("_us") else MOST_COUNT)


def _beyond(table: type[SQLModel], order: Order, key: tuple[Any, ...]) -> ColumnElement[bool]:
    """Return the condition of rows after a key: greater in some column and equal in all before it."""
    steps: list[ColumnElement[bool]] = []
    equal: list[ColumnElement[bool]] = []
    for (name, falls), value in zip(order.columns, key, strict=True):
        column = col(getattr(table, name))
        steps.append(and_(*equal, column < value if falls else column > value))
        equal.append(column == value)
    return or_(*steps)


def user_of(caller: Principal) -> str:
    """Return the user who calls.

    Raises:
        PermissionDenied: The credential is of an organisation or of a device.
    """
    if caller.user_id is None:
        raise PermissionDenied("only a user can take part in the marketplace")
    return caller.user_id


def listing_not_found(listing_id: str) -> NotFound:
    """Return the refusal for a listing that does not exist for the caller."""
    return NotFound(f"listing {listing_id} not found", listing=listing_id)


class Market:
    """Finds listings for callers, as far as they may see them, and shows them."""

    def __init__(self, people: People) -> None:
        self.people = people

    async def see(self, session: AsyncSession, listing_id: str, user_id: str | None, *, to_change: bool = False) -> ListingRow:
        """Return a listing that a user may see; `to_change` holds it until the unit of work ends.

        Raises:
            NotFound: It does not exist, is a draft of somebody else, or is archived and the user has not acquired it.
        """
        row = await self.get(session, listing_id, to_change=to_change)
        if row.status == PUBLISHED or (user_id is not None and row.creator_id == user_id):
            return row
        if row.status == DRAFT or user_id is None or row.id not in await self.owned(session, user_id, [row.id]):
            raise listing_not_found(listing_id)
        return row

    async def get(self, session: AsyncSession, listing_id: str, *, to_change: bool = False) -> ListingRow:
        """Return a listing, whoever asks; `to_change` holds it until the unit of work ends.

        Raises:
            NotFound: It does not exist.
        """
        row = await session.get(ListingRow, listing_id, with_for_update=to_change, populate_existing=to_change)
        if row is None:
            raise listing_not_found(listing_id)
        return row

    async def mine(self, session: AsyncSession, listing_id: str, user_id: str) -> ListingRow:
        """Return a listing to be changed by its creator, held until the unit of work ends.

        Raises:
            NotFound: The user may not see it.
            PermissionDenied: The user is not its creator.
        """
        row = await self.see(session, listing_id, user_id, to_change=True)
        if row.creator_id != user_id:
            raise PermissionDenied("only the creator may change a listing", listing=listing_id)
        return row

    async def owned(self, session: AsyncSession, user_id: str, listing_ids: Sequence[str]) -> set[str]:
        """Return those of some listings that a user has acquired."""
        query = select(PurchaseRow.listing_id).where(
            col(PurchaseRow.buyer_id) == user_id,
            col(PurchaseRow.status) == COMPLETED,
            col(PurchaseRow.listing_id).in_(listing_ids),
        )
        return set((await session.exec(query)).all())

    async def count_published(self, session: AsyncSession, user_id: str) -> int:
        """Return the number of a user's published listings."""
        query = select(func.count()).select_from(ListingRow)
        query = query.where(col(ListingRow.creator_id) == user_id, col(ListingRow.status) == PUBLISHED)
        return (await session.exec(query)).one()

    async def show(self, session: AsyncSession, rows: Sequence[ListingRow], user_id: str | None) -> list[Listing]:
        """Return listings as a user sees them."""
        if not rows:
            return []
        cards = await self.people.cards(session, (row.creator_id for row in rows))
        owned = await self.owned(session, user_id, [row.id for row in rows]) if user_id is not None else set[str]()
        return [_listing(row, cards.get(row.creator_id), owned=row.id in owned) for row in rows]

    async def show_one(self, session: AsyncSession, row: ListingRow, user_id: str | None) -> Listing:
        """Return a listing as a user sees it."""
        return (await self.show(session, [row], user_id))[0]


def has_reviews(row: ListingRow) -> bool:
    """Whether a listing is such that anybody may read its reviews."""
    return row.status in (PUBLISHED, ARCHIVED)


def count_review(row: ListingRow, *, added: int | None = None, removed: int | None = None) -> None:
    """Put a review into the sums of its listing, which is held, or take one out; a changed one does both."""
    for stars, change in ((added, 1), (removed, -1)):
        if stars is not None:
            name = f"stars_{stars}"
            setattr(row, name, getattr(row, name) + change)
            row.review_count += change
            row.rating_sum += change * stars
    row.score = row.rating_sum * SCORE // row.review_count if row.review_count else 0


def aggregate(row: ListingRow) -> ReviewAggregate:
    """Return the sum of a listing's reviews."""
    return ReviewAggregate(
        count=row.review_count,
        average=round(row.rating_sum / row.review_count, 2) if row.review_count else 0.0,
        histogram={str(stars): getattr(row, f"stars_{stars}") for stars in STARS},
    )


def _listing(row: ListingRow, creator: UserCard | None, *, owned: bool) -> Listing:
    return Listing(
        id=row.id,
        creator_id=row.creator_id,
        creator=creator,
        kind=row.kind,
        title=row.title,
        summary=row.summary,
        description=row.description,
        project_id=row.project_id,
        price_cents=row.price_cents,
        currency=row.currency,
        tags=json.loads(row.tags),
        cover_url=row.cover_url,
        license=row.license,
        status=row.status,
        aggregate=aggregate(row),
        purchase_count=row.purchase_count,
        owned=owned,
        published_at=to_timestamp(row.published_us),
        created_at=to_timestamp(row.created_us),
        updated_at=to_timestamp(row.updated_us),
    )
