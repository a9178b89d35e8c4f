"""The ends of checkouts that are not payments: one that nobody pays in time expires, and money that comes too late goes back.

A checkout that has expired here may still be paid at its provider. Such a payment completes the purchase after all, unless the
buyer has begun or made another one meanwhile: then it is paid back.
"""

from __future__ import annotations

from core.kernel.errors import NotFound, Unavailable
from core.maker.market_tables import PurchaseRow
from core.maker.payments import PaymentProviders
from core.maker.sales import EXPIRE_KIND, REPAY_KIND, Sales
from core.outbox.delivery import AttemptFailed, Backoff, Delivery, Handler
from core.storage.database import Database

REPAY_SECONDS, REPAY_PAUSE = 30.0, 3600.0
"""Seconds for one try to pay money back, and the most between two."""


class CheckoutEnds:
    """Carries out what sales put into the outbox."""

    def __init__(self, database: Database, sales: Sales, providers: PaymentProviders) -> None:
        self._database = database
        self._sales = sales
        self._providers = providers
        self.handlers = {
            EXPIRE_KIND: Handler(self._expire),
            REPAY_KIND: Handler(self._repay, seconds=REPAY_SECONDS, backoff=Backoff(most=REPAY_PAUSE)),
        }

    async def _expire(self, delivery: Delivery) -> None:
        try:
            async with self._database.unit_of_work() as session:
                _, row = await self._sales.hold(session, delivery.subject)
                await self._sales.expire(session, row)
        except NotFound:
            # The purchase is gone, and with it what could expire.
            return

    async def _repay(self, delivery: Delivery) -> None:
        async with self._database.read() as session:
            row = await session.get(PurchaseRow, delivery.subject)
        if row is None:
            return
        try:
            await self._providers.named(row.provider).refund(row.id, row.reference or "")
        except Unavailable as error:
            raise AttemptFailed(error.message) from error
