"""Notifications, referral codes and profiles."""

from __future__ import annotations

import asyncio
import json
import re
from typing import Any

import pytest

from core.kernel.errors import InvalidArgument
from core.maker.notices import KIND, Notices
from tests.conftest import PASSWORD, Person, Running, Start
from tests.databases import database_url, postgres
from tests.maker.making import notices, project, take, until

__all__ = ["database_url", "postgres"]


async def post(busbar: Running, person: Person, *titles: str) -> None:
    """Notify somebody, and wait until it has happened."""
    app = busbar.app
    posted = Notices(app.database, app.outbox, app.bus)
    before = (await busbar.http(person.session).get("/api/me/notifications?limit=1")).json()["unreadCount"]
    for number, title in enumerate(titles, 1):
        async with app.database.unit_of_work() as session:
            await posted.post(session, person.id, "system", title, body="b", link="/x", data={"n": 1})

        async def count() -> int:
            return (await busbar.http(person.session).get("/api/me/notifications?limit=1")).json()["unreadCount"]

        await until(count, lambda found, wanted=before + number: found == wanted)


async def test_notifications_are_listed_newest_first(busbar: Running, alice: Person, eve: Person) -> None:
    await post(busbar, alice, "one", "two", "three")
    http = busbar.http(alice.session)
    first = (await http.get("/api/me/notifications?limit=2")).json()
    assert [one["title"] for one in first["notifications"]] == ["three", "two"]
    assert first["unreadCount"] == 3
    rest = (await http.get("/api/me/notifications", params={"limit": 2, "cursor": first["nextCursor"]})).json()
    assert ([one["title"] for one in rest["notifications"]], rest["nextCursor"]) == (["one"], None)
    (one,) = rest["notifications"]
    assert set(one) == {"id", "kind", "title", "body", "link", "data", "readAt", "createdAt"}
    assert (one["kind"], one["body"], one["link"], one["data"], one["readAt"]) == ("system", "b", "/x", {"n": 1}, None)
    assert (await busbar.http(eve.session).get("/api/me/notifications")).json() == {
        "notifications": [], "unreadCount": 0, "nextCursor": None,
    }  # fmt: skip


async def test_notifications_are_marked_as_read(busbar: Running, alice: Person, eve: Person) -> None:
    await post(busbar, alice, "one", "two", "three")
    http = busbar.http(alice.session)
    ids = [one["id"] for one in (await http.get("/api/me/notifications")).json()["notifications"]]
    foreign = await busbar.http(eve.session).post("/api/me/notifications/read", json={"ids": ids})
    assert foreign.json() == {"ok": True, "unreadCount": 0}
    for _ in range(2):
        answer = await http.post("/api/me/notifications/read", json={"ids": [ids[0], "unknown"]})
        assert (answer.status_code, answer.json()) == (200, {"ok": True, "unreadCount": 2})
    assert (await http.get("/api/auth/session")).json()["user"]["unreadNotifications"] == 2
    unread = (await http.get("/api/me/notifications?unread=true")).json()["notifications"]
    assert [one["title"] for one in unread] == ["two", "one"]
    read = (await http.get("/api/me/notifications?limit=1")).json()["notifications"][0]["readAt"]
    assert (await http.post("/api/me/notifications/read", json={"all": True})).json()["unreadCount"] == 0
    assert (await http.get("/api/me/notifications?limit=1")).json()["notifications"][0]["readAt"] == read
    for body in ({}, {"ids": []}, {"all": False}):
        assert (await http.post("/api/me/notifications/read", json=body)).status_code == 400


async def test_notifications_are_told_live_until_the_session_ends(busbar: Running, alice: Person, eve: Person) -> None:
    stream = busbar.client("grpc", alice.session).stream("MeService.WatchNotifications")
    first = await take(stream)
    assert (first.notification, first.unread_count) == (None, 0)
    await post(busbar, eve, "not hers")
    await post(busbar, alice, "one")
    told = await take(stream)
    assert (told.notification.title, told.unread_count) == ("one", 1)
    await busbar.http(alice.session).post("/api/me/notifications/read", json={"all": True})
    told = await take(stream)
    assert (told.notification, told.unread_count) == (None, 0)
    await busbar.http(alice.session).post("/api/auth/logout")
    with pytest.raises(Exception, match="the credential has ended"):
        await take(stream)


async def test_a_browser_watches_notifications_as_events(busbar: Running, alice: Person) -> None:
    headers = {"Accept": "text/event-stream"}
    async with busbar.http(alice.session).stream("GET", "/api/me/notifications:watch", headers=headers) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        lines = answer.aiter_lines()

        async def event() -> Any:
            async for line in lines:
                if line.startswith("data:"):
                    return json.loads(line[5:])
            return None

        assert await asyncio.wait_for(event(), 10) == {"notification": None, "unreadCount": 0}
        await post(busbar, alice, "one")
        told = await asyncio.wait_for(event(), 10)
        assert (told["notification"]["title"], told["unreadCount"]) == ("one", 1)


async def test_a_side_effect_that_is_carried_out_again_notifies_once(busbar: Running, alice: Person) -> None:
    await post(busbar, alice, "one")
    async with busbar.app.database.unit_of_work() as session:
        (row,) = await busbar.app.outbox.list(session, alice.org_id, kind=KIND)
        row.state, row.delivered_us, row.attempts = "pending", None, 0
        session.add(row)
    busbar.app.outbox.notify()

    async def state() -> str:
        async with busbar.app.database.read() as session:
            return (await busbar.app.outbox.get(session, alice.org_id, row.id)).state

    await until(state, lambda found: found == "delivered")
    assert len((await busbar.http(alice.session).get("/api/me/notifications")).json()["notifications"]) == 1


async def test_what_is_rolled_back_notifies_nobody(busbar: Running, alice: Person) -> None:
    posted = Notices(busbar.app.database, busbar.app.outbox, busbar.app.bus)

    async def refused() -> None:
        async with busbar.app.database.unit_of_work() as session:
            await posted.post(session, alice.id, "system", "never")
            raise InvalidArgument("no")

    with pytest.raises(InvalidArgument):
        await refused()
    await post(busbar, alice, "after")
    assert [one["title"] for one in await notices(busbar, alice, 1)] == ["after"]


async def test_two_first_looks_make_one_code(start: Start, database_url: str) -> None:
    busbar = await start(database=database_url)
    alice, eve = await busbar.person("alice"), await busbar.person("eve")
    answers = await asyncio.gather(
        *(busbar.http(person.session).get("/api/me/referral") for person in (alice, eve) for _ in range(5))
    )
    assert {answer.status_code for answer in answers} == {200}
    assert {answer.headers["cache-control"] for answer in answers} == {"no-store"}
    codes = [answer.json()["code"] for answer in answers]
    assert (len(set(codes[:5])), len(set(codes[5:])), len(set(codes))) == (1, 1, 2)
    body = answers[0].json()
    assert set(body) == {"code", "url", "uses", "createdAt"}
    assert re.fullmatch(r"[A-HJ-NP-Z2-9]{8}", body["code"])
    assert (body["uses"], body["url"].endswith(body["code"])) == (0, True)
    assert (await busbar.http(alice.session).get("/api/me/referral")).json() == body


def registration(name: str, code: str) -> dict[str, str]:
    """Return the body of a registration with a code."""
    return {"email": f"{name}@example.com", "username": name, "password": PASSWORD, "referralCode": code}


async def test_a_registration_with_a_code_counts_once(start: Start, database_url: str) -> None:
    busbar = await start(database=database_url)
    alice = await busbar.person("alice")
    http = busbar.http()
    code = (await busbar.http(alice.session).get("/api/me/referral")).json()["code"]
    answers = await asyncio.gather(
        *(http.post("/api/auth/register", json=registration("friend", code.lower())) for _ in range(3))
    )
    assert sorted(answer.status_code for answer in answers) == [201, 409, 409]
    assert (await http.post("/api/auth/register", json=registration("other", code))).status_code == 201
    assert (await busbar.http(alice.session).get("/api/me/referral")).json()["uses"] == 2
    told = await notices(busbar, alice, 2)
    assert {(one["kind"], one["data"]["username"]) for one in told} == {
        ("referral.used", "friend"), ("referral.used", "other"),
    }  # fmt: skip


async def test_an_unknown_code_is_refused_and_nobody_registered(busbar: Running) -> None:
    answer = await busbar.http().post("/api/auth/register", json=registration("friend", "AAAAAAAA"))
    assert (answer.status_code, answer.json()) == (400, {"error": "referralCode: no user has this code"})
    assert (await busbar.http().get("/api/public/users/friend")).status_code == 404


@pytest.mark.parametrize("door", ["grpc", "rest"])
async def test_a_profile_is_changed_field_by_field(busbar: Running, alice: Person, door: str) -> None:
    client = busbar.client(door, alice.session)
    fields = {"display_name": "Alice B.", "bio": "Builds", "avatar_url": "https://example.com/a.png"}
    changed = await client.call("MeService.UpdateProfile", **fields)
    assert (changed.display_name, changed.bio, changed.avatar_url) == tuple(fields.values())
    again = await client.call("MeService.UpdateProfile", bio="")
    assert (again.display_name, again.bio, again.avatar_url) == ("Alice B.", "", "https://example.com/a.png")
    await project(busbar, alice, visibility="public")
    public = (await busbar.http().get("/api/public/users/alice")).json()
    assert (public["displayName"], public["projectCount"]) == ("Alice B.", 1)
    session = (await busbar.http(alice.session).get("/api/auth/session")).json()["user"]
    assert (session["displayName"], session["projectCount"], session["listingCount"]) == ("Alice B.", 1, 0)


async def test_null_clears_an_address_and_is_refused_for_a_name(busbar: Running, alice: Person) -> None:
    http = busbar.http(alice.session)
    body = {"websiteUrl": "https://example.com", "avatarUrl": "https://example.com/a.png"}
    assert (await http.patch("/api/me/profile", json=body)).status_code == 200
    cleared = (await http.patch("/api/me/profile", json={"websiteUrl": None})).json()
    assert (cleared["websiteUrl"], cleared["avatarUrl"]) == (None, "https://example.com/a.png")
    assert (await http.patch("/api/me/profile", json={})).json() == cleared
    for bad in (
        {"displayName": None}, {"displayName": " "}, {"displayName": "n" * 81}, {"bio": "b" * 501}, {"bio": None},
        {"websiteUrl": "javascript:alert(1)"},
    ):  # fmt: skip
        answer = await http.patch("/api/me/profile", json=bad)
        assert (answer.status_code, answer.json()["error"].split(":")[0]) == (400, next(iter(bad)))
    assert (await http.patch("/api/me/profile", json={})).json() == cleared
