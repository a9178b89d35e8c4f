"""Sockets whose other side is hostile, slow or gone, against the whole server."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from gen.busbar.api.v1.options_pb import CredentialKind
from tests.conftest import Person, Running, Start
from tests.faults.conftest import WAIT_SECONDS, Target, assert_tells_nothing
from tests.telemetry.sockets import dashboard, hear

LAGGED = 4429
WRITES = 3_000
"""Writes that a reader misses who stopped reading: far more than socket buffers and the server's queue hold together."""
BULKY = "x" * 1_000


def address(busbar: Running, board_id: str) -> str:
    return f"{busbar.ws_url}/ws/boards/{board_id}/pins"


@asynccontextmanager
async def talking(busbar: Running, board_id: str, credential: str, **options: Any) -> AsyncGenerator[ClientConnection]:
    """Open the socket of a board and take the snapshot."""
    headers = {"Authorization": f"Bearer {credential}"}
    async with connect(address(busbar, board_id), additional_headers=headers, **options) as ws:
        assert (await receive(ws))["type"] == "snapshot"
        yield ws


async def receive(ws: ClientConnection) -> dict[str, Any]:
    async with asyncio.timeout(WAIT_SECONDS):
        text = await ws.recv()
    assert isinstance(text, str)
    assert_tells_nothing(text)
    return json.loads(text)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(WAIT_SECONDS):
        while not condition():  # noqa: ASYNC110 - the server has no event for it
            await asyncio.sleep(0.02)


async def close_code(ws: ClientConnection) -> int | None:
    """Read to the end and return the code with which the server closed."""
    async with asyncio.timeout(WAIT_SECONDS):
        try:
            while True:
                await ws.recv()
        except ConnectionClosed:
            return ws.close_code


# Frames


async def test_bad_frames_are_answered_and_change_nothing(target: Target) -> None:
    deep = "[" * 101 + "]" * 101
    frames = (
        "", "nope", "[]", "5", "{}", '{"type": "explode"}', '{"type": "write", "id": "1"}', deep, "[" * 5_000 + "]" * 5_000,
        '{"type": "write", "id": "1", "pinIndex": 300, "value": 1}',
        '{"type": "write", "id": "1", "pinIndex": 1, "value": NaN}',
        f'{{"type": "write", "id": "1", "pinIndex": 1, "value": {deep}}}',
        '{"type": "writeMany", "id": "1", "pins": []}',
        '{"type": "writeMany", "id": "1", "pins": [{"pinIndex": 1, "value": 1}, {"pinIndex": 300, "value": 1}]}',
        '{"type": "hello", "firmwareVersion": "1"}',
    )  # fmt: skip
    async with talking(target.busbar, target.board.id, target.alice.session) as ws:
        for frame in frames:
            await ws.send(frame)
            answer = await receive(ws)
            assert (answer["type"], bool(answer["error"])) == ("error", True), frame
        await ws.send('{"type": "ping"}')
        assert (await receive(ws))["type"] == "pong"


async def test_text_that_is_no_utf_8_closes_the_socket(target: Target) -> None:
    async with talking(target.busbar, target.board.id, target.alice.session) as ws:
        await ws.send(b'{"type": "write", "id": "1", "pinIndex": 1, "value": "\xff\xfe"}', text=True)
        assert await close_code(ws) == 1007


async def test_a_frame_over_the_limit_closes_the_socket(target: Target) -> None:
    async with talking(target.busbar, target.board.id, target.alice.session) as ws:
        await ws.send(json.dumps({"type": "write", "id": "1", "pinIndex": 1, "value": "x" * 65_536}))
        assert await close_code(ws) == 4413


async def test_a_frame_of_twenty_mebibytes_is_never_gathered(target: Target) -> None:
    async with talking(target.busbar, target.board.id, target.alice.session, compression="deflate") as ws:
        # Nothing is agreed to that would make much of little, so the limit is known from the head of the frame.
        assert not ws.protocol.extensions
        with suppress(ConnectionClosed):
            await ws.send("x" * 20 * 1024 * 1024)
        assert await close_code(ws) in (1009, 4413)


# Who may not


async def test_credentials_of_others_open_no_socket(target: Target, eve: Person) -> None:
    busbar = target.busbar
    other = await busbar.board(target.alice, "Second")
    refused = {
        "nobody": (None, 401),
        "nonsense": ("a" * 64, 401),
        "a telemetry key": (target.key, 401),
        "somebody of another organisation": (eve.session, 404),
        "another board": (other.device_token, 403),
    }
    for name, (credential, status) in refused.items():
        headers = {"Authorization": f"Bearer {credential}"} if credential else {}
        with pytest.raises(InvalidStatus) as caught:
            await connect(address(busbar, target.board.id), additional_headers=headers)
        response = caught.value.response
        assert response.status_code == status, name
        assert set(json.loads(response.body)) == {"error"}
        assert_tells_nothing(response.body.decode())
    await busbar.client("rest", target.alice.session).call("BoardService.DeleteBoard", board_id=other.id)


async def test_a_path_that_climbs_opens_no_socket(target: Target) -> None:
    headers = {"Authorization": f"Bearer {target.alice.session}"}
    for id_ in ("..", "%2e%2e", "..%2f" + target.board.id, "%00", "%ff"):
        with pytest.raises(InvalidStatus) as caught:
            await connect(address(target.busbar, id_), additional_headers=headers)
        assert caught.value.response.status_code in (400, 404)


# Who is slow or gone


async def write_pins(busbar: Running, person: Person, board_id: str, writes: int) -> None:
    """Write from 16 clients at once, so that many share a commit."""
    client = busbar.client("grpc", person.session)

    async def some(share: int) -> None:
        for _ in range(share):
            await client.call("PinService.WritePin", board_id=board_id, pin_index=1, value=BULKY)

    await asyncio.gather(*(some(writes // 16) for _ in range(16)))


def masked(**members: Any) -> bytes:
    """Return a frame as clients send it, under a mask of zeros."""
    payload = json.dumps(members).encode()
    return b"\x81" + bytes([0x80 | 126]) + len(payload).to_bytes(2) + bytes(4) + payload


@asynccontextmanager
async def half_open(busbar: Running, path: str, credential: str = "", **hello: Any) -> AsyncGenerator[None]:
    """Open a socket by hand, with the smallest buffer, say hello where that is needed, and never read from it again."""
    host, _, port = busbar.url.removeprefix("http://").partition(":")
    bearer = f"Authorization: Bearer {credential}\r\n" if credential else ""
    head = (
        f"GET {path} HTTP/1.1\r\nHost: {host}:{port}\r\n{bearer}Upgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
    loop = asyncio.get_running_loop()
    with socket.socket() as raw:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        raw.setblocking(False)  # noqa: FBT003 - the only form
        async with asyncio.timeout(WAIT_SECONDS):
            await loop.sock_connect(raw, (host, int(port)))
            await loop.sock_sendall(raw, head.encode())
            assert (await loop.sock_recv(raw, 12)) == b"HTTP/1.1 101"
            if hello:
                await loop.sock_sendall(raw, masked(**hello))
        yield


async def test_a_client_that_stops_answering_is_let_go(start: Start) -> None:
    busbar = await start(live={"ping_seconds": 0.2})
    alice = await busbar.person("alice")
    board = await busbar.board(alice)
    session = busbar.client("rest", alice.session)
    async with half_open(busbar, f"/ws/boards/{board.id}/pins", board.device_token):
        assert (await session.call("BoardService.GetBoard", board_id=board.id)).status == "online"
        await until(lambda: busbar.server._live.connections == 0)
        assert (await session.call("BoardService.GetBoard", board_id=board.id)).status != "online"


@pytest.mark.parametrize("path", ["/ws/device", "/party/default"])
async def test_a_device_that_stops_answering_is_let_go_and_dashboards_are_told(start: Start, path: str) -> None:
    busbar = await start(live={"ping_seconds": 0.5})
    key = await busbar.key(await busbar.person("alice"), CredentialKind.TELEMETRY_KEY)
    async with dashboard(busbar, key) as ws:
        async with half_open(busbar, path, type="device_auth", api_key=key, source_id="rig"):
            online = await hear(ws, "source_status")
            offline = await hear(ws, "source_status")
        assert [(told["source_id"], told["status"]) for told in (online, offline)] == [("rig", "online"), ("rig", "offline")]
        await until(lambda: (busbar.server._live.connections, busbar.app.found.signals.connected_devices) == (1, 0))


@pytest.mark.parametrize("path", ["/ws/browser", "/party/default"])
async def test_a_dashboard_that_stops_answering_is_let_go(start: Start, path: str) -> None:
    busbar = await start(live={"ping_seconds": 0.2})
    key = await busbar.key(await busbar.person("alice"), CredentialKind.TELEMETRY_KEY)
    async with half_open(busbar, path, type="browser_auth", token=key):
        await until(lambda: busbar.server._live.connections == 1)
        await until(lambda: busbar.server._live.connections == 0)


async def test_a_reader_that_stopped_reading_delays_nobody_and_ends_with_4429(start: Start) -> None:
    busbar = await start(live={"ping_seconds": 20})
    alice = await busbar.person("alice")
    board = await busbar.board(alice)
    headers = {"Authorization": f"Bearer {alice.session}"}
    slow = await connect(address(busbar, board.id), additional_headers=headers, max_queue=1, compression=None)
    async with talking(busbar, board.id, alice.session) as quick:
        slow.transport.pause_reading()
        writing = asyncio.create_task(write_pins(busbar, alice, board.id, WRITES))
        seen = [(await receive(quick))["seq"] for _ in range(WRITES // 16 * 16)]
        await writing
    assert seen == list(range(1, len(seen) + 1))
    slow.transport.resume_reading()
    assert await close_code(slow) == LAGGED
    await until(lambda: busbar.server._live.connections == 0)


async def test_connections_that_come_and_go_leave_nothing_behind(target: Target) -> None:
    busbar = target.busbar
    await flap(target, 2)
    await until(lambda: busbar.server._live.connections == 0)
    before = tasks()
    for _ in range(5):
        await flap(target, 10)
    await until(lambda: busbar.server._live.connections == 0 and tasks() <= before)


async def flap(target: Target, clients: int) -> None:
    """Come and go: some say goodbye, some just vanish, some in the middle of the handshake."""
    token = target.board.device_token

    async def one(number: int) -> None:
        if number % 3 == 0:
            async with half_open(target.busbar, target.board.id, target.alice.session):
                pass
        elif number % 3 == 1:
            async with talking(target.busbar, target.board.id, token if number % 2 else target.agent):
                pass
        else:
            ws = await connect(
                address(target.busbar, target.board.id), additional_headers={"Authorization": f"Bearer {target.agent}"}
            )
            ws.transport.abort()

    async with asyncio.timeout(WAIT_SECONDS):
        await asyncio.gather(*(one(number) for number in range(clients)), return_exceptions=True)


def tasks() -> int:
    return len(asyncio.all_tasks())


async def test_a_credential_that_ends_closes_its_sockets_on_every_door(target: Target) -> None:
    busbar = target.busbar
    key = await busbar.key(target.alice, CredentialKind.AGENT_KEY, expires_us=busbar.clock.now_us() + 300_000)
    async with talking(busbar, target.board.id, key) as ws:
        assert await close_code(ws) == 4401
    with pytest.raises(InvalidStatus) as caught:
        await connect(address(busbar, target.board.id), additional_headers={"Authorization": f"Bearer {key}"})
    assert caught.value.response.status_code == 401
