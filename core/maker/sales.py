"""What becomes of a purchase: made, completed, failed, refunded. Each step is part of the caller's unit of work.

Whoever takes a step holds the listing first and then the purchase, so that two steps at once come one after the other and the
second sees what the first did. The copy of the project is made in the step that completes the purchase: either both are there
or neither, and a completed purchase is never completed again.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

from sqlalchemy import func, text
from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from core.kernel.call import Principal
from core.kernel.clock import Clock
from core.kernel.errors import FailedPrecondition, InvalidArgument, NotFound, PermissionDenied
from core.kernel.ids import new_id
from core.maker.cloning import ProjectCopies, lock_projects
from core.maker.market import Market, listing_not_found, user_of
from core.maker.market_tables import (
    ARCHIVED,
    COMPLETED,
    DRAFT,
    FAILED,
    LIVE,
    PENDING,
    REFUNDED,
    ListingRow,
    PaymentEventRow,
    PurchaseRow,
)
from core.maker.notices import Notices
from core.maker.payments import COMPLETE, FAIL, FREE, MANUAL, PaymentEvent, PaymentProvider, PaymentProviders
from core.maker.sale_notices import SaleNotices, title_of
from core.maker.tables import ProjectRow, ReferralRow
from core.outbox.outbox import Outbox
from gen.busbar.api.v1.error_reason_pb import ErrorReason

EXPIRE_KIND, REPAY_KIND = "purchase.expire", "purchase.repay"
"""Kinds of the side effects that end a checkout which nobody paid, and that pay money back which came too late."""
REPAY_ATTEMPTS = 200
"""How often it is tried to pay money back, once an hour in the end: for a week."""


@dataclass(frozen=True, slots=True)
class Buyer:
    """Who gets the copy of a project."""

    org_id: str
    user_id: str | None


class Sales:
    """Takes the steps of purchases."""

    def __init__(
        self,
        clock: Clock,
        market: Market,
        notices: Notices,
        copies: ProjectCopies,
        providers: PaymentProviders,
        outbox: Outbox,
        *,
        project_quota: int,
    ) -> None:
        self._clock = clock
        self._market = market
        self._notices = SaleNotices(notices)
        self._copies = copies
        self._providers = providers
        self._outbox = outbox
        self._project_quota = project_quota

    async def order(
        self, session: AsyncSession, listing_id: str, caller: Principal, referral_code: str
    ) -> tuple[PurchaseRow, bool]:
        """Return the caller's purchase of a listing, and whether it was made just now.

        Raises:
            NotFound: The caller cannot see the listing.
            PermissionDenied: It is their own.
            InvalidArgument: Nobody has the referral code.
            FailedPrecondition: It is archived, or the caller has no room for the project.
            Unavailable: Nobody takes the price.
        """
        user_id = user_of(caller)
        listing = await self._market.get(session, listing_id, to_change=True)
        if listing.creator_id == user_id:
            raise PermissionDenied("this listing is your own", listing=listing_id)
        if listing.status == DRAFT:
            raise listing_not_found(listing_id)
        code = await self._known_code(session, referral_code) if referral_code else None
        earlier = await self._earlier(session, listing_id, user_id)
        if earlier is not None and self._is_overdue(earlier):
            await self.expire(session, earlier)
            await session.flush()
        if earlier is not None and earlier.status in (PENDING, COMPLETED):
            return earlier, False
        if listing.status == ARCHIVED:
            if earlier is None:
                raise listing_not_found(listing_id)
            raise FailedPrecondition("listing is archived", status=listing.status)
        provider = self._providers.for_price(listing.price_cents)
        await self._require_room(session, listing, user_id)
        row = await self._add(session, listing, caller, provider, code)
        if provider.at_once:
            await self._complete(session, listing, row)
        elif provider.by_hand:
            await self._notices.asked(session, row)
        else:
            wait_us = self._providers.checkout_us
            await self._outbox.enqueue(
                session, EXPIRE_KIND, {}, row.org_id, subject=row.id, delay_us=wait_us, dedupe_key=row.id
            )
        return row, True

    def _is_overdue(self, row: PurchaseRow) -> bool:
        """Whether the checkout of a purchase has expired, but its end was not carried out yet."""
        has_checkout = row.provider not in (FREE, MANUAL)
        return has_checkout and row.status == PENDING and self._clock.now_us() >= self._providers.due_us(row.created_us)

    async def expire(self, session: AsyncSession, row: PurchaseRow) -> None:
        """End a purchase that is still pending; the buyer is told, and may begin another one."""
        if row.status != PENDING:
            return
        self._fail(row)
        await self._notices.expired(session, row)

    async def _known_code(self, session: AsyncSession, code: str) -> str:
        found = select(ReferralRow.code).where(col(ReferralRow.code) == code.strip().upper())
        known = (await session.exec(found)).first()
        if known is None:
            raise InvalidArgument.field("referral_code", "no user has this code")
        return known

    async def _earlier(self, session: AsyncSession, listing_id: str, user_id: str) -> PurchaseRow | None:
        """Return the user's purchase of a listing that counts, or else their last one."""
        rows = select(PurchaseRow).where(col(PurchaseRow.listing_id) == listing_id, col(PurchaseRow.buyer_id) == user_id)
        live = (await session.exec(rows.where(text(LIVE)))).first()
        return live or (await session.exec(rows.order_by(col(PurchaseRow.created_us).desc()).limit(1))).first()

    async def _require_room(self, session: AsyncSession, listing: ListingRow, user_id: str) -> None:
        """Refuse while nothing is paid yet; a copy that is paid is made whatever the buyer holds by then."""
        if listing.project_id is None:
            return
        await lock_projects(session, user_id)
        count = select(func.count()).select_from(ProjectRow).where(col(ProjectRow.owner_id) == user_id)
        used = (await session.exec(count)).one()
        if used >= self._project_quota:
            raise FailedPrecondition(
                f"the account holds {used} projects, the most is {self._project_quota}",
                reason=ErrorReason.QUOTA_EXCEEDED,
                limit=self._project_quota,
                used=used,
            )

    async def _add(
        self, session: AsyncSession, listing: ListingRow, caller: Principal, provider: PaymentProvider, code: str | None
    ) -> PurchaseRow:
        row = PurchaseRow(
            id=new_id("pur_"),
            org_id=caller.org_id,
            buyer_id=user_of(caller),
            creator_id=listing.creator_id,
            listing_id=listing.id,
            snapshot=json.dumps(await self._snapshot(session, listing), ensure_ascii=False),
            price_cents=listing.price_cents,
            currency=listing.currency,
            provider=provider.name,
            referral_code=code,
            created_us=self._clock.now_us(),
        )
        session.add(row)
        await session.flush()
        return row

    async def _snapshot(self, session: AsyncSession, listing: ListingRow) -> dict[str, object]:
        card = (await self._market.people.cards(session, [listing.creator_id])).get(listing.creator_id)
        creator = {"id": listing.creator_id, "username": "", "displayName": ""}
        if card is not None:
            creator |= {"username": card.username, "displayName": card.display_name}
        return {
            "id": listing.id,
            "title": listing.title,
            "kind": listing.kind,
            "coverUrl": listing.cover_url,
            "creator": creator,
        }

    async def hold(self, session: AsyncSession, purchase_id: str) -> tuple[ListingRow, PurchaseRow]:
        """Return a purchase and its listing, held until the unit of work ends.

        Raises:
            NotFound: There is no such purchase.
        """
        listing_id = (await session.exec(select(PurchaseRow.listing_id).where(col(PurchaseRow.id) == purchase_id))).first()
        if listing_id is None:
            raise purchase_not_found(purchase_id)
        listing = await self._market.get(session, listing_id, to_change=True)
        row = await session.get(PurchaseRow, purchase_id, with_for_update=True, populate_existing=True)
        if row is None:
            raise purchase_not_found(purchase_id)
        return listing, row

    async def confirm(self, session: AsyncSession, listing: ListingRow, row: PurchaseRow) -> None:
        """Complete a pending purchase; one that is completed stays as it is.

        Raises:
            FailedPrecondition: It failed or was refunded.
        """
        if row.status == COMPLETED:
            return
        if row.status != PENDING:
            raise _is(row)
        await self._complete(session, listing, row)

    async def refund(self, session: AsyncSession, listing: ListingRow, row: PurchaseRow) -> None:
        """Take a completed purchase back; one that was refunded stays as it is.

        Raises:
            FailedPrecondition: It is pending or failed.
        """
        if row.status == REFUNDED:
            return
        if row.status != COMPLETED:
            raise _is(row)
        row.status, row.refunded_us = REFUNDED, self._clock.now_us()
        listing.purchase_count -= 1
        await self._notices.refunded(session, row)

    async def carry_out(self, session: AsyncSession, listing: ListingRow, row: PurchaseRow, event: PaymentEvent) -> None:
        """Do what a verified event says, once for each id of an event.

        Raises:
            FailedPrecondition: It does not fit the purchase.
        """
        self._require_fit(row, event)
        if await session.get(PaymentEventRow, event.id) is not None:
            return
        row.reference = event.reference
        if event.kind == COMPLETE and row.status == FAILED and not await self._declined(session, row):
            await self._paid_late(session, listing, row)
        elif event.kind == COMPLETE:
            await self.confirm(session, listing, row)
        elif event.kind == FAIL:
            self._fail(row)
        else:
            await self.refund(session, listing, row)
        now = self._clock.now_us()
        session.add(PaymentEventRow(id=event.id, purchase_id=row.id, kind=event.kind, received_us=now))

    async def _declined(self, session: AsyncSession, row: PurchaseRow) -> bool:
        """Whether the provider said that a purchase failed; if not, its checkout expired."""
        said = select(PaymentEventRow.id).where(col(PaymentEventRow.purchase_id) == row.id, col(PaymentEventRow.kind) == FAIL)
        return (await session.exec(said)).first() is not None

    async def _paid_late(self, session: AsyncSession, listing: ListingRow, row: PurchaseRow) -> None:
        """Complete a purchase whose checkout had expired, or pay the money back where the buyer has another one."""
        other = await self._earlier(session, row.listing_id, row.buyer_id)
        if other is None or other.status not in (PENDING, COMPLETED):
            await self._complete(session, listing, row)
            return
        row.status, row.refunded_us = REFUNDED, self._clock.now_us()
        await self._outbox.enqueue(
            session, REPAY_KIND, {}, row.org_id, subject=row.id, dedupe_key=row.id, max_attempts=REPAY_ATTEMPTS
        )
        await self._notices.repaid(session, row)

    def _require_fit(self, row: PurchaseRow, event: PaymentEvent) -> None:
        wrong = [
            name
            for name, kept, said in (
                ("provider", row.provider, event.provider),
                ("purchaseId", row.id, event.purchase_id),
                ("checkoutId", row.reference or event.reference, event.reference),
                ("amountCents", row.price_cents, event.price_cents),
                ("currency", row.currency, event.currency),
            )
            if kept != said
        ]
        if wrong:
            raise FailedPrecondition(f"the event does not fit the purchase: {wrong[0]}", field=wrong[0])

    def _fail(self, row: PurchaseRow) -> None:
        if row.status not in (PENDING, FAILED):
            raise _is(row)
        row.status, row.checkout_url = FAILED, None

    async def _complete(self, session: AsyncSession, listing: ListingRow, row: PurchaseRow) -> None:
        row.status, row.completed_us, row.checkout_url = COMPLETED, self._clock.now_us(), None
        listing.purchase_count += 1
        if listing.project_id is not None:
            buyer = Buyer(row.org_id, row.buyer_id)
            copy = await self._copies.copy(session, listing.project_id, buyer, title_of(row))
            await session.flush()
            row.cloned_project_id = copy.id
        await self._notices.completed(session, row)


def purchase_not_found(purchase_id: str) -> NotFound:
    """Return the refusal for a purchase that does not exist for the caller."""
    return NotFound(f"purchase {purchase_id} not found", purchase=purchase_id)


def _is(row: PurchaseRow) -> FailedPrecondition:
    return FailedPrecondition(f"purchase is {row.status}", status=row.status)
