"""Boards in Home Assistant by MQTT discovery, through a real broker."""

from __future__ import annotations

from typing import Any

import pytest

from tests.conftest import Person, Running, Start
from tests.doors import Refused
from tests.mqtt.broker import Broker
from tests.mqtt.conftest import Home, listening

NO_BROKER = "no MQTT broker is configured: set mqtt.url to the address of one"


async def test_a_board_is_announced_with_a_component_for_each_pin(announced: Any, home: Home) -> None:
    board = announced.id
    config = home.config(board)
    assert config["dev"] == {"ids": [f"plynx_{board}"], "name": "Bench", "mf": "Plynx-compatible", "mdl": "esp32"}
    assert config["o"]["name"] == "Busbar"
    assert config["avty"][0] == {"t": f"plynx/{board}/status"}
    assert config["cmps"] == {
        "v0": {"p": "sensor", "name": "Temp", "uniq_id": f"plynx_{board}_v0", "stat_t": f"plynx/{board}/v/0"}
    }
    await home.until(lambda: home.text(f"plynx/{board}/v/0") == "21.5")
    assert home.text(f"plynx/{board}/status") in ("online", "offline")
    assert home.text("plynx/bridge/status") == "online"


async def test_every_write_is_told_and_a_new_pin_becomes_a_component(
    busbar: Running, alice: Person, announced: Any, home: Home
) -> None:
    client = busbar.client("grpc", alice.session)
    for value in (1, 2.5, "on", True):
        await client.call("PinService.WritePin", board_id=announced.id, pin_index=0, value=value)

    def told() -> list[bytes]:
        return [payload for topic, payload in home.history if topic == f"plynx/{announced.id}/v/0"]

    await home.until(lambda: told()[-4:] == [b"1", b"2.5", b"on", b"1"])
    await client.call("PinService.WritePin", board_id=announced.id, pin_index=7, value=3)
    await home.until(lambda: "v7" in home.components(announced.id))
    await home.until(lambda: home.text(f"plynx/{announced.id}/v/7") == "3")


async def test_what_a_home_sets_is_a_write_like_any_other(busbar: Running, alice: Person, announced: Any, home: Home) -> None:
    for payload, text in (("ON", "1"), ("128.0", "128"), ("OFF", "0")):
        await home.client.publish(f"plynx/{announced.id}/v/2/set", payload, qos=1)
        await home.until(lambda expected=text: home.text(f"plynx/{announced.id}/v/2") == expected)
    pin = await busbar.client("grpc", alice.session).call("PinService.ReadPin", board_id=announced.id, pin_index=2)
    assert (pin.value.to_python(), pin.updated_by) == (0, "ha")


async def test_commands_for_boards_that_are_not_announced_change_nothing(
    busbar: Running, alice: Person, announced: Any, home: Home
) -> None:
    other = await busbar.board(alice, "Other")
    for topic in (f"plynx/{other.id}/v/1/set", f"plynx/{announced.id}/v/999/set", "plynx/nobody/v/1/set"):
        await home.client.publish(topic, "1", qos=1)
    await home.client.publish(f"plynx/{announced.id}/v/1/set", "x" * 2000, qos=1)
    # Commands are carried out in their order, so this one tells that those before it are done.
    await home.client.publish(f"plynx/{announced.id}/v/3/set", "5", qos=1)
    await home.until(lambda: home.text(f"plynx/{announced.id}/v/3") == "5")
    client = busbar.client("grpc", alice.session)
    assert (await client.call("PinService.ListPins", board_id=other.id)).pins == []
    assert [pin.pin_index for pin in (await client.call("PinService.ListPins", board_id=announced.id)).pins] == [0, 3]


async def test_a_board_that_is_taken_back_leaves_nothing_on_the_broker(
    busbar: Running, alice: Person, announced: Any, home: Home
) -> None:
    await home.until(lambda: home.text(f"plynx/{announced.id}/v/0") == "21.5")
    client = busbar.client("rest", alice.session)
    await client.call("HomeDiscoveryService.SetHomeDiscovery", board_id=announced.id, enabled=False)
    await home.until(lambda: not [topic for topic in home.retained if announced.id in topic])


async def test_a_deleted_board_leaves_nothing_on_the_broker(busbar: Running, alice: Person, announced: Any, home: Home) -> None:
    await busbar.client("rest", alice.session).call("BoardService.DeleteBoard", board_id=announced.id)
    await home.until(lambda: not [topic for topic in home.retained if announced.id in topic])


async def test_a_home_that_starts_is_told_everything_again(announced: Any, home: Home) -> None:
    await home.until(lambda: home.text(f"plynx/{announced.id}/v/0") == "21.5")
    home.history.clear()
    await home.client.publish("homeassistant/status", "online", qos=1)
    topics = {f"homeassistant/device/plynx_{announced.id}/config", f"plynx/{announced.id}/v/0", f"plynx/{announced.id}/status"}
    await home.until(lambda: topics <= {topic for topic, _ in home.history})


async def test_the_server_going_makes_its_boards_unavailable(busbar: Running, announced: Any, home: Home) -> None:
    await home.until(lambda: home.text("plynx/bridge/status") == "online")
    await busbar.server.stop(1)
    await home.until(lambda: home.text("plynx/bridge/status") == "offline")


async def test_a_board_taken_back_while_the_broker_was_away_is_cleared_when_it_returns(
    busbar: Running, alice: Person, announced: Any, broker: Broker
) -> None:
    client = busbar.client("rest", alice.session)
    await broker.stop()
    await client.call("HomeDiscoveryService.SetHomeDiscovery", board_id=announced.id, enabled=False)
    await broker.start()
    async with listening(broker) as home:
        await home.until(lambda: home.text("plynx/bridge/status") == "online")
        await home.until(lambda: not [topic for topic in home.retained if announced.id in topic])


@pytest.mark.parametrize("door", ["grpc", "rest"])
async def test_only_the_owner_announces_a_board(busbar: Running, alice: Person, eve: Person, bench: Any, door: str) -> None:
    with pytest.raises(Refused) as refused:
        await busbar.client(door, eve.session).call("HomeDiscoveryService.SetHomeDiscovery", board_id=bench.id, enabled=True)
    assert refused.value.code == "NOT_FOUND"
    answer = await busbar.client(door, alice.session).call("HomeDiscoveryService.GetHomeDiscovery", board_id=bench.id)
    assert answer.enabled is False


@pytest.mark.parametrize("door", ["grpc", "rest"])
async def test_without_a_broker_nothing_can_be_announced(start: Start, door: str) -> None:
    busbar = await start()
    alice = await busbar.person("alice")
    board = await busbar.board(alice)
    client = busbar.client(door, alice.session)
    assert (await client.call("HomeDiscoveryService.GetHomeDiscovery", board_id=board.id)).broker == "off"
    with pytest.raises(Refused) as refused:
        await client.call("HomeDiscoveryService.SetHomeDiscovery", board_id=board.id, enabled=True)
    assert (refused.value.code, refused.value.message) == ("UNAVAILABLE", NO_BROKER)
