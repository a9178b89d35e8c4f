"""Keys for agents."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import pytest

from tests.conftest import Person, Running, Start
from tests.databases import database_url

__all__ = ["database_url"]

ROW = {"id", "name", "prefix", "scopes", "boardIds", "createdAt", "lastUsedAt", "expiresAt", "revokedAt", "readOnly", "tools"}


async def test_a_key_is_shown_once(busbar: Running, alice: Person) -> None:
    client = busbar.http(alice.session)
    answer = await client.post("/api/mcp/keys", json={"name": "assistant"})
    body = answer.json()
    assert answer.status_code == 201
    assert set(body) == ROW | {"key"}
    assert re.fullmatch(r"plnx_[A-Za-z0-9]{43}", body["key"])
    assert body["prefix"] == body["key"][:10]
    assert body["scopes"] == ["boards:read", "pins:read", "projects:read"]
    assert body["boardIds"] is None
    listed = (await client.get("/api/mcp/keys")).json()
    assert listed["nextCursor"] is None
    assert [set(key) for key in listed["keys"]] == [ROW]
    assert body["key"] not in str(listed)


async def test_a_revoked_key_is_refused_at_once(busbar: Running, alice: Person) -> None:
    client = busbar.http(alice.session)
    created = (await client.post("/api/mcp/keys", json={"name": "k"})).json()
    agent = busbar.http(created["key"])
    assert (await agent.get("/api/ha/boards")).status_code == 200
    for _ in range(2):
        assert (await client.delete(f"/api/mcp/keys/{created['id']}")).json() == {"ok": True}
    refused = await agent.get("/api/ha/boards")
    assert refused.status_code == 401
    assert refused.headers["www-authenticate"].startswith("Bearer")
    assert (await client.get("/api/mcp/keys")).json()["keys"][0]["revokedAt"] is not None


async def test_an_expired_key_is_refused(busbar: Running, alice: Person) -> None:
    created = await busbar.http(alice.session).post("/api/mcp/keys", json={"name": "k", "expiresAt": "2099-01-01T00:00:00Z"})
    agent = busbar.http(created.json()["key"])
    assert (await agent.get("/api/ha/boards")).status_code == 200
    busbar.clock.forward(seconds=100 * 365 * 24 * 3600)
    assert (await agent.get("/api/ha/boards")).status_code == 401


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "name"),
        ({"name": "x" * 81}, "name"),
        ({"name": "k", "scopes": ["root"]}, "scopes"),
        ({"name": "k", "boardIds": []}, "boardIds"),
        ({"name": "k", "boardIds": [5]}, "boardIds"),
        ({"name": "k", "tools": []}, "tools"),
        ({"name": "k", "tools": ["plynx_read_pins"]}, "tools"),
        ({"name": "k", "expiresAt": "2001-01-01T00:00:00Z"}, "expiresAt"),
        ({"name": "k", "expiresAt": "tomorrow"}, "expiresAt"),
    ],
)
async def test_a_bad_key_is_400_and_not_made(busbar: Running, alice: Person, body: dict[str, Any], field: str) -> None:
    client = busbar.http(alice.session)
    answer = await client.post("/api/mcp/keys", json=body)
    assert answer.status_code == 400
    assert answer.json()["error"].startswith(field)
    assert (await client.get("/api/mcp/keys")).json()["keys"] == []


async def test_a_key_for_a_board_of_others_is_404(busbar: Running, eve: Person, bench: Any) -> None:
    answer = await busbar.http(eve.session).post("/api/mcp/keys", json={"name": "k", "boardIds": [bench.id]})
    assert answer.status_code == 404


async def test_keys_of_others_are_404(busbar: Running, alice: Person, eve: Person) -> None:
    created = (await busbar.http(alice.session).post("/api/mcp/keys", json={"name": "k"})).json()
    assert (await busbar.http(eve.session).delete(f"/api/mcp/keys/{created['id']}")).status_code == 404
    assert (await busbar.http(eve.session).get("/api/mcp/keys")).json()["keys"] == []


async def test_a_key_is_no_session(busbar: Running, alice: Person) -> None:
    created = (await busbar.http(alice.session).post("/api/mcp/keys", json={"name": "k"})).json()
    for path in ("/api/boards", "/api/mcp/keys"):
        assert (await busbar.http(created["key"]).get(path)).status_code == 401


async def test_the_26th_live_key_is_409(start: Start) -> None:
    busbar = await start(quotas={"agent_keys": 1})
    alice = await busbar.person()
    client = busbar.http(alice.session)
    first = (await client.post("/api/mcp/keys", json={"name": "a"})).json()
    assert (await client.post("/api/mcp/keys", json={"name": "b"})).status_code == 409
    await client.delete(f"/api/mcp/keys/{first['id']}")
    assert (await client.post("/api/mcp/keys", json={"name": "b"})).status_code == 201


async def test_of_many_keys_at_once_no_more_are_made_than_may_be_held(start: Start, database_url: str) -> None:
    busbar = await start(database=database_url, quotas={"agent_keys": 2})
    client = busbar.http((await busbar.person()).session)
    answers = await asyncio.gather(*(client.post("/api/mcp/keys", json={"name": "k"}) for _ in range(8)))
    assert sorted(answer.status_code for answer in answers) == [201] * 2 + [409] * 6
