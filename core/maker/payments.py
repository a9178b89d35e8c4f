"""Who takes the money for priced listings.

`free` and `manual` are built in; any other provider is a checkout server, spoken to as `checkout.py` says.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from core.kernel.clock import MICROSECONDS
from core.kernel.errors import Unauthenticated, Unavailable
from core.kernel.settings import Payments
from gen.busbar.api.v1.error_reason_pb import ErrorReason

FREE, MANUAL = "free", "manual"
COMPLETE, FAIL, REFUND = "payment.completed", "payment.failed", "payment.refunded"
KINDS = frozenset({COMPLETE, FAIL, REFUND})
"""What a provider may say of a purchase."""


@dataclass(frozen=True, slots=True)
class Bill:
    """What a provider is told of a purchase."""

    purchase_id: str
    title: str
    price_cents: int
    currency: str
    webhook_url: str
    expires_us: int


@dataclass(frozen=True, slots=True)
class Checkout:
    """A checkout at a provider.

    Attributes:
        reference: Id by which the provider knows it.
        url: Where the buyer pays.
    """

    reference: str
    url: str


@dataclass(frozen=True, slots=True)
class SignedEvent:
    """An event as it came, not to be believed before its signature is verified."""

    id: str
    timestamp: str
    signature: str
    body: bytes


@dataclass(frozen=True, slots=True)
class PaymentEvent:
    """What a provider says of a purchase."""

    id: str
    provider: str
    kind: str
    purchase_id: str
    reference: str
    price_cents: int
    currency: str


class PaymentProvider(Protocol):
    """Takes money."""

    @property
    def name(self) -> str:
        """What purchases are marked with."""
        ...

    @property
    def at_once(self) -> bool:
        """Whether a purchase is complete as soon as it is made."""
        ...

    @property
    def by_hand(self) -> bool:
        """Whether it is the creator who confirms and refunds."""
        ...

    async def begin(self, bill: Bill) -> Checkout | None:
        """Start a checkout, or return the one that the same purchase has; None where there is nothing to start.

        Raises:
            Unavailable: The provider does not take it now.
        """
        ...

    async def refund(self, purchase_id: str, reference: str) -> None:
        """Pay the money back; once, however often it is asked.

        Raises:
            Unavailable: The provider does not do it now.
        """
        ...

    def verify(self, event: SignedEvent) -> PaymentEvent:
        """Return what a signed event says.

        Raises:
            Unauthenticated: The signature is not the provider's, or the event is too old or too new.
            InvalidArgument: It is signed, but no event.
        """
        ...


@dataclass(frozen=True, slots=True)
class ByHand:
    """No machine takes the money: it is nothing, or changes hands elsewhere."""

    name: str
    at_once: bool
    by_hand: bool = True

    async def begin(self, bill: Bill) -> Checkout | None:
        """Start nothing."""
        del bill

    async def refund(self, purchase_id: str, reference: str) -> None:
        """Leave the money to the people."""

    def verify(self, event: SignedEvent) -> PaymentEvent:
        """Refuse every event: nobody may sign them."""
        del event
        raise Unauthenticated("nobody may sign events for this purchase")


class PaymentProviders:
    """The providers that the server is set up with."""

    def __init__(self, settings: Payments, checkout: PaymentProvider | None) -> None:
        self._free = ByHand(FREE, at_once=True)
        self._manual = ByHand(MANUAL, at_once=settings.manual == "at_once")
        self._checkout = checkout
        self.checkout_us = int(settings.checkout_hours * 3600 * MICROSECONDS)
        self._paid: PaymentProvider | None = self._checkout or (self._manual if settings.manual != "off" else None)

    def for_price(self, price_cents: int) -> PaymentProvider:
        """Return who takes a price.

        Raises:
            Unavailable: Nobody takes money here.
        """
        if price_cents == 0:
            return self._free
        if self._paid is None:
            raise _no_provider()
        return self._paid

    def due_us(self, created_us: int) -> int:
        """Return when the checkout of a purchase expires."""
        return created_us + self.checkout_us

    def named(self, name: str) -> PaymentProvider:
        """Return the provider with which a purchase was made.

        Raises:
            Unavailable: The server is no longer set up with it.
        """
        known: tuple[PaymentProvider | None, ...] = (self._free, self._manual, self._checkout)
        for provider in known:
            if provider is not None and provider.name == name:
                return provider
        raise _no_provider()

    def verify(self, event: SignedEvent) -> PaymentEvent:
        """Return what a signed event says; see `PaymentProvider.verify`."""
        return (self._checkout or self._free).verify(event)


def _no_provider() -> Unavailable:
    return Unavailable("no payment provider is set up", reason=ErrorReason.NOT_CONFIGURED, setting="payments")
