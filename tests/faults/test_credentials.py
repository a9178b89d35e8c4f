"""A credential that has ended is nothing any more, on every door and from the next call on."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import grpc
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from gen.busbar.api.v1.options_pb import CredentialKind
from gen.busbar.maker.v1.pins_pb import ReadPinRequest
from gen.busbar.maker.v1.pins_pb_grpc import PinServiceClient
from tests.conftest import PASSWORD, Running, Start
from tests.faults.conftest import Target, refused

LIFE_US = 60_000_000


async def doors(target: Target, agent: str, device: str) -> dict[str, int]:
    """Try an agent key and a telemetry key on every door; return the HTTP status, or that of gRPC, of each."""
    busbar = target.busbar
    as_agent = busbar.http(authorization=f"Bearer {agent}")
    answers = {
        "ingest": await busbar.http(**{"x-api-key": device}).post("/ingest", json={"points": []}),
        "home assistant": await as_agent.get(f"/api/ha/board/{target.board.id}/pin/1"),
        "mcp": await as_agent.post("/mcp", json={"jsonrpc": "2.0", "id": 1, "method": "tools/list"}),
    }
    for name, answer in answers.items():
        if answer.status_code != 200:
            refused(answer, 401, *(("error", "message") if name == "ingest" else ("error",)))
    return {**{name: answer.status_code for name, answer in answers.items()}, **await sockets(target, agent)}


async def sockets(target: Target, agent: str) -> dict[str, int]:
    headers = {"Authorization": f"Bearer {agent}"}
    try:
        async with connect(f"{target.busbar.ws_url}/ws/boards/{target.board.id}/pins", additional_headers=headers) as ws:
            await ws.recv()
            live = 200
    except InvalidStatus as error:
        live = error.response.status_code
    async with grpc.aio.insecure_channel(target.busbar.server.grpc_address) as channel:
        request = ReadPinRequest(board_id=target.board.id, pin_index=1)
        try:
            await PinServiceClient(channel).read_pin(request, metadata=(("authorization", f"Bearer {agent}"),), timeout=20)
            rpc = 200
        except grpc.aio.AioRpcError as error:
            rpc = 401 if error.code() == grpc.StatusCode.UNAUTHENTICATED else 500
    return {"live": live, "grpc": rpc}


async def expire(busbar: Running, ids: list[str]) -> None:
    busbar.clock.forward(seconds=LIFE_US / 1_000_000 + 1)


async def revoke(busbar: Running, ids: list[str]) -> None:
    async with busbar.app.database.unit_of_work() as session:
        ended = await busbar.app.credentials.revoke(session, ids)
    busbar.app.credentials.drop(ended)


@pytest.mark.parametrize("end", [expire, revoke])
async def test_an_ended_credential_opens_no_door(target: Target, end: Callable[[Running, list[str]], Awaitable[None]]) -> None:
    issue, expires = target.busbar.app.identity.issue, target.busbar.clock.now_us() + LIFE_US
    org, user = target.alice.org_id, target.alice.id
    agent = await issue(CredentialKind.AGENT_KEY, org, user_id=user, scopes=("*",), expires_us=expires)
    device = await issue(CredentialKind.TELEMETRY_KEY, org, user_id=None, scopes=("write",), expires_us=expires)
    assert set((await doors(target, agent.secret, device.secret)).values()) == {200}
    await end(target.busbar, [agent.row.id, device.row.id])
    assert set((await doors(target, agent.secret, device.secret)).values()) == {401}


End = Callable[[Target], Awaitable[None]]


async def log_out(target: Target) -> None:
    await target.user().post("/api/auth/logout")


async def change_password_elsewhere(target: Target) -> None:
    answer = await target.busbar.http().post("/api/auth/login", json={"email": "alice", "password": PASSWORD})
    other = target.busbar.http(authorization=f"Bearer {answer.json()['token']}")
    words = {"currentPassword": PASSWORD, "newPassword": "another good password"}
    assert (await other.post("/api/auth/password-change", json=words)).status_code == 200


async def let_it_run_out(target: Target) -> None:
    target.busbar.clock.forward(seconds=31 * 24 * 3600)


async def with_session(target: Target, session: str) -> dict[str, int]:
    """Try a session on every door that takes one; return the HTTP status, or that of gRPC, of each."""
    http = target.busbar.http(authorization=f"Bearer {session}")
    answers = {
        "header": (await http.get("/api/boards")).status_code,
        "cookie": (await target.busbar.http(cookie=f"plynx_session={session}").get("/api/boards")).status_code,
        "telemetry": (await http.get("/api/v1/telemetry/latest")).status_code,
        "stream": (await http.head(f"/api/boards/{target.board.id}/pins")).status_code,
    }
    return {**answers, **await sockets(target, session)}


async def with_board_token(target: Target, token: str) -> dict[str, int]:
    """Try a board's token on every door that takes one."""
    ingest = await target.busbar.http(**{"x-api-key": token}).post("/ingest", json={"points": []})
    return {"ingest": ingest.status_code, **await sockets(target, token)}


@pytest.mark.parametrize("end", [log_out, change_password_elsewhere, let_it_run_out])
async def test_an_ended_session_opens_no_door(start: Start, end: End) -> None:
    target = await fresh_target(start)
    before = await with_session(target, target.alice.session)
    assert set(before.values()) == {200}, before
    await end(target)
    after = await with_session(target, target.alice.session)
    assert set(after.values()) == {401}, after


async def test_a_replaced_board_token_opens_no_door(start: Start) -> None:
    target = await fresh_target(start)
    before = await with_board_token(target, target.board.device_token)
    assert set(before.values()) == {200}, before
    assert (await target.user().post(f"/api/boards/{target.board.id}/token")).status_code == 200
    after = await with_board_token(target, target.board.device_token)
    assert set(after.values()) == {401}, after


async def fresh_target(start: Start) -> Target:
    """Return a target of its own: what ends here has no user left to look at it afterwards."""
    busbar = await start()
    alice = await busbar.person("alice")
    board = await busbar.board(alice)
    return Target(busbar, alice, board, "", "")
