"""Pairing: from a code on a screen to a token on a device."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import httpx
import pytest

from gen.busbar.api.v1.options_pb import CredentialKind
from tests.conftest import Person, Running, Start


async def code_for(busbar: Running, person: Person, **fields: Any) -> str:
    """Return a fresh pairing code."""
    answer = await busbar.http(person.session).post("/api/sources/pair", json=fields)
    assert answer.status_code == 201, answer.text
    return answer.json()["code"]


async def complete(busbar: Running, code: str, path: str = "/api/sources/pair/complete") -> httpx.Response:
    """Send a code as a device does, without a credential."""
    return await busbar.http().post(path, json={"code": code})


async def test_a_code_becomes_a_token_that_may_write_to_its_source_only(busbar: Running, alice: Person) -> None:
    made = await busbar.http(alice.session).post("/api/sources/pair", json={"source_id": "rig-7", "name": "Rig seven"})
    assert set(made.json()) == {"code", "expires_in", "expires_at"}
    assert made.json()["expires_in"] == 900
    code = made.json()["code"]
    assert re.fullmatch(r"[A-Z0-9]{6}", code)
    answer = await complete(busbar, f"  {code.lower()} ")
    device = answer.json()
    assert answer.status_code == 200
    assert answer.headers["cache-control"] == "no-store"
    assert re.fullmatch(r"plxd_[A-Za-z0-9]{32}", device.pop("device_token"))
    assert device == {"source_id": "rig-7", "org_id": alice.org_id, "source_name": "Rig seven", "endpoint": busbar.url}
    rig = busbar.http(**{"x-api-key": answer.json()["device_token"]})
    point = {"metric": "t", "value": 1}
    assert (await rig.post("/ingest", json={"source_id": "rig-7", "points": [point]})).status_code == 200
    assert (await rig.post("/ingest", json={"source_id": "other", "points": [point]})).status_code == 403


async def test_a_code_can_be_completed_where_it_is_made(busbar: Running, alice: Person) -> None:
    code = await code_for(busbar, alice)
    answer = await complete(busbar, code, "/api/sources/pair")
    assert answer.status_code == 200
    assert answer.json()["device_token"].startswith("plxd_")
    assert answer.json()["source_id"] == f"device-{code.lower()}"


async def test_a_used_code_is_410_and_an_unknown_one_404(busbar: Running, alice: Person) -> None:
    code = await code_for(busbar, alice)
    assert (await complete(busbar, code)).status_code == 200
    assert (await complete(busbar, code)).status_code == 410
    assert (await complete(busbar, "!!!!!!")).status_code == 404


async def test_an_expired_code_is_410(busbar: Running, alice: Person) -> None:
    code = await code_for(busbar, alice)
    busbar.clock.forward(seconds=901)
    assert (await complete(busbar, code)).status_code == 410
    status = await busbar.http(alice.session).get("/api/sources/pair", params={"code": code})
    assert status.json() == {"status": "expired"}


async def test_of_two_devices_with_one_code_one_is_paired(busbar: Running, alice: Person) -> None:
    code = await code_for(busbar, alice)
    answers = await asyncio.gather(*(complete(busbar, code) for _ in range(5)))
    assert sorted(answer.status_code for answer in answers) == [200, 410, 410, 410, 410]


async def test_the_maker_of_a_code_sees_how_it_stands_and_others_do_not(busbar: Running, alice: Person, eve: Person) -> None:
    code = await code_for(busbar, alice, source_id="rig-7")
    client = busbar.http(alice.session)
    assert (await client.get("/api/sources/pair", params={"code": code})).json() == {"status": "pending"}
    assert (await complete(busbar, code)).status_code == 200
    done = await client.get("/api/sources/pair", params={"code": code})
    assert done.json() == {"status": "completed", "source_id": "rig-7"}
    assert (await busbar.http(eve.session).get("/api/sources/pair", params={"code": code})).status_code == 404


async def test_guessing_codes_is_slowed_down_over_both_paths_together(start: Start) -> None:
    busbar = await start(rate_limits="on")
    paths = ["/api/sources/pair", "/api/sources/pair/complete"] * 6
    answers = [(await complete(busbar, f"AAAA{number:02}", path)) for number, path in enumerate(paths)]
    assert [answer.status_code for answer in answers] == [404] * 10 + [429] * 2
    assert int(answers[-1].headers["retry-after"]) >= 1


@pytest.mark.parametrize(("scopes", "status"), [(("write",), 201), (("read",), 403)])
async def test_a_key_needs_the_scope_write_to_make_a_code(
    busbar: Running, alice: Person, scopes: tuple[str, ...], status: int
) -> None:
    key = await busbar.key(alice, CredentialKind.TELEMETRY_KEY, *scopes)
    assert (await busbar.http(**{"x-api-key": key}).post("/api/sources/pair", json={})).status_code == status


async def test_neither_strangers_nor_devices_make_codes(busbar: Running, alice: Person) -> None:
    assert (await busbar.http().post("/api/sources/pair", json={})).status_code == 401
    device = (await complete(busbar, await code_for(busbar, alice))).json()
    assert (await busbar.http(**{"x-api-key": device["device_token"]}).post("/api/sources/pair", json={})).status_code == 401


@pytest.mark.parametrize("where", ["body", "header"])
async def test_a_device_token_can_be_verified(busbar: Running, alice: Person, where: str) -> None:
    code = await code_for(busbar, alice, source_id="rig-7", name="Rig seven")
    token = (await complete(busbar, code)).json()["device_token"]
    client = busbar.http() if where == "body" else busbar.http(**{"x-api-key": token})
    answer = await client.post("/api/auth/verify-device", json={"device_token": token} if where == "body" else {})
    assert answer.status_code == 200
    assert answer.json() == {"valid": True, "org_id": alice.org_id, "source_id": "rig-7", "source_name": "Rig seven"}


async def test_other_things_are_no_device_tokens(busbar: Running, alice: Person) -> None:
    key = await busbar.key(alice, CredentialKind.TELEMETRY_KEY, "*")
    for token in ("", "plxd_" + "a" * 32, key, alice.session):
        answer = await busbar.http().post("/api/auth/verify-device", json={"device_token": token})
        assert answer.status_code == 401


async def test_a_revoked_device_token_is_refused_at_once(busbar: Running, alice: Person, eve: Person) -> None:
    token = (await complete(busbar, await code_for(busbar, alice, source_id="rig-7"))).json()["device_token"]
    client, rig = busbar.http(alice.session), busbar.http(**{"x-api-key": token})
    listed = (await client.get("/api/device-tokens")).json()["tokens"]
    assert [row["source_id"] for row in listed] == ["rig-7"]
    assert token not in str(listed)
    path = f"/api/device-tokens/{listed[0]['id']}"
    assert (await rig.post("/ingest", json={"points": []})).status_code == 200
    assert (await busbar.http(eve.session).delete(path)).status_code == 404
    assert (await busbar.http(eve.session).get("/api/device-tokens")).json() == {"tokens": []}
    assert (await client.delete(path)).status_code == 204
    assert (await rig.post("/ingest", json={"points": []})).status_code == 401
    assert (await client.get("/api/device-tokens")).json()["tokens"][0]["revoked_at"]
