"""Payments by a checkout server that listens on a port of its own, and the events that it signs."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from typing import Any

import httpx
import pytest
from sqlmodel import col, func, select

from core.documents.documents import Documents
from core.maker.market_tables import PaymentEventRow
from core.maker.tables import ProjectRow
from tests.conftest import Person, Start
from tests.doors import Refused
from tests.maker.checkout import SECRET, CheckoutServer, checkout_server, signature
from tests.maker.shop import Shop, notified

DAY = 86_400.0


class PaidShop(Shop):
    """A server whose payments a checkout server takes, with a seller, a buyer and something to sell."""

    checkout: CheckoutServer
    alice: Person
    eve: Person
    offer: Any

    @property
    def now(self) -> float:
        """The time of the server."""
        return self.busbar.clock.now_us() / 1_000_000

    async def send(
        self,
        purchase: Any,
        kind: str = "payment.completed",
        *,
        at: float | None = None,
        event_id: str = "evt_1",
        act: str = "confirm",
        secret: str = SECRET,
        **changes: Any,
    ) -> httpx.Response:
        """Send a signed event about a purchase as the checkout server does, with some of its members changed."""
        body = self.checkout.event(kind, purchase, **changes)
        at = self.now if at is None else at
        return await self.checkout.send(self.busbar.http(), purchase, body, at=at, event_id=event_id, act=act, secret=secret)

    async def copies(self) -> int:
        """Return the number of the buyer's projects."""
        async with self.busbar.app.database.read() as session:
            query = select(func.count()).select_from(ProjectRow).where(col(ProjectRow.owner_id) == self.eve.id)
            return (await session.exec(query)).one()

    async def status(self) -> str:
        """Return the status of the buyer's last purchase."""
        return (await self.call(self.eve, "PurchaseService.ListPurchases")).purchases[0].status


async def opened(start: Start, checkout: CheckoutServer, **settings: Any) -> PaidShop:
    payments = {"checkout_url": f"{checkout.url}/v1/", "checkout_secret": SECRET, "checkout_timeout_seconds": 5}
    shop = PaidShop(await start(payments={**payments, **settings.pop("payments", {})}, **settings))
    shop.checkout = checkout
    shop.alice, shop.eve = await shop.busbar.person("alice"), await shop.busbar.person("eve")
    project = await shop.project(shop.alice, wiring={"data": {"wires": []}})
    shop.offer = await shop.listing(shop.alice, price_cents=1250, currency="EUR", project_id=project.id)
    return shop


@pytest.fixture
async def checkout() -> AsyncIterator[CheckoutServer]:
    async with checkout_server() as running:
        yield running


@pytest.fixture
async def paid(start: Start, checkout: CheckoutServer) -> PaidShop:
    return await opened(start, checkout)


@pytest.fixture(params=["sqlite", "postgresql"])
async def any_paid(request: pytest.FixtureRequest, start: Start, checkout: CheckoutServer) -> PaidShop:
    if request.param == "sqlite":
        return await opened(start, checkout)
    return await opened(start, checkout, database=await request.getfixturevalue("postgres").migrated())


async def test_the_buyer_is_sent_to_the_checkout_and_the_event_completes_the_purchase(any_paid: PaidShop) -> None:
    shop = any_paid
    answer = await shop.busbar.http(shop.eve.session).post(f"/api/marketplace/listings/{shop.offer.id}/purchase")
    pending = answer.json()
    assert answer.status_code == 201
    assert (pending["status"], pending["provider"]) == ("pending", "checkout")
    assert pending["checkoutUrl"] == f"{shop.checkout.url}/pay/co_1"
    assert ((await shop.read(shop.eve, shop.offer)).owned, await shop.copies()) == (False, 0)
    (asked,) = shop.checkout.asked
    webhook = f"{shop.busbar.url}/api/purchases/{pending['id']}/confirm"
    assert asked.path == "/v1/checkouts"
    expires = datetime.fromisoformat(pending["createdAt"]) + timedelta(days=1)
    assert asked.json == {
        "purchaseId": pending["id"], "title": "Greenhouse", "amountCents": 1250, "currency": "EUR", "webhookUrl": webhook,
        "expiresAt": expires.strftime("%Y-%m-%dT%H:%M:%SZ"),
    }  # fmt: skip
    signed = signature(SECRET, asked.headers["webhook-id"], asked.headers["webhook-timestamp"], asked.body)
    assert asked.headers["webhook-signature"] == signed
    purchase = (await shop.call(shop.eve, "PurchaseService.ListPurchases")).purchases[0]
    confirmed = await shop.send(purchase)
    assert (confirmed.status_code, confirmed.json()["status"], confirmed.json()["checkoutUrl"]) == (200, "completed", None)
    after = await shop.read(shop.eve, shop.offer)
    assert (after.owned, after.purchase_count, await shop.copies()) == (True, 1, 1)
    assert len(await notified(shop.busbar, shop.eve, "purchase.completed")) == 1
    assert len(await notified(shop.busbar, shop.alice, "sale.completed")) == 1


async def test_a_repeated_purchase_keeps_its_checkout(paid: PaidShop) -> None:
    bought = await asyncio.gather(*(paid.buy(paid.eve, paid.offer) for _ in range(4)))
    assert len({(one.id, one.checkout_url) for one in bought}) == 1
    assert len(paid.checkout.checkouts) == 1
    answer = await paid.busbar.http(paid.eve.session).post(f"/api/marketplace/listings/{paid.offer.id}/purchase")
    assert (answer.status_code, answer.json()["checkoutUrl"]) == (200, bought[0].checkout_url)
    assert len(paid.checkout.asked) <= len(bought)


async def test_an_event_that_comes_again_changes_nothing(any_paid: PaidShop) -> None:
    shop = any_paid
    purchase = await shop.buy(shop.eve, shop.offer)
    answers = await asyncio.gather(*(shop.send(purchase) for _ in range(5)))
    answers.append(await shop.send(purchase))
    assert {(answer.status_code, answer.json()["status"]) for answer in answers} == {(200, "completed")}
    assert (await shop.send(purchase, event_id="evt_2")).status_code == 200
    assert (await shop.copies(), (await shop.read(shop.eve, shop.offer)).purchase_count) == (1, 1)
    assert len(await notified(shop.busbar, shop.eve, "purchase.completed")) == 1
    await shop.call(shop.alice, "PurchaseService.RefundPurchase", purchase_id=purchase.id)
    assert (await shop.send(purchase)).json()["status"] == "refunded"
    assert (await shop.send(purchase, event_id="evt_3")).status_code == 409
    assert (await shop.copies(), (await shop.read(shop.eve, shop.offer)).purchase_count) == (1, 0)


@pytest.mark.parametrize("secret", ["whsec_" + "a" * 44, "guessed", ""])
async def test_an_event_that_somebody_else_signed_is_refused(paid: PaidShop, secret: str) -> None:
    purchase = await paid.buy(paid.eve, paid.offer)
    answer = await paid.send(purchase, secret=secret)
    assert (answer.status_code, answer.json()) == (401, {"error": "invalid webhook signature"})
    assert await paid.status() == "pending"


@pytest.mark.parametrize("part", ["body", "webhook-id", "webhook-timestamp", "webhook-signature"])
async def test_an_event_that_was_changed_on_its_way_is_refused(paid: PaidShop, part: str) -> None:
    purchase = await paid.buy(paid.eve, paid.offer)
    body = paid.checkout.event("payment.completed", purchase)
    timestamp = str(int(paid.now))
    headers = {
        "webhook-id": "evt_1",
        "webhook-timestamp": timestamp,
        "webhook-signature": signature(SECRET, "evt_1", timestamp, body),
    }
    if part == "body":
        body = body.replace(b"1250", b"1251")
    else:
        changed = {"webhook-id": "evt_2", "webhook-timestamp": str(int(timestamp) + 1), "webhook-signature": "v1,AAAA"}
        headers[part] = changed[part]
    answer = await paid.busbar.http().post(f"/api/purchases/{purchase.id}/confirm", content=body, headers=headers)
    assert (answer.status_code, answer.json()) == (401, {"error": "invalid webhook signature"})
    for left_out in headers:
        rest = {name: value for name, value in headers.items() if name != left_out}
        answer = await paid.busbar.http().post(f"/api/purchases/{purchase.id}/confirm", content=body, headers=rest)
        assert answer.status_code == 401
    assert await paid.status() == "pending"


@pytest.mark.parametrize("late", [-301, 302, -(10**9)])
async def test_an_event_of_another_time_is_refused(paid: PaidShop, late: int) -> None:
    purchase = await paid.buy(paid.eve, paid.offer)
    answer = await paid.send(purchase, at=max(paid.now + late, 0))
    assert (answer.status_code, answer.json()) == (401, {"error": "the webhook timestamp is too far from the present"})
    assert await paid.status() == "pending"
    assert (await paid.send(purchase, at=paid.now - 290)).status_code == 200


async def test_an_old_event_cannot_be_replayed_later(paid: PaidShop) -> None:
    purchase = await paid.buy(paid.eve, paid.offer)
    sent = paid.now
    assert (await paid.send(purchase, at=sent)).status_code == 200
    paid.busbar.clock.forward(seconds=3600)
    assert (await paid.send(purchase, at=sent)).status_code == 401


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"amountCents": 1}, "amountCents"),
        ({"currency": "USD"}, "currency"),
        ({"checkoutId": "co_9"}, "checkoutId"),
        ({"purchaseId": "pur_9"}, "purchaseId"),
    ],
)
async def test_an_event_that_does_not_fit_the_purchase_is_refused(paid: PaidShop, changes: dict[str, Any], field: str) -> None:
    purchase = await paid.buy(paid.eve, paid.offer)
    answer = await paid.send(purchase, **changes)
    assert (answer.status_code, answer.json()) == (409, {"error": f"the event does not fit the purchase: {field}"})
    assert await paid.status() == "pending"
    # Its id is free: the checkout server may mend it and send it again.
    assert (await paid.send(purchase)).status_code == 200


@pytest.mark.parametrize("body", [b"", b"[]", b"nonsense", b'{"type": "payment.lost"}', b'{"type": "payment.completed"}'])
async def test_a_signed_text_that_is_no_event_is_refused_by_name(paid: PaidShop, body: bytes) -> None:
    purchase = await paid.buy(paid.eve, paid.offer)
    answer = await paid.checkout.send(paid.busbar.http(), purchase, body, at=paid.now)
    assert (answer.status_code, answer.json()["error"].split(":")[0]) == (400, "event")


async def test_an_event_about_nothing_is_not_found(paid: PaidShop) -> None:
    purchase = await paid.buy(paid.eve, paid.offer)
    purchase.id = "pur_nothing"
    assert (await paid.send(purchase)).status_code == 404
    free = await paid.buy(paid.eve, await paid.listing(paid.alice, "Free"))
    assert (await paid.send(free, checkoutId="co_1")).status_code == 409


async def test_what_failed_may_be_bought_again(paid: PaidShop) -> None:
    purchase = await paid.buy(paid.eve, paid.offer)
    assert (await paid.send(purchase, "payment.failed")).json()["status"] == "failed"
    assert (await paid.send(purchase, event_id="evt_2")).status_code == 409
    assert (await paid.copies(), (await paid.read(paid.eve, paid.offer)).purchase_count) == (0, 0)
    again = await paid.buy(paid.eve, paid.offer)
    assert (again.status, again.checkout_url) == ("pending", f"{paid.checkout.url}/pay/co_2")
    assert (await paid.send(again, event_id="evt_3")).json()["status"] == "completed"
    assert (await paid.send(again, "payment.failed", event_id="evt_4")).status_code == 409


async def test_a_checkout_that_nobody_pays_expires_and_the_buyer_may_begin_again(any_paid: PaidShop) -> None:
    shop = any_paid
    purchase = await shop.buy(shop.eve, shop.offer)
    shop.busbar.clock.forward(seconds=DAY - 60)
    assert (await notified(shop.busbar, shop.eve, "system"), await shop.status()) == ([], "pending")
    shop.busbar.clock.forward(seconds=120)
    (told,) = await notified(shop.busbar, shop.eve, "system")
    assert told.title == "Your checkout of Greenhouse has expired"
    (expired,) = (await shop.call(shop.eve, "PurchaseService.ListPurchases")).purchases
    assert (expired.id, expired.status, expired.has_field("checkout_url")) == (purchase.id, "failed", False)
    again = await shop.buy(shop.eve, shop.offer)
    assert (again.id != purchase.id, again.checkout_url) == (True, f"{shop.checkout.url}/pay/co_2")
    assert (await shop.send(again)).json()["status"] == "completed"
    shop.busbar.clock.forward(seconds=2 * DAY)
    assert (len(await notified(shop.busbar, shop.eve, "system")), await shop.status()) == (1, "completed")


async def test_an_expired_checkout_is_replaced_though_its_end_was_not_carried_out(
    paid: PaidShop, monkeypatch: pytest.MonkeyPatch
) -> None:
    purchase = await paid.buy(paid.eve, paid.offer)
    monkeypatch.setattr(paid.busbar.app.outbox, "notify", lambda: None)
    paid.busbar.clock.forward(seconds=DAY + 60)
    again = await paid.buy(paid.eve, paid.offer)
    assert (again.id != purchase.id, again.status) == (True, "pending")


async def test_who_pays_after_the_end_gets_what_they_paid_for(any_paid: PaidShop) -> None:
    shop = any_paid
    purchase = await shop.buy(shop.eve, shop.offer)
    shop.busbar.clock.forward(seconds=DAY + 60)
    await notified(shop.busbar, shop.eve, "system")
    assert await shop.status() == "failed"
    for _ in range(2):
        assert (await shop.send(purchase)).json()["status"] == "completed"
    assert (await shop.copies(), (await shop.read(shop.eve, shop.offer)).purchase_count) == (1, 1)


async def test_who_pays_two_checkouts_gets_the_late_money_back(any_paid: PaidShop) -> None:
    shop = any_paid
    late = await shop.buy(shop.eve, shop.offer)
    shop.busbar.clock.forward(seconds=DAY + 60)
    await notified(shop.busbar, shop.eve, "system")
    again = await shop.buy(shop.eve, shop.offer)
    assert (await shop.send(again)).json()["status"] == "completed"
    for _ in range(2):
        assert (await shop.send(late, event_id="evt_2")).json()["status"] == "refunded"
    titles = [notice.title for notice in await notified(shop.busbar, shop.eve, "system")]
    assert sorted(titles) == ["Your checkout of Greenhouse has expired", "Your late payment for Greenhouse is paid back"]
    assert shop.checkout.refunds == {f"refund-{late.id}"}
    assert (await shop.send(late, "payment.refunded", event_id="evt_3")).json()["status"] == "refunded"
    assert (await shop.copies(), (await shop.read(shop.eve, shop.offer)).purchase_count) == (1, 1)


async def test_what_is_paid_by_hand_has_all_the_time_it_takes(start: Start) -> None:
    shop = Shop(await start(payments={"manual": "on_confirmation"}))
    alice, eve = await shop.busbar.person("alice"), await shop.busbar.person("eve")
    purchase = await shop.buy(eve, await shop.listing(alice, price_cents=1250))
    shop.busbar.clock.forward(seconds=20 * DAY)
    await notified(shop.busbar, eve, "system")
    assert (await shop.call(alice, "PurchaseService.ConfirmPurchase", purchase_id=purchase.id)).status == "completed"


@pytest.mark.parametrize("act", ["confirm", "refund"])
async def test_a_refund_of_the_provider_is_taken_at_both_addresses(paid: PaidShop, act: str) -> None:
    purchase = await paid.buy(paid.eve, paid.offer)
    assert (await paid.send(purchase, "payment.refunded", act=act)).status_code == 409
    await paid.send(purchase)
    refunded = await paid.send(purchase, "payment.refunded", event_id="evt_2", act=act)
    assert (refunded.status_code, refunded.json()["status"]) == (200, "refunded")
    assert (await paid.read(paid.eve, paid.offer)).purchase_count == 0
    wrong = await paid.send(purchase, event_id="evt_3", act="refund")
    assert (wrong.status_code, wrong.json()) == (400, {"error": "event: type must be payment.refunded"})


async def test_the_creators_refund_pays_back_before_it_counts(paid: PaidShop) -> None:
    purchase = await paid.buy(paid.eve, paid.offer)
    await paid.send(purchase)
    paid.checkout.status = 500
    with pytest.raises(Refused) as refused:
        await paid.call(paid.alice, "PurchaseService.RefundPurchase", purchase_id=purchase.id)
    assert (refused.value.code, await paid.status()) == ("UNAVAILABLE", "completed")
    paid.checkout.status = 201
    calls = (paid.call(paid.alice, "PurchaseService.RefundPurchase", purchase_id=purchase.id) for _ in range(3))
    assert {one.status for one in await asyncio.gather(*calls)} == {"refunded"}
    assert paid.checkout.refunds == {f"refund-{purchase.id}"}
    assert paid.checkout.asked[-1].path == "/v1/checkouts/co_1/refund"
    assert (await paid.send(purchase, "payment.refunded", event_id="evt_2")).json()["status"] == "refunded"
    assert (await paid.read(paid.eve, paid.offer)).purchase_count == 0


async def test_the_creator_cannot_confirm_what_a_provider_confirms(paid: PaidShop) -> None:
    purchase = await paid.buy(paid.eve, paid.offer)
    with pytest.raises(Refused, match="the payment provider confirms this purchase") as refused:
        await paid.call(paid.alice, "PurchaseService.ConfirmPurchase", purchase_id=purchase.id)
    assert refused.value.code == "PERMISSION_DENIED"


@pytest.mark.parametrize("broken", [b"nonsense", b"[]", b'{"id": "co_1"}', b'{"id": "co_1", "url": "javascript:alert(1)"}'])
async def test_a_checkout_server_that_makes_no_sense_is_unavailable(paid: PaidShop, broken: bytes) -> None:
    paid.checkout.broken = broken
    answer = await paid.busbar.http(paid.eve.session).post(f"/api/marketplace/listings/{paid.offer.id}/purchase")
    assert (answer.status_code, answer.json()["error"].split(",")[0]) == (503, "the payment provider cannot take this now")


async def test_a_checkout_that_failed_to_start_is_started_by_the_next_try(paid: PaidShop) -> None:
    paid.checkout.status = 500
    with pytest.raises(Refused) as refused:
        await paid.buy(paid.eve, paid.offer)
    assert (refused.value.code, await paid.status()) == ("UNAVAILABLE", "pending")
    paid.checkout.status = 201
    purchase = await paid.buy(paid.eve, paid.offer)
    assert purchase.checkout_url == f"{paid.checkout.url}/pay/co_1"
    assert len((await paid.call(paid.eve, "PurchaseService.ListPurchases")).purchases) == 1


async def test_an_event_finds_its_purchase_though_the_start_was_never_answered(paid: PaidShop) -> None:
    paid.checkout.broken = b""
    with pytest.raises(Refused):
        await paid.buy(paid.eve, paid.offer)
    (purchase,) = (await paid.call(paid.eve, "PurchaseService.ListPurchases")).purchases
    assert (await paid.send(purchase, checkoutId="co_7")).json()["status"] == "completed"
    assert await paid.copies() == 1


async def test_a_checkout_server_that_is_gone_is_unavailable(start: Start) -> None:
    async with checkout_server() as checkout:
        shop = await opened(start, checkout)
    with pytest.raises(Refused) as refused:
        await shop.buy(shop.eve, shop.offer)
    assert refused.value.code == "UNAVAILABLE"
    assert checkout.url not in refused.value.message


async def test_the_checkout_server_is_called_only_where_calls_are_allowed(start: Start, checkout: CheckoutServer) -> None:
    shop = await opened(start, checkout, outgoing={"local": False})
    with pytest.raises(Refused) as refused:
        await shop.buy(shop.eve, shop.offer)
    assert (refused.value.code, checkout.asked) == ("UNAVAILABLE", [])


@pytest.mark.parametrize(
    "payments",
    [
        {"checkout_url": "http://127.0.0.1:1"},
        {"checkout_secret": "s"},
        {"checkout_url": "ftp://127.0.0.1", "checkout_secret": "s"},
        {"checkout_url": "http://127.0.0.1:1", "checkout_secret": "s", "checkout_name": "free"},
        {"checkout_url": "http://127.0.0.1:1", "checkout_secret": "whsec_%"},
        {"manual": "yes"},
    ],
)
async def test_a_checkout_server_is_set_up_whole_or_not_at_all(start: Start, payments: dict[str, str]) -> None:
    with pytest.raises(ValueError, match=r"checkout|manual|base64|discontinuous"):
        await start(payments=payments)


async def test_any_of_several_secrets_may_sign(start: Start, checkout: CheckoutServer) -> None:
    shop = await opened(start, checkout, payments={"checkout_secret": f"new {SECRET}"})
    purchase = await shop.buy(shop.eve, shop.offer)
    asked = checkout.asked[0]
    signed = signature("new", asked.headers["webhook-id"], asked.headers["webhook-timestamp"], asked.body)
    assert asked.headers["webhook-signature"] == signed
    assert (await shop.send(purchase, secret=SECRET)).status_code == 200
    assert (await shop.send(purchase, secret="new", event_id="evt_2")).status_code == 200


async def test_without_a_checkout_server_nobody_may_sign(start: Start) -> None:
    shop = Shop(await start(payments={"manual": "on_confirmation"}))
    alice, eve = await shop.busbar.person("alice"), await shop.busbar.person("eve")
    purchase = await shop.buy(eve, await shop.listing(alice, price_cents=5))
    body = CheckoutServer().event("payment.completed", purchase)
    for secret in ("", SECRET):
        answer = await CheckoutServer().send(shop.busbar.http(), purchase, body, at=time.time(), secret=secret)
        assert answer.status_code == 401
    assert (await shop.call(eve, "PurchaseService.ListPurchases")).purchases[0].status == "pending"


async def test_an_event_comes_over_grpc_as_well(paid: PaidShop) -> None:
    purchase = await paid.buy(paid.eve, paid.offer)
    body, timestamp = paid.checkout.event("payment.completed", purchase), str(int(paid.now))
    confirmed = await paid.call(
        None,
        "PurchaseService.ConfirmPurchase",
        purchase_id=purchase.id,
        event={"contentType": "application/json", "data": base64.b64encode(body).decode()},
        webhook_id="evt_1",
        webhook_timestamp=timestamp,
        webhook_signature=f"v1,AAAA {signature(SECRET, 'evt_1', timestamp, body)}",
    )
    assert confirmed.status == "completed"


async def test_neither_query_nor_body_fills_what_headers_say(paid: PaidShop) -> None:
    purchase = await paid.buy(paid.eve, paid.offer)
    body, timestamp = paid.checkout.event("payment.completed", purchase), str(int(paid.now))
    names = {
        "webhookId": "evt_1",
        "webhookTimestamp": timestamp,
        "webhookSignature": signature(SECRET, "evt_1", timestamp, body),
    }
    answer = await paid.busbar.http().post(f"/api/purchases/{purchase.id}/confirm", content=body, params=names)
    assert (answer.status_code, answer.json()) == (401, {"error": "authentication required"})
    content = json.loads(body) | names
    assert (await paid.busbar.http().post(f"/api/purchases/{purchase.id}/confirm", json=content)).status_code == 401


async def test_the_secret_is_neither_stored_nor_shown(paid: PaidShop, tmp_path: Any, capfd: pytest.CaptureFixture[str]) -> None:
    purchase = await paid.buy(paid.eve, paid.offer)
    await paid.send(purchase)
    await paid.send(purchase, secret="wrong")
    stored = b"".join(path.read_bytes() for path in (tmp_path / "data").iterdir() if path.is_file())
    printed = "".join(capfd.readouterr())
    for secret in (SECRET, SECRET.removeprefix("whsec_")):
        assert secret.encode() not in stored
        assert secret not in printed


async def test_a_copy_that_breaks_loses_no_payment(paid: PaidShop, monkeypatch: pytest.MonkeyPatch) -> None:
    purchase = await paid.buy(paid.eve, paid.offer)

    async def broken(*_: object, **__: object) -> None:
        raise RuntimeError("the disk is on fire")

    with monkeypatch.context() as patch:
        patch.setattr(Documents, "copy_all", broken)
        assert (await paid.send(purchase)).status_code == 500
    assert (await paid.status(), await paid.copies()) == ("pending", 0)
    async with paid.busbar.app.database.read() as session:
        assert (await session.exec(select(PaymentEventRow))).all() == []
    assert (await paid.send(purchase)).json()["status"] == "completed"
    assert await paid.copies() == 1


async def test_a_paid_copy_is_made_though_the_account_is_full(start: Start, checkout: CheckoutServer) -> None:
    shop = await opened(start, checkout, quotas={"projects": 1})
    purchase = await shop.buy(shop.eve, shop.offer)
    await shop.project(shop.eve)
    assert (await shop.send(purchase)).json()["status"] == "completed"
    assert await shop.copies() == 2


async def test_what_was_archived_meanwhile_is_still_delivered(paid: PaidShop) -> None:
    purchase = await paid.buy(paid.eve, paid.offer)
    await paid.call(paid.alice, "ListingService.ArchiveListing", listing_id=paid.offer.id)
    assert (await paid.send(purchase)).json()["status"] == "completed"
    assert (await paid.read(paid.eve, paid.offer)).owned is True


async def test_a_pending_purchase_keeps_its_price(paid: PaidShop) -> None:
    purchase = await paid.buy(paid.eve, paid.offer)
    await paid.call(paid.alice, "ListingService.UpdateListing", listing_id=paid.offer.id, price_cents=9900)
    assert (await paid.send(purchase)).json()["priceCents"] == 1250
    other = await paid.busbar.person()
    assert (await paid.buy(other, paid.offer)).price_cents == 9900


async def test_the_description_names_the_headers_of_an_event(paid: PaidShop) -> None:
    document = (await paid.busbar.http().get("/api/openapi.json")).json()
    operation = document["paths"]["/api/purchases/{purchaseId}/confirm"]["post"]
    names = {(parameter["in"], parameter["name"]) for parameter in operation["parameters"]}
    assert names == {
        ("path", "purchaseId"), ("header", "webhook-id"), ("header", "webhook-timestamp"), ("header", "webhook-signature"),
    }  # fmt: skip
