"""A server that is told to stop: what runs is finished, what comes is refused, sockets are closed with a reason."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from websockets.asyncio.client import connect

from core.app import App
from core.kernel.settings import Settings
from gen.busbar.api.v1.options_pb import CredentialKind
from tests.conftest import Start
from tests.doors import Refused
from tests.faults.conftest import WAIT_SECONDS
from tests.faults.test_storage import locked

GOING_DOWN = "the server is going down"


async def test_a_stopping_server_finishes_what_runs_refuses_what_comes_and_closes_its_sockets(
    start: Start, tmp_path: Path
) -> None:
    busbar = await start(storage={"busy_timeout_s": WAIT_SECONDS})
    alice = await busbar.person("alice")
    board = await busbar.board(alice)
    rest, grpc = (busbar.client(door, alice.session) for door in ("rest", "grpc"))
    agent = busbar.client("mcp", await busbar.key(alice, CredentialKind.AGENT_KEY))
    headers = {"Authorization": f"Bearer {alice.session}"}
    for client in (rest, grpc):
        await client.call("BoardService.GetBoard", board_id=board.id)
    await agent.method("tools/list")
    url = f"{busbar.ws_url}/ws/boards/{board.id}/pins"
    async with asyncio.timeout(WAIT_SECONDS), connect(url, additional_headers=headers) as ws:
        await ws.recv()
        with locked(tmp_path / "data" / "busbar.db"):
            # Nothing commits while another program holds the database, so these run until it lets go.
            writes = [
                asyncio.create_task(client.call("PinService.WritePin", board_id=board.id, pin_index=pin, value=7))
                for pin, client in enumerate((rest, grpc, agent))
            ]
            while busbar.app.platform.active < len(writes) + 1:  # noqa: ASYNC110 - no event tells
                await asyncio.sleep(0.01)
            stopping = asyncio.create_task(busbar.server.stop(WAIT_SECONDS))
            async for _ in ws:
                pass
            assert ws.close_code == 1001

            answer = await busbar.http(**headers).get("/api/boards")
            assert (answer.status_code, answer.json()) == (503, {"error": GOING_DOWN})
            assert answer.headers["retry-after"] == "1"
            for client in (grpc, agent):
                with pytest.raises(Refused, match=GOING_DOWN):
                    await client.call("PinService.ReadPin", board_id=board.id, pin_index=1)
        pins = await asyncio.gather(*writes)
        assert [pin.board_id for pin in pins] == [board.id] * 3
        await stopping
    await busbar.app.close()
    app = await App.create(Settings(data=tmp_path / "data"))
    try:
        stored = await app.signals.points(alice.org_id, start_us=0, end_us=1 << 61, limit=10)
    finally:
        await app.close()
    assert sorted(point.channel for point in stored) == ["V0", "V1", "V2"]
