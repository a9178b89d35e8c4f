"""Where a credential is looked for, which kinds count, and what else the door tells a service about its caller."""

from __future__ import annotations

import httpx
import pytest

from tests.rest.fakes import AGENT_KEY, ALICE, SESSION, TELEMETRY_KEY, World, client, fake_rpcs, rest_app

COOKIE = {"cookie": f"theme=dark; plynx_session={SESSION}"}


@pytest.mark.parametrize("headers", [ALICE, {"Authorization": f"bearer  {SESSION}"}, COOKIE])
async def test_makers_bring_a_session_by_header_or_cookie(web: httpx.AsyncClient, headers: dict[str, str]) -> None:
    assert (await web.get("/api/boards", headers=headers)).status_code == 200


@pytest.mark.parametrize("value", ["Bearer stale", "Basic dXNlcjpwdw==", "Bearer"])
async def test_a_bad_header_does_not_fall_through_to_a_good_cookie(web: httpx.AsyncClient, value: str) -> None:
    answer = await web.get("/api/boards", headers={**COOKIE, "authorization": value})
    assert answer.status_code == 401
    assert "www-authenticate" not in answer.headers


async def test_the_query_token_counts_only_where_the_rpc_says_so(web: httpx.AsyncClient, world: World) -> None:
    assert (await web.get(f"/api/boards?token={SESSION}")).status_code == 401
    assert (await web.get(f"/api/auth/session?token={SESSION}")).status_code == 200
    assert world.call.principal is not None
    assert world.call.credential_source == "query"
    await web.get(f"/api/auth/session?token={SESSION}", headers={"authorization": "Bearer stale"})
    assert world.call.principal is None


async def test_an_agent_key_is_no_session_and_a_session_no_agent_key(web: httpx.AsyncClient) -> None:
    key = {"authorization": f"Bearer {AGENT_KEY}"}
    assert (await web.get("/api/boards", headers=key)).json() == {"error": "invalid or expired credential"}
    assert (await web.get("/api/ha/boards", headers=key)).status_code == 200
    refused = await web.get("/api/ha/boards", headers=ALICE)
    assert (refused.status_code, refused.headers["www-authenticate"]) == (401, "Bearer")


async def test_the_paths_of_agents_say_which_scheme_they_want(web: httpx.AsyncClient) -> None:
    for path in ("/api/ha/boards", "/api/mcp/keys"):
        answer = await web.get(path)
        assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
        assert answer.json() == {"error": "authentication required"}


@pytest.mark.parametrize("headers", [{"X-API-Key": TELEMETRY_KEY}, {"authorization": f"Bearer {TELEMETRY_KEY}"}])
async def test_devices_bring_a_key_in_either_header(web: httpx.AsyncClient, headers: dict[str, str]) -> None:
    assert (await web.get("/api/auth/verify-key", headers=headers)).json() == {"org_id": "org", "scopes": ["write"]}


async def test_the_api_key_header_wins_over_the_bearer(web: httpx.AsyncClient) -> None:
    headers = {"x-api-key": "plx_stale", "authorization": f"Bearer {TELEMETRY_KEY}"}
    assert (await web.get("/api/auth/verify-key", headers=headers)).status_code == 401


async def test_an_rpc_may_narrow_the_kinds_of_its_surface(web: httpx.AsyncClient) -> None:
    assert (await web.post("/api/ingest", content="{}", headers=ALICE)).status_code == 401
    assert (await web.get("/api/v1/telemetry", headers=ALICE)).status_code == 200


async def test_a_missing_scope_is_named(web: httpx.AsyncClient) -> None:
    answer = await web.get("/api/boards", headers={"authorization": "Bearer scopeless"})
    assert (answer.status_code, answer.json()) == (403, {"error": "insufficient scope: boards:read required"})


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        ("http://box.test", 200),
        ("https://app.example", 200),
        ("http://evil.example", 403),
        ("http://box.test.evil.example", 403),
        ("null", 403),
        (None, 200),
    ],
)
async def test_pages_of_other_sites_change_nothing_with_a_cookie(world: World, origin: str | None, status: int) -> None:
    headers = COOKIE if origin is None else {**COOKIE, "origin": origin}
    async with client(rest_app(fake_rpcs(world), cors_origins=["https://app.example"])) as web:
        assert (await web.delete("/api/boards/b1", headers=headers)).status_code == status
        assert (await web.get("/api/boards/b1", headers=headers)).status_code == 200
        assert (await web.delete("/api/boards/b1", headers={**headers, **ALICE})).status_code == 200


async def test_forwarded_headers_count_from_trusted_peers_only(world: World) -> None:
    forwarded = {"x-forwarded-for": "198.51.100.7, 127.0.0.1", "x-forwarded-proto": "https"}
    for peer, address, base in (
        ("127.0.0.1", "198.51.100.7", "https://box.test"),
        ("203.0.113.9", "203.0.113.9", "http://box.test"),
    ):
        async with client(rest_app(fake_rpcs(world)), peer=(peer, 1)) as web:
            await web.get("/api/boards", headers={**ALICE, **forwarded})
        assert (world.call.address, world.call.base_url) == (address, base)


async def test_a_forged_hop_before_the_real_one_is_not_believed(world: World) -> None:
    async with client(rest_app(fake_rpcs(world)), peer=("127.0.0.1", 1)) as web:
        await web.get("/api/boards", headers={**ALICE, "x-forwarded-for": "10.0.0.1, 198.51.100.7"})
    assert world.call.address == "198.51.100.7"


async def test_the_public_address_is_the_base_wherever_it_is_set(world: World) -> None:
    async with client(rest_app(fake_rpcs(world), public_url="https://bus.example/")) as web:
        await web.get("/api/boards", headers=ALICE)
    assert world.call.base_url == "https://bus.example"


async def test_a_host_that_is_no_host_does_not_reach_the_service(web: httpx.AsyncClient, world: World) -> None:
    await web.get("/api/boards", headers={**ALICE, "host": "a b/<x>"})
    assert world.call.base_url == "http://box.test"


async def test_the_service_learns_what_the_headers_say(web: httpx.AsyncClient, world: World) -> None:
    await web.patch("/api/boards/b1", json={}, headers={**ALICE, "idempotency-key": "k1", "if-match": 'W/"7"'})
    call = world.call
    assert (call.door, call.idempotency_key, call.if_match, call.credential_source) == ("rest", "k1", "7", "header")
