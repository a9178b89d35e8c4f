"""Sign-in of telemetry clients: dashboards, command lines, devices with a browser nearby, and the setup script."""

from __future__ import annotations

import asyncio
import json
import re
import stat
import subprocess
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from core.live.events import Policy
from core.telemetry.dashboard_tokens import DashboardTokens
from core.telemetry.frames import VideoFrame, frames_topic
from gen.busbar.api.v1.options_pb import CredentialKind
from tests.conftest import PASSWORD, Person, Running, Start

CALLBACK = "http://127.0.0.1:5000/callback"
CLI = {"state": "s&1", "callback": CALLBACK, "name": "<b>laptop</b>"}


def browser(busbar: Running, person: Person) -> httpx.AsyncClient:
    """Return a client that sends a session as browsers do."""
    return busbar.http(Cookie=f"plynx_session={person.session}")


async def scopes_of(busbar: Running, key: str) -> Any:
    """Return what the server says about a key."""
    return (await busbar.http(**{"x-api-key": key}).get("/api/auth/verify-key")).json()


async def test_a_dashboard_token_stands_for_its_session_and_ends_with_it(busbar: Running, alice: Person) -> None:
    answer = await browser(busbar, alice).post("/api/auth/ws-token")
    assert answer.status_code == 200
    token = answer.json()["token"]
    caller = await busbar.app.found.part(DashboardTokens).verify(token)
    assert caller is not None
    assert (caller.org_id, caller.user_id) == (alice.org_id, alice.id)
    assert await busbar.app.found.part(DashboardTokens).verify(f"{token[:-2]}xx") is None
    assert (await busbar.http(alice.session).post("/api/auth/logout")).status_code == 200
    assert await busbar.app.found.part(DashboardTokens).verify(token) is None


async def test_a_dashboard_token_works_for_five_minutes_and_over_a_restart(start: Start) -> None:
    first = await start()
    alice = await first.person()
    token = (await browser(first, alice).post("/api/auth/ws-token")).json()["token"]
    second = await start()
    assert await second.app.found.part(DashboardTokens).verify(token) is not None
    second.clock.forward(seconds=301)
    assert await second.app.found.part(DashboardTokens).verify(token) is None


async def test_only_a_session_gets_a_dashboard_token(busbar: Running, alice: Person) -> None:
    key = await busbar.key(alice, CredentialKind.TELEMETRY_KEY, "*")
    assert (await busbar.http().post("/api/auth/ws-token")).status_code == 401
    assert (await busbar.http(**{"x-api-key": key}).post("/api/auth/ws-token")).status_code == 401


async def test_the_server_secret_is_for_its_user_only(busbar: Running) -> None:
    file = busbar.app.settings.data / "secret.key"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert len(file.read_bytes()) == 32


async def test_a_device_gets_its_key_once_its_user_allows_it(busbar: Running, alice: Person) -> None:
    client = busbar.http()
    grant = (await client.post("/api/auth/device")).json()
    assert (grant["interval"], grant["expires_in"]) == (5, 900)
    poll = {"device_code": grant["device_code"]}
    waiting = await client.get("/api/auth/device", params=poll)
    assert (waiting.status_code, waiting.json()) == (202, {"error": "authorization_pending"})
    page = await browser(busbar, alice).get(grant["verification_uri_complete"])
    assert page.status_code == 200
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert "frame-ancestors 'none'" in page.headers["content-security-policy"]
    assert grant["user_code"] in page.text
    done = await browser(busbar, alice).post(grant["verification_uri_complete"], data={"decision": "allow"})
    assert done.status_code == 200
    answers = await asyncio.gather(*(client.get("/api/auth/device", params=poll) for _ in range(3)))
    assert sorted(answer.status_code for answer in answers) == [200, 400, 400]
    key = next(answer.json()["api_key"] for answer in answers if answer.status_code == 200)
    assert await scopes_of(busbar, key) == {"org_id": alice.org_id, "scopes": ["read", "write"]}
    assert (await client.get("/api/auth/device", params=poll)).json()["error"] == "expired_token"


async def test_a_denied_device_is_told_so(busbar: Running, alice: Person) -> None:
    grant = (await busbar.http().post("/api/auth/device")).json()
    form = {"decision": "deny", "login": alice.email, "password": PASSWORD}
    assert (await busbar.http().post(grant["verification_uri_complete"], data=form)).status_code == 200
    answer = await busbar.http().get("/api/auth/device", params={"device_code": grant["device_code"]})
    assert answer.status_code == 403


async def test_an_expired_or_unknown_grant_is_an_expired_token(busbar: Running, alice: Person) -> None:
    grant = (await busbar.http().post("/api/auth/device")).json()
    busbar.clock.forward(seconds=901)
    for code in (grant["device_code"], "unknown"):
        answer = await busbar.http().get("/api/auth/device", params={"device_code": code})
        assert (answer.status_code, answer.json()["error"]) == (400, "expired_token")
    assert (await browser(busbar, alice).get(grant["verification_uri_complete"])).status_code == 404


async def test_a_page_of_another_site_cannot_allow_a_device(busbar: Running, alice: Person) -> None:
    grant = (await busbar.http().post("/api/auth/device")).json()
    evil = busbar.http(Cookie=f"plynx_session={alice.session}", Origin="https://evil.example")
    assert (await evil.post(grant["verification_uri_complete"], data={"decision": "allow"})).status_code == 403
    answer = await busbar.http().get("/api/auth/device", params={"device_code": grant["device_code"]})
    assert answer.status_code == 202


async def test_a_command_line_gets_a_key_after_consent_only(busbar: Running, alice: Person) -> None:
    client = browser(busbar, alice)
    page = await client.get("/auth/cli", params=CLI)
    assert page.status_code == 200
    assert "&lt;b&gt;laptop&lt;/b&gt;" in page.text
    assert "<b>laptop" not in page.text
    assert "form-action 'self' http://127.0.0.1:5000;" in page.headers["content-security-policy"]
    assert (await busbar.http(alice.session).get("/api/keys")).json()["keys"] == []
    done = await client.post("/auth/cli", params=CLI, data={"decision": "allow"})
    assert done.status_code == 302
    assert done.headers["location"].startswith(f"{CALLBACK}?")
    query = parse_qs(urlsplit(done.headers["location"]).query)
    assert query["state"] == ["s&1"]
    assert await scopes_of(busbar, query["key"][0]) == {"org_id": alice.org_id, "scopes": ["read", "write"]}


async def test_a_denied_command_line_gets_no_key(busbar: Running, alice: Person) -> None:
    done = await browser(busbar, alice).post("/auth/cli", params=CLI, data={"decision": "deny"})
    assert parse_qs(urlsplit(done.headers["location"]).query) == {"error": ["access_denied"], "state": ["s&1"]}


async def test_without_a_session_the_page_takes_a_password(busbar: Running, alice: Person) -> None:
    client = busbar.http()
    assert 'type="password"' in (await client.get("/auth/cli", params=CLI)).text
    form = {"decision": "allow", "login": alice.email, "password": "wrong password"}
    refused = await client.post("/auth/cli", params=CLI, data=form)
    assert (refused.status_code, "location" in refused.headers) == (401, False)
    done = await client.post("/auth/cli", params=CLI, data={**form, "password": PASSWORD})
    assert "key=plx_" in done.headers["location"]


@pytest.mark.parametrize(
    "callback",
    [
        "http://evil.example/callback",
        "https://127.0.0.1:5000/callback",
        "http://127.0.0.1:5000/other",
        "http://127.0.0.1:5000/callback?x=1",
        "http://127.0.0.1:99999/callback",
        "http://127.0.0.1:5000@evil.example/callback",
        "http://localhost.evil.example:80/callback",
        "http://127.0.0.1:5000/callback\n",
    ],
)
async def test_a_key_leads_to_this_machine_only(busbar: Running, alice: Person, callback: str) -> None:
    client = browser(busbar, alice)
    for answer in (
        await client.get("/auth/cli", params={**CLI, "callback": callback}),
        await client.post("/auth/cli", params={**CLI, "callback": callback}, data={"decision": "allow"}),
    ):
        assert (answer.status_code, "location" in answer.headers) == (400, False)


async def test_an_account_can_be_made_and_used_from_a_terminal(busbar: Running) -> None:
    client, who = busbar.http(), {"email": "zoe@example.com", "password": PASSWORD}
    made = await client.post("/api/auth/cli/signup", json={**who, "first_name": "Zoe"})
    assert made.status_code == 200
    assert (await client.post("/api/auth/cli/signup", json=who)).status_code == 409
    signed = await client.post("/api/auth/cli/signin", json=who)
    assert signed.json()["org_id"] == made.json()["org_id"]
    assert (await scopes_of(busbar, signed.json()["api_key"]))["scopes"] == ["read", "write"]


@pytest.mark.parametrize(
    ("email", "error"), [("alice@example.com", "invalid_credentials"), ("ghost@example.com", "no_account")]
)
async def test_a_failed_sign_in_names_its_reason(busbar: Running, alice: Person, email: str, error: str) -> None:
    answer = await busbar.http().post("/api/auth/cli/signin", json={"email": email, "password": "wrong password"})
    assert (answer.status_code, answer.json()["error"]) == (401, error)


async def test_clients_learn_where_the_sockets_are(busbar: Running) -> None:
    assert (await busbar.http().get("/api/config")).json() == {"ws_url": busbar.ws_url}


async def test_the_setup_script_writes_a_config_that_only_its_user_reads(
    busbar: Running, alice: Person, tmp_path: Path
) -> None:
    answer = await busbar.http().get("/setup")
    assert answer.headers["content-type"].startswith("text/plain")
    assert f"endpoint={busbar.url}" in answer.text
    code = (await busbar.http(alice.session).post("/api/sources/pair", json={"source_id": "rig-7"})).json()["code"]
    # The SDK's installation is left out: this venv is there already, and its pip does nothing.
    python = tmp_path / ".plexus" / "venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text("#!/bin/sh\nexit 0\n")
    python.chmod(0o700)
    process = await asyncio.create_subprocess_exec(
        "sh", "-s", "--", "--code", code,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        env={"HOME": str(tmp_path), "PATH": "/usr/bin:/bin:/usr/local/bin"},
    )  # fmt: skip
    output, _ = await asyncio.wait_for(process.communicate(answer.content), 30)
    assert process.returncode == 0, output.decode()
    file = tmp_path / ".plexus" / "config.json"
    config = json.loads(file.read_text())
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert re.fullmatch(r"plxd_[A-Za-z0-9]{32}", config["device_token"])
    assert (config["source_id"], config["endpoint"], config["org_id"]) == ("rig-7", busbar.url, alice.org_id)


async def test_a_picture_reaches_those_who_watch(busbar: Running, alice: Person, eve: Person) -> None:
    key = await busbar.key(alice, CredentialKind.TELEMETRY_KEY, "write")
    jpeg = b"\xff\xd8\r\n--\r\n\x00\xff\xd9"
    fields = {"source_id": "rig-1", "camera_id": "top", "timestamp": "1700000000000", "tags": '{"a": "b"}'}
    bus = busbar.app.bus
    async with (
        bus.subscribe(frames_topic(alice.org_id), policy=Policy.LAGGED, size=4) as mine,
        bus.subscribe(frames_topic(eve.org_id), policy=Policy.LAGGED, size=4) as others,
    ):
        client = busbar.http(**{"x-api-key": key})
        answer = await client.post("/api/frames", data=fields, files={"frame": ("f.jpg", jpeg, "image/jpeg")})
        assert (answer.status_code, answer.json()) == (200, {"success": True})
        _, frame = await asyncio.wait_for(anext(mine), 5)
        assert frame == VideoFrame("rig-1", "top", 1_700_000_000_000.0, jpeg, None, {"a": "b"})
        assert others.drain() == []


@pytest.mark.parametrize("missing", ["frame", "source_id", "camera_id", "timestamp"])
async def test_an_incomplete_picture_is_400(busbar: Running, alice: Person, missing: str) -> None:
    key = await busbar.key(alice, CredentialKind.TELEMETRY_KEY, "write")
    fields = {"source_id": "rig-1", "camera_id": "top", "timestamp": "1"}
    fields.pop(missing, None)
    files = {"other" if missing == "frame" else "frame": ("f.jpg", b"\xff\xd8", "image/jpeg")}
    answer = await busbar.http(**{"x-api-key": key}).post("/api/frames", data=fields, files=files)
    assert answer.status_code == 400
    assert missing in answer.json()["message"]
