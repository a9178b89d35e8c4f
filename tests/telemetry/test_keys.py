"""Telemetry keys: made, listed, revoked, and limited by a quota of points."""

from __future__ import annotations

import re
from typing import Any

import httpx
import pytest

from gen.busbar.api.v1.options_pb import CredentialKind
from tests.conftest import Person, Running, Start
from tests.doors import Refused


async def make(busbar: Running, person: Person, **fields: Any) -> dict[str, Any]:
    """Return a fresh key."""
    answer = await busbar.http(person.session).post("/api/keys", json={"name": "rig", **fields})
    assert answer.status_code == 201, answer.text
    return answer.json()


def device(busbar: Running, key: str) -> httpx.AsyncClient:
    """Return a client with a key where devices put it."""
    return busbar.http(**{"x-api-key": key})


async def send(client: httpx.AsyncClient, points: int) -> httpx.Response:
    """Send some points."""
    body = [{"metric": "t", "value": number, "timestamp": 1_700_000_000_000 + number} for number in range(points)]
    return await client.post("/ingest", json={"source_id": "rig-1", "points": body})


async def test_a_key_is_shown_once_and_may_write(busbar: Running, alice: Person) -> None:
    made = await make(busbar, alice)
    assert re.fullmatch(r"plx_[A-Za-z0-9]{32}", made["key"])
    assert made["prefix"] == made["key"][:12]
    assert made["scopes"] == ["write"]
    verified = await device(busbar, made["key"]).get("/api/auth/verify-key")
    assert verified.json() == {"org_id": alice.org_id, "scopes": ["write"]}
    listed = (await busbar.http(alice.session).get("/api/keys")).json()
    assert [key["id"] for key in listed["keys"]] == [made["id"]]
    assert made["key"] not in str(listed)


async def test_keys_are_made_listed_and_revoked_over_grpc(busbar: Running, alice: Person, eve: Person) -> None:
    client, stranger = busbar.client("grpc", alice.session), busbar.client("grpc", eve.session)
    made = await client.call("KeyService.CreateKey", name="rig", scopes=["read"], points_per_month=5)
    assert (await busbar.client("grpc", made.key).call("KeyService.VerifyKey")).scopes == ["read"]
    (listed,) = (await client.call("KeyService.ListKeys")).keys
    assert (listed.id, listed.points_per_month, listed.points_this_month) == (made.id, 5, 0)
    with pytest.raises(Refused) as refused:
        await stranger.call("KeyService.RevokeKey", key_id=made.id)
    assert refused.value.code == "NOT_FOUND"
    await client.call("KeyService.RevokeKey", key_id=made.id)
    with pytest.raises(Refused) as refused:
        await busbar.client("grpc", made.key).call("KeyService.VerifyKey")
    assert refused.value.code == "UNAUTHENTICATED"


async def test_a_key_may_do_what_its_scopes_say(busbar: Running, alice: Person) -> None:
    reader = device(busbar, (await make(busbar, alice, scopes=["read"]))["key"])
    assert (await send(reader, 1)).status_code == 403
    assert (await reader.get("/api/v1/telemetry")).status_code == 200


async def test_a_key_without_scopes_may_only_write(busbar: Running, alice: Person) -> None:
    issued = await busbar.app.identity.issue(CredentialKind.TELEMETRY_KEY, alice.org_id, scopes=())
    client = device(busbar, issued.secret)
    assert (await client.get("/api/auth/verify-key")).json()["scopes"] == ["write"]
    assert (await client.get("/api/v1/telemetry")).status_code == 403


async def test_a_revoked_key_is_refused_at_once(busbar: Running, alice: Person, eve: Person) -> None:
    made = await make(busbar, alice)
    client = device(busbar, made["key"])
    assert (await send(client, 1)).status_code == 200
    assert (await busbar.http(eve.session).delete(f"/api/keys/{made['id']}")).status_code == 404
    for _ in range(2):
        assert (await busbar.http(alice.session).delete(f"/api/keys/{made['id']}")).status_code == 204
    assert (await send(client, 1)).status_code == 401
    assert (await busbar.http(alice.session).get("/api/keys")).json()["keys"][0]["revoked_at"]


async def test_a_key_that_another_process_revoked_is_refused_after_the_next_look(busbar: Running, start: Start) -> None:
    alice = await busbar.person()
    made = await make(busbar, alice)
    client = device(busbar, made["key"])
    assert (await send(client, 1)).status_code == 200
    other = await start()
    await other.app.identity.revoke(made["id"], [CredentialKind.TELEMETRY_KEY])
    await busbar.app.credentials.drop_revoked()
    assert (await send(client, 1)).status_code == 401


async def test_an_expired_key_is_refused(busbar: Running, alice: Person) -> None:
    client = device(busbar, (await make(busbar, alice, expires_at="2099-01-01T00:00:00Z"))["key"])
    assert (await send(client, 1)).status_code == 200
    busbar.clock.forward(seconds=100 * 365 * 24 * 3600)
    assert (await send(client, 1)).status_code == 401


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"name": "k", "scopes": ["admin"]},
        {"name": "k", "expires_at": "2001-01-01T00:00:00Z"},
        {"name": "k", "expires_at": "tomorrow"},
        {"name": "k", "points_per_month": 0},
    ],
)
async def test_a_bad_key_is_400_and_not_made(busbar: Running, alice: Person, body: dict[str, Any]) -> None:
    client = busbar.http(alice.session)
    assert (await client.post("/api/keys", json=body)).status_code == 400
    assert (await client.get("/api/keys")).json()["keys"] == []


async def test_a_key_is_no_session(busbar: Running, alice: Person) -> None:
    made = await make(busbar, alice, scopes=["*"])
    assert (await device(busbar, made["key"]).post("/api/keys", json={"name": "k"})).status_code == 401


async def test_points_beyond_the_quota_are_402_and_not_stored(busbar: Running, alice: Person) -> None:
    made = await make(busbar, alice, scopes=["write", "read"], points_per_month=10)
    client = device(busbar, made["key"])
    assert (await send(client, 8)).status_code == 200
    refused = await send(client, 3)
    assert refused.status_code == 402
    assert refused.json()["error"] == refused.json()["message"] == "point quota exceeded: 8 of 10 points of this month are used"
    assert (await send(client, 2)).status_code == 200
    assert (await client.post("/ingest", json={"points": []})).status_code == 200
    shown = (await busbar.http(alice.session).get("/api/keys")).json()["keys"][0]
    assert (shown["points_per_month"], shown["points_this_month"]) == (10, 10)


async def test_refused_points_use_up_no_quota(busbar: Running, alice: Person) -> None:
    client = device(busbar, (await make(busbar, alice, points_per_month=5))["key"])
    bad = {"points": [{"metric": "t", "value": None}] * 5, "source_id": "rig-1"}
    assert (await client.post("/ingest", json=bad)).status_code == 400
    assert (await send(client, 5)).status_code == 200


async def test_a_new_month_begins_with_the_whole_quota(busbar: Running, alice: Person) -> None:
    client = device(busbar, (await make(busbar, alice, points_per_month=5))["key"])
    assert (await send(client, 5)).status_code == 200
    busbar.clock.forward(seconds=32 * 24 * 3600)
    assert (await send(client, 5)).status_code == 200
    assert (await send(client, 1)).status_code == 402


async def test_used_points_are_remembered_over_a_restart(start: Start) -> None:
    first = await start()
    alice = await first.person()
    key = (await make(first, alice, points_per_month=5))["key"]
    assert (await send(device(first, key), 4)).status_code == 200
    await first.server.stop(1)
    await first.app.close()
    second = await start()
    assert (await send(device(second, key), 2)).status_code == 402
    assert (await send(device(second, key), 1)).status_code == 200
