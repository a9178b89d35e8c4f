"""Plugin instances, their channels and the events that come with them."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest

from tests.conftest import Person, Running, Start
from tests.doors import Refused
from tests.lab.conftest import make_event, person, sign_in

SIMULATED = {
    "temp_reactor": ("input", "°C", 20, 500),
    "temp_inlet": ("input", "°C", 15, 200),
    "temp_outlet": ("input", "°C", 15, 300),
    "pressure_chamber": ("input", "bar", 0, 6),
    "pressure_diff": ("input", "mbar", 0, 100),
    "volume_flow": ("input", "m³/h", 0, 40),
    "humidity": ("input", "%", 0, 100),
    "heater_power": ("output", "%", 0, 100),
    "valve_position": ("output", "%", 0, 100),
}
SYSTEM = ["cpu_percent", "memory_percent", "memory_used_gb", "disk_percent", "disk_used_gb", "load_avg_1m", "cpu_temp"]


@pytest.fixture
async def busbar(start: Start) -> Running:
    """A server that polls nothing, so that nothing happens but what a test does."""
    return await start(lab={"plugin_poll_seconds": 0})


async def instance(client: httpx.AsyncClient, name: str = "Rig", **body: Any) -> dict[str, Any]:
    """Make an instance and return it as the list shows it."""
    answer = await client.post("/api/v1/plugins", json={"plugin_id": "simulated", "instance_name": name, **body})
    assert (answer.status_code, answer.json()) == (201, {"status": "success", "message": "Plugin instance created."})
    data = (await client.get("/api/v1/plugins", params={"page_size": 100})).json()["data"]
    return next(one for one in data if one["instance_name"] == name)


async def test_the_plugins_of_the_server_are_listed_with_what_people_want_to_know(admin: httpx.AsyncClient) -> None:
    found = (await admin.get("/api/v1/plugins/available")).json()
    told = [(one["id"], one["name"], one["version"]) for one in found]
    assert told == [
        ("revpi", "Revolution Pi", "0.1.0"),
        ("simulated", "Simulated Device", "0.2.0"),
        ("system", "System Monitor", "0.1.0"),
    ]
    assert all(set(one) == {"id", "name", "version", "vendor", "description", "url"} for one in found)
    assert found[1]["url"] is None


async def test_an_instance_has_a_channel_and_an_event_for_each_thing_that_its_plugin_measures(admin: httpx.AsyncClient) -> None:
    made = await instance(admin)
    assert set(made) == {
        "public_id", "plugin_id", "instance_name", "demo_mode", "enabled", "status", "config_json", "error_message",
        "created_on", "updated_on", "user_public_id", "channel_mappings",
    }  # fmt: skip
    assert (made["demo_mode"], made["enabled"], made["status"], made["updated_on"]) == (False, True, "inactive", None)
    channels = made["channel_mappings"]
    assert {one["channel_id"]: (one["direction"], one["unit"]) for one in channels} == {
        channel: about[:2] for channel, about in SIMULATED.items()
    }
    events = {one["public_id"]: one for one in (await admin.get("/api/v1/events")).json()["data"]}
    for channel in channels:
        event = events[channel["event_public_id"]]
        direction, unit, low, high = SIMULATED[channel["channel_id"]]
        assert event["name"] == f"Rig – {channel['channel_name']}"  # noqa: RUF001 - as clients expect it
        assert (event["min_value"], event["max_value"], event["unit"]) == (low, high, unit)
        assert event["type"] == {"input": "sensor", "output": "actuator"}[direction]


async def test_the_system_monitor_has_seven_channels_and_makes_no_events_where_none_are_wanted(
    admin: httpx.AsyncClient,
) -> None:
    made = await instance(admin, plugin_id="system", auto_create_events=False)
    assert [one["channel_id"] for one in made["channel_mappings"]] == SYSTEM
    assert {(one["direction"], one["event_public_id"]) for one in made["channel_mappings"]} == {("input", None)}
    assert (await admin.get("/api/v1/events")).json()["total"] == 0


async def test_an_event_of_the_name_that_a_channel_wants_is_used_again(admin: httpx.AsyncClient) -> None:
    event = await make_event(admin, "Rig – Humidity", unit="mine")  # noqa: RUF001 - as clients expect it
    made = await instance(admin)
    humidity = next(one for one in made["channel_mappings"] if one["channel_id"] == "humidity")
    assert humidity["event_public_id"] == event
    assert (await admin.get(f"/api/v1/events/{event}")).json()["unit"] == "mine"


@pytest.mark.parametrize("body", [{"plugin_id": "unheard-of"}, {"config_json": "{broken"}, {"config_json": "[1]"}])
async def test_what_a_plugin_cannot_do_makes_an_instance_without_channels(
    admin: httpx.AsyncClient, body: dict[str, Any]
) -> None:
    made = await instance(admin, **body)
    assert (made["channel_mappings"], made["config_json"]) == ([], body.get("config_json"))


async def test_settings_may_be_sent_as_text_or_as_an_object_and_are_shown_as_text(admin: httpx.AsyncClient) -> None:
    text = '{"port": "/dev/ttyUSB0", "baud": 9600}'
    assert (await instance(admin, "a", config_json=text))["config_json"] == text
    made = await instance(admin, "b", config_json={"port": "/dev/ttyUSB0"})
    assert made["config_json"] == '{"port":"/dev/ttyUSB0"}'
    assert len(made["channel_mappings"]) == 9
    path = f"/api/v1/plugins/{made['public_id']}"
    assert (await admin.put(path, json={"config_json": {"n": 1}})).status_code == 200
    assert (await admin.get(path)).json()["config_json"] == '{"n":1}'
    assert (await admin.put(path, json={"config_json": None})).status_code == 200
    assert (await admin.get(path)).json()["config_json"] is None
    answer = await admin.put(path, json={"config_json": 7})
    assert (answer.status_code, answer.json()["detail"][0]["loc"]) == (422, ["body", "config_json"])


async def test_secrets_in_settings_are_masked_for_whoever_is_no_administrator(
    busbar: Running, admin: httpx.AsyncClient
) -> None:
    text = '{"host": "plc", "password": "hunter2", "deep": [{"api_key": "k", "keyboard": "de"}]}'
    path = f"/api/v1/plugins/{(await instance(admin, config_json=text))['public_id']}"
    broken = f"/api/v1/plugins/{(await instance(admin, 'b', config_json='password=hunter2'))['public_id']}"
    viewer = await person(busbar, admin, "Vera", "viewer")
    assert (await admin.get(path)).json()["config_json"] == text
    seen = (await viewer.get(path)).json()["config_json"]
    assert seen == '{"host": "plc", "password": "***", "deep": [{"api_key": "***", "keyboard": "de"}]}'
    assert (await viewer.get(broken)).json()["config_json"] == "***"
    assert "hunter2" not in (await viewer.get("/api/v1/plugins")).text


async def test_only_administrators_change_instances(busbar: Running, admin: httpx.AsyncClient) -> None:
    made = await instance(admin)
    operator = await person(busbar, admin, "Otto", "operator")
    for answer in (
        await operator.post("/api/v1/plugins", json={}),
        await operator.put(f"/api/v1/plugins/{made['public_id']}", json={"enabled": False}),
        await operator.delete(f"/api/v1/plugins/{made['public_id']}"),
        await operator.post(f"/api/v1/plugins/{made['public_id']}/channels", json={}),
    ):
        assert (answer.status_code, answer.json()) == (403, {"detail": "Admin privileges required."})
    assert (await operator.get("/api/v1/plugins")).json()["total"] == 1


async def test_a_name_is_taken_once_even_when_many_want_it_at_once(admin: httpx.AsyncClient) -> None:
    body = {"plugin_id": "x", "instance_name": "Rig"}
    answers = await asyncio.gather(*(admin.post("/api/v1/plugins", json=body) for _ in range(5)))
    assert sorted(answer.status_code for answer in answers) == [201, 409, 409, 409, 409]
    refusal = next(answer for answer in answers if answer.status_code == 409)
    assert refusal.json() == {"detail": "Plugin instance already exists."}
    other = await instance(admin, "Other", plugin_id="x")
    answer = await admin.put(f"/api/v1/plugins/{other['public_id']}", json={"instance_name": "Rig"})
    assert (answer.status_code, answer.json()) == (409, {"detail": "Plugin instance already exists."})


async def test_an_update_changes_what_it_names_and_refuses_null(admin: httpx.AsyncClient) -> None:
    made = await instance(admin, plugin_id="x")
    path = f"/api/v1/plugins/{made['public_id']}"
    answer = await admin.put(path, json={"enabled": False, "demo_mode": True})
    assert answer.json() == {"status": "success", "message": "Plugin instance successfully updated."}
    changed = (await admin.get(path)).json()
    assert (changed["enabled"], changed["demo_mode"], changed["instance_name"]) == (False, True, "Rig")
    assert changed["updated_on"] > changed["created_on"]
    for name in ("instance_name", "enabled", "demo_mode"):
        assert (await admin.put(path, json={name: None})).status_code == 422, name


async def test_a_stranger_and_a_missing_instance_look_the_same(busbar: Running, admin: httpx.AsyncClient, eve: Person) -> None:
    made = await instance(admin, plugin_id="x")
    stranger = await sign_in(busbar, eve.email)
    for client, public_id in ((stranger, made["public_id"]), (admin, "nope")):
        path = f"/api/v1/plugins/{public_id}"
        answer = await client.get(path)
        assert (answer.status_code, answer.json()) == (404, {"detail": "Plugin instance not found."})
        told = {"detail": f"Plugin instance '{public_id}' not found."}
        for other in (await client.put(path, json={}), await client.delete(path), await client.get(f"{path}/channels")):
            assert (other.status_code, other.json()) == (404, told)
    assert (await stranger.get("/api/v1/plugins")).json()["total"] == 0


async def test_channels_are_added_linked_unlinked_and_removed(admin: httpx.AsyncClient) -> None:
    path = f"/api/v1/plugins/{(await instance(admin, plugin_id='x'))['public_id']}/channels"
    event = await make_event(admin, "Temperature")
    body = {"channel_id": "t", "channel_name": "T", "direction": "input", "unit": "K", "event_public_id": event}
    answer = await admin.post(path, json=body)
    assert (answer.status_code, answer.json()["message"]) == (201, "Channel mapping created.")
    channel = (await admin.get(path)).json()[0]
    assert {name: channel[name] for name in body} == body
    assert (await admin.post(path, json=body)).json() == {"detail": "Channel mapping already exists."}
    answer = await admin.post(path, json={**body, "channel_id": "u", "event_public_id": "nope"})
    assert (answer.status_code, answer.json()) == (404, {"detail": "Event not found."})
    mapping = f"{path}/{channel['public_id']}"
    assert (await admin.put(mapping, json={})).json()["message"] == "Channel mapping successfully updated."
    assert (await admin.get(path)).json()[0]["event_public_id"] == event
    assert (await admin.put(mapping, json={"event_public_id": "nope"})).status_code == 404
    assert (await admin.put(mapping, json={"event_public_id": None})).status_code == 200
    assert (await admin.get(path)).json()[0]["event_public_id"] is None
    assert (await admin.delete(mapping)).json()["message"] == "Channel mapping successfully deleted."
    assert (await admin.get(path)).json() == []
    gone = {"detail": f"Channel mapping '{channel['public_id']}' not found."}
    assert (await admin.delete(mapping)).json() == gone


async def test_datapoints_count_while_their_event_is_mapped_to_an_enabled_instance(admin: httpx.AsyncClient) -> None:
    made = await instance(admin, plugin_id="x")
    event = await make_event(admin, "Temperature")
    body = {"value": 1.5, "event_public_id": event}

    async def stored() -> tuple[int, str]:
        answer = await admin.post("/api/v1/datapoints", json=body)
        return answer.status_code, answer.json().get("detail")

    refused = (409, "Event is not linked to an enabled plugin instance.")
    assert await stored() == refused
    channel = {"channel_id": "t", "channel_name": "T", "direction": "input", "unit": "K", "event_public_id": event}
    await admin.post(f"/api/v1/plugins/{made['public_id']}/channels", json=channel)
    assert (await stored())[0] == 201
    await admin.put(f"/api/v1/plugins/{made['public_id']}", json={"enabled": False})
    assert await stored() == refused
    await admin.put(f"/api/v1/plugins/{made['public_id']}", json={"enabled": True})
    assert (await stored())[0] == 201


async def test_deleting_an_instance_takes_its_events_and_their_datapoints_along(admin: httpx.AsyncClient) -> None:
    made = await instance(admin)
    kept = await make_event(admin, "Kept")
    event = made["channel_mappings"][0]["event_public_id"]
    assert (await admin.post("/api/v1/datapoints", json={"value": 1, "event_public_id": event})).status_code == 201
    answer = await admin.delete(f"/api/v1/plugins/{made['public_id']}")
    assert answer.json()["message"] == "Plugin instance successfully deleted."
    assert [one["public_id"] for one in (await admin.get("/api/v1/events")).json()["data"]] == [kept]
    assert (await admin.get("/api/v1/datapoints/latest")).json() == []
    assert (await admin.get("/api/v1/plugins")).json()["total"] == 0
    assert len((await instance(admin))["channel_mappings"]) == 9


async def test_deleting_an_event_leaves_its_channel_without_one(admin: httpx.AsyncClient) -> None:
    made = await instance(admin)
    channel = made["channel_mappings"][0]
    await admin.delete(f"/api/v1/events/{channel['event_public_id']}")
    left = (await admin.get(f"/api/v1/plugins/{made['public_id']}/channels")).json()
    assert [one["event_public_id"] for one in left if one["public_id"] == channel["public_id"]] == [None]
    assert len(left) == 9


async def test_deleting_a_user_deletes_the_users_instances(busbar: Running, admin: httpx.AsyncClient) -> None:
    other = await person(busbar, admin, "Ada", "admin")
    made = await instance(other, "Hers")
    await instance(admin, "Mine")
    await admin.delete(f"/api/v1/users/{made['user_public_id']}")
    left = (await admin.get("/api/v1/plugins")).json()["data"]
    assert [one["instance_name"] for one in left] == ["Mine"]
    assert len(left[0]["channel_mappings"]) == 9


async def test_an_organisation_has_so_many_instances_and_no_more(start: Start) -> None:
    busbar = await start(quotas={"plugin_instances": 1}, lab={"plugin_poll_seconds": 0})
    admin = await sign_in(busbar, (await busbar.person("alice")).email)
    await instance(admin, plugin_id="x")
    answer = await admin.post("/api/v1/plugins", json={"plugin_id": "x", "instance_name": "Two"})
    assert (answer.status_code, answer.json()) == (409, {"detail": "There are 1 plugin instances, the most is 1."})


async def test_instances_are_made_and_read_over_grpc_as_over_rest(
    busbar: Running, alice: Person, admin: httpx.AsyncClient
) -> None:
    client = busbar.client("grpc", alice.session)
    await client.call("PluginService.CreatePlugin", plugin_id="simulated", instance_name="Rig", config_json='{"a": 1}')
    found = await client.call("PluginService.ListPlugins")
    assert (found.total, len(found.data[0].channel_mappings), found.data[0].config_json) == (1, 9, '{"a": 1}')
    assert (await admin.get("/api/v1/plugins")).json()["data"][0]["public_id"] == found.data[0].public_id
    with pytest.raises(Refused, match="CONFLICT"):
        await client.call("PluginService.CreatePlugin", plugin_id="simulated", instance_name="Rig")
