"""Reviews over every door that has them."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.conftest import Person
from tests.doors import Refused
from tests.maker.shop import Shop, notified

MEMBERS = {"id", "listingId", "author", "rating", "title", "body", "createdAt", "updatedAt"}


def path(listing: Any) -> str:
    return f"/api/marketplace/listings/{listing.id}/reviews"


async def test_a_buyer_reviews_and_everyone_reads_it(shop: Shop, alice: Person, eve: Person) -> None:
    listing = await shop.listing(alice)
    await shop.buy(eve, listing)
    body = {"rating": 4, "title": "Good", "body": "Waters well"}
    answer = await shop.busbar.http(eve.session).post(path(listing), json=body)
    review = answer.json()
    assert answer.status_code == 201
    assert set(review) == MEMBERS
    assert {name: review[name] for name in body} == body
    assert review["author"] == {"id": eve.id, "username": "eve", "displayName": "eve"}
    listed = (await shop.busbar.http().get(path(listing))).json()
    assert listed["reviews"] == [review]
    assert listed["aggregate"] == {"count": 1, "average": 4, "histogram": {"1": 0, "2": 0, "3": 0, "4": 1, "5": 0}}
    assert listed["nextCursor"] is None
    told = await notified(shop.busbar, alice, "review.received")
    assert [row.link for row in told] == [f"/marketplace/listings/{listing.id}"]


@pytest.mark.parametrize("door", ["grpc", "rest"])
async def test_a_review_is_written_changed_and_deleted(shop: Shop, alice: Person, eve: Person, door: str) -> None:
    listing = await shop.listing(alice)
    await shop.buy(eve, listing)
    client = shop.busbar.client(door, eve.session)
    review = await client.call("ReviewService.CreateReview", listing_id=listing.id, rating=2)
    names = {"listing_id": listing.id, "review_id": review.id}
    changed = await client.call("ReviewService.UpdateReview", **names, rating=5, body="Better now")
    assert (changed.rating, changed.body, changed.title) == (5, "Better now", "")
    aggregate = (await client.call("ReviewService.ListReviews", listing_id=listing.id)).aggregate
    assert (aggregate.count, aggregate.average, dict(aggregate.histogram)["5"]) == (1, 5, 1)
    assert (await client.call("ReviewService.DeleteReview", **names)).ok
    aggregate = (await client.call("ReviewService.ListReviews", listing_id=listing.id)).aggregate
    assert (aggregate.count, aggregate.average, set(dict(aggregate.histogram).values())) == (0, 0, {0})
    with pytest.raises(Refused) as refused:
        await client.call("ReviewService.DeleteReview", **names)
    assert refused.value.code == "NOT_FOUND"
    assert (await client.call("ReviewService.CreateReview", listing_id=listing.id, rating=1)).rating == 1


async def test_checks_come_in_order_shape_existence_right_repetition(shop: Shop, alice: Person, eve: Person) -> None:
    draft, listing = await shop.draft(alice, "Draft"), await shop.listing(alice)
    http = shop.busbar.http(eve.session)

    async def status(listing_id: str, rating: object) -> int:
        return (await http.post(f"/api/marketplace/listings/{listing_id}/reviews", json={"rating": rating})).status_code

    assert [await status("nothing", rating) for rating in (0, 6, "five", None)] == [400] * 4
    assert [await status(listing_id, 5) for listing_id in ("nothing", draft.id)] == [404, 404]
    assert await status(listing.id, 5) == 403
    await shop.buy(eve, listing)
    assert [await status(listing.id, 5) for _ in range(2)] == [201, 409]
    own = await shop.busbar.http(alice.session).post(path(listing), json={"rating": 5})
    assert (own.status_code, own.json()) == (403, {"error": "nobody may review a listing of their own"})
    assert (await shop.busbar.http().post(path(listing), json={"rating": 5})).status_code == 401


@pytest.mark.parametrize(("field", "value"), [("title", "x" * 121), ("body", "x" * 4001), ("rating", 2.5)])
async def test_a_wrong_field_is_refused_by_name(shop: Shop, alice: Person, eve: Person, field: str, value: object) -> None:
    listing = await shop.listing(alice)
    await shop.buy(eve, listing)
    answer = await shop.busbar.http(eve.session).post(path(listing), json={"rating": 5, field: value})
    assert (answer.status_code, answer.json()["error"].split(":")[0]) == (400, field)
    assert (await shop.read(eve, listing)).aggregate.count == 0


async def test_a_draft_has_no_reviews_and_an_archived_listing_keeps_them(shop: Shop, alice: Person, eve: Person) -> None:
    draft = await shop.draft(alice)
    for session in (None, alice.session):
        assert (await shop.busbar.http(session).get(path(draft))).status_code == 404
    listing = await shop.listing(alice)
    await shop.buy(eve, listing)
    await shop.call(alice, "ListingService.ArchiveListing", listing_id=listing.id)
    await shop.review(eve, listing, 3)
    assert (await shop.busbar.http().get(path(listing))).json()["aggregate"]["count"] == 1
    stranger = await shop.busbar.person()
    with pytest.raises(Refused) as refused:
        await shop.review(stranger, listing)
    assert refused.value.code == "NOT_FOUND"


async def test_only_the_author_changes_a_review(shop: Shop, alice: Person, eve: Person) -> None:
    listing, other = await shop.listing(alice), await shop.listing(alice, "Other")
    await shop.buy(eve, listing)
    review = await shop.review(eve, listing, 3)
    for person in (alice, await shop.busbar.person()):
        for name in ("UpdateReview", "DeleteReview"):
            with pytest.raises(Refused) as refused:
                await shop.call(person, f"ReviewService.{name}", listing_id=listing.id, review_id=review.id)
            assert refused.value.code == "PERMISSION_DENIED"
    for listing_id, review_id in ((other.id, review.id), (listing.id, "nothing"), ("nothing", review.id)):
        with pytest.raises(Refused) as refused:
            await shop.call(eve, "ReviewService.UpdateReview", listing_id=listing_id, review_id=review_id, rating=1)
        assert refused.value.code == "NOT_FOUND"
    assert (await shop.read(eve, listing)).aggregate.average == 3


async def test_null_and_nothing_change_no_review(shop: Shop, alice: Person, eve: Person) -> None:
    listing = await shop.listing(alice)
    await shop.buy(eve, listing)
    review = await shop.review(eve, listing, 3)
    http = shop.busbar.http(eve.session)
    shop.busbar.clock.forward(seconds=5)
    for body, status in (({}, 200), ({"rating": 3}, 200), ({"rating": None}, 400), ({"rating": 9}, 400)):
        answer = await http.patch(f"{path(listing)}/{review.id}", json=body)
        assert answer.status_code == status
    listed = (await http.get(path(listing))).json()["reviews"][0]
    assert listed["updatedAt"] == listed["createdAt"]


async def test_reviews_are_sorted_and_paged(any_shop: Shop) -> None:
    alice = await any_shop.busbar.person("alice")
    listing = await any_shop.listing(alice)
    for rating, buyer in zip((3, 5, 1, 5), await any_shop.buyers(4, listing), strict=True):
        await any_shop.review(buyer, listing, rating, title=str(rating))
        any_shop.busbar.clock.forward(seconds=1)

    async def listed(**fields: Any) -> Any:
        return await any_shop.call(None, "ReviewService.ListReviews", listing_id=listing.id, **fields)

    async def walk(sort: str) -> list[int]:
        found: list[int] = []
        cursor = ""
        while True:
            page = await any_shop.call(
                None, "ReviewService.ListReviews", listing_id=listing.id, sort=sort, limit=1, cursor=cursor
            )
            found += [review.rating for review in page.reviews]
            if not page.has_field("next_cursor"):
                return found
            cursor = page.next_cursor

    assert await walk("recent") == await walk("") == [5, 1, 5, 3]
    assert await walk("highest") == [5, 5, 3, 1]
    assert await walk("lowest") == [1, 3, 5, 5]
    page = await listed(sort="lowest", limit=1)
    for sort in ("highest", "recent"):
        with pytest.raises(Refused, match="invalid cursor"):
            await listed(sort=sort, cursor=page.next_cursor)
    assert (page.aggregate.count, page.aggregate.average) == (4, 3.5)
    assert (await any_shop.busbar.http().get(path(listing), params={"sort": "best"})).status_code == 400


async def test_two_reviews_of_one_buyer_at_once_are_one(any_shop: Shop) -> None:
    alice = await any_shop.busbar.person("alice")
    listing = await any_shop.listing(alice)
    (buyer,) = await any_shop.buyers(1, listing)
    results = await asyncio.gather(*(any_shop.review(buyer, listing, 5) for _ in range(6)), return_exceptions=True)
    refused = [result for result in results if isinstance(result, Refused)]
    assert (len(refused), {one.code for one in refused}) == (5, {"CONFLICT"})
    assert (await any_shop.read(buyer, listing)).aggregate.count == 1


async def test_sums_stay_right_while_many_write_change_and_delete(any_shop: Shop) -> None:
    alice = await any_shop.busbar.person("alice")
    listing = await any_shop.listing(alice)
    buyers = await any_shop.buyers(6, listing)
    reviews = await asyncio.gather(*(any_shop.review(buyer, listing, 1 + n % 5) for n, buyer in enumerate(buyers)))
    names = [{"listing_id": listing.id, "review_id": review.id} for review in reviews]
    await asyncio.gather(
        *(
            any_shop.call(buyers[n], "ReviewService.UpdateReview", **names[n], rating=rating)
            for n in (0, 1)
            for rating in (2, 4)
        ),
        *(any_shop.call(buyers[n], "ReviewService.DeleteReview", **names[n]) for n in (2, 3)),
        any_shop.call(alice, "ListingService.UpdateListing", listing_id=listing.id, summary="While they write"),
    )
    page = await any_shop.call(None, "ReviewService.ListReviews", listing_id=listing.id)
    ratings = [review.rating for review in page.reviews]
    assert len(ratings) == page.aggregate.count == 4
    assert page.aggregate.average == round(sum(ratings) / 4, 2)
    assert dict(page.aggregate.histogram) == {str(stars): ratings.count(stars) for stars in range(1, 6)}
    assert (await any_shop.read(alice, listing)).summary == "While they write"


async def test_a_refunded_buyer_keeps_the_review_but_writes_no_new_one(shop: Shop, alice: Person, eve: Person) -> None:
    listing = await shop.listing(alice)
    bought = await shop.buy(eve, listing)
    review = await shop.review(eve, listing, 2)
    await shop.call(alice, "PurchaseService.RefundPurchase", purchase_id=bought.id)
    assert (await shop.read(alice, listing)).aggregate.count == 1
    names = {"listing_id": listing.id, "review_id": review.id}
    assert (await shop.call(eve, "ReviewService.UpdateReview", **names, rating=1)).rating == 1
    await shop.call(eve, "ReviewService.DeleteReview", **names)
    with pytest.raises(Refused) as refused:
        await shop.review(eve, listing)
    assert refused.value.code == "PERMISSION_DENIED"
