"""Purchases over every door that has them, without money and with money that changes hands by hand."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from sqlalchemy.exc import IntegrityError
from sqlmodel import col, select

from core.documents.documents import Documents
from core.maker.market_tables import PurchaseRow
from core.maker.tables import ProjectRow
from gen.busbar.api.v1.options_pb import CredentialKind
from tests.conftest import Person, Start
from tests.doors import Refused
from tests.maker.shop import Shop, notified

MEMBERS = {
    "id", "listingId", "listing", "priceCents", "currency", "status", "provider", "clonedProjectId", "referralCode",
    "createdAt", "completedAt", "checkoutUrl",
}  # fmt: skip


def path(listing: Any) -> str:
    return f"/api/marketplace/listings/{listing.id}/purchase"


async def statuses(shop: Shop, person: Person) -> list[str]:
    return [one.status for one in (await shop.call(person, "PurchaseService.ListPurchases")).purchases]


async def projects_of(shop: Shop, person: Person) -> list[ProjectRow]:
    async with shop.busbar.app.database.read() as session:
        return list((await session.exec(select(ProjectRow).where(col(ProjectRow.owner_id) == person.id))).all())


async def test_a_free_listing_is_the_buyers_at_once(shop: Shop, alice: Person, eve: Person) -> None:
    listing = await shop.listing(alice, cover_url="https://example.com/a.png")
    answer = await shop.busbar.http(eve.session).post(path(listing))
    body = answer.json()
    assert answer.status_code == 201
    assert set(body) == MEMBERS
    assert (body["status"], body["provider"], body["priceCents"], body["checkoutUrl"]) == ("completed", "free", 0, None)
    assert body["completedAt"] is not None
    assert body["listing"] == {
        "id": listing.id, "title": "Greenhouse", "kind": "project", "coverUrl": "https://example.com/a.png",
        "creator": {"id": alice.id, "username": "alice", "displayName": "alice"},
    }  # fmt: skip
    after = await shop.read(eve, listing)
    assert (after.owned, after.purchase_count) == (True, 1)
    assert (await shop.read(alice, listing)).owned is False
    (bought,) = await notified(shop.busbar, eve, "purchase.completed")
    (sold,) = await notified(shop.busbar, alice, "sale.completed")
    assert (bought.title, sold.title) == ("You have acquired Greenhouse", "Greenhouse was acquired")


@pytest.mark.parametrize("door", ["grpc", "rest"])
async def test_a_repeated_purchase_is_the_one_there_is(shop: Shop, alice: Person, eve: Person, door: str) -> None:
    listing = await shop.listing(alice, project_id=(await shop.project(alice)).id)
    client = shop.busbar.client(door, eve.session)
    first = await client.call("PurchaseService.PurchaseListing", listing_id=listing.id)
    second = await client.call("PurchaseService.PurchaseListing", listing_id=listing.id)
    assert second == first
    assert (await shop.busbar.http(eve.session).post(path(listing), json={})).status_code == 200
    assert len(await projects_of(shop, eve)) == 1
    assert (await shop.read(eve, listing)).purchase_count == 1
    assert len((await client.call("PurchaseService.ListPurchases")).purchases) == 1


async def test_purchases_of_one_buyer_at_once_are_one(any_shop: Shop) -> None:
    alice, eve = await any_shop.busbar.person("alice"), await any_shop.busbar.person("eve")
    project = await any_shop.project(alice, widgets=[{"id": "w1"}])
    listing = await any_shop.listing(alice, price_cents=500, project_id=project.id)
    http = any_shop.busbar.http(eve.session)
    answers = await asyncio.gather(*(http.post(path(listing)) for _ in range(8)))
    assert sorted(answer.status_code for answer in answers) == [200] * 7 + [201]
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert len(await projects_of(any_shop, eve)) == 1
    assert (await any_shop.read(eve, listing)).purchase_count == 1
    assert len(await notified(any_shop.busbar, alice, "sale.completed")) == 1


async def test_every_buyer_at_once_is_counted(any_shop: Shop) -> None:
    alice = await any_shop.busbar.person("alice")
    listing = await any_shop.listing(alice, project_id=(await any_shop.project(alice)).id)
    people = [await any_shop.busbar.person() for _ in range(6)]
    bought = await asyncio.gather(*(any_shop.buy(person, listing) for person in people))
    assert (await any_shop.read(alice, listing)).purchase_count == 6
    await asyncio.gather(
        *(any_shop.call(alice, "PurchaseService.RefundPurchase", purchase_id=one.id) for one in (*bought[:3], *bought[:3])),
        *(any_shop.review(person, listing, 4) for person in people[3:]),
    )
    after = await any_shop.read(alice, listing)
    assert (after.purchase_count, after.aggregate.count) == (3, 3)


async def test_the_buyer_gets_a_private_copy_of_the_project(any_shop: Shop) -> None:
    alice, eve = await any_shop.busbar.person("alice"), await any_shop.busbar.person("eve")
    documents: dict[str, Any] = {
        "firmware": {"files": [{"path": "main.ino", "content": "void setup(){}"}]},
        "wiring": {"data": {"wires": [1, 2]}},
        "widgets": [{"id": "w1", "type": "LED"}],
    }
    project = await any_shop.project(alice, "Pump", **documents)
    listing = await any_shop.listing(alice, "Pump kit", project_id=project.id)
    bought = await any_shop.buy(eve, listing)
    (copy,) = await projects_of(any_shop, eve)
    assert (copy.id, copy.name, copy.visibility, copy.org_id) == (bought.cloned_project_id, "Pump kit", "private", eve.org_id)
    async with any_shop.busbar.app.database.read() as session:
        for kind, content in documents.items():
            document = await Documents().current(session, copy.id, kind)
            assert document is not None
            assert (document.content, document.org_id) == (content, eve.org_id)
    async with any_shop.busbar.app.database.unit_of_work() as session:
        await session.delete(await session.get_one(ProjectRow, copy.id))
    (after,) = (await any_shop.call(eve, "PurchaseService.ListPurchases")).purchases
    assert (after.status, after.has_field("cloned_project_id")) == ("completed", False)


async def test_a_copy_that_breaks_takes_nothing_and_is_made_by_the_next_try(
    shop: Shop, alice: Person, eve: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = await shop.project(alice, wiring={"data": {}})
    listing = await shop.listing(alice, project_id=project.id)

    async def broken(*_: object, **__: object) -> None:
        raise RuntimeError("the disk is on fire")

    with monkeypatch.context() as patch:
        patch.setattr(Documents, "copy_all", broken)
        answer = await shop.busbar.http(eve.session).post(path(listing))
        assert (answer.status_code, answer.json()) == (500, {"error": "internal error"})
    after = await shop.read(eve, listing)
    assert (after.owned, after.purchase_count, await projects_of(shop, eve)) == (False, 0, [])
    assert (await shop.call(eve, "PurchaseService.ListPurchases")).purchases == []
    assert (await shop.buy(eve, listing)).status == "completed"
    assert len(await projects_of(shop, eve)) == 1


async def test_a_purchase_keeps_what_the_listing_was(shop: Shop, alice: Person, eve: Person) -> None:
    listing = await shop.listing(alice, cover_url="https://example.com/a.png")
    await shop.buy(eve, listing)
    await shop.call(alice, "ListingService.UpdateListing", listing_id=listing.id, cover_url="https://example.com/b.png")
    await shop.call(alice, "ListingService.ArchiveListing", listing_id=listing.id)
    (kept,) = (await shop.call(eve, "PurchaseService.ListPurchases")).purchases
    assert kept.listing.cover_url == "https://example.com/a.png"


async def test_who_may_not_buy_is_told_why(shop: Shop, alice: Person, eve: Person) -> None:
    draft, listing = await shop.draft(alice), await shop.listing(alice)
    buyer = await shop.busbar.person()
    await shop.buy(buyer, listing)

    async def status(person: Person | None, listing_id: str) -> int:
        http = shop.busbar.http(person.session if person else None)
        return (await http.post(f"/api/marketplace/listings/{listing_id}/purchase")).status_code

    assert [await status(alice, one.id) for one in (draft, listing)] == [403, 403]
    assert [await status(eve, listing_id) for listing_id in (draft.id, "nothing")] == [404, 404]
    assert await status(None, listing.id) == 401
    await shop.call(alice, "ListingService.ArchiveListing", listing_id=listing.id)
    assert await status(eve, listing.id) == 404
    assert await status(buyer, listing.id) == 200
    (bought,) = (await shop.call(buyer, "PurchaseService.ListPurchases")).purchases
    await shop.call(alice, "PurchaseService.RefundPurchase", purchase_id=bought.id)
    assert await status(buyer, listing.id) == 409


async def test_a_full_account_buys_no_project(start: Start) -> None:
    shop = Shop(await start(quotas={"projects": 1}))
    alice, eve = await shop.busbar.person("alice"), await shop.busbar.person("eve")
    listing = await shop.listing(alice, project_id=(await shop.project(alice)).id)
    await shop.project(eve)
    with pytest.raises(Refused, match="the account holds 1 projects") as refused:
        await shop.buy(eve, listing)
    assert refused.value.code == "CONFLICT"
    assert (await shop.buy(eve, await shop.listing(alice, "Without"))).status == "completed"


async def test_a_referral_code_is_kept_and_a_wrong_one_refused(shop: Shop, alice: Person, eve: Person) -> None:
    listing = await shop.listing(alice)
    code = (await shop.call(alice, "MeService.GetReferral")).code
    http = shop.busbar.http(eve.session)
    refused = await http.post(path(listing), json={"referralCode": "ZZZZZZZZ"})
    assert (refused.status_code, refused.json()) == (400, {"error": "referralCode: no user has this code"})
    assert (await http.post(path(listing), json={"referralCode": code.lower()})).json()["referralCode"] == code


async def test_the_copy_reads_like_the_project_but_is_the_buyers_own(shop: Shop, alice: Person, eve: Person) -> None:
    seller, buyer = shop.busbar.http(alice.session), shop.busbar.http(eve.session)
    original = (await seller.post("/api/projects", json={"name": "Pump", "description": "Pumps", "tags": ["water"]})).json()
    documents: dict[str, Any] = {
        "firmware": {"source": "void loop(){}"},
        "wiring": {"data": {"wires": [1.0, {"deep": None}]}},
        "widgets": {"widgets": [{"id": "w1", "type": "LED", "colour": "kept"}]},
    }
    for name, body in documents.items():
        assert (await seller.put(f"/api/projects/{original['id']}/{name}", json=body)).status_code == 200
    listing = await shop.listing(alice, "Pump kit", project_id=original["id"])
    copy_id = (await buyer.post(path(listing))).json()["clonedProjectId"]
    copy = (await buyer.get(f"/api/projects/{copy_id}")).json()
    assert (copy["name"], copy["description"], copy["tags"], copy["role"]) == ("Pump kit", "Pumps", ["water"], "owner")
    assert copy["visibility"] == "private"
    assert (await seller.get(f"/api/projects/{copy_id}")).status_code == 404
    assert (await buyer.get(f"/api/projects/{original['id']}")).status_code == 404
    for name in documents:
        mine = (await buyer.get(f"/api/projects/{copy_id}/{name}")).json()
        theirs = (await seller.get(f"/api/projects/{original['id']}/{name}")).json()
        own = {"projectId", "updatedAt", "updatedBy"}
        assert {key: value for key, value in mine.items() if key not in own} == {
            key: value for key, value in theirs.items() if key not in own
        }
    await seller.put(f"/api/projects/{original['id']}/wiring", json={"data": {"wires": []}})
    assert (await buyer.get(f"/api/projects/{copy_id}/wiring")).json()["data"] == documents["wiring"]["data"]


async def test_a_purchase_and_the_end_of_its_project_at_once_leave_nothing_half(any_shop: Shop) -> None:
    alice = await any_shop.busbar.person("alice")
    for number in range(4):
        project = await any_shop.project(alice, wiring={"data": {"n": number}})
        listing = await any_shop.listing(alice, f"Listing {number}", project_id=project.id)
        buyer = await any_shop.busbar.person()
        bought, _ = await asyncio.gather(
            any_shop.buy(buyer, listing), any_shop.call(alice, "ProjectService.DeleteProject", project_id=project.id)
        )
        copies = await projects_of(any_shop, buyer)
        assert bought.status == "completed"
        assert [copy.id for copy in copies] == ([bought.cloned_project_id] if bought.has_field("cloned_project_id") else [])
        assert not (await any_shop.read(alice, listing)).has_field("project_id")
        async with any_shop.busbar.app.database.read() as session:
            for copy in copies:
                document = await Documents().current(session, copy.id, "wiring")
                assert document is not None
                assert document.content == {"data": {"n": number}}


async def test_without_a_provider_nothing_priced_is_sold(start: Start) -> None:
    shop = Shop(await start(payments={"manual": "at_once"}))
    alice, eve = await shop.busbar.person("alice"), await shop.busbar.person("eve")
    listing = await shop.listing(alice, price_cents=500)
    bought = await shop.buy(eve, listing)
    assert (bought.status, bought.provider, bought.price_cents) == ("completed", "manual", 500)
    await shop.busbar.server.stop(1)
    await shop.busbar.app.close()
    shop = Shop(await start())
    other = await shop.busbar.person("mallory")
    answer = await shop.busbar.http(other.session).post(path(listing))
    assert (answer.status_code, answer.json()) == (503, {"error": "no payment provider is set up"})
    assert (await shop.buy(eve, listing)).id == bought.id


@pytest.fixture
async def asking(start: Start) -> Shop:
    """A server on which creators confirm what was paid by hand."""
    return Shop(await start(payments={"manual": "on_confirmation"}))


@pytest.mark.parametrize("door", ["grpc", "rest"])
async def test_the_creator_confirms_what_was_paid_by_hand(asking: Shop, door: str) -> None:
    alice, eve = await asking.busbar.person("alice"), await asking.busbar.person("eve")
    listing = await asking.listing(alice, price_cents=500, project_id=(await asking.project(alice)).id)
    bought = await asking.buy(eve, listing)
    assert (bought.status, (await asking.read(eve, listing)).owned) == ("pending", False)
    (asked,) = await notified(asking.busbar, alice, "system")
    assert bought.id in asked.data
    client = asking.busbar.client(door, alice.session)
    (sale,) = (await client.call("PurchaseService.ListSales")).sales
    assert (sale.purchase.id, sale.buyer.username) == (bought.id, "eve")
    confirmed = [await client.call("PurchaseService.ConfirmPurchase", purchase_id=bought.id) for _ in range(2)]
    assert confirmed[0] == confirmed[1]
    assert (confirmed[0].status, len(await projects_of(asking, eve))) == ("completed", 1)
    assert (await asking.read(eve, listing)).owned is True
    assert len(await notified(asking.busbar, eve, "purchase.completed")) == 1


async def test_confirmations_at_once_make_one_copy(asking: Shop) -> None:
    alice, eve = await asking.busbar.person("alice"), await asking.busbar.person("eve")
    listing = await asking.listing(alice, price_cents=500, project_id=(await asking.project(alice)).id)
    bought = await asking.buy(eve, listing)
    calls = (asking.call(alice, "PurchaseService.ConfirmPurchase", purchase_id=bought.id) for _ in range(6))
    assert {one.status for one in await asyncio.gather(*calls)} == {"completed"}
    assert len(await projects_of(asking, eve)) == 1
    assert (await asking.read(eve, listing)).purchase_count == 1


@pytest.mark.parametrize("act", ["ConfirmPurchase", "RefundPurchase"])
@pytest.mark.parametrize("door", ["grpc", "rest"])
async def test_only_the_creator_confirms_and_refunds(asking: Shop, door: str, act: str) -> None:
    alice, eve = await asking.busbar.person("alice"), await asking.busbar.person("eve")
    bought = await asking.buy(eve, await asking.listing(alice, price_cents=500))
    stranger = await asking.busbar.person()
    for session, code in ((eve.session, "PERMISSION_DENIED"), (stranger.session, "NOT_FOUND"), (None, "UNAUTHENTICATED")):
        with pytest.raises(Refused) as refused:
            await asking.busbar.client(door, session).call(f"PurchaseService.{act}", purchase_id=bought.id)
        assert refused.value.code == code
    with pytest.raises(Refused) as refused:
        await asking.busbar.client(door, alice.session).call(f"PurchaseService.{act}", purchase_id="nothing")
    assert refused.value.code == "NOT_FOUND"


async def test_a_key_confirms_only_within_its_scopes(asking: Shop) -> None:
    alice, eve = await asking.busbar.person("alice"), await asking.busbar.person("eve")
    bought = await asking.buy(eve, await asking.listing(alice, price_cents=500))
    reader = await asking.busbar.key(alice, CredentialKind.AGENT_KEY, "market:read")
    writer = await asking.busbar.key(alice, CredentialKind.AGENT_KEY, "market:write")
    with pytest.raises(Refused, match="insufficient scope: market:write required"):
        await asking.busbar.client("grpc", reader).call("PurchaseService.ConfirmPurchase", purchase_id=bought.id)
    assert (await asking.busbar.http(writer).post(f"/api/purchases/{bought.id}/confirm")).status_code == 401
    confirmed = await asking.busbar.client("grpc", writer).call("PurchaseService.ConfirmPurchase", purchase_id=bought.id)
    assert confirmed.status == "completed"


async def test_a_page_of_another_site_confirms_nothing(asking: Shop) -> None:
    alice, eve = await asking.busbar.person("alice"), await asking.busbar.person("eve")
    bought = await asking.buy(eve, await asking.listing(alice, price_cents=500))
    http = asking.busbar.http(cookie=f"plynx_session={alice.session}", origin="https://evil.example")
    assert (await http.post(f"/api/purchases/{bought.id}/confirm")).status_code == 403
    assert (await asking.buy(eve, await asking.listing(alice, "Other"))).status == "completed"
    assert {one.status for one in (await asking.call(eve, "PurchaseService.ListPurchases")).purchases} == {
        "pending",
        "completed",
    }


@pytest.mark.parametrize("door", ["grpc", "rest"])
async def test_a_refund_takes_the_purchase_back_but_not_the_copy(any_shop: Shop, door: str) -> None:
    alice, eve = await any_shop.busbar.person("alice"), await any_shop.busbar.person("eve")
    listing = await any_shop.listing(alice, price_cents=500, project_id=(await any_shop.project(alice)).id)
    bought = await any_shop.buy(eve, listing)
    client = any_shop.busbar.client(door, alice.session)
    refunded = [await client.call("PurchaseService.RefundPurchase", purchase_id=bought.id) for _ in range(2)]
    assert [one.status for one in refunded] == ["refunded"] * 2
    after = await any_shop.read(eve, listing)
    assert (after.owned, after.purchase_count, len(await projects_of(any_shop, eve))) == (False, 0, 1)
    assert [row.title for row in await notified(any_shop.busbar, eve, "system")] == ["Your purchase of Greenhouse was refunded"]
    with pytest.raises(Refused, match="purchase is refunded") as refused:
        await client.call("PurchaseService.ConfirmPurchase", purchase_id=bought.id)
    assert refused.value.code == "CONFLICT"
    again = await any_shop.buy(eve, listing)
    assert (again.status, again.id != bought.id) == ("completed", True)
    assert {one.status for one in (await any_shop.call(eve, "PurchaseService.ListPurchases")).purchases} == {
        "refunded",
        "completed",
    }


async def test_what_is_pending_cannot_be_refunded(asking: Shop) -> None:
    alice, eve = await asking.busbar.person("alice"), await asking.busbar.person("eve")
    bought = await asking.buy(eve, await asking.listing(alice, price_cents=500))
    with pytest.raises(Refused, match="purchase is pending") as refused:
        await asking.call(alice, "PurchaseService.RefundPurchase", purchase_id=bought.id)
    assert refused.value.code == "CONFLICT"


async def test_purchases_are_their_buyers_and_come_page_by_page(shop: Shop, alice: Person, eve: Person) -> None:
    for number in range(3):
        await shop.buy(eve, await shop.listing(alice, f"Listing {number}"))
    first = await shop.call(eve, "PurchaseService.ListPurchases", limit=2)
    second = await shop.call(eve, "PurchaseService.ListPurchases", limit=2, cursor=first.next_cursor)
    assert [one.listing.title for one in (*first.purchases, *second.purchases)] == [f"Listing {n}" for n in (2, 1, 0)]
    assert not second.has_field("next_cursor")
    assert (await shop.call(alice, "PurchaseService.ListPurchases")).purchases == []
    sales = await shop.call(alice, "PurchaseService.ListSales", limit=2)
    rest = await shop.call(alice, "PurchaseService.ListSales", limit=2, cursor=sales.next_cursor)
    assert (len(sales.sales), len(rest.sales), rest.has_field("next_cursor")) == (2, 1, False)
    empty = await shop.busbar.http(alice.session).get("/api/me/purchases")
    assert empty.json() == {"purchases": [], "nextCursor": None}


async def test_a_second_live_purchase_is_refused_by_the_database_itself(any_shop: Shop) -> None:
    alice, eve = await any_shop.busbar.person("alice"), await any_shop.busbar.person("eve")
    listing = await any_shop.listing(alice)
    bought = await any_shop.buy(eve, listing)
    async with any_shop.busbar.app.database.unit_of_work() as session:
        row = await session.get_one(PurchaseRow, bought.id)
        session.add(PurchaseRow.model_validate({**row.model_dump(), "id": "pur_2", "status": "pending"}))
        with pytest.raises(IntegrityError):
            await session.flush()
        await session.rollback()
