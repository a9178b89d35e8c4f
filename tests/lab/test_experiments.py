"""Experiments as the lab's clients run them."""

from __future__ import annotations

import asyncio
import csv
import io
from collections.abc import Mapping
from typing import Any

import httpx
import pytest
from sqlmodel.ext.asyncio.session import AsyncSession

from core.kernel.call import Call, Principal
from core.lab.erasing import Erasing
from core.lab.event_directory import EventDirectory
from core.lab.experiment_directory import ExperimentDirectory, KnownExperiment
from core.lab.experiments import GONE, ExperimentService
from core.lab.hooks import Webhooks
from core.lab.log_book import LogBook
from core.signals.tables import RecordingRow
from gen.busbar.api.v1.options_pb import CredentialKind
from gen.busbar.lab.v1.experiments_pb import CreateExperimentRequest, ListExperimentsRequest, StopExperimentRequest
from tests.conftest import Person, Running, Start
from tests.lab.conftest import MakeEvent, make_event, person, sign_in

HEADER = ["timestamp", "event_name", "event_public_id", "value", "unit", "datapoint_public_id"]


async def begin(client: httpx.AsyncClient, name: str) -> str:
    """Start an experiment and return its id."""
    answer = await client.post("/api/v1/experiments", json={"name": name})
    assert (answer.status_code, answer.json()["message"]) == (201, "Experiment successfully created.")
    return next(row["public_id"] for row in (await client.get("/api/v1/experiments")).json()["data"] if row["name"] == name)


async def export(client: httpx.AsyncClient, public_id: str) -> list[list[str]]:
    """Return the rows of an export."""
    answer = await client.get(f"/api/v1/experiments/{public_id}/export/csv")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "text/csv; charset=utf-8")
    rows = list(csv.reader(io.StringIO(answer.text, newline="")))
    assert rows[0] == HEADER
    assert answer.text.count("\r\n") == len(rows)
    return rows[1:]


async def test_an_experiment_runs_from_its_creation_to_its_stop_and_the_log_tells(
    admin: httpx.AsyncClient, alice: Person
) -> None:
    public_id = await begin(admin, "Heat up")
    running = (await admin.get(f"/api/v1/experiments/{public_id}")).json()
    assert running.pop("started_on").endswith("Z")
    assert running == {"public_id": public_id, "name": "Heat up", "stopped_on": None, "user_public_id": alice.id}
    for _ in range(2):
        answer = await admin.put(f"/api/v1/experiments/{public_id}/stop")
        assert (answer.status_code, answer.json()["message"]) == (200, "Experiment successfully stopped.")
        stopped = (await admin.get(f"/api/v1/experiments/{public_id}")).json()["stopped_on"]
        assert stopped is not None
    entries = [entry["content"] for entry in (await admin.get("/api/v1/logging")).json()["data"]]
    assert entries[:2] == ["Experiment 'Heat up' stopped.", "Experiment 'Heat up' started."]
    assert entries.count("Experiment 'Heat up' stopped.") == 1


async def test_a_second_stop_leaves_the_time_of_the_first(busbar: Running, admin: httpx.AsyncClient) -> None:
    public_id = await begin(admin, "Heat up")
    await asyncio.gather(*(admin.put(f"/api/v1/experiments/{public_id}/stop") for _ in range(5)))
    first = (await admin.get(f"/api/v1/experiments/{public_id}")).json()["stopped_on"]
    busbar.clock.forward(seconds=5)
    await admin.put(f"/api/v1/experiments/{public_id}/stop")
    assert (await admin.get(f"/api/v1/experiments/{public_id}")).json()["stopped_on"] == first


async def test_several_run_at_once_and_datapoints_belong_to_the_one_started_last(
    busbar: Running, admin: httpx.AsyncClient, event: MakeEvent
) -> None:
    temperature = await event()
    point = {"value": 1, "event_public_id": temperature}

    async def belongs_to() -> Any:
        await admin.post("/api/v1/datapoints", json=point)
        return (await admin.get("/api/v1/datapoints")).json()["data"][0]["experiment_public_id"]

    assert await belongs_to() is None
    first, second = await begin(admin, "first"), await begin(admin, "second")
    assert await belongs_to() == second
    await admin.put(f"/api/v1/experiments/{second}/stop")
    assert await belongs_to() == first
    await admin.put(f"/api/v1/experiments/{first}/stop")
    assert await belongs_to() is None
    assert (len(await export(admin, first)), len(await export(admin, second))) == (1, 1)


async def test_names_are_unique_and_refused_by_name(busbar: Running, admin: httpx.AsyncClient, eve: Person) -> None:
    await begin(admin, "one")
    two = await begin(admin, "two")
    answers = await asyncio.gather(
        admin.post("/api/v1/experiments", json={"name": "one"}), admin.put(f"/api/v1/experiments/{two}", json={"name": "one"})
    )
    for refused in answers:
        assert (refused.status_code, refused.json()) == (409, {"detail": "Experiment already exists."})
    for body in ({}, {"name": ""}, {"name": "n" * 256}):
        refused = await admin.post("/api/v1/experiments", json=body)
        assert (refused.status_code, refused.json()["detail"][0]["loc"]) == (422, ["body", "name"])
    assert (await admin.put(f"/api/v1/experiments/{two}", json={"name": None})).status_code == 422
    renamed = await admin.put(f"/api/v1/experiments/{two}", json={"name": "three"})
    assert (renamed.status_code, renamed.json()["message"]) == (200, "Experiment successfully updated.")
    assert await begin(await sign_in(busbar, eve.email), "one")


async def test_the_file_holds_every_datapoint_in_the_order_of_time(admin: httpx.AsyncClient, event: MakeEvent) -> None:
    first, second = await event('Wall, "north"\nside', unit="m³/h"), await event("=HYPERLINK(1)", unit="-5")
    public_id = await begin(admin, "run")
    assert await export(admin, public_id) == []
    for value in (1, 0.1, 1e22):
        batch = [{"value": value, "event_public_id": first}, {"value": -value, "event_public_id": second}]
        assert (await admin.post("/api/v1/datapoints/batch", json={"datapoints": batch})).status_code == 201
    await admin.put(f"/api/v1/experiments/{public_id}/stop")
    await admin.post("/api/v1/datapoints", json={"value": 99, "event_public_id": first})
    rows = await export(admin, public_id)
    assert [row[3] for row in rows] == ["1.0", "-1.0", "0.1", "-0.1", "1e+22", "-1e+22"]
    assert {(row[1], row[2], row[4]) for row in rows} == {
        ('Wall, "north"\nside', first, "m³/h"),
        ("'=HYPERLINK(1)", second, "'-5"),
    }
    assert [row[0] for row in rows] == sorted(row[0] for row in rows)
    assert all(row[0].endswith("+00:00") for row in rows)
    found = (await admin.get(f"/api/v1/datapoints/{rows[2][5]}")).json()
    assert (found["value"], found["timestamp"].replace("Z", "+00:00")) == (0.1, rows[2][0])


async def test_the_file_is_named_after_the_experiment_for_old_and_new_clients(admin: httpx.AsyncClient) -> None:
    public_id = await begin(admin, 'Läufe a/b "1"')
    answer = await admin.get(f"/api/v1/experiments/{public_id}/export/csv")
    short = public_id[:8]
    assert answer.headers["content-disposition"] == (
        f'attachment; filename="experiment_L_ufe_a-b__1__{short}.csv"; '
        f"filename*=UTF-8''experiment_L%C3%A4ufe_a-b_%221%22_{short}.csv"
    )


async def test_a_long_export_is_sent_in_parts_that_join_without_a_seam(
    busbar: Running, admin: httpx.AsyncClient, event: MakeEvent, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("core.lab.experiment_csv.PAGE", 100)
    events = [await event(name) for name in "abc"]
    public_id = await begin(admin, "run")
    for start in range(0, 1500, 500):
        batch = [{"value": start + step, "event_public_id": events[step % 3]} for step in range(500)]
        await admin.post("/api/v1/datapoints/batch", json={"datapoints": batch})
    async with admin.stream("GET", f"/api/v1/experiments/{public_id}/export/csv") as answer:
        text = b"".join([part async for part in answer.aiter_bytes()]).decode()
    values = [float(row[3]) for row in list(csv.reader(io.StringIO(text)))[1:]]
    assert sorted(values) == [float(value) for value in range(1500)]


async def test_a_deleted_experiment_takes_its_datapoints_along_and_no_others(
    busbar: Running, admin: httpx.AsyncClient, event: MakeEvent
) -> None:
    temperature = await event()
    point = {"value": 1, "event_public_id": temperature}
    await admin.post("/api/v1/datapoints", json={**point, "value": 7})
    public_id = await begin(admin, "run")
    await admin.post("/api/v1/datapoints/batch", json={"datapoints": [point] * 20})
    answer = await admin.delete(f"/api/v1/experiments/{public_id}")
    assert (answer.status_code, answer.json()["message"]) == (200, "Experiment successfully deleted.")
    page = (await admin.get("/api/v1/datapoints")).json()
    assert (page["total"], page["data"][0]["value"]) == (1, 7.0)
    assert [found["value"] for found in (await admin.get("/api/v1/datapoints/latest")).json()] == [7.0]
    for gone in (
        await admin.get(f"/api/v1/experiments/{public_id}"),
        await admin.delete(f"/api/v1/experiments/{public_id}"),
        await admin.put(f"/api/v1/experiments/{public_id}/stop"),
        await admin.get(f"/api/v1/experiments/{public_id}/export/csv"),
    ):
        assert (gone.status_code, gone.json()) == (404, {"detail": f"Experiment '{public_id}' not found."})
    await begin(admin, "run")


async def test_an_experiment_whose_deletion_was_cut_off_goes_at_the_next_start(start: Start) -> None:
    busbar = await start()
    alice = await busbar.person("alice")
    row = await busbar.app.signals.recordings.create(alice.org_id, kind=GONE, name="run")
    again = await start()
    await again.app.found.part(Erasing).settled()
    assert await again.app.signals.recordings.find(alice.org_id, row.public_id) is None


async def test_experiments_are_remembered_over_a_restart(start: Start) -> None:
    busbar = await start()
    alice = await busbar.person("alice")
    public_id = await begin(await sign_in(busbar, alice.email), "run")
    again = await start()
    running = again.app.found.part(ExperimentDirectory).running(alice.org_id)
    assert running is not None
    assert running.public_id == public_id


async def test_viewers_export_and_operators_run(busbar: Running, admin: httpx.AsyncClient, eve: Person) -> None:
    viewer, operator = await person(busbar, admin, "vera", "viewer"), await person(busbar, admin, "otto", "operator")
    public_id = await begin(operator, "run")
    assert await export(viewer, public_id) == []
    for refused in (
        await viewer.post("/api/v1/experiments", json={}),
        await viewer.put(f"/api/v1/experiments/{public_id}/stop"),
        await viewer.delete(f"/api/v1/experiments/{public_id}"),
    ):
        assert (refused.status_code, refused.json()) == (403, {"detail": "Operator privileges required."})
    stranger = await sign_in(busbar, eve.email)
    for hidden in (
        await stranger.get(f"/api/v1/experiments/{public_id}"),
        await stranger.get(f"/api/v1/experiments/{public_id}/export/csv"),
        await stranger.delete(f"/api/v1/experiments/{public_id}"),
    ):
        assert hidden.status_code == 404


@pytest.mark.parametrize("door", ["grpc", "rest", "mcp"])
async def test_an_experiment_is_started_and_stopped_at_every_door(busbar: Running, alice: Person, door: str) -> None:
    credential = await busbar.key(alice, CredentialKind.AGENT_KEY, "lab:read", "lab:write") if door == "mcp" else alice.session
    client = busbar.client(door, credential)
    await client.call("ExperimentService.CreateExperiment", name="run")
    (experiment,) = (await client.call("ExperimentService.ListExperiments")).data
    assert not experiment.has_field("stopped_on")
    await client.call("ExperimentService.StopExperiment", public_id=experiment.public_id)
    (experiment,) = (await client.call("ExperimentService.ListExperiments")).data
    assert experiment.has_field("stopped_on")


async def test_an_export_streams_over_grpc(busbar: Running, admin: httpx.AsyncClient, alice: Person, event: MakeEvent) -> None:
    temperature, public_id = await event(), await begin(admin, "run")
    await admin.post("/api/v1/datapoints", json={"value": 1, "event_public_id": temperature})
    client = busbar.client("grpc", alice.session)
    parts = [part.data async for part in client.stream("ExperimentService.ExportExperiment", public_id=public_id)]
    assert b"".join(parts).count(b"\r\n") == 2


def test_the_times_that_are_an_experiments_own_leave_out_those_of_later_ones(busbar: Running) -> None:
    directory = ExperimentDirectory(busbar.app.database)

    def ran(identity: int, start: int, end: int | None) -> KnownExperiment:
        return directory.put(
            RecordingRow(
                id=identity, public_id=str(identity), org_id="o", external_id=str(identity), name="", kind="experiment",
                status="", started_us=start, ended_us=end,
            )
        )  # fmt: skip

    long, inner, late = ran(1, 0, 100), ran(2, 20, 30), ran(3, 90, None)
    assert directory.own_times(long) == [(0, 20), (30, 90)]
    assert directory.own_times(inner) == [(20, 30)]
    times = {0: 1, 19: 1, 20: 2, 29: 2, 30: 1, 89: 1, 90: 3, 500: 3}
    assert {at: found.id for at in times if (found := directory.at("o", at)) is not None} == times
    assert (directory.at("o", -1), directory.running("o")) == (None, late)


async def test_an_event_of_another_organisation_is_in_no_export(
    busbar: Running, admin: httpx.AsyncClient, eve: Person, mapped: set[str]
) -> None:
    stranger = await sign_in(busbar, eve.email)
    mapped.add(theirs := await make_event(stranger, "theirs"))
    public_id = await begin(admin, "run")
    await stranger.post("/api/v1/datapoints", json={"value": 1, "event_public_id": theirs})
    assert await export(admin, public_id) == []


async def test_webhooks_hear_of_the_start_and_of_the_first_stop(busbar: Running, alice: Person) -> None:
    told: list[tuple[str, str, object]] = []

    class Hooks(Webhooks):
        async def dispatch(
            self, session: AsyncSession, org_id: str, event_type: str, payload: Mapping[str, object], at_us: int | None = None
        ) -> None:
            # In the transaction that makes it happen, and at its time.
            assert (session.in_transaction(), at_us) == (True, None)
            told.append((org_id, event_type, payload))

    app, found = busbar.app, busbar.app.found
    parts = found.part(EventDirectory), found.part(ExperimentDirectory), LogBook(busbar.clock)
    erasing = found.part(Erasing)
    hooks = Hooks(app.database, app.outbox, busbar.clock)
    service = ExperimentService(app.database, app.signals, *parts, erasing=erasing, clock=busbar.clock, hooks=hooks)
    call = Call(principal=Principal("c", CredentialKind.SESSION, alice.org_id, user_id=alice.id))
    await service.create_experiment(CreateExperimentRequest(name="run"), call)
    (experiment,) = (await service.list_experiments(ListExperimentsRequest(), call)).data
    for _ in range(2):
        await service.stop_experiment(StopExperimentRequest(public_id=experiment.public_id), call)
    assert told == [(alice.org_id, f"experiment.{what}", {"experiment": "run"}) for what in ("started", "stopped")]
