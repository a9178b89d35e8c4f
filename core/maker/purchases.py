"""Purchases as buyers, creators and payment providers meet them. What becomes of one is decided in `sales.py`."""

from __future__ import annotations

import json

from sqlmodel import col, update

from core.kernel.call import Call
from core.kernel.clock import to_timestamp
from core.kernel.errors import InvalidArgument, PermissionDenied
from core.kernel.pages import page_limit
from core.kernel.settings import Settings
from core.maker.market import Market, Order, page_of, user_of
from core.maker.market_tables import COMPLETED, PENDING, PurchaseRow
from core.maker.payments import REFUND, Bill, PaymentEvent, PaymentProviders, SignedEvent
from core.maker.sale_notices import title_of
from core.maker.sales import Sales, purchase_not_found
from core.storage.database import Database
from gen.busbar.api.v1.error_reason_pb import ErrorReason
from gen.busbar.maker.v1.people_pb import UserCard
from gen.busbar.maker.v1.purchases_pb import (
    ConfirmPurchaseRequest,
    ListingSnapshot,
    ListPurchasesRequest,
    ListPurchasesResponse,
    ListSalesRequest,
    ListSalesResponse,
    Purchase,
    PurchaseListingRequest,
    RefundPurchaseRequest,
    Sale,
)

NEWEST = Order.greatest("newest", "created_us")
SCOPE = "market:write"


class PurchaseService:
    """Makes purchases, and takes what creators and payment providers say of them."""

    def __init__(
        self, database: Database, settings: Settings, market: Market, sales: Sales, providers: PaymentProviders
    ) -> None:
        self._database = database
        self._settings = settings
        self._market = market
        self._sales = sales
        self._providers = providers

    async def purchase_listing(self, request: PurchaseListingRequest, call: Call) -> Purchase:
        """Acquire a listing, or return the purchase that the caller has."""
        async with self._database.unit_of_work() as session:
            row, made = await self._sales.order(session, request.listing_id, call.caller, request.referral_code)
        if row.status == PENDING and row.checkout_url is None:
            row = await self._start(row, call)
        if not made:
            call.status = 200
        return purchase(row)

    async def _start(self, row: PurchaseRow, call: Call) -> PurchaseRow:
        """Start the checkout of a pending purchase, which is kept already: so its events find it whatever happens here."""
        base = call.base_url or self._settings.public_url.rstrip("/") or f"http://{self._settings.http}"
        webhook = f"{base}/api/purchases/{row.id}/confirm"
        bill = Bill(row.id, title_of(row), row.price_cents, row.currency, webhook, self._providers.due_us(row.created_us))
        checkout = await self._providers.named(row.provider).begin(bill)
        if checkout is None:
            return row
        async with self._database.unit_of_work() as session:
            # Two who start at once have the same checkout; were it not so, the one that is kept first would count.
            kept = update(PurchaseRow).where(
                col(PurchaseRow.id) == row.id, col(PurchaseRow.status) == PENDING, col(PurchaseRow.checkout_url).is_(None)
            )
            await session.exec(kept.values(reference=checkout.reference, checkout_url=checkout.url))
            return await session.get_one(PurchaseRow, row.id, populate_existing=True)

    async def list_purchases(self, request: ListPurchasesRequest, call: Call) -> ListPurchasesResponse:
        """List the caller's purchases, newest first."""
        limit = page_limit(request.limit if request.has_field("limit") else None)
        conditions = [col(PurchaseRow.buyer_id) == call.caller.user_id]
        async with self._database.read() as session:
            page = await page_of(session, PurchaseRow, NEWEST, conditions, request.cursor, limit)
        return ListPurchasesResponse(purchases=[purchase(row) for row in page.rows], next_cursor=page.next_cursor)

    async def list_sales(self, request: ListSalesRequest, call: Call) -> ListSalesResponse:
        """List the purchases of the caller's listings, newest first."""
        limit = page_limit(request.limit if request.has_field("limit") else None)
        conditions = [col(PurchaseRow.creator_id) == call.caller.user_id]
        async with self._database.read() as session:
            page = await page_of(session, PurchaseRow, NEWEST, conditions, request.cursor, limit)
            cards = await self._market.people.cards(session, (row.buyer_id for row in page.rows))
        sales = [Sale(purchase=_sold(row), buyer=cards.get(row.buyer_id)) for row in page.rows]
        return ListSalesResponse(sales=sales, next_cursor=page.next_cursor)

    async def confirm_purchase(self, request: ConfirmPurchaseRequest, call: Call) -> Purchase:
        """Complete a purchase that is paid by hand, or carry out an event."""
        event = self._event(request)
        if event is not None:
            return await self._carry_out(request.purchase_id, event)
        user_id = _signed_in(call)
        async with self._database.unit_of_work() as session:
            listing, row = await self._sales.hold(session, request.purchase_id)
            _require_creator(row, user_id)
            if not self._providers.named(row.provider).by_hand:
                raise PermissionDenied("the payment provider confirms this purchase", purchase=row.id)
            await self._sales.confirm(session, listing, row)
        return _sold(row)

    async def refund_purchase(self, request: RefundPurchaseRequest, call: Call) -> Purchase:
        """Take a purchase back, or carry out an event that says so."""
        event = self._event(request)
        if event is not None:
            if event.kind != REFUND:
                raise InvalidArgument.field("event", f"type must be {REFUND}")
            return await self._carry_out(request.purchase_id, event)
        user_id = _signed_in(call)
        async with self._database.read() as session:
            row = await session.get(PurchaseRow, request.purchase_id)
        if row is None:
            raise purchase_not_found(request.purchase_id)
        _require_creator(row, user_id)
        if row.status == COMPLETED:
            # Outside of the unit of work, since it may take seconds. Asked again it pays back once.
            await self._providers.named(row.provider).refund(row.id, row.reference or "")
        async with self._database.unit_of_work() as session:
            listing, row = await self._sales.hold(session, request.purchase_id)
            await self._sales.refund(session, listing, row)
        return _sold(row)

    def _event(self, request: ConfirmPurchaseRequest | RefundPurchaseRequest) -> PaymentEvent | None:
        """Return the event that a request brings, once its signature is verified; None when it brings none."""
        if not request.webhook_signature:
            return None
        body = request.event.data if request.event is not None else b""
        signed = SignedEvent(request.webhook_id, request.webhook_timestamp, request.webhook_signature, body)
        return self._providers.verify(signed)

    async def _carry_out(self, purchase_id: str, event: PaymentEvent) -> Purchase:
        async with self._database.unit_of_work() as session:
            listing, row = await self._sales.hold(session, purchase_id)
            await self._sales.carry_out(session, listing, row, event)
        return _sold(row)


def _signed_in(call: Call) -> str:
    """Return the user who calls an rpc that lets anybody in, since providers come without a credential."""
    caller = call.caller
    if not caller.may(SCOPE):
        raise PermissionDenied(f"insufficient scope: {SCOPE} required", reason=ErrorReason.SCOPE_MISSING, scope=SCOPE)
    return user_of(caller)


def _require_creator(row: PurchaseRow, user_id: str) -> None:
    if user_id not in (row.creator_id, row.buyer_id):
        raise purchase_not_found(row.id)
    if user_id != row.creator_id:
        raise PermissionDenied("only the creator of the listing may do this", purchase=row.id)


def purchase(row: PurchaseRow) -> Purchase:
    """Return a purchase as its buyer sees it."""
    kept = json.loads(row.snapshot)
    creator = kept["creator"]
    return Purchase(
        id=row.id,
        listing_id=row.listing_id,
        listing=ListingSnapshot(
            id=kept["id"],
            title=kept["title"],
            kind=kept["kind"],
            cover_url=kept["coverUrl"],
            creator=UserCard(id=creator["id"], username=creator["username"], display_name=creator["displayName"]),
        ),
        price_cents=row.price_cents,
        currency=row.currency,
        status=row.status,
        provider=row.provider,
        cloned_project_id=row.cloned_project_id,
        referral_code=row.referral_code,
        created_at=to_timestamp(row.created_us),
        completed_at=to_timestamp(row.completed_us),
        checkout_url=row.checkout_url if row.status == PENDING else None,
    )


def _sold(row: PurchaseRow) -> Purchase:
    """Return a purchase as its creator and the provider see it."""
    shown = purchase(row)
    shown.clear_field("checkout_url")
    return shown
