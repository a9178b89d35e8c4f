"""What buyers and creators are told of purchases."""

from __future__ import annotations

import json

from sqlmodel.ext.asyncio.session import AsyncSession

from core.maker.market_tables import PurchaseRow
from core.maker.notices import Notices

PURCHASES, SALES = "/me/purchases", "/me/sales"


class SaleNotices:
    """Notifies of each step of a purchase, in the unit of work that takes it."""

    def __init__(self, notices: Notices) -> None:
        self._notices = notices

    async def completed(self, session: AsyncSession, row: PurchaseRow) -> None:
        """Tell both that a purchase is complete."""
        title, listing = title_of(row), _listing(row)
        link = f"/projects/{row.cloned_project_id}" if row.cloned_project_id else listing
        await self._post(session, row, row.buyer_id, f"You have acquired {title}", link, kind="purchase.completed")
        await self._post(session, row, row.creator_id, f"{title} was acquired", listing, kind="sale.completed")

    async def asked(self, session: AsyncSession, row: PurchaseRow) -> None:
        """Tell the creator that a purchase waits for them, who alone can say that it is paid."""
        title = f"Somebody wants {title_of(row)}: confirm once it is paid"
        await self._post(session, row, row.creator_id, title, SALES)

    async def refunded(self, session: AsyncSession, row: PurchaseRow) -> None:
        """Tell the buyer that a purchase was taken back."""
        await self._post(session, row, row.buyer_id, f"Your purchase of {title_of(row)} was refunded", PURCHASES)

    async def expired(self, session: AsyncSession, row: PurchaseRow) -> None:
        """Tell the buyer that a checkout was not paid in time."""
        await self._post(session, row, row.buyer_id, f"Your checkout of {title_of(row)} has expired", _listing(row))

    async def repaid(self, session: AsyncSession, row: PurchaseRow) -> None:
        """Tell the buyer that what they paid too late is paid back."""
        await self._post(session, row, row.buyer_id, f"Your late payment for {title_of(row)} is paid back", PURCHASES)

    async def _post(
        self, session: AsyncSession, row: PurchaseRow, user_id: str, title: str, link: str, *, kind: str = "system"
    ) -> None:
        data: dict[str, object] = {
            "purchaseId": row.id,
            "listingId": row.listing_id,
            "priceCents": row.price_cents,
            "currency": row.currency,
        }
        await self._notices.post(session, user_id, kind, title, link=link, data=data)


def title_of(row: PurchaseRow) -> str:
    """Return the title that the listing had."""
    return json.loads(row.snapshot)["title"]


def _listing(row: PurchaseRow) -> str:
    return f"/marketplace/listings/{row.listing_id}"
