"""Runs through the doors: streamed over REST and gRPC, and as tools of agents."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from dataclasses import dataclass

import pytest

from core.kernel.call import Principal
from core.plans.store import PlanStore
from gen.busbar.api.v1.options_pb import CredentialKind
from tests.conftest import Person, Running, Start
from tests.doors import Refused
from tests.plans.desk import Desk
from tests.provider import KEY, MODEL, Provider
from tests.provider import serving as providing

MARK = "@@PX@@"


@dataclass
class Place:
    """A server whose plans are served by a model of the tests, with a plan of Alice's."""

    running: Running
    provider: Provider
    alice: Person

    @property
    def names(self) -> dict[str, str]:
        return {"plan_id": "plan-1", "branch": "main"}


@pytest.fixture
async def place(start: Start) -> AsyncGenerator[Place]:
    async with providing() as provider:
        provider.pieces = ["It is ", "a file.\n"]
        running = await start(ai_base_url=provider.url, ai_key=KEY, ai_model=MODEL, plans={"pace_ms": 0})
        alice = await running.person("alice")
        caller = Principal("credential", CredentialKind.SESSION, alice.org_id, alice.id)
        await Desk(running.app.database, running.app.settings.data / "plans", alice=caller).plan()
        async with running.app.found.part(PlanStore).change(caller, "plan-1", "main") as change:
            change.state.settings.model_pack_name = "server"
            change.message = "Updated model settings"
        yield Place(running, provider, alice)


async def ended(place: Place) -> None:
    """Wait for the end of the newest run."""
    client = place.running.client("grpc", place.alice.session)
    async with asyncio.timeout(20):
        async for _ in client.stream("plans.RunService.ConnectRun", **place.names, position=0):
            pass


async def test_rest_streams_messages_with_the_mark_of_the_contract(place: Place) -> None:
    http = place.running.http(place.alice.session)
    body = {"prompt": "what is it?", "buildMode": "none", "connectStream": True, "isChatOnly": True, "apiKeys": None}
    headers = {"Authorization": f"Bearer {place.alice.session}"}
    answer = await http.post("/plans/plan-1/main/tell", json=body, headers=headers)
    assert (answer.status_code, answer.headers["content-type"]) == (200, "text/plain; charset=utf-8")
    assert answer.text.endswith(MARK)
    words = [word for word in answer.text.split(MARK) if word and word != "heartbeat"]
    messages = [json.loads(word) for word in words]
    assert messages[0] == {"type": "start"}
    assert messages[-1] == {"type": "finished"}
    parts = [part for message in messages for part in message.get("streamMessages", [message])]
    assert "".join(part.get("replyChunk", "") for part in parts) == "It is a file.\n"


async def test_rest_answers_at_once_where_no_stream_is_wanted(place: Place) -> None:
    http = place.running.http(place.alice.session)
    headers = {"Authorization": f"Bearer {place.alice.session}"}
    body = {"prompt": "what is it?", "buildMode": "none", "connectStream": False, "isChatOnly": True}
    answer = await http.post("/plans/plan-1/main/tell", json=body, headers=headers)
    assert (answer.status_code, answer.content) == (200, b"")
    await ended(place)
    run = (await http.get("/plans/plan-1/main/runs/latest", headers=headers)).json()
    assert (run["status"], run["text"]) == ("finished", "It is a file.\n")


async def test_refusals_are_texts_that_the_command_line_handles(place: Place) -> None:
    http = place.running.http(place.alice.session)
    headers = {"Authorization": f"Bearer {place.alice.session}"}
    for body in ({}, {"connectStream": True}):
        answer = await http.patch("/plans/plan-1/main/build", json=body, headers=headers)
        assert (answer.status_code, answer.text.strip()) == (404, "No builds")
        assert answer.headers["content-type"].startswith("text/plain")
    assert (await http.delete("/plans/plan-1/main/stop", headers=headers)).status_code == 404
    assert (await http.patch("/plans/plan-1/main/connect", headers=headers)).status_code == 404
    assert (await http.get("/plans/plan-1/main/build_status", headers=headers)).status_code == 404
    place.provider.hangs = True
    tell = {"prompt": "wait", "isChatOnly": True}
    assert (await http.post("/plans/plan-1/main/tell", json=tell, headers=headers)).status_code == 200
    for body in (tell, {**tell, "connectStream": True}):
        second = await http.post("/plans/plan-1/main/tell", json=body, headers=headers)
        assert second.status_code == 409
        assert second.text.startswith("Error telling plan: ")
    listed = (await http.get("/plans/ps?projectId=project-of-plan-1", headers=headers)).json()
    assert [branch["name"] for branch in listed["branches"]] == ["main"]
    stopped = await http.delete("/plans/plan-1/main/stop", headers=headers)
    assert (stopped.status_code, stopped.content) == (200, b"")


@pytest.mark.parametrize("door", ["grpc", "rest", "mcp"])
async def test_an_agent_starts_a_run_and_reads_how_it_stands(place: Place, door: str) -> None:
    client = place.running.client("grpc" if door == "rest" else door, await _credential(place, door))
    started = await client.call("plans.RunService.Tell", **place.names, prompt="what is it?", is_chat_only=True)
    assert started.id
    await ended(place)
    reader = place.running.client(door, await _credential(place, door))
    run = await reader.call("plans.RunService.GetRun", **place.names, run_id=started.id, position=0)
    assert (run.status, run.text) == ("finished", "It is a file.\n")
    assert [one.role for one in run.usage][:1] == ["planner"]
    rest = await reader.call("plans.RunService.GetRun", **place.names, run_id=started.id, position=run.position)
    assert rest.text == ""


@pytest.mark.parametrize("door", ["grpc", "mcp"])
async def test_an_agent_stops_a_run(place: Place, door: str) -> None:
    place.provider.hangs = True
    client = place.running.client(door, await _credential(place, door))
    started = await client.call("plans.RunService.Tell", **place.names, prompt="wait", is_chat_only=True)
    for question in ("RespondMissingFile", "AutoLoadContext"):
        more = {"choice": "skip", "file_path": "a.txt"} if question == "RespondMissingFile" else {}
        with pytest.raises(Refused, match="No active plan asks for this"):
            await client.call(f"plans.RunService.{question}", **place.names, **more)
    await client.call("plans.RunService.StopRun", **place.names)
    assert (await client.call("plans.RunService.GetRun", **place.names, run_id=started.id)).status == "stopped"
    with pytest.raises(Refused, match="No builds"):
        await client.call("plans.RunService.Build", **place.names)


async def _credential(place: Place, door: str) -> str:
    if door != "mcp":
        return place.alice.session
    return await place.running.key(place.alice, CredentialKind.AGENT_KEY)


async def test_keys_of_providers_are_in_no_log_and_no_row(
    place: Place, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    place.provider.status = 500
    client = place.running.client("grpc", place.alice.session)
    secret = {"OPENAI_API_KEY": "sk-never-to-be-seen"}
    await client.call("plans.RunService.Tell", **place.names, prompt="x", is_chat_only=True, auth_vars=secret)
    await client.call("plans.RunService.StopRun", **place.names)
    seen = capsys.readouterr()
    assert "never-to-be-seen" not in seen.out + seen.err + caplog.text
    for file in place.running.app.settings.data.rglob("*"):
        assert not file.is_file() or b"never-to-be-seen" not in file.read_bytes()


async def test_a_run_of_another_organisation_does_not_exist(place: Place) -> None:
    eve = place.running.client("grpc", (await place.running.person("eve")).session)
    with pytest.raises(Refused, match="plan not found"):
        await eve.call("plans.RunService.Tell", **place.names, prompt="x")
    with pytest.raises(Refused, match="plan not found"):
        await eve.call("plans.RunService.GetRun", **place.names, run_id="latest")
