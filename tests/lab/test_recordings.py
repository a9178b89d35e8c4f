"""Experiments of the lab, read as the recordings that they are: the same points as in the lab."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from gen.busbar.api.v1.options_pb import CredentialKind
from tests.conftest import Person, Running
from tests.lab.conftest import make_event, sign_in
from tests.lab.test_datapoints import send
from tests.lab.test_experiments import begin, export
from tests.lab.test_linking import link
from tests.lab.test_rule_trials import ask, trial


class Rig:
    """A source whose metric is an event of the lab."""

    def __init__(self, busbar: Running, client: httpx.AsyncClient) -> None:
        self._busbar = busbar
        self.client = client

    async def send(self, value: float, metric: str = "temp", session: str | None = None) -> None:
        """Measure now."""
        point = {"metric": metric, "value": value, "timestamp": self._busbar.clock.now_us() / 1000, "session_id": session}
        answer = await self.client.post("/ingest", json={"source_id": "rig", "points": [point]})
        assert answer.status_code == 200

    async def exported(self, recording: str, **question: str) -> list[Any]:
        """Return the values of a recording as telemetry exports it."""
        asked = {"recording": recording, "format": "ndjson", **question}
        answer = await self.client.get("/api/v1/telemetry/export", params=asked)
        return [json.loads(line)["value"] for line in answer.text.splitlines()]


@pytest.fixture
async def rig(busbar: Running, alice: Person) -> Rig:
    key = await busbar.key(alice, CredentialKind.TELEMETRY_KEY, "write", "read")
    rig = Rig(busbar, busbar.http(**{"x-api-key": key}))
    await rig.send(1)
    return rig


async def replayed(busbar: Running, person: Person, recording: str) -> list[Any]:
    """Return the values of a recording as telemetry plays it."""
    client = busbar.client("grpc", await busbar.key(person, CredentialKind.TELEMETRY_KEY, "read"))
    messages = client.stream("ReplayService.ReplayRecording", recording_id=recording, speed="max")
    return [point.value.to_python() async for message in messages for point in message.points]


@pytest.mark.parametrize("assigned", [False, True])
async def test_an_experiment_has_the_same_points_in_telemetry_as_in_the_lab(
    busbar: Running, admin: httpx.AsyncClient, alice: Person, rig: Rig, mapped: set[str], assigned: bool
) -> None:
    event = await link(admin, "rig", "temp")
    mapped.add(own := await make_event(admin, "own"))
    long = await begin(admin, "long")
    await rig.send(2)
    await rig.send(99, "not linked")
    inner = await begin(admin, "inner")
    await rig.send(3, session="a session of its own")
    if assigned:
        await send(admin, (own, 4))
    await admin.put(f"/api/v1/experiments/{inner}/stop")
    await rig.send(5)
    await admin.put(f"/api/v1/experiments/{long}/stop")
    await rig.send(6)
    wanted = {long: [2, 5], inner: [3, 4] if assigned else [3]}
    for experiment, values in wanted.items():
        assert [float(row[3]) for row in await export(admin, experiment)] == values
        assert await rig.exported(experiment) == values
        assert await replayed(busbar, alice, experiment) == values
        tried = {"rule": trial(event["public_id"], threshold=0), "experiment_public_id": experiment}
        fired = [firing["value"] for firing in (await ask(admin, **tried))["firings"]]
        assert fired == [value for value in values if value != 4]
    assert await rig.exported(inner, metric="temp") == [3]


async def test_an_experiment_of_others_is_not_found(busbar: Running, rig: Rig, eve: Person) -> None:
    foreign = await begin(await sign_in(busbar, eve.email), "theirs")
    answer = await rig.client.get("/api/v1/telemetry/export", params={"recording": foreign})
    assert answer.status_code == 404
