"""Secrets are shown once and then nowhere: not in the database, not in the log, not in any later answer."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import httpx

from gen.busbar.maker.v1.boards_pb import ListBoardsRequest
from gen.busbar.maker.v1.boards_pb_grpc import BoardServiceClient
from tests.faults.process import ServerProcess, prepare, serving

PASSWORDS = ("correct horse battery staple", "another horse battery staple", "not the password at all")
SECRET = re.compile(rb"(plnx_|plx_|plxd_|plxs_|pbt_)[A-Za-z0-9_-]{20,}")
LATER = (
    "/api/auth/session", "/api/boards", "/api/mcp/keys", "/api/keys", "/api/shares", "/openapi.json", "/health", "/readyz",
    "/metrics", "/nowhere",
)  # fmt: skip


@dataclass
class Told:
    """Everything that a server was told or told once, which it must keep to itself from then on."""

    http: httpx.AsyncClient
    secrets: set[str] = field(default_factory=lambda: set(PASSWORDS))
    later: list[str] = field(default_factory=list[str])

    async def once(self, method: str, path: str, member: str, **more: Any) -> dict[str, Any]:
        """Send a request whose answer shows a secret."""
        answer = await self.http.request(method, path, **more)
        assert answer.status_code < 300, answer.text
        body = answer.json()
        self.secrets.add(body[member])
        return body

    async def hears(self, status: int, method: str, path: str, **more: Any) -> None:
        """Send a request whose answer shows none."""
        answer = await self.http.request(method, path, **more)
        assert answer.status_code == status, answer.text
        self.later.append(answer.text + json.dumps(answer.headers.multi_items()))


async def live(told: Told) -> None:
    """Do what people do with secrets, some of it wrong."""
    new = {"email": "bob@example.com", "username": "bobby", "password": PASSWORDS[0]}
    registered = await told.once("POST", "/api/auth/register", "token", json=new)
    told.http.cookies.clear()
    await told.hears(409, "POST", "/api/auth/register", json=new)
    for password in PASSWORDS[1:]:
        await told.hears(401, "POST", "/api/auth/login", json={"email": new["email"], "password": password})
    login = await told.once("POST", "/api/auth/login", "token", json={"email": new["email"], "password": PASSWORDS[0]})
    told.http.cookies.clear()
    told.http.headers["authorization"] = f"Bearer {login['token']}"
    board = await told.once("POST", "/api/boards", "deviceToken", json={"name": "Bench"})
    rotated = await told.once("POST", f"/api/boards/{board['id']}/token", "deviceToken")
    key = await told.once("POST", "/api/mcp/keys", "key", json={"name": "agent", "scopes": ["pins:read"]})
    await told.once("POST", "/api/keys", "key", json={"name": "rig"})
    share = await told.once("POST", "/api/shares", "token", json={"name": "wall"})
    await told.hears(401, "GET", "/api/sources", headers={"authorization": f"Bearer {share['token']}"})
    change = {"currentPassword": PASSWORDS[0], "newPassword": PASSWORDS[1]}
    await told.hears(200, "POST", "/api/auth/password-change", json=change)
    await told.hears(400, "POST", "/api/auth/register", json={**new, "email": "nobody"})
    await told.hears(400, "POST", "/api/auth/login", json={"email": 5, "password": PASSWORDS[2]})
    point = {"source_id": board["id"], "points": [{"metric": "V1", "value": 1}]}
    await told.hears(200, "POST", "/ingest", json=point, headers={"x-api-key": rotated["deviceToken"]})
    await told.hears(401, "POST", "/ingest", json=point, headers={"x-api-key": board["deviceToken"]})
    await told.hears(401, "GET", "/api/boards", headers={"authorization": f"Bearer {registered['token']}"})
    call = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}
    await told.hears(200, "POST", "/mcp", json=call, headers={"authorization": f"Bearer {key['key']}"})
    await told.hears(401, "GET", "/api/auth/verify-key", headers={"x-api-key": key["key"] + "x"})
    await told.hears(404, "GET", f"/ws/boards/{board['id']}/pins?token={login['token']}")


async def look_again(told: Told, server: ServerProcess) -> None:
    """Ask for everything that there is to see."""
    for path in LATER:
        answer = await told.http.get(path)
        told.later.append(answer.text + json.dumps(answer.headers.multi_items()))
    async with grpc.aio.insecure_channel(server.grpc) as channel:
        metadata = (("authorization", told.http.headers["authorization"]),)
        boards = await BoardServiceClient(channel).list_boards(ListBoardsRequest(), metadata=metadata, timeout=20)
    assert len(boards.boards) == 1
    told.later.append(boards.to_json())


def leaked(told: Told, where: bytes) -> list[str]:
    """Return the secrets that occur in some bytes."""
    return [secret for secret in told.secrets if secret.encode() in where]


async def test_no_secret_is_kept_logged_or_shown_again(tmp_path: Path) -> None:
    data = tmp_path / "data"
    account = await prepare(data)
    async with serving(data, log_level="debug", access_log=True) as server:
        async with httpx.AsyncClient(base_url=server.http, timeout=20) as http:
            told = Told(http)
            told.secrets |= {account.telemetry_key, account.session}
            await http.get("/api/auth/verify-key", headers={"x-api-key": account.telemetry_key})
            await live(told)
            await look_again(told, server)
        assert leaked(told, "\n".join(told.later).encode()) == []
        # Killed, so that the write-ahead log is still there.
        await server.kill()
    assert len(told.secrets) == len(PASSWORDS) + 9
    files = [path for path in data.rglob("*") if path.is_file()]
    assert any(path.name.endswith("-wal") for path in files)
    assert {path.name: leaked(told, path.read_bytes()) for path in files} == {path.name: [] for path in files}
    assert b'"call"' in server.log
    assert leaked(told, bytes(server.log)) == []
    assert SECRET.search(bytes(server.log)) is None
