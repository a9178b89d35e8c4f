"""Checkout servers, which take money for this one, and the protocol that they speak: JSON over HTTP.

    POST {checkout_url}/checkouts                      starts a checkout; the header Idempotency-Key is the purchase's id,
                                                       and the same key always brings the same checkout
        {"purchaseId", "title", "amountCents", "currency", "webhookUrl", "expiresAt"}
        -> 200 or 201 {"id", "url"}                    its id, and where the buyer pays
    POST {checkout_url}/checkouts/{id}/refund          pays the money back, all of it; once, however often it is asked
        {"purchaseId"}
        -> 2xx

    POST {webhookUrl}                                  what the checkout server sends, again until it is answered with 2xx
        {"type": "payment.completed" | "payment.failed" | "payment.refunded",
         "purchaseId", "checkoutId", "amountCents", "currency"}

Both sides sign what they send with the secret they share, as Standard Webhooks do: `webhook-id` names the message and stays
the same when it is sent again, `webhook-timestamp` is the time in seconds since 1970, and `webhook-signature` holds
`v1,BASE64` with the HMAC-SHA256 of `{id}.{timestamp}.{body}`; several signatures may stand there with blanks between them, so
that a secret can be changed. `payment.failed` is final: its checkout can no longer be paid. Nor should it be after `expiresAt`,
RFC 3339, when the purchase ends here; a payment that comes nevertheless is taken, or paid back if the buyer has a newer one.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from typing import Any, cast
from urllib.parse import quote, urlsplit

import orjson
import structlog

from core.kernel.clock import MICROSECONDS, Clock, to_datetime
from core.kernel.errors import InvalidArgument, Unauthenticated, Unavailable
from core.kernel.http import AddressPolicy, Answer, OutgoingClient, OutgoingError
from core.kernel.ids import new_id
from core.kernel.settings import Payments, Settings
from core.maker.payments import KINDS, Bill, Checkout, PaymentEvent, SignedEvent
from gen.busbar.api.v1.error_reason_pb import ErrorReason

log = structlog.get_logger("busbar.payments")

LONGEST_REFERENCE, LONGEST_URL = 200, 2048
HTTP_OK, HTTP_BAD = 200, 300


class CheckoutServer:
    """Sends buyers to a checkout server that speaks the protocol above."""

    at_once = False
    by_hand = False

    def __init__(self, settings: Payments, client: OutgoingClient, clock: Clock) -> None:
        self.name = settings.checkout_name
        self._url = settings.checkout_url.rstrip("/")
        self._keys = [secret_bytes(secret) for secret in settings.checkout_secret.get_secret_value().split()]
        self._tolerance_seconds = settings.webhook_tolerance_seconds
        self._client = client
        self._clock = clock

    async def begin(self, bill: Bill) -> Checkout:
        """Start a checkout for a purchase, or return the one it has."""
        content = {
            "purchaseId": bill.purchase_id,
            "title": bill.title,
            "amountCents": bill.price_cents,
            "currency": bill.currency,
            "webhookUrl": bill.webhook_url,
            "expiresAt": to_datetime(bill.expires_us).isoformat(timespec="seconds").replace("+00:00", "Z"),
        }
        answer = await self._post("/checkouts", content, bill.purchase_id)
        members = _members(answer.body)
        reference, url = members.get("id"), members.get("url")
        if not (isinstance(reference, str) and 0 < len(reference) <= LONGEST_REFERENCE and _is_address(url)):
            raise self._unavailable("its answer names no checkout")
        return Checkout(reference, cast("str", url))

    async def refund(self, purchase_id: str, reference: str) -> None:
        """Have the money paid back."""
        await self._post(f"/checkouts/{quote(reference, safe='')}/refund", {"purchaseId": purchase_id}, f"refund-{purchase_id}")

    def verify(self, event: SignedEvent) -> PaymentEvent:
        """Check signature and time, then read the event."""
        signed = any(
            hmac.compare_digest(sign(key, event.id, event.timestamp, event.body).encode(), given.encode())
            for key in self._keys
            for given in event.signature.split()
        )
        # Compared before the time is looked at, so that only who signs learns anything about the clock.
        if not (signed and event.id):
            raise Unauthenticated("invalid webhook signature")
        if not self._is_recent(event.timestamp):
            raise Unauthenticated("the webhook timestamp is too far from the present")
        return _read(event, self.name)

    async def stop(self) -> None:
        """Close what is open."""
        await self._client.close()

    def _is_recent(self, timestamp: str) -> bool:
        if not (timestamp.isascii() and timestamp.isdigit()):
            return False
        return abs(self._clock.now_us() / MICROSECONDS - int(timestamp)) <= self._tolerance_seconds

    async def _post(self, path: str, content: dict[str, Any], key: str) -> Answer:
        body = orjson.dumps(content)
        message_id, timestamp = new_id("msg_"), str(self._clock.now_us() // MICROSECONDS)
        headers = {
            "Content-Type": "application/json",
            "Idempotency-Key": key,
            "webhook-id": message_id,
            "webhook-timestamp": timestamp,
            "webhook-signature": sign(self._keys[0], message_id, timestamp, body),
        }
        try:
            answer = await self._client.request("POST", self._url + path, headers=headers, content=body)
        except OutgoingError as error:
            raise self._unavailable(str(error)) from error
        if not HTTP_OK <= answer.status < HTTP_BAD:
            raise self._unavailable(f"it answered {answer.status}")
        return answer

    def _unavailable(self, why: str) -> Unavailable:
        # The address is the operator's affair: it goes to the log and not to the buyer.
        log.warning("checkout server failed", provider=self.name, error=why)
        return Unavailable("the payment provider cannot take this now, try again later", reason=ErrorReason.UNSPECIFIED)


def checkout_server(settings: Settings, clock: Clock) -> CheckoutServer | None:
    """Return the checkout server that is set up; None when there is none."""
    payments = settings.payments
    if not payments.checkout_url:
        return None
    client = OutgoingClient(AddressPolicy.of(settings.outgoing), seconds=payments.checkout_timeout_seconds)
    return CheckoutServer(payments, client, clock)


def secret_bytes(secret: str) -> bytes:
    """Return the key that a secret stands for: base64 after `whsec_`, else its own bytes.

    Raises:
        ValueError: What follows `whsec_` is not base64.
    """
    if not secret.startswith("whsec_"):
        return secret.encode()
    return base64.b64decode(secret.removeprefix("whsec_"), validate=True)


def sign(key: bytes, message_id: str, timestamp: str, body: bytes) -> str:
    """Return the signature of a message."""
    digest = hmac.new(key, f"{message_id}.{timestamp}.".encode() + body, hashlib.sha256).digest()
    return f"v1,{base64.b64encode(digest).decode()}"


def _members(body: bytes) -> dict[str, Any]:
    try:
        value: object = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}


def _is_address(url: object) -> bool:
    if not isinstance(url, str) or len(url) > LONGEST_URL:
        return False
    try:
        parts = urlsplit(url)
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and bool(parts.hostname)


def _read(event: SignedEvent, provider: str) -> PaymentEvent:
    members = _members(event.body)
    texts = [members.get(name) for name in ("type", "purchaseId", "checkoutId", "currency")]
    amount = members.get("amountCents")
    kind, purchase_id, reference, currency = (text if isinstance(text, str) else "" for text in texts)
    if kind not in KINDS:
        raise InvalidArgument.field("event", f"type must be one of {', '.join(sorted(KINDS))}")
    if not purchase_id or not reference or len(reference) > LONGEST_REFERENCE:
        raise InvalidArgument.field("event", "must name purchaseId and checkoutId")
    if not isinstance(amount, int) or isinstance(amount, bool):
        raise InvalidArgument.field("event", "amountCents must be an integer")
    return PaymentEvent(event.id, provider, kind, purchase_id, reference, amount, currency)
