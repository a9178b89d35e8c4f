"""Listings over every door that has them."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from sqlalchemy import text

from core.maker.tables import CollaboratorRow, ProjectRow
from gen.busbar.api.v1.options_pb import CredentialKind
from tests.conftest import Person, Running
from tests.doors import Refused
from tests.maker.shop import TEXTS, Shop

MEMBERS = {
    "id", "creatorId", "creator", "kind", "title", "summary", "description", "projectId", "priceCents", "currency", "tags",
    "coverUrl", "license", "status", "aggregate", "purchaseCount", "owned", "publishedAt", "createdAt", "updatedAt",
}  # fmt: skip
PATH = "/api/marketplace/listings"


def titles(answer: Any) -> list[str]:
    return [listing.title for listing in answer.listings]


async def walk(shop: Shop, person: Person, name: str, **fields: Any) -> list[list[str]]:
    """Return the titles on each page of a list."""
    pages: list[list[str]] = []
    cursor = ""
    while True:
        page = await shop.call(person, name, cursor=cursor, **fields)
        pages.append(titles(page))
        if not page.has_field("next_cursor"):
            return pages
        cursor = page.next_cursor


async def test_a_new_listing_is_a_draft_with_every_member(busbar: Running, alice: Person) -> None:
    answer = await busbar.http(alice.session).post(PATH, json={"title": "Greenhouse", "kind": "widget-pack"})
    body = answer.json()
    assert answer.status_code == 201
    assert answer.headers["location"] == f"{PATH}/{body['id']}"
    assert set(body) == MEMBERS
    assert body["creator"] == {"id": alice.id, "username": "alice", "displayName": "alice"}
    assert (body["status"], body["priceCents"], body["currency"]) == ("draft", 0, "USD")
    assert (body["license"], body["tags"], body["publishedAt"]) == ("all-rights-reserved", [], None)
    assert (body["owned"], body["purchaseCount"], body["projectId"]) == (False, 0, None)
    assert body["aggregate"] == {"count": 0, "average": 0, "histogram": {"1": 0, "2": 0, "3": 0, "4": 0, "5": 0}}
    assert (await busbar.http(alice.session).get(f"{PATH}/{body['id']}")).json() == body


@pytest.mark.parametrize("door", ["grpc", "rest"])
async def test_a_listing_is_made_edited_published_and_archived(busbar: Running, alice: Person, door: str) -> None:
    client = busbar.client(door, alice.session)
    draft = await client.call("ListingService.CreateListing", title="Pump", kind="course", tags=["Water", "water ", "DIY"])
    assert list(draft.tags) == ["water", "diy"]
    edited = await client.call("ListingService.UpdateListing", listing_id=draft.id, title="Pumps", **TEXTS)
    assert (edited.title, edited.summary, edited.status) == ("Pumps", TEXTS["summary"], "draft")
    published = await client.call("ListingService.PublishListing", listing_id=draft.id)
    assert (published.status, published.published_at is not None) == ("published", True)
    archived = await client.call("ListingService.ArchiveListing", listing_id=draft.id)
    assert archived.status == "archived"
    again = await client.call("ListingService.PublishListing", listing_id=draft.id)
    assert (again.status, again.published_at) == ("published", published.published_at)


async def test_only_a_published_listing_is_archived_and_only_another_is_published(shop: Shop, alice: Person) -> None:
    draft = await shop.draft(alice)
    with pytest.raises(Refused, match="listing is draft") as refused:
        await shop.call(alice, "ListingService.ArchiveListing", listing_id=draft.id)
    assert refused.value.code == "CONFLICT"
    await shop.call(alice, "ListingService.PublishListing", listing_id=draft.id)
    with pytest.raises(Refused, match="listing is published"):
        await shop.call(alice, "ListingService.PublishListing", listing_id=draft.id)
    await shop.call(alice, "ListingService.ArchiveListing", listing_id=draft.id)
    with pytest.raises(Refused, match="listing is archived"):
        await shop.call(alice, "ListingService.ArchiveListing", listing_id=draft.id)


@pytest.mark.parametrize("empty", ["summary", "description"])
async def test_a_listing_without_texts_is_not_published(busbar: Running, alice: Person, empty: str) -> None:
    http = busbar.http(alice.session)
    draft = (await http.post(PATH, json={"title": "Pump", "kind": "case", **TEXTS, empty: "  "})).json()
    answer = await http.post(f"{PATH}/{draft['id']}/publish")
    assert (answer.status_code, answer.json()["error"].split(":")[0]) == (400, empty)


async def test_a_price_needs_somebody_who_takes_it(shop: Shop, alice: Person) -> None:
    draft = await shop.draft(alice, price_cents=500)
    answer = await shop.busbar.http(alice.session).post(f"{PATH}/{draft.id}/publish")
    assert (answer.status_code, answer.json()) == (503, {"error": "no payment provider is set up"})
    assert (await shop.read(alice, draft)).status == "draft"
    free = await shop.listing(alice)
    answer = await shop.busbar.http(alice.session).patch(f"{PATH}/{free.id}", json={"priceCents": 100})
    assert answer.status_code == 503
    assert (await shop.read(alice, free)).price_cents == 0


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"kind": "project"}, "title"),
        ({"title": "   ", "kind": "project"}, "title"),
        ({"title": "x" * 121, "kind": "project"}, "title"),
        ({"title": "x"}, "kind"),
        ({"title": "x", "kind": "boat"}, "kind"),
        ({"title": "x", "kind": "case", "summary": "x" * 281}, "summary"),
        ({"title": "x", "kind": "case", "description": "x" * 20_001}, "description"),
        ({"title": "x", "kind": "case", "priceCents": -1}, "priceCents"),
        ({"title": "x", "kind": "case", "priceCents": 10_000_001}, "priceCents"),
        ({"title": "x", "kind": "case", "priceCents": 1.5}, "priceCents"),
        ({"title": "x", "kind": "case", "currency": "usd"}, "currency"),
        ({"title": "x", "kind": "case", "tags": ["a"] * 11}, "tags"),
        ({"title": "x", "kind": "case", "tags": [" "]}, "tags"),
        ({"title": "x", "kind": "case", "coverUrl": "javascript:alert(1)"}, "coverUrl"),
    ],
)
async def test_a_wrong_field_is_refused_by_name(busbar: Running, alice: Person, body: dict[str, Any], field: str) -> None:
    answer = await busbar.http(alice.session).post(PATH, json=body)
    assert answer.status_code == 400
    assert answer.json()["error"].startswith(field)
    assert (await busbar.http(alice.session).get(PATH)).json()["listings"] == []


async def test_only_some_fields_change_once_it_was_published(shop: Shop, alice: Person) -> None:
    listing = await shop.listing(alice)
    http = shop.busbar.http(alice.session)
    for body in (
        {"title": "New"},
        {"kind": "case"},
        {"projectId": None},
        {"currency": "EUR"},
        {"license": "MIT", "summary": "s"},
    ):
        answer = await http.patch(f"{PATH}/{listing.id}", json=body)
        assert (answer.status_code, answer.json()) == (409, {"error": "listing is published"})
    fields = {"summary": "s", "description": "d", "tags": ["A"], "coverUrl": "https://example.com/a.png", "priceCents": 0}
    changed = (await http.patch(f"{PATH}/{listing.id}", json=fields)).json()
    assert {name: changed[name] for name in fields} == fields | {"tags": ["a"]}
    cleared = (await http.patch(f"{PATH}/{listing.id}", json={"coverUrl": None, "tags": None})).json()
    assert (cleared["coverUrl"], cleared["tags"]) == (None, [])
    assert (await http.patch(f"{PATH}/{listing.id}", json={"summary": ""})).status_code == 400


@pytest.mark.parametrize("status", ["published", "draft", None, 1])
async def test_the_status_is_not_a_field_to_change(shop: Shop, alice: Person, status: object) -> None:
    draft = await shop.draft(alice)
    answer = await shop.busbar.http(alice.session).patch(f"{PATH}/{draft.id}", json={"status": status, "title": "New"})
    assert (answer.status_code, answer.json()["error"].split(":")[0]) == (400, "status")
    assert (await shop.read(alice, draft)).title == "Greenhouse"


async def test_null_clears_what_may_be_null_and_nothing_else(shop: Shop, alice: Person) -> None:
    draft = await shop.draft(alice, cover_url="https://example.com/a.png")
    http = shop.busbar.http(alice.session)
    assert (await http.patch(f"{PATH}/{draft.id}", json={"title": None})).status_code == 400
    assert (await http.patch(f"{PATH}/{draft.id}", json={"coverUrl": None})).json()["coverUrl"] is None


async def test_naming_nothing_changes_nothing(shop: Shop, alice: Person) -> None:
    draft = await shop.draft(alice)
    shop.busbar.clock.forward(seconds=60)
    http = shop.busbar.http(alice.session)
    for body in ({}, {"title": "Greenhouse"}, {"owned": True, "purchaseCount": 9, "nonsense": 1}):
        after = (await http.patch(f"{PATH}/{draft.id}", json=body)).json()
        assert after["updatedAt"] == (await http.get(f"{PATH}/{draft.id}")).json()["updatedAt"]
        assert after["updatedAt"] == after["createdAt"]


@pytest.mark.parametrize("door", ["grpc", "rest"])
async def test_a_draft_does_not_exist_for_others(shop: Shop, alice: Person, eve: Person, door: str) -> None:
    draft = await shop.draft(alice)
    client = shop.busbar.client(door, eve.session)
    for name in ("GetListing", "UpdateListing", "PublishListing", "ArchiveListing"):
        with pytest.raises(Refused) as refused:
            await client.call(f"ListingService.{name}", listing_id=draft.id)
        assert (refused.value.code, refused.value.message) == ("NOT_FOUND", f"listing {draft.id} not found")


async def test_a_published_listing_is_seen_by_everyone_signed_in_and_changed_by_its_creator(
    shop: Shop, alice: Person, eve: Person
) -> None:
    listing = await shop.listing(alice)
    assert (await shop.read(eve, listing)).title == "Greenhouse"
    assert (await shop.busbar.http().get(f"{PATH}/{listing.id}")).status_code == 401
    for name in ("UpdateListing", "PublishListing", "ArchiveListing"):
        with pytest.raises(Refused) as refused:
            await shop.call(eve, f"ListingService.{name}", listing_id=listing.id)
        assert refused.value.code == "PERMISSION_DENIED"


async def test_an_archived_listing_exists_for_its_creator_and_its_buyers(shop: Shop, alice: Person, eve: Person) -> None:
    listing = await shop.listing(alice)
    stranger = await shop.busbar.person()
    await shop.buy(eve, listing)
    await shop.call(alice, "ListingService.ArchiveListing", listing_id=listing.id)
    assert [(await shop.read(person, listing)).status for person in (alice, eve)] == ["archived"] * 2
    with pytest.raises(Refused) as refused:
        await shop.read(stranger, listing)
    assert refused.value.code == "NOT_FOUND"


async def test_a_project_must_be_the_sellers_own(shop: Shop, alice: Person, eve: Person) -> None:
    own, shared, public = await shop.project(alice), await shop.project(eve, "Shared"), await shop.project(eve, "Public")
    async with shop.busbar.app.database.unit_of_work() as session:
        now = shop.busbar.clock.now_us()
        session.add(
            CollaboratorRow(id="col_1", project_id=shared.id, user_id=alice.id, role="editor", invited_us=now, joined_us=now)
        )
        row = await session.get_one(ProjectRow, public.id)
        row.visibility = "public"
    draft = await shop.draft(alice, project_id=own.id)
    assert draft.project_id == own.id
    for project_id, code in ((shared.id, "PERMISSION_DENIED"), (public.id, "NOT_FOUND"), ("nonsense", "NOT_FOUND")):
        for call in (
            shop.draft(alice, project_id=project_id),
            shop.call(alice, "ListingService.UpdateListing", listing_id=draft.id, project_id=project_id),
        ):
            with pytest.raises(Refused) as refused:
                await call
            assert refused.value.code == code


async def test_a_listing_outlives_its_project(any_shop: Shop) -> None:
    alice = await any_shop.busbar.person("alice")
    project = await any_shop.project(alice)
    listing = await any_shop.listing(alice, project_id=project.id)
    await any_shop.call(alice, "ProjectService.DeleteProject", project_id=project.id)
    after = await any_shop.read(alice, listing)
    assert (after.status, after.has_field("project_id")) == ("published", False)
    bought = await any_shop.buy(await any_shop.busbar.person(), listing)
    assert (bought.status, bought.has_field("cloned_project_id")) == ("completed", False)


async def test_own_listings_come_newest_first_page_by_page(shop: Shop, alice: Person, eve: Person) -> None:
    for number in range(5):
        await shop.draft(alice, f"Draft {number}")
    await shop.listing(alice, "Published")
    await shop.listing(eve, "Another's")
    found = await walk(shop, alice, "ListingService.ListListings", limit=2)
    assert found == [["Published", "Draft 4"], ["Draft 3", "Draft 2"], ["Draft 1", "Draft 0"]]
    assert titles(await shop.call(alice, "ListingService.ListListings", status="published")) == ["Published"]


@pytest.mark.parametrize("path", [PATH, "/api/marketplace/browse", "/api/public/users/alice/listings"])
async def test_a_cursor_that_is_none_is_refused(shop: Shop, alice: Person, path: str) -> None:
    for cursor in ("nonsense", "W10", "WyJuZXdlc3QiLDFlOTksImEiXQ", "WyJuZXdlc3QiLDk5OTk5OTk5OTk5OTk5OTk5OTk5OTk5LCJhIl0"):
        answer = await shop.busbar.http(alice.session).get(path, params={"cursor": cursor})
        assert (answer.status_code, answer.json()) == (400, {"error": "invalid cursor"})
    assert (await shop.busbar.http(alice.session).get(path, params={"limit": "many"})).status_code == 400
    assert (await shop.busbar.http(alice.session).get(path, params={"limit": "99999"})).status_code == 200


@pytest.mark.parametrize("door", ["grpc", "rest", "mcp"])
async def test_the_marketplace_is_searched_at_every_door(shop: Shop, alice: Person, eve: Person, door: str) -> None:
    await shop.listing(alice, "Über-Pumpe", kind="case", tags=["Water", "100%"])
    await shop.listing(alice, "Lamp", summary="Lights the ROOM")
    await shop.draft(alice, "Hidden pump")
    agent = await shop.busbar.key(eve, CredentialKind.AGENT_KEY, "market:read")
    client = shop.busbar.client(door, agent if door == "mcp" else eve.session)

    async def browse(**fields: Any) -> list[str]:
        return titles(await client.call("ListingService.BrowseListings", **fields))

    assert await browse() == ["Lamp", "Über-Pumpe"]
    assert await browse(q="über PUMPE") == ["Über-Pumpe"]
    assert await browse(q="room lights") == ["Lamp"]
    assert await browse(q="room über") == []
    assert await browse(q="100%") == ["Über-Pumpe"]
    assert await browse(q="_") == []
    assert await browse(kind="case") == ["Über-Pumpe"]
    assert await browse(tag="WATER") == ["Über-Pumpe"]
    assert await browse(tag="wat") == []
    assert await browse(tag=", ") == []


async def test_the_marketplace_is_ordered_by_purchases_and_by_stars(any_shop: Shop) -> None:
    alice = await any_shop.busbar.person("alice")
    listings = [await any_shop.listing(alice, title) for title in ("one", "two", "three")]
    buyers = await any_shop.buyers(2, listings[0])
    await any_shop.buy(buyers[0], listings[1])
    for buyer, listing, rating in ((buyers[0], listings[0], 4), (buyers[1], listings[0], 4), (buyers[0], listings[1], 5)):
        await any_shop.review(buyer, listing, rating)

    async def order(sort: str) -> list[str]:
        return [title for (title,) in await walk(any_shop, alice, "ListingService.BrowseListings", sort=sort, limit=1)]

    assert await order("recent") == ["three", "two", "one"]
    assert await order("popular") == ["one", "two", "three"]
    assert await order("rating") == ["two", "one", "three"]
    page = await any_shop.call(alice, "ListingService.BrowseListings", sort="rating", limit=1)
    with pytest.raises(Refused, match="invalid cursor"):
        await any_shop.call(alice, "ListingService.BrowseListings", sort="popular", cursor=page.next_cursor)


@pytest.mark.parametrize("door", ["grpc", "rest", "mcp"])
async def test_one_listing_is_read_at_every_door(shop: Shop, alice: Person, eve: Person, door: str) -> None:
    listing = await shop.listing(alice)
    await shop.buy(eve, listing)
    agent = await shop.busbar.key(eve, CredentialKind.AGENT_KEY, "market:read")
    client = shop.busbar.client(door, agent if door == "mcp" else eve.session)
    read = await client.call("ListingService.GetListing", listing_id=listing.id)
    assert (read.title, read.owned, read.purchase_count, read.creator.username) == ("Greenhouse", True, 1, "alice")


async def test_a_users_listings_are_public(shop: Shop, alice: Person, eve: Person) -> None:
    await shop.draft(alice, "Draft")
    listing = await shop.listing(alice, "Published")
    await shop.buy(eve, listing)
    path = "/api/public/users/ALICE/listings"
    anyone = (await shop.busbar.http().get(path)).json()
    assert [(one["title"], one["owned"]) for one in anyone["listings"]] == [("Published", False)]
    assert anyone["nextCursor"] is None
    assert set(anyone["listings"][0]) == MEMBERS
    assert (await shop.busbar.http(eve.session).get(path)).json()["listings"][0]["owned"] is True
    assert (await shop.busbar.http().get("/api/public/users/eve/listings")).json() == {"listings": [], "nextCursor": None}
    assert (await shop.busbar.http().get("/api/public/users/nobody/listings")).status_code == 404


async def test_published_listings_are_counted_on_the_public_page(shop: Shop, alice: Person) -> None:
    await shop.draft(alice)
    listing = await shop.listing(alice)
    assert (await shop.busbar.http().get("/api/public/users/alice")).json()["listingCount"] == 1
    assert (await shop.busbar.http(alice.session).get("/api/auth/session")).json()["user"]["listingCount"] == 1
    await shop.call(alice, "ListingService.ArchiveListing", listing_id=listing.id)
    assert (await shop.busbar.http().get("/api/public/users/alice")).json()["listingCount"] == 0


async def test_a_change_and_a_publication_at_once_never_mix(any_shop: Shop) -> None:
    alice = await any_shop.busbar.person("alice")
    for number in range(5):
        draft = await any_shop.draft(alice, f"Draft {number}")
        results = await asyncio.gather(
            any_shop.call(alice, "ListingService.UpdateListing", listing_id=draft.id, title="New"),
            any_shop.call(alice, "ListingService.PublishListing", listing_id=draft.id),
            return_exceptions=True,
        )
        after = await any_shop.read(alice, draft)
        assert after.status == "published"
        assert after.title == ("New" if not isinstance(results[0], Refused) else f"Draft {number}")


async def test_text_that_the_database_cannot_hold_is_no_defect(any_shop: Shop) -> None:
    alice = await any_shop.busbar.person("alice")
    http = any_shop.busbar.http(alice.session)
    made = await http.post(PATH, json={"title": "a\u0000b", "kind": "case"})
    assert made.status_code == (201 if any_shop.busbar.app.database.path else 400)
    assert (await http.get(f"{PATH}/a%00b")).status_code in (400, 404)
    assert len((await http.get(PATH)).json()["listings"]) == (1 if any_shop.busbar.app.database.path else 0)


async def test_the_order_by_stars_is_read_from_an_index(shop: Shop, alice: Person) -> None:
    await shop.listing(alice)
    async with shop.busbar.app.database.read() as session:
        plan = await (await session.connection()).execute(
            text(
                "EXPLAIN QUERY PLAN SELECT * FROM listing WHERE status = 'published'"
                " ORDER BY score DESC, review_count DESC, id DESC LIMIT 5"
            )
        )
        assert "listing_rated" in str(plan.fetchall())
