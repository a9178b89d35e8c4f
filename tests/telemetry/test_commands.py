"""Commands: where they go, how they look there, who may send them, and what is recorded."""

from __future__ import annotations

from typing import Any

import pytest

from gen.busbar.api.v1.options_pb import CredentialKind
from tests.conftest import Person, Running, Start
from tests.doors import Refused
from tests.telemetry.sockets import dashboard, device, hear, say

SEND = "telemetry.StreamService.SendCommand"


@pytest.fixture
async def key(busbar: Running, alice: Person) -> str:
    """A key that may do everything."""
    return await busbar.key(alice, CredentialKind.TELEMETRY_KEY)


async def recorded(busbar: Running, person: Person, **query: Any) -> list[tuple[str, str, str]]:
    """Return source, command and outcome of recorded commands, newest first."""
    answer = (await busbar.http(person.session).get("/api/commands", params=query)).json()
    return [(row["source_id"], row["command"], row["outcome"]) for row in answer["commands"]]


async def test_an_older_device_gets_commands_as_they_are(busbar: Running, alice: Person, key: str) -> None:
    async with device(busbar, key, platform="Linux") as rig, dashboard(busbar, alice.session) as socket:
        config = {"sensor": "imu", "config": {"sample_rate": 10}, "unknown": [1, {"a": None}]}
        await say(socket, "configure", source_id="rig", org_id="mine", **config)
        assert await hear(rig) == {"type": "configure", "source_id": "rig", **config}
        for given in ({"id": "a"}, {"stream_id": "a"}):
            await say(socket, "stop_stream", source_id="rig", **given)
            assert await hear(rig) == {"type": "stop_stream", "source_id": "rig", "id": "a", "stream_id": "a"}
        await say(socket, "start_stream", source_id="rig", metrics=[], interval_ms=100)
        started = await hear(rig)
        assert (started["metrics"], started["interval_ms"]) == ([], 100)
        assert started["id"]
        state = await hear(socket, "source_stream_state")
        assert state == {"type": "source_stream_state", "source_id": "rig", "is_streaming": True, "interval_ms": 100}


@pytest.mark.parametrize("auth", [{"platform": "python-sdk"}, {"platform": "c-sdk"}, {"protocol": 1}])
async def test_a_newer_device_gets_typed_commands(busbar: Running, alice: Person, key: str, auth: dict[str, Any]) -> None:
    async with device(busbar, key, **auth) as rig, dashboard(busbar, alice.session) as socket:
        await say(socket, "start_camera", source_id="rig", camera_id="front", id="7", org_id="mine")
        wrapped = {"id": "7", "command": "start_camera", "params": {"source_id": "rig", "camera_id": "front"}}
        assert await hear(rig) == {"type": "typed_command", **wrapped}
        await say(socket, "ping", source_id="rig")
        assert (await hear(rig))["id"]
        for kind, members in (
            ("typed_command", {"id": "8", "command": "arm", "params": {"n": 1}}),
            ("command_run", {"run_id": "r", "command": "arm", "params": {}, "ttl_ms": 5, "attempt": 1}),
        ):
            await say(socket, kind, source_id="rig", **members)
            assert await hear(rig) == {"type": kind, "source_id": "rig", **members}


async def test_another_source_does_not_get_through(busbar: Running, alice: Person, key: str) -> None:
    async with device(busbar, key, platform="c-sdk") as rig, dashboard(busbar, alice.session) as socket:
        params = {"source_id": "other", "org_id": "other", "n": 1}
        await say(socket, "typed_command", source_id="rig", id="1", command="arm", params=params)
        assert (await hear(rig))["params"] == {"source_id": "rig", "n": 1}


async def test_a_command_without_a_device_is_refused_and_recorded(busbar: Running, alice: Person) -> None:
    async with dashboard(busbar, alice.session) as socket:
        await say(socket, "configure", source_id="rig")
        assert (await hear(socket))["message"] == "device not connected"
        await say(socket, "configure")
        assert (await hear(socket))["message"] == "source_id required"
    assert await recorded(busbar, alice) == [("", "configure", "refused"), ("rig", "configure", "not_connected")]


async def test_a_device_answers_a_ping_to_the_dashboards(busbar: Running, alice: Person, key: str) -> None:
    async with device(busbar, key) as rig, dashboard(busbar, alice.session) as socket:
        await say(socket, "ping", source_id="rig")
        assert await hear(rig) == {"type": "ping", "source_id": "rig"}
        await say(rig, "pong")
        assert await hear(socket, "pong") == {"type": "pong", "source_id": "rig"}


async def test_the_shell_is_off_unless_the_server_allows_it(busbar: Running, alice: Person, key: str) -> None:
    async with device(busbar, key) as rig, dashboard(busbar, alice.session) as socket:
        for kind, name in (("execute", "execute"), ("cancel", "cancel"), ("typed_command", "execute")):
            await say(socket, kind, source_id="rig", command="execute")
            assert (await hear(socket))["message"] == f"{name} is turned off on this server"
        await say(rig, "output", id="1", event="data", data="x")
        assert (await hear(rig))["message"] == "output is turned off on this server"


async def test_a_shell_command_goes_to_the_only_device_and_its_output_comes_back(start: Start) -> None:
    busbar = await start(stream={"execute": True})
    alice = await busbar.person("alice")
    key = await busbar.key(alice, CredentialKind.TELEMETRY_KEY)
    async with device(busbar, key) as rig, dashboard(busbar, alice.session) as socket:
        await say(socket, "execute", id="1", command="uptime")
        assert await hear(rig) == {"type": "execute", "id": "1", "command": "uptime", "source_id": "rig"}
        for frame in ({"event": "start", "command": "uptime"}, {"event": "data", "data": "up"}, {"event": "exit", "code": 0}):
            await say(rig, "output", id="1", **frame)
            assert await hear(socket, "output") == {"type": "output", "id": "1", "source_id": "rig", **frame}
        async with device(busbar, key, "second"):
            await say(socket, "execute", id="2", command="uptime")
            assert (await hear(socket, "error"))["message"] == "source_id required"


async def test_who_may_only_read_sends_no_commands(busbar: Running, alice: Person, key: str) -> None:
    reader = await busbar.key(alice, CredentialKind.TELEMETRY_KEY, "read")
    async with device(busbar, key), dashboard(busbar, reader) as socket:
        await say(socket, "configure", source_id="rig")
        assert (await hear(socket))["message"] == "insufficient scope: commands required"
    assert await recorded(busbar, alice) == [("rig", "configure", "refused")]


async def test_an_older_device_streams_again_after_a_reconnect(busbar: Running, alice: Person, key: str) -> None:
    async with dashboard(busbar, alice.session) as socket:
        async with device(busbar, key) as rig:
            await say(socket, "start_stream", source_id="rig", id="s", metrics=["t"], interval_ms=50)
            await hear(rig, "start_stream")
        async with device(busbar, key) as rig:
            assert await hear(rig) == {"type": "stop_stream", "source_id": "rig", "id": "s", "stream_id": "s"}
            again = await hear(rig)
            assert (again["type"], again["id"], again["metrics"], again["interval_ms"]) == ("start_stream", "s", ["t"], 50)
            await say(socket, "stop_stream", source_id="rig", id="*")
            await hear(rig, "stop_stream")
            assert (await hear(socket, "source_stream_state", where=lambda f: not f["is_streaming"]))["source_id"] == "rig"
        async with device(busbar, key) as rig:
            await say(socket, "ping", source_id="rig")
            assert (await hear(rig))["type"] == "ping"


async def test_a_command_may_be_sent_by_a_call(busbar: Running, alice: Person, key: str) -> None:
    client = busbar.http(alice.session)
    assert (await client.post("/api/sources/rig/commands", json={"command": "arm"})).status_code == 404
    async with device(busbar, key, platform="python-sdk") as rig:
        body = {"command": "arm", "params": {"n": 1}, "id": "x"}
        answer = (await client.post("/api/sources/rig/commands", json=body)).json()
        assert answer == {"delivered": True, "id": "x", "outcome": "delivered"}
        expected = {"type": "typed_command", "id": "x", "source_id": "rig", "command": "arm", "params": {"n": 1}}
        assert await hear(rig) == expected
        await say(rig, "command_result", id="x", command="arm", event="result", result=1)
        await say(rig, "dance")
        await hear(rig, "error")
    answer = (await client.post("/api/sources/rig/commands", json={"command": "start_stream"})).json()
    assert (answer["delivered"], answer["outcome"]) == (False, "not_connected")
    assert await recorded(busbar, alice, source_id="rig") == [
        ("rig", "start_stream", "not_connected"),
        ("rig", "arm", "succeeded"),
    ]


@pytest.mark.parametrize("door", ["grpc", "rest", "mcp"])
async def test_a_key_with_the_scope_for_commands_sends_them_at_every_door_and_others_do_not(
    busbar: Running, alice: Person, key: str, door: str
) -> None:
    made = await busbar.http(alice.session).post("/api/keys", json={"name": "agent", "scopes": ["commands"]})
    writer = await busbar.key(alice, CredentialKind.TELEMETRY_KEY, "read", "write")
    async with device(busbar, key, platform="Linux") as rig:
        sent = await busbar.client(door, made.json()["key"]).call(SEND, source_id="rig", command="configure", id="c1")
        assert (sent.delivered, sent.id) == (True, "c1")
        assert await hear(rig) == {"type": "configure", "id": "c1", "source_id": "rig"}
        with pytest.raises(Refused) as refused:
            await busbar.client(door, writer).call(SEND, source_id="rig", command="configure")
        assert "commands" in refused.value.message
    assert await recorded(busbar, alice) == [("rig", "configure", "delivered")]


async def test_agents_are_warned_that_commands_change_the_world(busbar: Running, alice: Person) -> None:
    agent = busbar.client("mcp", await busbar.key(alice, CredentialKind.TELEMETRY_KEY))
    tools = {tool["name"]: tool["annotations"] for tool in (await agent.method("tools/list"))["tools"]}
    telemetry = {name: hints for name, hints in tools.items() if name.startswith("telemetry_")}
    assert set(telemetry) == {
        "telemetry_list_sources", "telemetry_list_metrics", "telemetry_latest", "telemetry_query_series",
        "telemetry_list_recordings", "telemetry_start_recording", "telemetry_stop_recording", "telemetry_send_command",
    }  # fmt: skip
    assert {name for name, hints in telemetry.items() if hints["destructiveHint"]} == {"telemetry_send_command"}
    assert {name for name, hints in telemetry.items() if not hints["readOnlyHint"]} == {
        "telemetry_start_recording", "telemetry_stop_recording", "telemetry_send_command",
    }  # fmt: skip


async def test_the_record_is_read_page_by_page_and_by_its_owners_only(busbar: Running, alice: Person, eve: Person) -> None:
    async with dashboard(busbar, alice.session) as socket:
        for index in range(3):
            await say(socket, "configure", source_id=f"rig{index}")
            await hear(socket, "error")
    client = busbar.http(alice.session)
    first = (await client.get("/api/commands", params={"limit": 2})).json()
    rest = (await client.get("/api/commands", params={"limit": 2, "cursor": first["next_cursor"]})).json()
    assert [row["source_id"] for row in first["commands"] + rest["commands"]] == ["rig2", "rig1", "rig0"]
    assert "next_cursor" not in rest
    assert await recorded(busbar, eve) == []
