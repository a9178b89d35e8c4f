"""Secrets are shown once and then nowhere: not in the database, not in the log, not in any later answer."""

from __future__ import annotations

import json
import re
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import grpc
import httpx
import websockets

from core.kernel.rpc import PATH_VARIABLE, verb_and_path
from gen.busbar.maker.v1.boards_pb import ListBoardsRequest
from gen.busbar.maker.v1.boards_pb_grpc import BoardServiceClient
from gen.google.api.annotations_pb import ext_http
from tests import provider
from tests.faults import planning
from tests.faults.process import ServerProcess, prepare, serving
from tests.maker.checkout import SECRET as CHECKOUT_SECRET
from tests.maker.checkout import CheckoutServer, checkout_server
from tests.mqtt.broker import Broker, running_broker
from tests.test_authorisation import methods, option

PASSWORDS = ("correct horse battery staple", "another horse battery staple", "not the password at all")
BROKER_PASSWORD = "a broker and its password"
SECRET = re.compile(rb"(plnx_|plx_|plxd_|plxs_|pbt_)[A-Za-z0-9_-]{20,}")
LATER = (
    "/api/auth/session", "/api/boards", "/api/mcp/keys", "/api/keys", "/api/shares", "/openapi.json", "/health", "/readyz",
    "/metrics", "/nowhere", "/api/openapi.yaml", "/healthz",
)  # fmt: skip


@dataclass
class Told:
    """Everything that a server was told or told once, which it must keep to itself from then on."""

    http: httpx.AsyncClient
    secrets: set[str] = field(default_factory=lambda: set(PASSWORDS))
    later: list[str] = field(default_factory=list[str])
    named: dict[str, str] = field(default_factory=dict[str, str])

    def hear(self, answer: httpx.Response) -> Any:
        """Keep an answer, and return its body."""
        self.later.append(answer.text + json.dumps(answer.headers.multi_items()))
        return answer.json() if "json" in answer.headers.get("content-type", "") else None

    async def once(self, method: str, path: str, member: str, **more: Any) -> dict[str, Any]:
        """Send a request whose answer shows a secret."""
        answer = await self.http.request(method, path, **more)
        assert answer.status_code < 300, answer.text
        body = answer.json()
        self.secrets.add(body[member])
        return body

    async def hears(self, status: int, method: str, path: str, **more: Any) -> Any:
        """Send a request whose answer shows none."""
        answer = await self.http.request(method, path, **more)
        assert answer.status_code == status, f"{method} {path}: {answer.text}"
        return self.hear(answer)


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
    pairing = (await told.http.post("/api/sources/pair", json={"source_id": "rig-7"})).json()
    device = await told.once("POST", "/api/sources/pair/complete", "device_token", json={"code": pairing["code"]})
    reading = {"source_id": "rig-7", "points": [{"metric": "t", "value": 1}]}
    await told.hears(200, "POST", "/ingest", json=reading, headers={"x-api-key": device["device_token"]})
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


@dataclass
class Outside:
    """The servers of others that know a secret of this one."""

    models: provider.Provider
    checkout: CheckoutServer
    broker: Broker

    @property
    def secrets(self) -> set[str]:
        """What they know."""
        return {provider.KEY, CHECKOUT_SECRET, BROKER_PASSWORD, planning.OWN_KEY}

    def settings(self) -> dict[str, Any]:
        """Return the settings of a server that uses them."""
        return {
            **provider.settings(self.models),
            "payments": {"checkout_url": self.checkout.url, "checkout_secret": CHECKOUT_SECRET},
            "mqtt": {"url": self.broker.url, "username": "busbar", "password": BROKER_PASSWORD},
        }


@asynccontextmanager
async def outside(folder: Path) -> AsyncGenerator[Outside]:
    """Run a model provider, a checkout server and a broker."""
    async with provider.serving() as models, checkout_server() as checkout, running_broker(folder) as broker:
        yield Outside(models, checkout, broker)


async def make(told: Told, server: ServerProcess, others: Outside) -> None:
    """Do what makers do, wherever a secret goes in."""
    again = {"idempotency-key": "once"}
    project = await told.hears(201, "POST", "/api/projects", json={"name": "Lamp", "visibility": "public"})
    body = {"name": "Second", "projectId": project["id"]}
    board = await told.once("POST", "/api/boards", "deviceToken", json=body, headers=again)
    await told.hears(201, "POST", "/api/boards", json=body, headers=again)
    body = {"name": "all", "scopes": ["boards:read", "pins:read", "pins:write", "ota:push", "me:read", "projects:read"]}
    key = await told.once("POST", "/api/mcp/keys", "key", json=body, headers=again)
    told.named |= {"board_id": board["id"], "project_id": project["id"], "key_id": key["id"], "username": "bobby"}
    await agents(told, server, board, key)
    await firmware(told, project["id"], board)
    await sell(told, others.checkout)
    await ask(told, others.models, project["id"])
    await told.hears(200, "PUT", f"/api/boards/{board['id']}/home-discovery", json={"enabled": True})
    room = await told.hears(201, "POST", "/api/classrooms", json={"name": "Electronics"})
    task = await told.hears(201, "POST", f"/api/classrooms/{room['id']}/assignments", json={"title": "Blink"})
    told.named |= {"classroom_id": room["id"], "assignment_id": task["id"]}


async def agents(told: Told, server: ServerProcess, board: dict[str, Any], key: dict[str, Any]) -> None:
    """Use a key on every door that takes it, and sockets with the token in the query."""
    agent = {"authorization": f"Bearer {key['key']}"}
    call = {"jsonrpc": "2.0", "id": 1, "method": "tools/call"}
    for name, arguments in (("plynx_list_boards", {}), ("plynx_read_pin", {"boardId": key["key"], "pin": 1})):
        await told.hears(200, "POST", "/mcp", json={**call, "params": {"name": name, "arguments": arguments}}, headers=agent)
    await told.hears(200, "POST", f"/api/ha/board/{board['id']}/pin/1", content=b"ON", headers=agent)
    await told.hears(404, "GET", f"/api/ha/board/{key['key']}/pin/1", headers=agent)
    session = told.http.headers["authorization"].removeprefix("Bearer ")
    sockets = (
        (f"/ws/boards/{board['id']}/pins", board["deviceToken"]),
        (f"/ws/boards/{board['id']}/pins", key["key"]),
        (f"/ws/projects/{told.named['project_id']}/collab", session),
    )
    for path, token in sockets:
        async with websockets.connect(f"{server.http.replace('http', 'ws', 1)}{path}?token={token}") as socket:
            told.later.append(str(await socket.recv()))


async def firmware(told: Told, project_id: str, board: dict[str, Any]) -> None:
    """Push firmware, and let the board fetch it."""
    path, octets = f"/api/projects/{project_id}/firmware/artifacts", {"content-type": "application/octet-stream"}
    artifact = await told.hears(201, "POST", path, content=b"firmware", headers=octets)
    job = await told.hears(202, "POST", f"/api/boards/{board['id']}/ota", json={"artifactId": artifact["id"]})
    device = {"authorization": f"Bearer {board['deviceToken']}"}
    await told.hears(200, "GET", f"/api/ota/{job['id']}/artifact", headers=device)
    told.named |= {"job_id": job["id"], "artifact_id": artifact["id"]}


async def sell(told: Told, checkout: CheckoutServer) -> None:
    """Sell something for money, with a forged payment and a true one."""
    texts = {"title": "Lamp", "kind": "project", "summary": "s", "description": "d", "priceCents": 500}
    listing = await told.hears(201, "POST", "/api/marketplace/listings", json=texts)
    await told.hears(200, "POST", f"/api/marketplace/listings/{listing['id']}/publish")
    new = {"email": "carol@example.com", "username": "carol", "password": PASSWORDS[0]}
    carol = await told.once("POST", "/api/auth/register", "token", json=new)
    told.http.cookies.clear()
    buyer = {"authorization": f"Bearer {carol['token']}"}
    bought = await told.hears(201, "POST", f"/api/marketplace/listings/{listing['id']}/purchase", headers=buyer)
    purchase = SimpleNamespace(id=bought["id"], price_cents=500, currency=bought["currency"])
    for secret, status in (("whsec_Zm9yZ2Vk", 401), (CHECKOUT_SECRET, 200)):
        event = checkout.event("payment.completed", purchase)
        answer = await checkout.send(told.http, purchase, event, at=time.time(), secret=secret)
        assert answer.status_code == status, answer.text
        told.hear(answer)
    told.named |= {"listing_id": listing["id"], "purchase_id": bought["id"]}


async def ask(told: Told, models: provider.Provider, project_id: str) -> None:
    """Ask the model provider, which shows the key in its refusal."""
    body = {"message": "Which pin?", "projectId": project_id}
    await told.hears(200, "POST", "/api/workbench/ai", json=body)
    models.status = 401
    await told.hears(503, "POST", "/api/workbench/ai", json=body)


def shown(named: dict[str, str]) -> list[str]:
    """Return the paths of every rpc that reads, as far as their variables are known."""
    known = {**named, "kind": "wiring", "pin_index": "1", "pin": "1", "source_id": named["board_id"], "revision": "1"}
    paths: list[str] = []
    for method in methods():
        rule = option(method, ext_http)
        verb, path = verb_and_path(rule) if rule is not None and method.method_kind == "unary" else ("", "")
        if verb == "GET" and set(PATH_VARIABLE.findall(path)) <= known.keys():
            paths.append(PATH_VARIABLE.sub(lambda variable: known[variable[1]], path))
    return paths


async def look_again(told: Told, server: ServerProcess) -> None:
    """Ask for everything that there is to see."""
    paths = [*LATER, *shown(told.named)]
    assert {"/api/mcp/calls", "/api/me/sales", f"/api/projects/{told.named['project_id']}/pins"} <= set(paths)
    assert {f"/plans/{told.named['plan_id']}/main/{name}" for name in ("convo", "settings", "runs/latest")} <= set(paths)
    for path in paths:
        told.hear(await told.http.get(path))
    async with grpc.aio.insecure_channel(server.grpc) as channel:
        metadata = (("authorization", told.http.headers["authorization"]),)
        boards = await BoardServiceClient(channel).list_boards(ListBoardsRequest(), metadata=metadata, timeout=20)
    assert len(boards.boards) == 2
    told.later.append(boards.to_json())


def leaked(told: Told, where: bytes) -> list[str]:
    """Return the secrets that occur in some bytes."""
    return [secret for secret in told.secrets if secret.encode() in where]


async def test_no_secret_is_kept_logged_or_shown_again(tmp_path: Path) -> None:
    data = tmp_path / "data"
    account = await prepare(data)
    async with (
        outside(tmp_path / "broker") as others,
        serving(data, log_level="debug", access_log=True, **others.settings()) as server,
    ):
        async with httpx.AsyncClient(base_url=server.http, timeout=20) as http:
            told = Told(http)
            told.secrets |= {account.telemetry_key, account.session, *others.secrets}
            await http.get("/api/auth/verify-key", headers={"x-api-key": account.telemetry_key})
            await live(told)
            await make(told, server, others)
            await planning.sign_in(told, data / "mail")
            await planning.plan(told, others.models)
            await look_again(told, server)
        assert leaked(told, "\n".join(told.later).encode()) == []
        # Killed, so that the write-ahead log is still there.
        await server.kill()
    assert len(told.secrets) == len(PASSWORDS) + 24
    # Mails are the one thing that has a pin in it: without a mail server they lie beside the database.
    files = [path for path in data.rglob("*") if path.is_file() and path.suffix != ".eml"]
    assert any(path.name.endswith("-wal") for path in files)
    assert {path.name: leaked(told, path.read_bytes()) for path in files} == {path.name: [] for path in files}
    assert b'"call"' in server.log
    assert leaked(told, bytes(server.log)) == []
    assert SECRET.search(bytes(server.log)) is None
