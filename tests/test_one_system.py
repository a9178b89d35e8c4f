"""First light: one device, one series, every door."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import websockets

from gen.busbar.api.v1.options_pb import CredentialKind
from tests.conftest import Person, Running


async def test_a_point_sent_as_telemetry_is_a_pin_at_every_door(busbar: Running, alice: Person, bench: Any) -> None:
    telemetry = await busbar.key(alice, CredentialKind.TELEMETRY_KEY, "write")
    agent = await busbar.key(alice, CredentialKind.AGENT_KEY, "pins:read")
    body = {"source_id": bench.id, "points": [{"metric": "V5", "value": 21.5}]}
    assert (await busbar.http(**{"x-api-key": telemetry}).post("/ingest", json=body)).status_code == 200
    for door, credential in (("grpc", alice.session), ("rest", alice.session), ("mcp", agent)):
        pin = await busbar.client(door, credential).call("PinService.ReadPin", board_id=bench.id, pin_index=5)
        assert (pin.value.to_python(), pin.text, pin.updated_by) == (21.5, "21.5", "device")
    home = (await busbar.http(agent).get(f"/api/ha/board/{bench.id}/pin/5")).json()
    assert (home["numeric"], home["available"]) == (21.5, True)
    board = (await busbar.http(alice.session).get(f"/api/boards/{bench.id}")).json()
    assert board["status"] == "online"


async def test_a_pin_written_by_home_assistant_is_seen_live_and_read_back_as_telemetry(
    busbar: Running, alice: Person, bench: Any
) -> None:
    agent = await busbar.key(alice, CredentialKind.AGENT_KEY, "pins:write")
    telemetry = await busbar.key(alice, CredentialKind.TELEMETRY_KEY, "read")
    url = f"{busbar.ws_url}/ws/boards/{bench.id}/pins?token={alice.session}"
    async with websockets.connect(url) as socket:
        snapshot = json.loads(await asyncio.wait_for(socket.recv(), 10))
        assert (snapshot["type"], snapshot["pins"]) == ("snapshot", [])
        await busbar.http(agent).post(f"/api/ha/board/{bench.id}/pin/2", content=b"ON")
        frame = json.loads(await asyncio.wait_for(socket.recv(), 10))
    assert (frame["type"], frame["origin"], frame["seq"], frame["clientId"]) == ("pin", "ha", 1, None)
    assert (frame["pin"]["pinIndex"], frame["pin"]["value"]) == (2, 1)
    read = await busbar.http(**{"x-api-key": telemetry}).get("/api/v1/telemetry", params={"source": bench.id})
    assert [(row["metric"], row["value"]) for row in read.json()["data"]] == [("V2", 1)]


async def test_a_pin_written_at_each_door_is_read_at_all_and_told_once_on_both_sockets(
    busbar: Running, alice: Person, bench: Any
) -> None:
    user, agent = alice.session, await busbar.key(alice, CredentialKind.AGENT_KEY)
    home = busbar.http(agent)
    made = (await busbar.http(user).post("/api/projects", json={"name": "Bench"})).json()["id"]
    assert (await busbar.http(user).post(f"/api/projects/{made}/boards/{bench.id}")).status_code == 200
    clients = {door: busbar.client(door, agent if door == "mcp" else user) for door in ("grpc", "rest", "mcp")}
    path, named = f"/api/ha/board/{bench.id}/pin/4", {"board_id": bench.id, "pin_index": 4}
    places = (f"/ws/boards/{bench.id}/pins", f"/ws/projects/{made}/collab")
    async with (
        websockets.connect(f"{busbar.ws_url}{places[0]}?token={user}") as pins,
        websockets.connect(f"{busbar.ws_url}{places[1]}?token={user}") as collab,
    ):
        for socket in (pins, collab):
            assert json.loads(await asyncio.wait_for(socket.recv(), 10))["type"] in ("snapshot", "welcome")
        for number, (door, origin) in enumerate((("grpc", "user"), ("rest", "user"), ("mcp", "mcp"), ("ha", "ha")), 1):
            if door == "ha":
                assert (await home.post(path, content=str(number).encode())).status_code == 200
            else:
                await clients[door].call("PinService.WritePin", **named, value=number)
            read = [(await client.call("PinService.ReadPin", **named)).value.to_python() for client in clients.values()]
            assert [*read, (await home.get(path)).json()["value"]] == [number] * 4
            for socket in (pins, collab):
                # In order and without a gap, so each write is there exactly once.
                told = json.loads(await asyncio.wait_for(socket.recv(), 10))
                assert (told["type"], told["seq"], told["origin"], told["pin"]["value"]) == ("pin", number, origin, number)
