"""Real releases of the SDK send to the whole server over HTTP, unchanged."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest

from gen.busbar.api.v1.options_pb import CredentialKind
from tests.clients.plexus.conftest import Driving, Raised, Sdk
from tests.conftest import Person, Running
from tests.faults.process import prepare, serving

EPOCH_MS = 1_700_000_000_000
RIG = "rig-1"


@pytest.fixture
async def key(busbar: Running, alice: Person) -> str:
    """A key that may write and read."""
    return await busbar.key(alice, CredentialKind.TELEMETRY_KEY, "write", "read")


async def stored(url: str, key: str) -> list[dict[str, Any]]:
    """Return every point, oldest first."""
    async with httpx.AsyncClient(base_url=url, headers={"x-api-key": key}, timeout=20) as http:
        answer = await http.get("/api/v1/telemetry", params={"from": "2000-01-01", "to": "2100-01-01", "limit": "10000"})
    assert answer.status_code == 200, answer.text
    return answer.json()["data"]


async def test_single_values_and_batches_of_every_type_arrive(busbar: Running, key: str, driving: Driving) -> None:
    values = {"number": 21.5, "text": "RUNNING", "flag": True, "object": {"x": 1.5, "y": None}, "list": [0.5, "b"]}
    async with driving(busbar.url, key) as sdk:
        await sdk.do("open", source_id=RIG)
        assert await sdk.do("send", metric="single", value=1, timestamp=EPOCH_MS) is True
        assert await sdk.do("send_batch", points=list(values.items()), timestamp=EPOCH_MS / 1000) is True
        assert await sdk.do("buffered") == 0
        await sdk.do("close")
    points = await stored(busbar.url, key)
    assert {point["metric"]: point["value"] for point in points} == {"single": 1, **values}
    assert {(point["source_id"], point["timestamp"]) for point in points} == {(RIG, EPOCH_MS)}
    assert {point["metric"] for point in points if point["class"] == "metric"} == {"single", "number"}


async def test_a_batch_that_the_sdk_compresses_arrives_whole(busbar: Running, key: str, driving: Driving) -> None:
    points = [(f"metric.{number}", number) for number in range(500)]
    async with driving(busbar.url, key) as sdk:
        await sdk.do("open", source_id=RIG)
        await sdk.do("send_batch", points=points, timestamp=EPOCH_MS)
        await sdk.do("close")
    assert sorted((point["metric"], point["value"]) for point in await stored(busbar.url, key)) == sorted(points)


async def test_a_key_that_may_not_write_is_an_authentication_error(
    busbar: Running, alice: Person, key: str, driving: Driving
) -> None:
    reader = await busbar.key(alice, CredentialKind.TELEMETRY_KEY, "read")
    for wrong in ("plx_" + "a" * 32, reader, alice.session + "x"):
        async with driving(busbar.url, wrong) as sdk:
            await sdk.do("open", source_id=RIG)
            with pytest.raises(Raised) as caught:
                await sdk.do("send", metric="m", value=1)
            assert caught.value.name == "AuthenticationError"
    assert await stored(busbar.url, key) == []


async def test_what_is_measured_while_the_server_is_away_arrives_once_it_is_back(tmp_path: Path, driving: Driving) -> None:
    data = tmp_path / "data"
    account = await prepare(data)
    async with serving(data) as server:
        address, port = server.http, server.port
        async with driving(address, account.telemetry_key) as sdk:
            await sdk.do("open", source_id=RIG)
            await sdk.do("send", metric="m", value=0, timestamp=EPOCH_MS)
            await server.kill()
            await send_in_vain(sdk, range(1, 6))
            assert await sdk.do("buffered") == 5
            async with serving(data, http=f"127.0.0.1:{port}"):
                await sdk.do("send", metric="m", value=6, timestamp=EPOCH_MS + 6)
                await sdk.do("flush")
                assert await sdk.do("buffered") == 0
                await sdk.do("close")
                points = await stored(address, account.telemetry_key)
    assert [(point["value"], point["timestamp"] - EPOCH_MS) for point in points] == [(value, value) for value in range(7)]


async def send_in_vain(sdk: Sdk, values: range) -> None:
    for value in values:
        with pytest.raises(Raised) as caught:
            await sdk.do("send", metric="m", value=value, timestamp=EPOCH_MS + value)
        assert caught.value.name == "PlexusError"


async def test_a_point_of_a_board_is_its_pin_on_every_door(
    busbar: Running, alice: Person, bench: Any, key: str, driving: Driving
) -> None:
    async with driving(busbar.url, key) as sdk:
        await sdk.do("open", source_id=bench.id)
        await sdk.do("send", metric="V5", value=21.5)
        await sdk.do("close")
    agent = await busbar.key(alice, CredentialKind.AGENT_KEY, "pins:read")
    for door, credential in (("grpc", alice.session), ("rest", alice.session), ("mcp", agent)):
        pin = await busbar.client(door, credential).call("PinService.ReadPin", board_id=bench.id, pin_index=5)
        assert (pin.pin_index, pin.value.to_python(), pin.updated_by) == (5, 21.5, "device")
    answer = await busbar.http(authorization=f"Bearer {agent}").get(f"/api/ha/board/{bench.id}/pin/V5")
    assert (answer.json()["numeric"], answer.json()["state"]) == (21.5, "21.5")
