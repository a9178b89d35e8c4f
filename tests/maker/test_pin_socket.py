"""The pins WebSocket of the whole server: browsers, agents, and the board itself."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from typing import Any

import httpx
import pytest
import websockets
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed, InvalidStatus

from gen.busbar.api.v1.options_pb import CredentialKind
from tests.conftest import Person, Running


@asynccontextmanager
async def socket_of(busbar: Running, board_id: str, token: str, query: str = "") -> AsyncGenerator[ClientConnection]:
    """Connect to the pins of a board with a token in the header."""
    url = f"{busbar.ws_url}/ws/boards/{board_id}/pins{query}"
    async with websockets.connect(url, additional_headers={"Authorization": f"Bearer {token}"}) as socket:
        yield socket


async def frame(socket: ClientConnection) -> dict[str, Any]:
    """Return the next frame."""
    return json.loads(await asyncio.wait_for(socket.recv(), 10))


async def say(socket: ClientConnection, **members: Any) -> None:
    """Send a frame."""
    await socket.send(json.dumps(members))


async def close_code(socket: ClientConnection) -> int | None:
    """Read until the server closes, and return the code."""

    async def read_on() -> None:
        async for _ in socket:
            pass

    with suppress(ConnectionClosed):
        await asyncio.wait_for(read_on(), 10)
    return socket.close_code


async def test_the_snapshot_comes_first_and_since_narrows_it(busbar: Running, alice: Person, bench: Any) -> None:
    client = busbar.client("grpc", alice.session)
    for index in range(3):
        await client.call("PinService.WritePin", board_id=bench.id, pin_index=index, value=index)
    async with socket_of(busbar, bench.id, alice.session) as socket:
        snapshot = await frame(socket)
        assert set(snapshot) == {"type", "boardId", "status", "seq", "pins"}
        assert (snapshot["type"], snapshot["status"], snapshot["seq"]) == ("snapshot", "never", 3)
        assert [pin["pinIndex"] for pin in snapshot["pins"]] == [0, 1, 2]
    async with socket_of(busbar, bench.id, alice.session, "?since=2") as socket:
        assert [pin["pinIndex"] for pin in (await frame(socket))["pins"]] == [2]


async def test_every_write_reaches_every_subscriber_once_and_in_order(busbar: Running, alice: Person, bench: Any) -> None:
    agent = await busbar.key(alice, CredentialKind.AGENT_KEY, "pins:read", "pins:write")
    rest, grpc = busbar.http(alice.session), busbar.client("grpc", alice.session)
    async with socket_of(busbar, bench.id, alice.session) as one, socket_of(busbar, bench.id, agent) as two:
        for socket in (one, two):
            assert (await frame(socket))["type"] == "snapshot"

        async def write(index: int) -> None:
            if index % 3 == 0:
                await rest.put(f"/api/boards/{bench.id}/pins/1", json={"value": index})
            elif index % 3 == 1:
                await grpc.call("PinService.WritePin", board_id=bench.id, pin_index=2, value=index)
            else:
                await busbar.http(agent).post(f"/api/ha/board/{bench.id}/pin/3", content=str(index).encode())

        await asyncio.gather(*(write(index) for index in range(30)))
        for socket in (one, two):
            frames = [await frame(socket) for _ in range(30)]
            assert [f["seq"] for f in frames] == list(range(1, 31))
            assert {f["origin"] for f in frames} == {"user", "ha"}


async def test_a_write_over_the_socket_is_acknowledged_and_told(busbar: Running, alice: Person, bench: Any) -> None:
    async with socket_of(busbar, bench.id, alice.session) as socket:
        await frame(socket)
        await say(socket, type="write", id="1", pinIndex="V4", value=1)
        frames = {f["type"]: f for f in (await frame(socket), await frame(socket))}
        assert frames["ack"] == {"type": "ack", "id": "1", "seq": 1}
        assert frames["pin"]["pin"]["value"] == 1
        assert frames["pin"]["clientId"]
        await say(socket, type="ping")
        assert await frame(socket) == {"type": "pong"}


async def test_many_writes_are_all_or_none(busbar: Running, alice: Person, bench: Any) -> None:
    async with socket_of(busbar, bench.id, alice.session) as socket:
        await frame(socket)
        pins = [{"pinIndex": 1, "value": 1}, {"pinIndex": 256, "value": 2}]
        await say(socket, type="writeMany", id="a", pins=pins)
        refused = await frame(socket)
        assert (refused["type"], refused["id"]) == ("error", "a")
        assert "pinIndex" in refused["error"]
        await say(socket, type="writeMany", id="b", pins=[{"pinIndex": i, "value": i} for i in range(64)])
        frames = [await frame(socket) for _ in range(65)]
        assert [f["seq"] for f in frames if f["type"] == "ack"] == [64]
        assert [f["seq"] for f in frames if f["type"] == "pin"] == list(range(1, 65))
    pins = (await busbar.http(alice.session).get(f"/api/boards/{bench.id}/pins")).json()["pins"]
    assert len(pins) == 64


@pytest.mark.parametrize(
    "text", ["nonsense", "[]", '{"type":"dance"}', '{"type":"write","id":"9","pinIndex":1,"value":{}}',
             '{"type":"write","id":"9","pinIndex":"x","value":1}', '{"type":"open","boardId":"b"}', '{"type":"hello"}']
)  # fmt: skip
async def test_a_bad_frame_is_answered_and_the_connection_goes_on(
    busbar: Running, alice: Person, bench: Any, text: str
) -> None:
    async with socket_of(busbar, bench.id, alice.session) as socket:
        await frame(socket)
        await socket.send(text)
        refused = await frame(socket)
        assert refused["type"] == "error"
        assert refused["error"]
        await say(socket, type="ping")
        assert (await frame(socket))["type"] == "pong"


async def test_a_board_on_its_socket_is_online_and_hears_no_echo(busbar: Running, alice: Person, bench: Any) -> None:
    async with socket_of(busbar, bench.id, alice.session) as watcher:
        await frame(watcher)
        async with socket_of(busbar, bench.id, bench.device_token) as device:
            assert (await frame(device))["status"] == "online"
            status = await frame(watcher)
            assert (status["type"], status["status"], status["boardId"]) == ("status", "online", bench.id)
            await say(device, type="hello", firmwareVersion="1.2.0", boardType="esp8266")
            await say(device, type="write", id="1", pinIndex=1, value=20)
            assert await frame(device) == {"type": "ack", "id": "1", "seq": 1}
            told = await frame(watcher)
            assert (told["origin"], told["pin"]["value"]) == ("device", 20)
            await busbar.http(alice.session).put(f"/api/boards/{bench.id}/pins/2", json={"value": "on"})
            assert (await frame(device))["pin"]["value"] == "on"
            board = (await busbar.http(alice.session).get(f"/api/boards/{bench.id}")).json()
            assert (board["status"], board["firmwareVersion"], board["boardType"]) == ("online", "1.2.0", "esp8266")
        seen = [await frame(watcher), await frame(watcher)]
        assert [f["status"] for f in seen if f["type"] == "status"] == ["offline"]
    board = (await busbar.http(alice.session).get(f"/api/boards/{bench.id}")).json()
    assert board["status"] == "offline"
    assert board["lastSeenAt"] is not None


async def test_a_board_that_came_and_said_nothing_was_seen(busbar: Running, alice: Person, bench: Any) -> None:
    async with socket_of(busbar, bench.id, bench.device_token) as device:
        await frame(device)
    async with socket_of(busbar, bench.id, alice.session) as watcher:
        assert (await frame(watcher))["status"] in {"online", "offline"}
    board = (await busbar.http(alice.session).get(f"/api/boards/{bench.id}")).json()
    assert board["status"] != "never"


async def test_the_newer_connection_of_a_board_wins(busbar: Running, alice: Person, bench: Any) -> None:
    async with socket_of(busbar, bench.id, bench.device_token) as older:
        await frame(older)
        async with socket_of(busbar, bench.id, bench.device_token) as newer:
            await frame(newer)
            assert await close_code(older) == 4409
            board = (await busbar.http(alice.session).get(f"/api/boards/{bench.id}")).json()
            assert board["status"] == "online"
            await say(newer, type="ping")
            assert (await frame(newer))["type"] == "pong"


async def test_sockets_close_with_the_reason_for_their_end(busbar: Running, alice: Person, bench: Any) -> None:
    client = busbar.http(alice.session)
    key = (await client.post("/api/mcp/keys", json={"name": "k", "scopes": ["pins:read"]})).json()
    async with socket_of(busbar, bench.id, key["key"]) as socket:
        await frame(socket)
        await client.delete(f"/api/mcp/keys/{key['id']}")
        assert await close_code(socket) == 4401
    async with socket_of(busbar, bench.id, bench.device_token) as device:
        await frame(device)
        rotated = (await client.post(f"/api/boards/{bench.id}/token")).json()
        assert await close_code(device) == 4401
    async with socket_of(busbar, bench.id, rotated["deviceToken"]) as device:
        await frame(device)
        await client.delete(f"/api/boards/{bench.id}")
        assert await close_code(device) in {4401, 4404}
    other = await busbar.board(alice)
    async with socket_of(busbar, other.id, alice.session) as socket:
        await frame(socket)
        await client.delete(f"/api/boards/{other.id}")
        assert await close_code(socket) == 4404
    last = await busbar.board(alice)
    async with socket_of(busbar, last.id, alice.session) as socket:
        await frame(socket)
        await client.post("/api/auth/logout")
        assert await close_code(socket) == 4401


async def test_a_frame_over_64_kib_ends_the_connection(busbar: Running, alice: Person, bench: Any) -> None:
    async with socket_of(busbar, bench.id, alice.session) as socket:
        await frame(socket)
        await say(socket, type="write", id="1", pinIndex=1, value="x" * 70_000)
        assert await close_code(socket) == 4413


async def test_handshakes_are_refused_as_plain_http(busbar: Running, alice: Person, eve: Person, bench: Any) -> None:
    other = await busbar.board(alice, "Other")
    reader = await busbar.key(alice, CredentialKind.AGENT_KEY, "boards:read")
    telemetry = await busbar.key(alice, CredentialKind.TELEMETRY_KEY)
    for board_id, token, status in (
        (bench.id, "nonsense", 401),
        (bench.id, telemetry, 401),
        (bench.id, reader, 403),
        (other.id, bench.device_token, 403),
        (bench.id, eve.session, 404),
        ("nothing", alice.session, 404),
    ):
        with pytest.raises(InvalidStatus) as refused:
            async with socket_of(busbar, board_id, token):
                pass
        assert refused.value.response.status_code == status
        assert set(json.loads(refused.value.response.body or b"")) == {"error"}


async def test_a_page_of_another_site_cannot_open_a_socket_with_the_cookie(busbar: Running, alice: Person, bench: Any) -> None:
    url = f"{busbar.ws_url}/ws/boards/{bench.id}/pins"
    cookie = {"Cookie": f"plynx_session={alice.session}"}
    async with websockets.connect(url, additional_headers=cookie, origin=busbar.url) as socket:  # pyright: ignore[reportArgumentType]
        assert (await frame(socket))["type"] == "snapshot"
    with pytest.raises(InvalidStatus) as refused:
        async with websockets.connect(url, additional_headers=cookie, origin="https://evil.example"):  # pyright: ignore[reportArgumentType]
            pass
    assert refused.value.response.status_code == 403


async def test_a_key_without_the_write_scope_may_only_watch(busbar: Running, alice: Person, bench: Any) -> None:
    reader = await busbar.key(alice, CredentialKind.AGENT_KEY, "pins:read")
    async with socket_of(busbar, bench.id, reader) as socket:
        await frame(socket)
        await say(socket, type="write", id="1", pinIndex=1, value=1)
        assert await frame(socket) == {"type": "error", "id": "1", "error": "insufficient scope: pins:write required"}


async def test_sockets_close_with_1001_when_the_server_goes(busbar: Running, alice: Person, bench: Any) -> None:
    async with socket_of(busbar, bench.id, alice.session) as socket:
        await frame(socket)
        stopping = asyncio.create_task(busbar.server.stop(5))
        assert await close_code(socket) == 1001
        await asyncio.wait_for(stopping, 20)
    with pytest.raises(httpx.ConnectError):
        await busbar.http().get("/healthz")
