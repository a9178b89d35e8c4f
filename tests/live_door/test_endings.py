"""How sockets end: what the client is told, and what is left on the server."""

from __future__ import annotations

import asyncio
import json

import pytest
from websockets.asyncio.client import ClientConnection

from tests.live_door.serving import PINS, Serving, ask, closing, hear, serving, until


@pytest.mark.parametrize(
    ("board", "code", "reason"),
    [
        ("b-expired", 4401, "credential ended"),
        ("b-barred", 4403, "removed from the project"),
        ("b-gone", 4404, "board deleted"),
        ("b-replaced", 4409, "replaced by a newer connection"),
        ("b-lagged", 4429, "too slow"),
        ("b-odd", 1008, "odd"),
        ("b-defect", 1011, "internal error"),
    ],
)
async def test_a_refusal_after_acceptance_is_a_close_code(server: Serving, board: str, code: int, reason: str) -> None:
    async with server.connect(f"/ws/boards/{board}/pins") as client:
        assert await closing(client) == (code, reason)


async def test_a_frame_over_the_limit_closes_the_socket(server: Serving) -> None:
    async with server.connect() as client:
        await hear(client)
        await client.send(json.dumps({"type": "ping", "padding": "x" * 65_000}))
        assert await hear(client) == {"type": "pong"}
        await client.send(json.dumps({"type": "ping", "padding": "ü" * 33_000}, ensure_ascii=False))
        assert (await closing(client))[0] == 4413


async def test_all_sockets_close_when_the_server_goes_down(server: Serving) -> None:
    async with server.connect() as one, server.connect() as other:
        await hear(one)
        await hear(other)
        async with asyncio.timeout(10):
            await server.live.close_all(1001)
        assert server.service.ended.is_set()
        assert [(await closing(client))[0] for client in (one, other)] == [1001, 1001]
    await server.gone()


async def test_a_socket_that_was_not_accepted_yet_is_refused_when_the_server_goes_down(server: Serving) -> None:
    refused = asyncio.create_task(server.refusal("/ws/boards/slow/pins"))
    async with asyncio.timeout(10):
        await server.service.entered.wait()
        await server.live.close_all()
        assert (await refused).status_code == 503


async def test_a_client_that_leaves_before_acceptance_ends_the_call(server: Serving) -> None:
    waiting = asyncio.create_task(server.refusal("/ws/boards/slow/pins"))
    async with asyncio.timeout(10):
        await server.service.entered.wait()
        waiting.cancel()
        await server.service.ended.wait()
    await server.gone()


async def test_no_task_is_left_after_clients_leave(server: Serving) -> None:
    async with server.connect() as client:
        await hear(client)
    await server.gone()
    before = len(asyncio.all_tasks())
    for _ in range(10):
        async with server.connect() as client:
            await ask(client, {"type": "ping"})
    async with server.connect() as rude:
        await hear(rude)
        rude.transport.abort()
    await server.gone()
    await until(lambda: len(asyncio.all_tasks()) <= before)


async def test_frames_sent_right_before_leaving_are_still_done(server: Serving) -> None:
    async with server.connect() as watcher:
        await hear(watcher)
        async with server.connect() as device:
            for number in range(40):
                await device.send(json.dumps({"type": "write", "id": str(number), "pinIndex": 1, "value": number}))
        values = [(await hear(watcher))["pin"]["value"] for _ in range(40)]
    assert values == list(range(40))


async def test_a_reader_that_takes_nothing_is_cut_off_and_holds_up_nobody() -> None:
    async with serving(live={"ping_seconds": 0.2}) as server:
        async with server.connect("/ws/boards/flood/pins", max_queue=1, compression=None) as stuck, server.connect() as client:
            await server.service.entered.wait()
            await hear(client)
            assert await ask(client, {"type": "ping"}) == {"type": "pong"}
            async with asyncio.timeout(20):
                await server.service.ended.wait()
            # What the network holds, and not what the service could have said.
            assert server.service.offered < 1000
            stuck.transport.abort()
        await server.gone()


async def test_a_peer_that_no_longer_answers_pings_is_closed() -> None:
    async with serving(ping=0.2) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", int(server.url.rpartition(":")[2]))
        key = "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nAuthorization: Bearer alice"
        writer.write(f"GET {PINS} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n{key}\r\n\r\n".encode())
        async with asyncio.timeout(10):
            heard = await reader.read(-1)
            await server.service.ended.wait()
        assert (1011).to_bytes(2) + b"keepalive ping timeout" in heard
        writer.close()
        await server.gone()


async def flood(client: ClientConnection) -> None:
    async with asyncio.timeout(1):
        while True:
            await client.send(json.dumps({"type": "ping", "padding": "x" * 60_000}))


async def test_a_client_that_sends_without_end_is_read_no_faster_than_the_service_takes(server: Serving) -> None:
    async with server.connect("/ws/boards/flood/pins", max_queue=1, compression=None) as client:
        await server.service.entered.wait()
        with pytest.raises(TimeoutError):
            await flood(client)
        client.transport.abort()
    await server.gone()


async def test_the_path_of_another_board_is_another_socket(server: Serving) -> None:
    async with server.connect(PINS) as client:
        assert (await hear(client))["boardId"] == "b1"
