"""Carries out deliveries of webhooks: signs the body and posts it."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping

from sqlmodel import col, select

from core.identity.sealing import SealBrokenError
from core.kernel.clock import MICROSECONDS, Clock
from core.kernel.http import AddressPolicy, AddressRefused, OutgoingClient, OutgoingError, OutgoingTimeout
from core.kernel.settings import Outgoing
from core.lab.rules_tables import WebhookRow
from core.lab.webhook_secrets import WebhookSecrets
from core.outbox.delivery import AttemptFailed, Backoff, Delivery, Handler, PermanentFailure
from core.storage.database import Database

SECONDS = 10.0
"""Limit for one exchange with a receiver."""
MOST_ANSWER_BYTES = 65_536
"""How much of an answer is read; what it says does not matter."""
MOST_SUCCESS = 299
MARGIN_SECONDS = 5.0
"""Time to read the webhook, beside the exchange."""


class WebhookSender:
    """Posts deliveries. The address of a webhook is read anew for each attempt, and so is its secret."""

    def __init__(
        self, database: Database, secrets: WebhookSecrets, clock: Clock, settings: Outgoing, *, seconds: float = SECONDS
    ) -> None:
        self._database = database
        self._secrets = secrets
        self._clock = clock
        policy = AddressPolicy.of(settings)
        self._client = OutgoingClient(policy, seconds=seconds, max_bytes=MOST_ANSWER_BYTES)
        # No jitter: receivers count on attempts two and four seconds apart.
        # The exchange ends before the attempt, so that its outcome is known.
        self.handler = Handler(self.send, seconds=seconds + MARGIN_SECONDS, backoff=Backoff(first=2.0, factor=2.0, jitter=0.0))

    async def send(self, delivery: Delivery) -> int:
        """Make one attempt and return the status of the answer.

        Raises:
            AttemptFailed: The receiver did not take it.
            PermanentFailure: There is nobody to send it to.
        """
        hook = await self._hook(delivery)
        body = delivery.payload.encode()
        headers = {"Content-Type": "application/json", "X-Webhook-Id": delivery.id, **self._signed(hook, body)}
        try:
            answer = await self._client.request("POST", hook.url, headers=headers, content=body, cut=True)
        except AddressRefused as error:
            raise PermanentFailure(f"Transport error: {error}") from error
        except OutgoingTimeout as error:
            raise AttemptFailed("Timeout") from error
        except OutgoingError as error:
            raise AttemptFailed(f"Transport error: {error}") from error
        if answer.status > MOST_SUCCESS:
            raise AttemptFailed(f"HTTP {answer.status}", answer.status)
        return answer.status

    async def stop(self) -> None:
        """Close open connections."""
        await self._client.close()

    async def _hook(self, delivery: Delivery) -> WebhookRow:
        query = select(WebhookRow).where(
            col(WebhookRow.public_id) == delivery.subject, col(WebhookRow.org_id) == delivery.org_id
        )
        async with self._database.read() as session:
            hook = (await session.exec(query)).one_or_none()
        if hook is None:
            raise PermanentFailure("Webhook was deleted")
        if not hook.enabled:
            raise PermanentFailure("Webhook is disabled")
        return hook

    def _signed(self, hook: WebhookRow, body: bytes) -> Mapping[str, str]:
        """Return the time of an attempt and its signatures.

        Raises:
            AttemptFailed: A secret cannot be opened: nothing is sent without the signature that is expected.
        """
        now = self._clock.now_us()
        stamp = str(now // MICROSECONDS)
        text = body if hook.signature_style == "body" else stamp.encode() + b"." + body
        headers = {"X-Webhook-Timestamp": stamp}
        rotating = (hook.previous_until_us or 0) > now
        try:
            secret = self._secrets.open(hook.public_id, hook.secret)
            previous = self._secrets.open(hook.public_id, hook.previous_secret) if rotating else None
        except SealBrokenError as error:
            raise AttemptFailed("The secret of the webhook cannot be opened: set it anew") from error
        if secret:
            headers["X-Webhook-Signature"] = signature(secret, text)
        if previous:
            headers["X-Webhook-Signature-Previous"] = signature(previous, text)
        return headers


def signature(secret: str, text: bytes) -> str:
    """Return the lower-case hex HMAC-SHA256 of a text."""
    return hmac.new(secret.encode(), text, hashlib.sha256).hexdigest()
