"""What anybody may read without an account."""

from __future__ import annotations

import asyncio

import pytest

from tests.conftest import Person, Running
from tests.maker.making import project


async def test_the_feed_shows_public_projects_only(busbar: Running, alice: Person) -> None:
    await project(busbar, alice, "Private")
    await project(busbar, alice, "Unlisted", visibility="unlisted")
    shown = await project(busbar, alice, "Public", visibility="public")
    answer = await busbar.http().get("/api/public/projects/feed")
    assert answer.status_code == 200
    assert answer.json() == {"projects": [{**shown, "role": "none"}], "nextCursor": None}
    assert answer.headers["cache-control"] == "public, max-age=30"
    await busbar.http(alice.session).post(f"/api/projects/{shown['id']}/unpublish")
    assert (await busbar.http().get("/api/public/projects/feed")).json()["projects"] == []


async def test_with_a_session_the_feed_shows_roles_and_is_not_cached(busbar: Running, alice: Person, eve: Person) -> None:
    await project(busbar, alice, visibility="public")
    for person, role in ((alice, "owner"), (eve, "none")):
        answer = await busbar.http(person.session).get("/api/public/projects/feed")
        assert [one["role"] for one in answer.json()["projects"]] == [role]
        assert "public" not in answer.headers["cache-control"]


async def test_the_feed_has_three_orders(busbar: Running, alice: Person, eve: Person) -> None:
    ids = dict[str, str]()
    for name in ("one", "two", "three"):
        ids[name] = (await project(busbar, alice, name, visibility="public"))["id"]
        busbar.clock.forward(seconds=1)
    await busbar.http(alice.session).patch(f"/api/projects/{ids['one']}", json={"description": "x"})
    for person in (alice, eve):
        await busbar.http(person.session).put(f"/api/public/projects/{ids['two']}/like")

    async def names(sort: str) -> list[str]:
        seen, cursor = list[str](), ""
        while cursor is not None:
            params = {"sort": sort, "limit": "1", "cursor": cursor} if sort else {"limit": "1", "cursor": cursor}
            page = (await busbar.http().get("/api/public/projects/feed", params=params)).json()
            seen += [one["name"] for one in page["projects"]]
            cursor = page["nextCursor"]
        return seen

    assert await names("") == await names("recent") == ["three", "two", "one"]
    assert await names("popular") == ["two", "three", "one"]
    assert await names("updated") == ["one", "three", "two"]


@pytest.mark.parametrize("query", ["sort=best", "limit=x", "cursor=nonsense"])
async def test_a_bad_query_of_the_feed_is_refused(busbar: Running, query: str) -> None:
    answer = await busbar.http().get(f"/api/public/projects/feed?{query}")
    assert (answer.status_code, list(answer.json())) == (400, ["error"])


async def test_a_cursor_fits_the_order_it_came_from(busbar: Running, alice: Person) -> None:
    for _ in range(2):
        await project(busbar, alice, visibility="public")
    first = (await busbar.http().get("/api/public/projects/feed", params={"limit": 1})).json()
    params = {"sort": "updated", "cursor": first["nextCursor"]}
    assert (await busbar.http().get("/api/public/projects/feed", params=params)).status_code == 400


async def test_a_page_of_the_feed_holds_twenty_and_at_most_a_hundred(busbar: Running, alice: Person) -> None:
    await asyncio.gather(*(project(busbar, alice, f"p{number}", visibility="public") for number in range(21)))
    assert len((await busbar.http().get("/api/public/projects/feed")).json()["projects"]) == 20
    assert len((await busbar.http().get("/api/public/projects/feed?limit=1000")).json()["projects"]) == 21


@pytest.mark.parametrize("door", ["grpc", "rest"])
async def test_a_public_page_is_read_by_username_in_any_case(busbar: Running, alice: Person, door: str) -> None:
    await project(busbar, alice, visibility="public")
    await project(busbar, alice)
    user = await busbar.client(door).call("PublicService.GetPublicUser", username="ALICE")
    assert (user.id, user.username, user.project_count, user.listing_count) == (alice.id, "alice", 1, 0)


async def test_a_public_page_never_shows_the_mail_address(busbar: Running, alice: Person) -> None:
    body = (await busbar.http().get("/api/public/users/alice")).json()
    assert set(body) == {
        "id", "username", "displayName", "bio", "avatarUrl", "websiteUrl", "createdAt", "projectCount", "listingCount",
    }  # fmt: skip
    assert alice.email not in str(body)
    answer = await busbar.http().get("/api/public/users/nobody")
    assert (answer.status_code, answer.json()) == (404, {"error": "user nobody not found"})
