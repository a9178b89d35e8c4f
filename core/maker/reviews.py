"""Reviews of listings. Each change of one and of the sums beside its listing is one unit of work."""

from __future__ import annotations

from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from core.kernel.call import Call
from core.kernel.clock import Clock, to_timestamp
from core.kernel.errors import AlreadyExists, InvalidArgument, NotFound, PermissionDenied
from core.kernel.ids import new_id
from core.kernel.pages import page_limit
from core.maker.market import Market, Order, aggregate, count_review, has_reviews, listing_not_found, page_of, user_of
from core.maker.market_tables import COMPLETED, ListingRow, PurchaseRow, ReviewRow
from core.maker.notices import Notices
from core.storage.database import Database
from gen.busbar.maker.v1.people_pb import UserCard
from gen.busbar.maker.v1.reviews_pb import (
    CreateReviewRequest,
    DeleteReviewRequest,
    DeleteReviewResponse,
    ListReviewsRequest,
    ListReviewsResponse,
    Review,
    UpdateReviewRequest,
)

FIELDS = ("rating", "title", "body")
ORDERS = {
    "recent": Order.greatest("recent", "created_us"),
    "highest": Order.greatest("highest", "rating", "created_us"),
    "lowest": Order("lowest", (("rating", False), ("created_us", True), ("id", True))),
}


class ReviewService:
    """Keeps reviews. Whoever changes one holds its listing, so two changes never count over each other."""

    def __init__(self, database: Database, clock: Clock, market: Market, notices: Notices) -> None:
        self._database = database
        self._clock = clock
        self._market = market
        self._notices = notices

    async def list_reviews(self, request: ListReviewsRequest, call: Call) -> ListReviewsResponse:
        """List the reviews of a listing that is or was published."""
        del call
        limit = page_limit(request.limit if request.has_field("limit") else None)
        order = ORDERS[request.sort or "recent"]
        async with self._database.read() as session:
            listing = await self._reviewed(session, request.listing_id)
            conditions = [col(ReviewRow.listing_id) == listing.id]
            page = await page_of(session, ReviewRow, order, conditions, request.cursor, limit)
            cards = await self._market.people.cards(session, (row.author_id for row in page.rows))
        return ListReviewsResponse(
            reviews=[_review(row, cards.get(row.author_id)) for row in page.rows],
            aggregate=aggregate(listing),
            next_cursor=page.next_cursor,
        )

    async def _reviewed(self, session: AsyncSession, listing_id: str, *, to_change: bool = False) -> ListingRow:
        listing = await self._market.get(session, listing_id, to_change=to_change)
        if not has_reviews(listing):
            raise listing_not_found(listing_id)
        return listing

    async def create_review(self, request: CreateReviewRequest, call: Call) -> Review:
        """Write the caller's review of a listing that they acquired."""
        user_id, now = user_of(call.caller), self._clock.now_us()
        async with self._database.unit_of_work() as session:
            listing = await self._market.see(session, request.listing_id, user_id, to_change=True)
            await self._require_author(session, listing, user_id)
            row = ReviewRow(
                id=new_id("rev_"),
                listing_id=listing.id,
                author_id=user_id,
                rating=request.rating,
                title=request.title,
                body=request.body,
                created_us=now,
                updated_us=now,
            )
            session.add(row)
            count_review(listing, added=row.rating)
            cards = await self._market.people.cards(session, [user_id])
            await self._tell(session, listing, row, cards.get(user_id))
        call.headers.append(("Location", f"/api/marketplace/listings/{listing.id}/reviews/{row.id}"))
        return _review(row, cards.get(user_id))

    async def _require_author(self, session: AsyncSession, listing: ListingRow, user_id: str) -> None:
        """Refuse whoever may not review a listing, which is held: so purchases and reviews of it stay as they are."""
        if listing.creator_id == user_id:
            raise PermissionDenied("nobody may review a listing of their own", listing=listing.id)
        bought = select(PurchaseRow.id).where(
            col(PurchaseRow.listing_id) == listing.id,
            col(PurchaseRow.buyer_id) == user_id,
            col(PurchaseRow.status) == COMPLETED,
        )
        if (await session.exec(bought)).first() is None:
            raise PermissionDenied("only those who acquired a listing may review it", listing=listing.id)
        written = select(ReviewRow.id).where(col(ReviewRow.listing_id) == listing.id, col(ReviewRow.author_id) == user_id)
        if (await session.exec(written)).first() is not None:
            raise AlreadyExists("you have reviewed this listing already", listing=listing.id)

    async def _tell(self, session: AsyncSession, listing: ListingRow, row: ReviewRow, author: UserCard | None) -> None:
        name = author.display_name if author is not None else "Somebody"
        await self._notices.post(
            session,
            listing.creator_id,
            "review.received",
            f"{name} reviewed {listing.title}",
            body=row.title or row.body,
            link=f"/marketplace/listings/{listing.id}",
            data={"listingId": listing.id, "reviewId": row.id, "rating": row.rating},
        )

    async def update_review(self, request: UpdateReviewRequest, call: Call) -> Review:
        """Change the named fields; naming none, or none to another value, leaves `updated_at` alone."""
        values, user_id = _named(request), user_of(call.caller)
        async with self._database.unit_of_work() as session:
            listing, row = await self._own(session, request.listing_id, request.review_id, user_id)
            changed = {name: value for name, value in values.items() if getattr(row, name) != value}
            if "rating" in changed:
                count_review(listing, added=request.rating, removed=row.rating)
            if changed:
                row.sqlmodel_update(changed)
                row.updated_us = self._clock.now_us()
            cards = await self._market.people.cards(session, [user_id])
        return _review(row, cards.get(user_id))

    async def delete_review(self, request: DeleteReviewRequest, call: Call) -> DeleteReviewResponse:
        """Delete a review of the caller's."""
        user_id = user_of(call.caller)
        async with self._database.unit_of_work() as session:
            listing, row = await self._own(session, request.listing_id, request.review_id, user_id)
            count_review(listing, removed=row.rating)
            await session.delete(row)
        return DeleteReviewResponse(ok=True)

    async def _own(self, session: AsyncSession, listing_id: str, review_id: str, user_id: str) -> tuple[ListingRow, ReviewRow]:
        """Return a review of the user's and its listing, held until the unit of work ends."""
        listing = await self._reviewed(session, listing_id, to_change=True)
        row = await session.get(ReviewRow, review_id, populate_existing=True)
        if row is None or row.listing_id != listing_id:
            raise NotFound(f"review {review_id} not found", review=review_id)
        if row.author_id != user_id:
            raise PermissionDenied("only its author may change a review", review=review_id)
        return listing, row


def _named(request: UpdateReviewRequest) -> dict[str, int | str]:
    """Return the fields to change: those of the mask, or without one those that are present."""
    values: dict[str, int | str] = {}
    for name in FIELDS:
        if request.has_field(name):
            if request.update_mask is None or name in request.update_mask.paths:
                values[name] = getattr(request, name)
        elif request.update_mask is not None and name in request.update_mask.paths:
            raise InvalidArgument.field(name, "must not be null")
    return values


def _review(row: ReviewRow, author: UserCard | None) -> Review:
    return Review(
        id=row.id,
        listing_id=row.listing_id,
        author=author,
        rating=row.rating,
        title=row.title,
        body=row.body,
        created_at=to_timestamp(row.created_us),
        updated_at=to_timestamp(row.updated_us),
    )
