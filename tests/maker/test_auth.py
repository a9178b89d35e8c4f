"""Accounts and sessions, as a browser or a script meets them over REST; what gRPC has is run there too."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import httpx
import pytest

from tests.conftest import PASSWORD, Person, Running, Start
from tests.doors import Refused

NEW = {"email": "Nina@Example.com", "password": PASSWORD, "username": "Nina"}


async def test_register_signs_in_with_cookie_and_token(busbar: Running) -> None:
    answer = await busbar.http().post("/api/auth/register", json=NEW)
    body = answer.json()
    assert answer.status_code == 201
    assert body["user"]["email"] == "nina@example.com"
    assert body["user"]["username"] == "nina"
    cookie = answer.headers["set-cookie"]
    assert f"plynx_session={body['token']}" in cookie
    for part in ("HttpOnly", "SameSite=Lax", "Path=/", "Max-Age=2592000"):
        assert part in cookie
    assert len(body["token"]) == 43


async def test_register_answers_every_member_of_the_user(busbar: Running) -> None:
    body = (await busbar.http().post("/api/auth/register", json=NEW)).json()
    assert set(body) == {"user", "token", "expiresAt"}
    assert set(body["user"]) == {
        "id", "username", "displayName", "bio", "avatarUrl", "websiteUrl", "createdAt", "projectCount", "listingCount",
        "email", "emailVerified", "role", "unreadNotifications",
    }  # fmt: skip
    assert body["user"]["avatarUrl"] is None
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", body["user"]["createdAt"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"email": "nobody"}, "email"),
        ({"email": "a@b@c"}, "email"),
        ({"password": "short"}, "password"),
        ({"password": "x" * 129}, "password"),
        ({"username": "1up"}, "username"),
        ({"username": "no spaces"}, "username"),
        ({"referralCode": "NOSUCHCO"}, "referralCode"),
        ({"email": None}, "email"),
        ({"displayName": "d" * 81}, "displayName"),
    ],
)
async def test_a_bad_field_is_400_and_named(busbar: Running, change: dict[str, object], message: str) -> None:
    answer = await busbar.http().post("/api/auth/register", json=NEW | change)
    assert answer.status_code == 400
    assert answer.json()["error"].startswith(f"{message}:")
    assert (await busbar.http().post("/api/auth/login", json=NEW)).status_code == 401


async def test_a_taken_address_is_409_whatever_its_case(busbar: Running) -> None:
    await busbar.http().post("/api/auth/register", json=NEW)
    again = await busbar.http().post("/api/auth/register", json={**NEW, "email": "NINA@example.COM", "username": "other"})
    assert (again.status_code, again.json()) == (409, {"error": "email is already registered"})
    name = await busbar.http().post("/api/auth/register", json={**NEW, "email": "x@example.com"})
    assert (name.status_code, name.json()) == (409, {"error": "username is already taken"})


async def test_of_two_registrations_at_once_one_wins(busbar: Running) -> None:
    client = busbar.http()
    answers = await asyncio.gather(*(client.post("/api/auth/register", json=NEW) for _ in range(4)))
    assert sorted(answer.status_code for answer in answers) == [201, 409, 409, 409]


async def test_a_username_is_derived_from_the_address(busbar: Running) -> None:
    names = []
    for domain in ("a.example", "b.example"):
        fields = {"email": f"jo.smith@{domain}", "password": PASSWORD}
        names.append((await busbar.http().post("/api/auth/register", json=fields)).json()["user"]["username"])
    assert names == ["josmith", "josmith2"]


async def test_login_takes_address_or_username(busbar: Running, alice: Person) -> None:
    for login in ("alice@example.com", "ALICE@example.com", "alice"):
        answer = await busbar.http().post("/api/auth/login", json={"email": login, "password": PASSWORD})
        assert answer.status_code == 200
        assert answer.json()["user"]["id"] == alice.id


async def test_login_does_not_tell_which_part_was_wrong(busbar: Running, alice: Person) -> None:
    for login in (alice.email, "nobody@example.com"):
        answer = await busbar.http().post("/api/auth/login", json={"email": login, "password": "wrong wrong"})
        assert (answer.status_code, answer.json()) == (401, {"error": "invalid email or password"})
    missing = await busbar.http().post("/api/auth/login", json={"email": "x@example.com"})
    assert missing.status_code == 400


async def test_ten_failed_logins_make_the_account_wait(start: Start) -> None:
    busbar = await start(rate_limits="on")
    await busbar.person("alice")
    door = busbar.client("grpc")
    for _ in range(10):
        with pytest.raises(Refused, match="invalid email or password"):
            await door.call("AuthService.Login", email="alice@example.com", password="wrong wrong")
    answer = await busbar.http().post("/api/auth/login", json={"email": "alice@example.com", "password": PASSWORD})
    assert answer.status_code == 429
    assert int(answer.headers["retry-after"]) >= 1


async def test_the_session_is_found_in_header_cookie_and_query(busbar: Running, alice: Person) -> None:
    async with httpx.AsyncClient(base_url=busbar.url) as client:
        ways: list[dict[str, Any]] = [
            {"headers": {"Authorization": f"Bearer {alice.session}"}},
            {"headers": {"Cookie": f"plynx_session={alice.session}"}},
            {"params": {"token": alice.session}},
        ]
        for way in ways:
            body = (await client.get("/api/auth/session", **way)).json()
            assert body["user"]["id"] == alice.id
            assert body["token"] is None


async def test_session_without_a_session_is_200_and_null(busbar: Running) -> None:
    answer = await busbar.http().get("/api/auth/session")
    assert (answer.status_code, answer.json()) == (200, {"user": None, "token": None, "expiresAt": None})
    stale = await busbar.http().get("/api/auth/session", headers={"Cookie": "plynx_session=garbage"})
    assert stale.status_code == 200
    assert stale.json()["user"] is None
    assert "Max-Age=0" in stale.headers["set-cookie"]


async def test_an_invalid_header_does_not_fall_through_to_a_valid_cookie(busbar: Running, alice: Person) -> None:
    headers = {"Authorization": "Bearer nonsense", "Cookie": f"plynx_session={alice.session}"}
    assert (await busbar.http().get("/api/boards", headers=headers)).status_code == 401


async def test_query_tokens_are_taken_on_auth_paths_only(busbar: Running, alice: Person) -> None:
    assert (await busbar.http().get("/api/boards", params={"token": alice.session})).status_code == 401


async def test_logout_ends_that_session_only_and_is_idempotent(busbar: Running, alice: Person) -> None:
    second = (await busbar.http().post("/api/auth/login", json={"email": "alice", "password": PASSWORD})).json()["token"]
    for _ in range(2):
        answer = await busbar.http(alice.session).post("/api/auth/logout")
        assert (answer.status_code, answer.json()) == (200, {"ok": True})
        assert "Max-Age=0" in answer.headers["set-cookie"]
    assert (await busbar.http(alice.session).get("/api/boards")).status_code == 401
    assert (await busbar.http(second).get("/api/boards")).status_code == 200


async def test_password_change_ends_every_other_session(busbar: Running, alice: Person) -> None:
    other = (await busbar.http().post("/api/auth/login", json={"email": "alice", "password": PASSWORD})).json()["token"]
    body = {"currentPassword": PASSWORD, "newPassword": "another long one"}
    assert (await busbar.http(alice.session).post("/api/auth/password-change", json=body)).json() == {"ok": True}
    assert (await busbar.http(other).get("/api/boards")).status_code == 401
    assert (await busbar.http(alice.session).get("/api/boards")).status_code == 200
    login = {"email": "alice", "password": "another long one"}
    assert (await busbar.http().post("/api/auth/login", json=login)).status_code == 200


async def test_password_change_checks_both_passwords(busbar: Running, alice: Person) -> None:
    client = busbar.http(alice.session)
    for body, status in (
        ({"currentPassword": "wrong wrong", "newPassword": "another long one"}, 401),
        ({"currentPassword": PASSWORD, "newPassword": PASSWORD}, 400),
        ({"currentPassword": PASSWORD, "newPassword": "short"}, 400),
        ({"currentPassword": PASSWORD}, 400),
    ):
        assert (await client.post("/api/auth/password-change", json=body)).status_code == status
    assert (await busbar.http().post("/api/auth/password-change", json={})).status_code == 401


async def test_a_session_slides_while_it_is_used_and_ends_when_it_is_not(busbar: Running, alice: Person) -> None:
    day = 24 * 3600
    busbar.clock.forward(seconds=20 * day)
    assert (await busbar.http(alice.session).get("/api/boards")).status_code == 200
    busbar.clock.forward(seconds=20 * day)
    assert (await busbar.http(alice.session).get("/api/boards")).status_code == 200
    busbar.clock.forward(seconds=31 * day)
    assert (await busbar.http(alice.session).get("/api/boards")).status_code == 401


async def test_a_cookie_from_another_site_cannot_change_anything(busbar: Running, alice: Person) -> None:
    headers = {"Cookie": f"plynx_session={alice.session}", "Origin": "https://evil.example"}
    refused = await busbar.http().post("/api/boards", json={"name": "Bench"}, headers=headers)
    assert refused.status_code == 403
    own = {**headers, "Origin": busbar.url}
    assert (await busbar.http().post("/api/boards", json={"name": "Bench"}, headers=own)).status_code == 201
    assert (await busbar.http().get("/api/boards", headers=headers)).status_code == 200
