"""Webhooks and their deliveries, as administrators see them."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from sqlalchemy.exc import IntegrityError
from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from core.kernel.call import Call
from core.kernel.clock import MICROSECONDS, Clock, to_exact_timestamp
from core.kernel.errors import FieldViolation, InvalidArgument, NotFound
from core.kernel.patches import named_values
from core.lab.hooks import KIND, Webhooks, kinds_of
from core.lab.ids import already_exists, new_public_id, not_found
from core.lab.owners import owner_of
from core.lab.paging import page_of, read_page
from core.lab.rules_tables import WebhookRow
from core.lab.webhook_secrets import WebhookSecrets
from core.outbox.outbox import Outbox
from core.outbox.tables import DEAD_LETTER, DELIVERED, LEASED, PENDING, OutboxRow
from core.storage.database import Database
from gen.busbar.lab.v1.common_pb import StatusResponse
from gen.busbar.lab.v1.webhooks_pb import (
    CreateWebhookRequest,
    DeleteWebhookRequest,
    Delivery,
    GetWebhookRequest,
    ListDeliveriesRequest,
    ListDeliveriesResponse,
    ListWebhooksRequest,
    ListWebhooksResponse,
    RedeliverDeliveryRequest,
    UpdateWebhookRequest,
    Webhook,
)

ROTATION_US = 24 * 3600 * MICROSECONDS
"""How long the secret before the present one signs beside it."""

STATES = {"pending": (PENDING, LEASED), "delivered": (DELIVERED,), "dead_letter": (DEAD_LETTER,), "failed": ("failed",)}
"""States in the outbox by the state that is shown. No delivery stays `failed`: it is pending until it is a dead letter."""


class WebhookService:
    """Keeps webhooks and shows what became of their deliveries."""

    def __init__(self, database: Database, outbox: Outbox, webhooks: Webhooks, secrets: WebhookSecrets, clock: Clock) -> None:
        self._database = database
        self._outbox = outbox
        self._webhooks = webhooks
        self._secrets = secrets
        self._clock = clock

    async def list_webhooks(self, request: ListWebhooksRequest, call: Call) -> ListWebhooksResponse:
        """List webhooks in the order in which they were made."""
        page = page_of(request)
        query = select(WebhookRow).where(col(WebhookRow.org_id) == call.caller.org_id).order_by(col(WebhookRow.id))
        async with self._database.read() as session:
            rows, total = await read_page(session, query, page)
        return ListWebhooksResponse(page=page.number, page_size=page.size, total=total, data=[_message(row) for row in rows])

    async def create_webhook(self, request: CreateWebhookRequest, call: Call) -> StatusResponse:
        """Make a webhook of the caller's organisation."""
        org_id, public_id = call.caller.org_id, new_public_id()
        row = WebhookRow(
            public_id=public_id,
            org_id=org_id,
            user_id=owner_of(call, "a webhook"),
            url=request.url,
            url_hash=_hash(request.url),
            secret=self._secrets.seal(public_id, request.secret or None),
            events=json.dumps(list(request.events)),
            enabled=request.enabled if request.has_field("enabled") else True,
            signature_style=request.signature_style or "timestamped",
            created_us=self._clock.now_us(),
        )
        try:
            async with self._database.unit_of_work() as session:
                session.add(row)
        except IntegrityError as error:
            raise already_exists("Webhook") from error
        await self._webhooks.refresh(org_id)
        return StatusResponse(status="success", message="Webhook successfully created.")

    async def get_webhook(self, request: GetWebhookRequest, call: Call) -> Webhook:
        """Read a webhook."""
        async with self._database.read() as session:
            return _message(await _find(session, call.caller.org_id, request.public_id))

    async def update_webhook(self, request: UpdateWebhookRequest, call: Call) -> StatusResponse:
        """Change the named fields."""
        org_id, values = call.caller.org_id, _changes(request)
        try:
            async with self._database.unit_of_work() as session:
                row = await _find(session, org_id, request.public_id, lock=True)
                if "secret" in values:
                    self._rotate(row, values.pop("secret") or None)
                for name, value in values.items():
                    setattr(row, name, value)
        except IntegrityError as error:
            raise already_exists("Webhook") from error
        await self._webhooks.refresh(org_id)
        return StatusResponse(status="success", message="Webhook successfully updated.")

    def _rotate(self, row: WebhookRow, secret: str | None) -> None:
        """Set a new secret. The one before, if it can be read, signs beside it for a while, unless signing ends."""
        before = self._secrets.readable(row)
        if secret is None or before is None:
            row.previous_secret = row.previous_until_us = None
        elif before != secret:
            row.previous_secret = row.secret
            row.previous_until_us = self._clock.now_us() + ROTATION_US
        row.secret = self._secrets.seal(row.public_id, secret)

    async def delete_webhook(self, request: DeleteWebhookRequest, call: Call) -> StatusResponse:
        """Delete a webhook with its deliveries."""
        org_id = call.caller.org_id
        async with self._database.unit_of_work() as session:
            row = await _find(session, org_id, request.public_id, lock=True)
            await self._outbox.forget(session, org_id, row.public_id)
            await session.delete(row)
        await self._webhooks.refresh(org_id)
        return StatusResponse(status="success", message="Webhook successfully deleted.")

    async def list_deliveries(self, request: ListDeliveriesRequest, call: Call) -> ListDeliveriesResponse:
        """List the deliveries of a webhook, newest first."""
        page, org_id, hook = page_of(request), call.caller.org_id, request.public_id
        states = STATES[request.status] if request.status else ()
        async with self._database.read() as session:
            await _find(session, org_id, hook)
            rows = await self._outbox.list(
                session, org_id, kind=KIND, subject=hook, states=states, offset=page.offset, limit=page.size
            )
            total = await self._outbox.count(session, org_id, kind=KIND, subject=hook, states=states)
        return ListDeliveriesResponse(page=page.number, page_size=page.size, total=total, data=[_delivery(row) for row in rows])

    async def redeliver_delivery(self, request: RedeliverDeliveryRequest, call: Call) -> StatusResponse:
        """Send a dead letter again."""
        org_id = call.caller.org_id
        async with self._database.unit_of_work() as session:
            await _find(session, org_id, request.public_id)
            row = await self._delivery_row(session, org_id, request)
            await self._outbox.redeliver(session, org_id, row.id)
        return StatusResponse(status="success", message="Delivery successfully queued.")

    async def _delivery_row(self, session: AsyncSession, org_id: str, request: RedeliverDeliveryRequest) -> OutboxRow:
        refusal = not_found("Delivery", request.delivery_id)
        try:
            row = await self._outbox.get(session, org_id, request.delivery_id)
        except NotFound as error:
            raise refusal from error
        if row.kind != KIND or row.subject != request.public_id:
            raise refusal
        return row

    async def forget_user(self, session: AsyncSession, org_id: str, user_id: str) -> None:
        """Delete the webhooks of a user with their deliveries."""
        mine = select(WebhookRow).where(col(WebhookRow.org_id) == org_id, col(WebhookRow.user_id) == user_id)
        for row in (await session.exec(mine)).all():
            await self._outbox.forget(session, org_id, row.public_id)
            await session.delete(row)

    async def user_forgotten(self, org_id: str, _user_id: str) -> None:
        """Stop telling those webhooks, once that is committed."""
        await self._webhooks.refresh(org_id)


async def _find(session: AsyncSession, org_id: str, public_id: str, *, lock: bool = False) -> WebhookRow:
    query = select(WebhookRow).where(col(WebhookRow.public_id) == public_id, col(WebhookRow.org_id) == org_id)
    row = (await session.exec(query.with_for_update() if lock else query)).one_or_none()
    if row is None:
        raise not_found("Webhook", public_id)
    return row


def _changes(request: UpdateWebhookRequest) -> dict[str, Any]:
    """Return the new values of columns."""
    mask = request.update_mask
    if mask is not None and "events" in mask.paths and not request.events:
        # Presence cannot tell an empty list from a null one; neither will do.
        violation = FieldViolation(("events",), "must have at least one item", "repeated.min_items", 1, [])
        raise InvalidArgument("events: must have at least one item", violations=(violation,), field="events")
    values = named_values(request, "url", "secret", "events", "enabled", "signature_style", nullable=("secret",))
    if "events" in values:
        values["events"] = json.dumps(list(values["events"]))
    if "url" in values:
        values["url_hash"] = _hash(values["url"])
    return values


def _hash(url: str) -> str:
    return hashlib.sha256(url.encode()).hexdigest()


def _message(row: WebhookRow) -> Webhook:
    return Webhook(
        public_id=row.public_id,
        url=row.url,
        events=kinds_of(row),
        enabled=row.enabled,
        created_on=to_exact_timestamp(row.created_us),
        user_public_id=row.user_id,
        signature_style=row.signature_style,
    )


def _delivery(row: OutboxRow) -> Delivery:
    """Return a delivery as it is shown: pending until its outcome is final."""
    return Delivery(
        public_id=row.id,
        event_type=json.loads(row.payload)["type"],
        status=PENDING if row.state == LEASED else row.state,
        attempts=row.attempts,
        last_error=row.last_error,
        response_code=row.response_code,
        created_on=to_exact_timestamp(row.created_us),
        delivered_on=to_exact_timestamp(row.delivered_us),
    )
