"""Signing in to the lab, its users and their tokens, as the system's own clients use them."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest

from tests.conftest import PASSWORD, Person, Running, Start
from tests.doors import Refused
from tests.lab.conftest import person, sign_in


async def test_signing_in_tells_who_it_is_and_leaves_a_log_entry(busbar: Running, alice: Person) -> None:
    answer = await busbar.http().post("/api/v1/auth/login", json={"email": alice.email, "password": PASSWORD})
    body = answer.json()
    assert (body["status"], body["message"]) == ("success", "Successfully logged in.")
    assert (body["public_id"], body["username"]) == (alice.id, "alice")
    client = busbar.http(body["access_token"], **{"X-Nothing": "1"})
    me = (await client.get("/api/v1/auth/me")).json()
    assert (me["role"], me["admin"], me["sso_provider"]) == ("admin", True, None)
    assert me["registered_on"] == me["created_on"]
    newest = (await client.get("/api/v1/logging/")).json()["data"][0]
    assert newest["content"] == "User 'alice' logged in."
    assert (newest["logging_type"], newest["status_type"], newest["user_public_id"]) == ("info", "unread", alice.id)


@pytest.mark.parametrize("body", [{"email": "alice@example.com", "password": "wrong"}, {"email": "no@one.io", "password": "x"}])
async def test_a_wrong_password_and_an_unknown_address_look_the_same(busbar: Running, alice: Person, body: Any) -> None:
    answer = await busbar.http().post("/api/v1/auth/login", json=body)
    assert (answer.status_code, answer.json()) == (401, {"detail": "Invalid email or password."})


async def test_signing_out_ends_the_access_token_but_not_an_api_token(busbar: Running, admin: httpx.AsyncClient) -> None:
    made = (await admin.post("/api/v1/tokens", json={"name": "controller"})).json()
    assert made["token"].startswith("wm_")
    assert len(made["token"]) == 67
    script = busbar.http(made["token"], **{"X-Nothing": "1"})
    assert (await script.post("/api/v1/auth/logout")).json()["message"] == "Successfully logged out."
    assert (await script.get("/api/v1/auth/me")).status_code == 200
    assert (await admin.post("/api/v1/auth/logout")).status_code == 200
    answer = await admin.get("/api/v1/auth/me")
    assert (answer.status_code, answer.json()) == (401, {"detail": "Token has been revoked."})


async def test_each_refusal_of_a_credential_says_what_is_wrong_with_it(busbar: Running, admin: httpx.AsyncClient) -> None:
    async def told(credential: str | None) -> str:
        answer = await busbar.http(credential, **{"X-Nothing": "1"}).get("/api/v1/auth/me")
        assert answer.status_code == 401
        return answer.json()["detail"]

    past = (await admin.post("/api/v1/tokens", json={"name": "old", "expires_at": "2020-01-01T00:00:00Z"})).json()
    deleted = (await admin.post("/api/v1/tokens", json={"name": "gone"})).json()
    await admin.delete(f"/api/v1/tokens/{deleted['public_id']}")
    short = await sign_in(busbar, "alice@example.com")
    assert await told(None) == "Authentication required."
    assert await told("not-a-token") == "Invalid or expired token."
    assert await told("wm_nonsense") == "Invalid API token."
    assert await told(past["token"]) == "API token has expired."
    assert await told(deleted["token"]) == "Invalid API token."
    busbar.clock.forward(seconds=1440 * 60 + 1)
    answer = await short.get("/api/v1/auth/me")
    assert answer.json() == {"detail": "Invalid or expired token."}


async def test_a_new_role_counts_from_the_next_call(busbar: Running, admin: httpx.AsyncClient) -> None:
    viewer = await person(busbar, admin, "vera", "viewer")
    me = (await viewer.get("/api/v1/auth/me")).json()
    refused = await viewer.post("/api/v1/logging", json={})
    assert (refused.status_code, refused.json()) == (403, {"detail": "Operator privileges required."})
    await admin.put(f"/api/v1/users/{me['public_id']}", json={"role": "operator"})
    assert (await viewer.post("/api/v1/logging", json={"content": "started"})).status_code == 201
    refused = await viewer.get("/api/v1/users")
    assert (refused.status_code, refused.json()) == (403, {"detail": "Admin privileges required."})


async def test_people_change_themselves_but_neither_others_nor_their_role(busbar: Running, admin: httpx.AsyncClient) -> None:
    vera, otto = await person(busbar, admin, "Vera Smith", "viewer"), await person(busbar, admin, "otto", "operator")
    me = (await vera.get("/api/v1/auth/me")).json()
    other = (await otto.get("/api/v1/auth/me")).json()["public_id"]
    mine = f"/api/v1/users/{me['public_id']}"
    assert (await vera.put(mine, json={"username": "Vera", "email": None})).status_code == 200
    assert (await vera.get(mine)).json()["email"] == me["email"]
    answer = await vera.put(mine, json={"role": "viewer"})
    assert (answer.status_code, answer.json()) == (403, {"detail": "Only admins can change user roles."})
    for unknown in (other, "nobody"):
        answer = await vera.put(f"/api/v1/users/{unknown}", json={"username": "x2"})
        assert (answer.status_code, answer.json()) == (403, {"detail": "You can only update your own profile."})
    answer = await vera.put(mine, json={"username": "OTTO"})
    assert (answer.status_code, answer.json()) == (409, {"detail": "User already exists."})


async def test_a_deleted_user_is_gone_with_what_they_wrote_and_their_name_is_free(
    busbar: Running, admin: httpx.AsyncClient
) -> None:
    otto = await person(busbar, admin, "otto", "operator")
    token = (await otto.post("/api/v1/tokens", json={"name": "rig"})).json()["token"]
    await otto.post("/api/v1/logging", json={"content": "by otto"})
    user_id = (await otto.get("/api/v1/auth/me")).json()["public_id"]
    assert (await admin.delete(f"/api/v1/users/{user_id}")).json()["message"] == "User successfully deleted."
    assert (await otto.get("/api/v1/auth/me")).json() == {"detail": "User not found."}
    script = await busbar.http(token, **{"X-Nothing": "1"}).get("/api/v1/auth/me")
    assert script.json() == {"detail": "Token owner not found."}
    entries = (await admin.get("/api/v1/logging?page_size=100")).json()["data"]
    assert "by otto" not in [entry["content"] for entry in entries]
    answer = await admin.get(f"/api/v1/users/{user_id}")
    assert (answer.status_code, answer.json()) == (404, {"detail": f"User '{user_id}' not found."})
    await person(busbar, admin, "otto", "viewer")


async def test_the_last_administrator_stays(busbar: Running, alice: Person, admin: httpx.AsyncClient) -> None:
    for answer in (
        await admin.delete(f"/api/v1/users/{alice.id}"),
        await admin.put(f"/api/v1/users/{alice.id}", json={"role": "viewer"}),
    ):
        assert (answer.status_code, answer.json()) == (409, {"detail": "the last administrator must stay"})
    second = await person(busbar, admin, "adam", "admin")
    adam = (await second.get("/api/v1/auth/me")).json()["public_id"]
    both = await asyncio.gather(admin.delete(f"/api/v1/users/{adam}"), second.delete(f"/api/v1/users/{alice.id}"))
    assert sorted(answer.status_code for answer in both) in ([200, 401], [200, 403], [200, 404], [200, 409])
    assert len([answer for answer in both if answer.status_code == 200]) == 1


async def test_users_of_another_organisation_do_not_exist(
    busbar: Running, admin: httpx.AsyncClient, alice: Person, eve: Person
) -> None:
    stranger = await sign_in(busbar, eve.email)
    for answer in (await stranger.get(f"/api/v1/users/{alice.id}"), await stranger.delete(f"/api/v1/users/{alice.id}")):
        assert (answer.status_code, answer.json()) == (404, {"detail": f"User '{alice.id}' not found."})
    assert [user["public_id"] for user in (await stranger.get("/api/v1/users/")).json()["data"]] == [eve.id]


async def test_administrators_see_everybodys_tokens_and_others_their_own(busbar: Running, admin: httpx.AsyncClient) -> None:
    otto = await person(busbar, admin, "otto", "operator")
    mine = (await otto.post("/api/v1/tokens", json={"name": "rig"})).json()
    theirs = (await admin.post("/api/v1/tokens", json={"name": "office"})).json()
    assert [t["name"] for t in (await otto.get("/api/v1/tokens")).json()["data"]] == ["rig"]
    page = (await admin.get("/api/v1/tokens")).json()
    assert ([t["name"] for t in page["data"]], page["total"], page["page_size"]) == (["office", "rig"], 2, 25)
    assert "token" not in page["data"][0]
    answer = await otto.delete(f"/api/v1/tokens/{theirs['public_id']}")
    assert (answer.status_code, answer.json()) == (403, {"detail": "Cannot delete another user's token."})
    assert (await admin.delete(f"/api/v1/tokens/{mine['public_id']}")).json()["message"] == "API token deleted."
    answer = await admin.delete(f"/api/v1/tokens/{mine['public_id']}")
    assert (answer.status_code, answer.json()) == (404, {"detail": "API token not found."})


async def test_the_use_of_a_token_shows_at_once(busbar: Running, admin: httpx.AsyncClient) -> None:
    token = (await admin.post("/api/v1/tokens", json={"name": "rig"})).json()
    assert (await admin.get("/api/v1/tokens")).json()["data"][0]["last_used_at"] is None
    await busbar.http(token["token"], **{"X-Nothing": "1"}).get("/api/v1/auth/me")
    assert (await admin.get("/api/v1/tokens")).json()["data"][0]["last_used_at"] is not None


async def test_a_page_out_of_range_is_refused_and_one_past_the_end_is_empty(admin: httpx.AsyncClient) -> None:
    for query in ("page=0", "page_size=0", "page_size=101", "page=x"):
        assert (await admin.get(f"/api/v1/users?{query}")).status_code == 422
    page = (await admin.get("/api/v1/users?page=9")).json()
    assert (page["page"], page["page_size"], page["total"], page["data"]) == (9, 25, 1, [])


async def test_a_start_of_the_server_is_in_the_log_book(start: Start) -> None:
    first = await start()
    await first.app.identity.ensure_first_admin("boss@lab.local", "boss", PASSWORD)
    second = await start()
    boss = await sign_in(second, "boss@lab.local")
    me = (await boss.get("/api/v1/auth/me")).json()
    login, started = (await boss.get("/api/v1/logging")).json()["data"]
    assert login["content"] == "User 'boss' logged in."
    assert (started["content"], started["user_public_id"]) == ("WebMACS Backend v2.0.0 started.", me["public_id"])


async def test_a_token_counts_at_every_door(busbar: Running, alice: Person, admin: httpx.AsyncClient) -> None:
    await admin.post("/api/v1/logging", json={"content": "hello"})
    api_token = (await admin.post("/api/v1/tokens", json={"name": "rig"})).json()["token"]
    for token in (admin.headers["authorization"].removeprefix("Bearer "), api_token):
        for door in ("grpc", "rest", "mcp"):
            entries = await busbar.client(door, token).call("LoggingService.ListLogEntries")
            assert entries.data[0].content == "hello"
        me = await busbar.client("grpc", token).call("lab.AuthService.GetMe")
        assert (me.public_id, me.role) == (alice.id, "admin")


async def test_an_ended_token_counts_at_no_door(busbar: Running, admin: httpx.AsyncClient) -> None:
    token = admin.headers["authorization"].removeprefix("Bearer ")
    clients = [busbar.client(door, token) for door in ("grpc", "rest", "mcp")]
    for client in clients:
        await client.call("LoggingService.ListLogEntries")
    await admin.post("/api/v1/auth/logout")
    for client in clients:
        with pytest.raises(Refused) as refused:
            await client.call("LoggingService.ListLogEntries")
        assert refused.value.code == "UNAUTHENTICATED"


async def test_a_role_counts_at_every_door(busbar: Running, admin: httpx.AsyncClient) -> None:
    viewer = await person(busbar, admin, "vera", "viewer")
    token = viewer.headers["authorization"].removeprefix("Bearer ")
    for door in ("grpc", "rest"):
        with pytest.raises(Refused) as refused:
            await busbar.client(door, token).call("LoggingService.CreateLogEntry", content="x")
        assert refused.value.code == "PERMISSION_DENIED"
    await busbar.client("mcp", token).call("LoggingService.ListLogEntries")


async def test_null_leaves_a_field_of_a_user_and_is_refused_elsewhere(busbar: Running, admin: httpx.AsyncClient) -> None:
    await admin.post("/api/v1/logging", json={"content": "hello"})
    entry = (await admin.get("/api/v1/logging")).json()["data"][0]["public_id"]
    answer = await admin.put(f"/api/v1/logging/{entry}", json={"content": None, "status_type": None})
    assert answer.status_code == 422
    assert answer.json()["detail"][0] == {
        "type": "enum",
        "loc": ["body", "status_type"],
        "msg": "Input should be 'read' or 'unread'",
        "input": None,
        "ctx": {"expected": "'read' or 'unread'"},
    }
    me = (await admin.get("/api/v1/auth/me")).json()
    body = {"username": None, "email": None, "password": None, "role": None}
    answer = await admin.put(f"/api/v1/users/{me['public_id']}", json=body)
    assert (answer.status_code, answer.json()["message"]) == (200, "User successfully updated.")
    assert (await admin.get("/api/v1/auth/me")).json() == me
    for name in ("email", "username", "password", "role"):
        made = {"email": "n@lab.local", "username": "nn", "password": PASSWORD, name: None}
        answer = await admin.post("/api/v1/users", json=made)
        assert (answer.status_code, answer.json()["detail"][0]["loc"]) == (422, ["body", name])


async def test_checks_come_in_the_order_that_clients_know(busbar: Running, admin: httpx.AsyncClient) -> None:
    viewer = await person(busbar, admin, "vera", "viewer")
    other = (await admin.get("/api/v1/auth/me")).json()["public_id"]
    steps: list[tuple[int, httpx.AsyncClient, str, str, dict[str, Any]]] = [
        (404, busbar.http(), "POST", "/api/v1/nope", {"content": "{"}),
        (405, busbar.http(), "DELETE", "/api/v1/logging", {}),
        (422, busbar.http(), "POST", "/api/v1/logging", {"content": "{"}),
        (401, busbar.http(), "POST", "/api/v1/logging", {"json": {}}),
        (422, viewer, "POST", "/api/v1/logging", {"content": "{"}),
        (403, viewer, "POST", "/api/v1/logging", {"json": {}}),
        (422, admin, "POST", "/api/v1/logging", {"json": {}}),
        (422, admin, "PUT", "/api/v1/logging/unknown", {"json": {"content": ""}}),
        (404, admin, "PUT", "/api/v1/logging/unknown", {"json": {"content": "x"}}),
        (422, viewer, "PUT", f"/api/v1/users/{other}", {"json": {"password": "short"}}),
        (403, viewer, "PUT", f"/api/v1/users/{other}", {"json": {"username": "xx"}}),
    ]
    for status, client, method, path, body in steps:
        answer = await client.request(method, path, **body)
        assert (answer.status_code, list(answer.json())) == (status, ["detail"]), path


@pytest.mark.parametrize("address", ["a@b.local", "a@localhost", "A.B+c@x.test", "x@example.com"])
async def test_addresses_of_reserved_domains_are_addresses(busbar: Running, admin: httpx.AsyncClient, address: str) -> None:
    body = {"email": address, "username": "someone", "password": "é" * 100}
    assert (await admin.post("/api/v1/users", json=body)).status_code == 201
    await sign_in(busbar, address, "é" * 100)


@pytest.mark.parametrize("address", ["", "nobody", "@x.io", "a@", "a b@x.io", "a@x@y", "a@x..io", "a@.io"])
async def test_what_is_no_address_is_refused_in_known_words(busbar: Running, admin: httpx.AsyncClient, address: str) -> None:
    body = {"email": address, "username": "someone", "password": PASSWORD}
    for answer in (
        await admin.post("/api/v1/users", json=body),
        await busbar.http().post("/api/v1/auth/login", json={"email": address, "password": "x"}),
    ):
        assert answer.status_code == 422
        (entry,) = answer.json()["detail"]
        assert (entry["type"], entry["loc"], entry["input"]) == ("value_error", ["body", "email"], address)
        assert entry["msg"] == f"value is not a valid email address: {entry['ctx']['reason']}"
