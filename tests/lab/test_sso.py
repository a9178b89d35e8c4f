"""Signing in through an identity provider, against real ones over real HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from joserfc.jwk import RSAKey

from tests.conftest import PASSWORD, Running, Start
from tests.lab.conftest import sign_in
from tests.lab.providers import StrangeProvider, WholeProvider, strange_provider, whole_provider

FRONTEND = "https://lab.example"
CLIENT = {"oidc_client_id": "lab", "oidc_client_secret": "hush"}
LATE, LATER_THAN_CODES = 601, 61


class Lab:
    """A server with an administrator and an identity provider."""

    def __init__(self, busbar: Running) -> None:
        self.busbar = busbar

    def browser(self) -> httpx.AsyncClient:
        """Return a client with cookies of its own."""
        return self.busbar.http(**{"X-Nothing": "1"})

    async def begin(self, browser: httpx.AsyncClient) -> str:
        """Press the button, and return where the browser is sent."""
        answer = await browser.get("/api/v1/auth/sso/authorize")
        assert answer.status_code == 307, answer.text
        return answer.headers["location"]

    async def state(self, browser: httpx.AsyncClient) -> str:
        """Press the button, and return the state that goes out."""
        return query_of(await self.begin(browser))["state"]

    async def back(self, browser: httpx.AsyncClient, location: str) -> httpx.Response:
        """Follow the provider's redirect to this server."""
        return await browser.get(f"{urlsplit(location).path}?{urlsplit(location).query}")

    async def callback(self, browser: httpx.AsyncClient, **query: str) -> httpx.Response:
        """Come back with a query of one's own."""
        return await browser.get("/api/v1/auth/sso/callback", params=query)

    async def me(self, answer: httpx.Response) -> dict[str, Any]:
        """Exchange the code of a redirect to the frontend, and return who that is."""
        assert answer.status_code == 307, answer.text
        page, _, query = answer.headers["location"].partition("?")
        assert page == f"{FRONTEND}/sso-callback"
        token = await self.exchange(parse_qs(query)["code"][0])
        assert list(token.json()) == ["access_token"]
        return (await self.busbar.http(token.json()["access_token"], **{"X-Nothing": "1"}).get("/api/v1/auth/me")).json()

    async def exchange(self, code: str) -> httpx.Response:
        """Exchange a one-time code."""
        return await self.browser().post("/api/v1/auth/sso/exchange", json={"code": code})

    async def admin(self) -> httpx.AsyncClient:
        """Return a client of the administrator."""
        return await sign_in(self.busbar, "boss@lab.local")

    async def add(self, name: str, role: str) -> None:
        """Make a user with a password."""
        body = {"email": f"{name}@lab.local", "username": name, "password": PASSWORD, "role": role}
        assert (await (await self.admin()).post("/api/v1/users", json=body)).status_code == 201


def query_of(location: str) -> dict[str, str]:
    """Return the query of an address."""
    return {name: values[0] for name, values in parse_qs(urlsplit(location).query).items()}


async def lab_of(start: Start, issuer: str, **settings: Any) -> Lab:
    """Start a server that trusts a provider."""
    known = {"oidc_enabled": True, "oidc_issuer_url": f"{issuer}/", "oidc_frontend_url": f"{FRONTEND}/"}
    busbar = await start(**{**known, **CLIENT, **settings})
    await busbar.app.identity.ensure_first_admin("boss@lab.local", "boss", PASSWORD)
    return Lab(busbar)


@pytest.fixture
async def whole() -> AsyncIterator[WholeProvider]:
    """A whole provider."""
    async with whole_provider() as provider:
        yield provider


@pytest.fixture
async def strange() -> AsyncIterator[StrangeProvider]:
    """A provider that misbehaves."""
    async with strange_provider() as provider:
        yield provider


async def test_somebody_new_comes_through_the_provider_and_comes_again(start: Start, whole: WholeProvider) -> None:
    lab = await lab_of(start, whole.url, oidc_provider_name="Acme", oidc_default_role="operator")
    await whole.put_user("u1", email="Ida@Lab.local", email_verified=True, preferred_username="ida lovelace!")
    browser = lab.browser()
    config = (await browser.get("/api/v1/auth/sso/config")).json()
    assert config == {"enabled": True, "provider_name": "Acme", "authorize_url": "/api/v1/auth/sso/authorize"}
    out = await lab.begin(browser)
    sent = query_of(out)
    assert out.startswith(f"{whole.url}/oauth2/authorize?")
    assert {name: sent[name] for name in ("response_type", "client_id", "scope", "code_challenge_method")} == {
        "response_type": "code", "client_id": "lab", "scope": "openid email profile", "code_challenge_method": "S256",
    }  # fmt: skip
    assert sent["redirect_uri"] == f"{lab.busbar.url}/api/v1/auth/sso/callback"
    first = await lab.me(await lab.back(browser, await whole.allow(out, "u1")))
    assert (first["username"], first["email"], first["role"]) == ("idalovelace", "ida@lab.local", "operator")
    assert (first["sso_provider"], first["admin"]) == ("Acme", False)
    await whole.put_user("u1", email="other@lab.local", email_verified=False)
    again = await lab.me(await lab.back(browser, await whole.allow(await lab.begin(browser), "u1")))
    assert again == first
    entries = (await (await lab.admin()).get("/api/v1/logging")).json()["data"]
    written = [entry for entry in entries if entry["user_public_id"] == first["public_id"]]
    assert [entry["content"] for entry in written] == ["User 'idalovelace' logged in via SSO (Acme)."] * 2


async def test_a_user_with_a_password_is_linked_by_a_verified_address(start: Start, whole: WholeProvider) -> None:
    lab = await lab_of(start, whole.url)
    await lab.add("otto", "operator")
    await whole.put_user("u2", email="otto@lab.local", email_verified=True, preferred_username="someone")
    browser = lab.browser()
    me = await lab.me(await lab.back(browser, await whole.allow(await lab.begin(browser), "u2")))
    assert (me["username"], me["role"], me["sso_provider"]) == ("otto", "operator", "SSO")
    assert (await (await sign_in(lab.busbar, "otto@lab.local")).get("/api/v1/auth/me")).json() == me


async def test_an_unverified_address_and_an_administrators_are_refused(start: Start, whole: WholeProvider) -> None:
    lab = await lab_of(start, whole.url)
    await lab.add("otto", "operator")
    browser = lab.browser()
    for subject, email, verified, words in (
        ("u1", "ida@lab.local", False, "verified"),
        ("u2", "otto@lab.local", False, "verified"),
        ("u3", "boss@lab.local", True, "admin"),
    ):
        await whole.put_user(subject, email=email, email_verified=verified)
        answer = await lab.back(browser, await whole.allow(await lab.begin(browser), subject))
        assert answer.status_code == 403
        assert words in answer.json()["detail"].lower()
    users = (await (await lab.admin()).get("/api/v1/users")).json()["data"]
    assert [(user["username"], user["sso_provider"]) for user in users] == [("boss", None), ("otto", None)]


async def test_users_are_not_made_where_that_is_switched_off(start: Start, whole: WholeProvider) -> None:
    lab = await lab_of(start, whole.url, oidc_auto_create_users=False)
    await whole.put_user("u1", email="ida@lab.local", email_verified=True)
    browser = lab.browser()
    answer = await lab.back(browser, await whole.allow(await lab.begin(browser), "u1"))
    assert (answer.status_code, "automatic user creation" in answer.json()["detail"]) == (403, True)


async def test_who_refuses_at_the_provider_lands_on_the_page_of_the_frontend(start: Start, whole: WholeProvider) -> None:
    lab = await lab_of(start, whole.url)
    browser = lab.browser()
    answer = await lab.back(browser, await whole.deny(await lab.begin(browser)))
    assert (answer.status_code, answer.headers["location"]) == (307, f"{FRONTEND}/sso-callback?error=access_denied")


async def test_a_state_counts_once_for_ten_minutes_and_in_its_own_browser(start: Start, strange: StrangeProvider) -> None:
    lab = await lab_of(start, strange.url)
    browser, stranger = lab.browser(), lab.browser()
    refusal = {"detail": "Invalid or expired SSO state."}
    state = await lab.state(browser)
    await lab.state(stranger)
    for who, other in ((stranger, state), (lab.browser(), state), (browser, "forged"), (browser, f"{state}x")):
        answer = await lab.callback(who, code="c", state=other)
        assert (answer.status_code, answer.json()) == (400, refusal)
    assert strange.says.asked == []
    both = await asyncio.gather(*(lab.callback(browser, code="c", state=state) for _ in range(4)))
    assert sorted(answer.status_code for answer in both) == [307, 400, 400, 400]
    late = await lab.state(browser)
    lab.busbar.clock.forward(seconds=LATE)
    answer = await lab.callback(browser, code="c", state=late)
    assert (answer.status_code, answer.json()) == (400, refusal)


async def test_two_tabs_of_one_browser_both_arrive(start: Start, strange: StrangeProvider) -> None:
    lab = await lab_of(start, strange.url)
    browser = lab.browser()
    states = [await lab.state(browser) for _ in range(2)]
    answers = await asyncio.gather(*(lab.callback(browser, code="c", state=state) for state in states))
    people = [await lab.me(answer) for answer in answers]
    assert people[0] == people[1]
    assert people[0]["username"] == "IdaLab"


async def test_a_one_time_code_counts_once_for_a_minute_and_survives_a_restart(start: Start, strange: StrangeProvider) -> None:
    lab = await lab_of(start, strange.url)
    browser = lab.browser()

    async def code() -> str:
        answer = await lab.callback(browser, code="c", state=await lab.state(browser))
        return query_of(answer.headers["location"])["code"]

    refusal = (400, {"detail": "Invalid or expired SSO authorization code."})
    first, late = await code(), await code()
    both = await asyncio.gather(lab.exchange(first), lab.exchange(first))
    assert sorted(answer.status_code for answer in both) == [200, 400]
    lab.busbar.clock.forward(seconds=LATER_THAN_CODES)
    for unknown in (late, late, "nonsense"):
        answer = await lab.exchange(unknown)
        assert (answer.status_code, answer.json()) == refusal
    assert (await lab.browser().post("/api/v1/auth/sso/exchange", json={})).status_code == 422
    second = await start(oidc_enabled=False)
    assert (await Lab(second).exchange(await code())).status_code == 200


async def test_the_code_of_a_deleted_user_is_worth_nothing(start: Start, strange: StrangeProvider) -> None:
    lab = await lab_of(start, strange.url)
    browser = lab.browser()
    answer = await lab.callback(browser, code="c", state=await lab.state(browser))
    admin = await lab.admin()
    ida = next(u for u in (await admin.get("/api/v1/users")).json()["data"] if u["username"] == "IdaLab")
    await admin.delete(f"/api/v1/users/{ida['public_id']}")
    assert (await lab.exchange(query_of(answer.headers["location"])["code"])).status_code == 400
    again = await lab.me(await lab.callback(browser, code="c", state=await lab.state(browser)))
    assert again["public_id"] != ida["public_id"]


async def test_nothing_of_the_verifier_can_be_read_on_the_way(start: Start, strange: StrangeProvider) -> None:
    lab = await lab_of(start, strange.url)
    browser = lab.browser()
    answer = await browser.get("/api/v1/auth/sso/authorize")
    out = answer.headers["location"]
    assert (await lab.callback(browser, code="c1", state=query_of(out)["state"])).status_code == 307
    authorization, form = strange.says.asked[0]
    assert httpx.BasicAuth("lab", "hush")._auth_header == authorization
    assert (form["grant_type"], form["code"]) == ("authorization_code", "c1")
    assert form["redirect_uri"] == query_of(out)["redirect_uri"]
    assert form["code_verifier"] not in out + str(answer.headers)
    assert len(form["code_verifier"]) == 86
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=Lax" in cookie


async def test_a_client_without_a_secret_names_itself_in_the_form(start: Start, strange: StrangeProvider) -> None:
    lab = await lab_of(start, strange.url, oidc_client_secret="")
    browser = lab.browser()
    assert (await lab.callback(browser, code="c", state=await lab.state(browser))).status_code == 307
    authorization, form = strange.says.asked[0]
    assert (authorization, form["client_id"]) == ("", "lab")


@pytest.mark.parametrize(
    ("changes", "status", "words"),
    [
        ({"token": (400, {"error": "invalid_grant"})}, 502, "exchange"),
        ({"token": (200, {"token_type": "Bearer"})}, 502, "exchange"),
        ({"metadata": {"token_endpoint": None}}, 502, "exchange"),
        ({"metadata": {"token_endpoint": "http://127.0.0.1:1/"}}, 502, "exchange"),
        ({"userinfo": (500, {})}, 502, "user information"),
        ({"userinfo": (200, ["no object"])}, 502, "user information"),
        ({"metadata": {"userinfo_endpoint": None}}, 502, "userinfo"),
        ({"userinfo": (200, {"sub": "s1", "email_verified": True})}, 400, "email"),
        ({"userinfo": (200, {"email": "ida@lab.local", "email_verified": True})}, 400, "subject"),
        ({"id_token": {"iss": "https://evil.example"}}, 502, "id token"),
        ({"id_token": {"aud": "other"}}, 502, "id token"),
        ({"id_token": {"exp": 1}}, 502, "id token"),
        ({"id_token": {"sub": "s2"}}, 502, "id token"),
        ({"id_token": {}, "key": RSAKey.generate_key(2048, {"kid": "k1"})}, 502, "id token"),
    ],
)
async def test_what_is_wrong_at_the_provider_is_told(
    start: Start, strange: StrangeProvider, changes: dict[str, Any], status: int, words: str
) -> None:
    lab = await lab_of(start, strange.url)
    for name, value in changes.items():
        setattr(strange.says, name, value)
    browser = lab.browser()
    answer = await lab.callback(browser, code="c", state=await lab.state(browser))
    assert answer.status_code == status
    assert words in answer.json()["detail"].lower()
    users = (await (await lab.admin()).get("/api/v1/users")).json()["data"]
    assert [user["username"] for user in users] == ["boss"]


async def test_a_right_id_token_is_taken(start: Start, strange: StrangeProvider) -> None:
    lab = await lab_of(start, strange.url)
    strange.says.id_token = {}
    browser = lab.browser()
    me = await lab.me(await lab.callback(browser, code="c", state=await lab.state(browser)))
    assert me["email"] == "ida@lab.local"


async def test_the_provider_is_asked_once_an_hour_what_it_offers(start: Start, strange: StrangeProvider) -> None:
    lab = await lab_of(start, strange.url)
    browser = lab.browser()
    await asyncio.gather(*(lab.begin(browser) for _ in range(5)))
    assert strange.says.described == 1
    lab.busbar.clock.forward(seconds=3600)
    await lab.begin(browser)
    assert strange.says.described == 2


@pytest.mark.parametrize(
    ("claims", "username"),
    [
        ({"preferred_username": "a.b-c_d e@f"}, "a.b-c_def"),
        ({"name": "Müller"}, "Mller"),
        ({"preferred_username": "x" * 60}, "x" * 50),
        ({"preferred_username": "本"}, "sso_user_"),
        ({"preferred_username": "Boss"}, "Boss_"),
        ({}, "ida"),
    ],
)
async def test_a_username_is_made_of_what_the_provider_knows(
    start: Start, strange: StrangeProvider, claims: dict[str, str], username: str
) -> None:
    lab = await lab_of(start, strange.url)
    strange.says.userinfo = (200, {"sub": "s1", "email": "ida@lab.local", "email_verified": True, **claims})
    browser = lab.browser()
    me = await lab.me(await lab.callback(browser, code="c", state=await lab.state(browser)))
    if username.endswith("_"):
        assert me["username"].startswith(username)
        assert len(me["username"]) == len(username) + 6
    else:
        assert me["username"] == username


async def test_without_a_provider_every_step_says_so(start: Start) -> None:
    lab = await lab_of(start, "", oidc_enabled=False)
    browser = lab.browser()
    config = (await browser.get("/api/v1/auth/sso/config")).json()
    assert config == {"enabled": False, "provider_name": "", "authorize_url": ""}
    for path in ("authorize", "callback?code=c&state=s", "callback?error=access_denied"):
        answer = await browser.get(f"/api/v1/auth/sso/{path}")
        assert (answer.status_code, answer.json()) == (404, {"detail": "SSO is not enabled."})
    answer = await browser.get("/api/v1/auth/sso/callback?code=c")
    assert answer.status_code == 422
    assert answer.json()["detail"] == [{"type": "missing", "loc": ["query", "state"], "msg": "Field required", "input": None}]
    assert (await lab.exchange("nonsense")).status_code == 400


async def test_a_provider_that_is_half_set_up_is_told_by_its_settings(start: Start) -> None:
    lab = await lab_of(start, "", oidc_client_id="", oidc_issuer_url="")
    for path in ("authorize", "callback?code=c&state=s"):
        answer = await lab.browser().get(f"/api/v1/auth/sso/{path}")
        assert answer.status_code == 500
        assert "OIDC_ISSUER_URL" in answer.json()["detail"]
        assert "OIDC_CLIENT_ID" in answer.json()["detail"]


async def test_a_provider_that_does_not_answer_is_told(start: Start) -> None:
    lab = await lab_of(start, "http://127.0.0.1:1")
    answer = await lab.browser().get("/api/v1/auth/sso/authorize")
    assert (answer.status_code, "identity provider" in answer.json()["detail"]) == (502, True)


async def test_where_the_frontend_is_never_comes_from_the_request(start: Start, strange: StrangeProvider) -> None:
    lab = await lab_of(start, strange.url, oidc_frontend_url="", cors_origins=["https://first.example"])
    browser = lab.browser()
    state = await lab.state(browser)
    forged = {"host": "evil.example", "origin": "https://evil.example", "referer": "https://evil.example/"}
    answer = await browser.get("/api/v1/auth/sso/callback", params={"code": "c", "state": state}, headers=forged)
    assert answer.headers["location"].startswith("https://first.example/sso-callback?code=")
