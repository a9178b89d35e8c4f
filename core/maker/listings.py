"""Listings: drafts, their publication, and the lists on which they stand."""

from __future__ import annotations

import json
from typing import Any, Literal, get_args

from sqlalchemy import ColumnElement
from sqlalchemy.exc import IntegrityError
from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from core.identity.tables import UserRow
from core.kernel.call import Call, Principal
from core.kernel.clock import Clock
from core.kernel.errors import FailedPrecondition, InvalidArgument, NotFound
from core.kernel.ids import new_id
from core.kernel.pages import page_limit
from core.maker.access import ProjectAccess, Role, project_not_found
from core.maker.market import Market, Order, page_of, user_of
from core.maker.market_tables import ARCHIVED, DRAFT, PUBLISHED, ListingRow
from core.maker.payments import PaymentProviders
from core.storage.database import Database
from gen.busbar.maker.v1.listings_pb import (
    ArchiveListingRequest,
    BrowseListingsRequest,
    BrowseListingsResponse,
    CreateListingRequest,
    GetListingRequest,
    Listing,
    ListListingsRequest,
    ListListingsResponse,
    ListUserListingsRequest,
    ListUserListingsResponse,
    PublishListingRequest,
    UpdateListingRequest,
)

Name = Literal[
    "title",
    "kind",
    "summary",
    "description",
    "project_id",
    "price_cents",
    "currency",
    "tags",
    "cover_url",
    "license",
]
FIELDS: tuple[Name, ...] = get_args(Name)
"""What the creator of a draft may set."""
ALWAYS = frozenset({"summary", "description", "tags", "cover_url", "price_cents"})
"""What may change after publication too."""
NULLABLE = frozenset({"project_id", "cover_url"})
NEEDED = ("title", "summary", "description")
"""Texts without which nothing is published."""
LONGEST_TAG = 32
NEWEST = Order.greatest("newest", "created_us")
ORDERS = {
    "recent": Order.greatest("recent", "published_us"),
    "popular": Order.greatest("popular", "purchase_count", "published_us"),
    "rating": Order.greatest("rating", "score", "review_count"),
}


class ListingService:
    """Keeps listings."""

    def __init__(
        self, database: Database, clock: Clock, market: Market, access: ProjectAccess, providers: PaymentProviders
    ) -> None:
        self._database = database
        self._clock = clock
        self._market = market
        self._access = access
        self._providers = providers

    async def list_listings(self, request: ListListingsRequest, call: Call) -> ListListingsResponse:
        """List the caller's own listings, newest first."""
        user_id = call.caller.user_id
        conditions = [col(ListingRow.creator_id) == user_id]
        if request.status:
            conditions.append(col(ListingRow.status) == request.status)
        limit = page_limit(request.limit if request.has_field("limit") else None)
        listings, cursor = await self._page(NEWEST, conditions, request.cursor, limit, user_id)
        return ListListingsResponse(listings=listings, next_cursor=cursor)

    async def browse_listings(self, request: BrowseListingsRequest, call: Call) -> BrowseListingsResponse:
        """Find published listings of all creators."""
        conditions = [col(ListingRow.status) == PUBLISHED]
        words = col(ListingRow.words)
        conditions += [words.contains(word, autoescape=True) for word in request.q.casefold().split()]
        if request.kind:
            conditions.append(col(ListingRow.kind) == request.kind)
        if request.tag.strip():
            tag = json.dumps(request.tag.strip().lower(), ensure_ascii=False)
            conditions.append(col(ListingRow.tags).contains(tag, autoescape=True))
        limit = page_limit(request.limit if request.has_field("limit") else None)
        order = ORDERS[request.sort or "recent"]
        listings, cursor = await self._page(order, conditions, request.cursor, limit, call.caller.user_id)
        return BrowseListingsResponse(listings=listings, next_cursor=cursor)

    async def list_user_listings(self, request: ListUserListingsRequest, call: Call) -> ListUserListingsResponse:
        """List the published listings of a user, newest first."""
        async with self._database.read() as session:
            found = select(UserRow.id).where(col(UserRow.username) == request.username.lower())
            creator_id = (await session.exec(found)).first()
        if creator_id is None:
            raise NotFound(f"user {request.username} not found", username=request.username)
        conditions = [col(ListingRow.creator_id) == creator_id, col(ListingRow.status) == PUBLISHED]
        limit = page_limit(request.limit if request.has_field("limit") else None)
        user_id = None if call.principal is None else call.principal.user_id
        listings, cursor = await self._page(NEWEST, conditions, request.cursor, limit, user_id)
        return ListUserListingsResponse(listings=listings, next_cursor=cursor)

    async def _page(
        self, order: Order, conditions: list[ColumnElement[bool]], cursor: str, limit: int, user_id: str | None
    ) -> tuple[list[Listing], str | None]:
        async with self._database.read() as session:
            page = await page_of(session, ListingRow, order, conditions, cursor, limit)
            return await self._market.show(session, page.rows, user_id), page.next_cursor

    async def create_listing(self, request: CreateListingRequest, call: Call) -> Listing:
        """Make a draft."""
        caller, now = call.caller, self._clock.now_us()
        user_id = user_of(caller)
        values = {name: _value(request, name) for name in FIELDS if request.has_field(name) or name == "tags"}
        row = ListingRow(
            id=new_id("lst_"),
            org_id=caller.org_id,
            creator_id=user_id,
            created_us=now,
            updated_us=now,
            **{name: value for name, value in values.items() if value not in (None, "")},
        )
        row.words = _words(row)
        try:
            async with self._database.unit_of_work() as session:
                await self._require_project(session, row.project_id, caller)
                session.add(row)
                await session.flush()
                listing = await self._market.show_one(session, row, user_id)
        except IntegrityError:
            raise project_not_found(row.project_id or "") from None
        call.headers.append(("Location", f"/api/marketplace/listings/{row.id}"))
        return listing

    async def _require_project(self, session: AsyncSession, project_id: str | None, caller: Principal) -> None:
        """Refuse a project that is not the caller's own; one of which they are no member does not exist for them."""
        if project_id is None:
            return
        seat = await self._access.seat(session, project_id, caller)
        if seat.role == Role.NONE:
            raise project_not_found(project_id)
        await self._access.seat(session, project_id, caller, Role.OWNER)

    async def get_listing(self, request: GetListingRequest, call: Call) -> Listing:
        """Read one listing."""
        user_id = call.caller.user_id
        async with self._database.read() as session:
            row = await self._market.see(session, request.listing_id, user_id)
            return await self._market.show_one(session, row, user_id)

    async def update_listing(self, request: UpdateListingRequest, call: Call) -> Listing:
        """Change the named fields; naming none, or none to another value, leaves `updated_at` alone."""
        values, user_id = _named(request), user_of(call.caller)
        try:
            async with self._database.unit_of_work() as session:
                row = await self._market.mine(session, request.listing_id, user_id)
                self._require_changeable(row, values)
                changed = {name: value for name, value in values.items() if getattr(row, name) != value}
                if "project_id" in changed:
                    await self._require_project(session, changed["project_id"], call.caller)
                self._require_provider(row.status, changed.get("price_cents", 0))
                if changed:
                    row.sqlmodel_update(changed)
                    row.words = _words(row)
                    row.updated_us = self._clock.now_us()
                    await session.flush()
                return await self._market.show_one(session, row, user_id)
        except IntegrityError:
            # The project was deleted between the look and the change.
            raise project_not_found(request.project_id) from None

    def _require_changeable(self, row: ListingRow, values: dict[str, Any]) -> None:
        if row.status == DRAFT:
            return
        fixed = sorted(values.keys() - ALWAYS)
        if fixed:
            raise FailedPrecondition(f"listing is {row.status}", status=row.status, field=fixed[0])
        _require_texts({name: values[name] for name in NEEDED if name in values})

    def _require_provider(self, status: str, price_cents: int) -> None:
        """Refuse a price that nobody can take; a draft may have one."""
        if status != DRAFT:
            self._providers.for_price(price_cents)

    async def publish_listing(self, request: PublishListingRequest, call: Call) -> Listing:
        """Publish a draft, or an archived listing again."""
        user_id, now = user_of(call.caller), self._clock.now_us()
        async with self._database.unit_of_work() as session:
            row = await self._market.mine(session, request.listing_id, user_id)
            if row.status == PUBLISHED:
                raise FailedPrecondition("listing is published", status=row.status)
            _require_texts({name: getattr(row, name) for name in NEEDED})
            self._require_provider(PUBLISHED, row.price_cents)
            row.status, row.updated_us = PUBLISHED, now
            row.published_us = row.published_us or now
            return await self._market.show_one(session, row, user_id)

    async def archive_listing(self, request: ArchiveListingRequest, call: Call) -> Listing:
        """Take a published listing off the marketplace."""
        user_id = user_of(call.caller)
        async with self._database.unit_of_work() as session:
            row = await self._market.mine(session, request.listing_id, user_id)
            if row.status != PUBLISHED:
                raise FailedPrecondition(f"listing is {row.status}", status=row.status)
            row.status, row.updated_us = ARCHIVED, self._clock.now_us()
            return await self._market.show_one(session, row, user_id)


def _named(request: UpdateListingRequest) -> dict[str, Any]:
    """Return the fields to change: those of the mask, or without one those that are present."""
    paths = None if request.update_mask is None else request.update_mask.paths
    if request.has_field("status") or "status" in (paths or ()):
        raise InvalidArgument.field("status", "changes by publishing and archiving")
    if paths is None:
        names: list[Name] = [name for name in FIELDS if (request.tags if name == "tags" else request.has_field(name))]
    else:
        names = [name for name in FIELDS if name in paths]
    values = {name: _value(request, name) for name in names}
    for name, value in values.items():
        if value is None and name not in NULLABLE:
            raise InvalidArgument.field(name, "must not be null")
    return values


def _value(request: CreateListingRequest | UpdateListingRequest, name: Name) -> Any:  # noqa: ANN401 - text, number or nothing
    """Return a field as it is kept."""
    if name == "tags":
        return _tags(request.tags)
    value = getattr(request, name) if request.has_field(name) else None
    if name in NULLABLE:
        return value or None
    if name == "title" and value is not None and not value.strip():
        raise InvalidArgument.field("title", "must be 1-120 characters and not blank")
    return value


def _tags(tags: list[str]) -> str:
    """Return tags as they are kept: lower case, without blanks around them, each once, in the order given."""
    words = list(dict.fromkeys(tag.strip().lower() for tag in tags))
    if not all(0 < len(word) <= LONGEST_TAG for word in words):
        raise InvalidArgument.field("tags", f"must be of 1-{LONGEST_TAG} characters each")
    return json.dumps(words, ensure_ascii=False)


def _words(row: ListingRow) -> str:
    """Return the text in which a listing is looked for."""
    return "\n".join((row.title, row.summary, row.description, *json.loads(row.tags))).casefold()


def _require_texts(texts: dict[str, str]) -> None:
    for name, text in texts.items():
        if not text.strip():
            raise InvalidArgument.field(name, "must not be empty in a published listing")
