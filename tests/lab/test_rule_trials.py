"""Trying rules out on stored points: it tells what would have happened, and nothing happens."""

from __future__ import annotations

import asyncio
import itertools
import sqlite3
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from core.kernel.clock import MICROSECONDS
from core.lab import rule_trial
from core.lab.conditions import Condition
from core.lab.rule_trial import MOST_FIRINGS, Trial
from core.signals.model import Column, Value
from core.signals.series import Selection
from core.signals.stretches import Stretch
from gen.busbar.api.v1.options_pb import CredentialKind
from tests.conftest import Person, Running
from tests.doors import camel
from tests.lab.conftest import linked, make_event, person, sign_in
from tests.lab.test_experiments import begin, export
from tests.lab.things import make, rule
from tests.signals.conftest import Bench, loop_bench

__all__ = ["loop_bench"]

START_US = 1_750_000_000 * MICROSECONDS


@pytest.fixture
async def event(busbar: Running, alice: Person) -> str:
    """An event with a hundred points, one each second, that rise from 0 to 99."""
    times = [START_US + second * MICROSECONDS for second in range(100)]
    await busbar.app.signals.write(alice.org_id, [Column("rig-1", "temp", times, [float(second) for second in range(100)])])
    return await linked(busbar, alice, "rig-1", "temp")


def trial(event: str, **more: object) -> dict[str, object]:
    """Return a rule to try."""
    return {"event_public_id": event, "operator": "gt", "threshold": 89.5, "cooldown_seconds": 0, **more}


async def ask(client: httpx.AsyncClient, **body: object) -> dict[str, Any]:
    """Try a rule."""
    answer = await client.post("/api/v1/rules/try", json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def test_a_rule_is_tried_on_a_range_of_time(admin: httpx.AsyncClient, event: str) -> None:
    told = await ask(admin, rule=trial(event), since="2025-06-15T15:06:40Z")
    assert (told["total"], told["examined"]) == (10, 100.0)
    assert [firing["value"] for firing in told["firings"]] == [float(value) for value in range(90, 100)]
    assert told["firings"][0]["timestamp"] == "2025-06-15T15:08:10Z"
    # The first time counts, the last does not.
    told = await ask(admin, rule=trial(event), since="2025-06-15T15:08:11Z", until="2025-06-15T15:08:13Z")
    assert ([firing["value"] for firing in told["firings"]], told["examined"]) == ([91.0, 92.0], 2.0)
    told = await ask(admin, rule=trial(event), since="2025-06-15T16:00:00Z", until="2025-06-15T15:00:00Z")
    assert (told["total"], told["examined"], told["firings"]) == (0, 0.0, [])


async def test_the_cooldown_runs_by_the_times_of_the_points(admin: httpx.AsyncClient, event: str) -> None:
    told = await ask(admin, rule=trial(event, cooldown_seconds=4), since="2025-06-15T15:06:40Z")
    assert [firing["value"] for firing in told["firings"]] == [90.0, 94.0, 98.0]
    without = trial(event)
    del without["cooldown_seconds"]
    assert (await ask(admin, rule=without, since="2025-06-15T15:06:40Z"))["total"] == 1


async def test_a_stored_rule_is_tried_and_stays_as_it_was(busbar: Running, admin: httpx.AsyncClient, event: str) -> None:
    made = await make(admin, "rules", rule(event, threshold=97, cooldown_seconds=0, action_type="log"))
    await make(admin, "webhooks", {"url": "http://127.0.0.1:9/", "events": ["sensor.threshold_exceeded"]})
    before = contents(busbar.app.settings.data / "busbar.db")
    told = await ask(admin, rule_public_id=made["public_id"], since="2025-06-15T15:06:40Z")
    assert [firing["value"] for firing in told["firings"]] == [98.0, 99.0]
    # Not a row of any table has changed.
    assert contents(busbar.app.settings.data / "busbar.db") == before
    assert "lab_rule" in before


def contents(path: Path) -> dict[str, list[Any]]:
    """Return all rows of all tables, but when credentials were last used."""
    with sqlite3.connect(path) as connection:
        tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        rows = {name: connection.execute(f"SELECT * FROM {name}").fetchall() for name in tables if name != "credential"}  # noqa: S608
    connection.close()
    return rows


async def test_a_rule_is_tried_on_an_experiment(
    busbar: Running, alice: Person, admin: httpx.AsyncClient, mapped: set[str], event: str
) -> None:
    own = await make_event(admin, "Own")
    mapped.add(own)

    async def store(*values: float) -> None:
        points = [{"event_public_id": own, "value": value} for value in values]
        assert (await admin.post("/api/v1/datapoints/batch", json={"datapoints": points})).status_code == 201
        await busbar.app.signals.write(alice.org_id, [Column("rig-1", "temp", [busbar.clock.now_us()], [values[-1]])])

    await store(90)
    await admin.post("/api/v1/experiments", json={"name": "Run 1"})
    run = (await admin.get("/api/v1/experiments")).json()["data"][0]["public_id"]
    # Of a batch the last value counts, here as at work.
    await store(93, 92, 1)
    await store(1, 91, 95, 91)
    assert (await admin.put(f"/api/v1/experiments/{run}/stop")).status_code == 200
    await store(92)
    told = await ask(admin, rule=trial(own), experiment_public_id=run)
    assert ([firing["value"] for firing in told["firings"]], told["examined"]) == ([91.0], 7.0)
    # Linked events have the points that came meanwhile.
    told = await ask(admin, rule=trial(event), experiment_public_id=run)
    assert ([firing["value"] for firing in told["firings"]], told["examined"]) == ([91.0], 2.0)
    session = await busbar.app.signals.recordings.create(alice.org_id, kind="session")
    answer = await admin.post("/api/v1/rules/try", json={"rule": trial(event), "experiment_public_id": session.public_id})
    assert (answer.status_code, answer.json()) == (404, {"detail": f"Experiment '{session.public_id}' not found."})


async def test_a_point_is_of_one_experiment_whether_it_is_tried_listed_or_exported(
    busbar: Running, alice: Person, admin: httpx.AsyncClient, event: str
) -> None:
    async def measured(value: float, *, late: float = 0, session: str | None = None) -> None:
        busbar.clock.forward(seconds=10)
        at_us = busbar.clock.now_us() - int(late * MICROSECONDS)
        await busbar.app.signals.write(alice.org_id, [Column("rig-1", "temp", [at_us], [value], recording=session)])

    async def stop(run: str) -> None:
        busbar.clock.forward(seconds=1)
        assert (await admin.put(f"/api/v1/experiments/{run}/stop")).status_code == 200

    await measured(100)
    long = await begin(admin, "long")
    await measured(101)
    # One that began later has the points of its time, those of the lab's own way in and of a session among them.
    inner = await begin(admin, "inner")
    await measured(102, session="s1")
    await admin.post("/api/v1/datapoints", json={"event_public_id": event, "value": 103})
    await stop(inner)
    await measured(104, session="s1")
    await measured(105, late=25)
    await stop(long)
    after = await begin(admin, "after")
    await measured(106)
    # What comes late belongs to the experiment that ran at its time.
    await measured(107, late=25)
    listed: dict[str | None, set[float]] = {}
    for point in (await admin.get("/api/v1/datapoints", params={"page_size": 100})).json()["data"]:
        listed.setdefault(point["experiment_public_id"], set()).add(point["value"])
    for run, values in ((long, {101.0, 104.0, 107.0}), (inner, {102.0, 103.0, 105.0}), (after, {106.0})):
        told = await ask(admin, rule=trial(event), experiment_public_id=run)
        assert {firing["value"] for firing in told["firings"]} == values
        assert {float(row[3]) for row in await export(admin, run)} == values
        assert listed[run] == values


async def test_what_is_tried_must_exist_and_be_whole(
    busbar: Running, admin: httpx.AsyncClient, eve: Person, event: str
) -> None:
    since = "2025-06-15T15:06:40Z"
    for body, detail in (
        ({"rule_public_id": "none", "since": since}, "Rule 'none' not found."),
        ({"rule": trial("none"), "since": since}, "Event not found."),
        ({"rule": trial(event), "experiment_public_id": "none"}, "Experiment 'none' not found."),
    ):
        answer = await admin.post("/api/v1/rules/try", json=body)
        assert (answer.status_code, answer.json()) == (404, {"detail": detail})
    for body in (
        {"since": since},
        {"rule": trial(event)},
        {"rule": trial(event), "rule_public_id": "x", "since": since},
        {"rule": trial(event), "experiment_public_id": "x", "since": since},
        {"rule": trial(event, operator="between"), "since": since},
        {"rule": trial(event, operator="near"), "since": since},
    ):
        assert (await admin.post("/api/v1/rules/try", json=body)).status_code == 422
    stranger = await sign_in(busbar, eve.email)
    answer = await stranger.post("/api/v1/rules/try", json={"rule": trial(event), "since": since})
    assert (answer.status_code, answer.json()) == (404, {"detail": "Event not found."})
    vera = await person(busbar, admin, "vera", "viewer")
    assert (await vera.post("/api/v1/rules/try", json={})).status_code == 403


@pytest.mark.parametrize("door", ["grpc", "rest", "mcp"])
async def test_every_door_tries_rules(busbar: Running, alice: Person, event: str, door: str) -> None:
    key = await busbar.key(alice, CredentialKind.AGENT_KEY, "lab:read")
    client = busbar.client(door, key if door == "mcp" else alice.session)
    body = trial(event)
    if door == "mcp":
        # Tools have JSON names all the way down.
        body = {camel(name): value for name, value in body.items()}
    told = await client.call("RuleService.TryRule", rule=body, since="2025-06-15T15:06:40Z")
    assert (told.total, told.examined, told.firings[0].value) == (10, 100, 90.0)


async def test_a_thousand_firings_are_shown_and_all_are_counted(
    busbar: Running, alice: Person, admin: httpx.AsyncClient, event: str
) -> None:
    count = 12_345
    times = [START_US + 3600 * MICROSECONDS + index for index in range(count)]
    await busbar.app.signals.write(alice.org_id, [Column("rig-1", "temp", times, [100.0] * count)])
    told = await ask(admin, rule=trial(event), since="2025-06-15T16:00:00Z")
    assert (len(told["firings"]), told["total"], told["examined"]) == (MOST_FIRINGS, count, float(count))


# Against a rule that looks at everything at once

VALUES = st.one_of(st.floats(-3, 3, width=16), st.integers(-3, 3), st.booleans(), st.just("text"))
POINTS = st.lists(st.tuples(st.integers(0, 12), VALUES), max_size=30)
CONDITIONS = st.builds(
    Condition,
    st.sampled_from(["gt", "lt", "eq", "gte", "lte", "between", "not_between"]),
    st.integers(-2, 2).map(float),
    st.one_of(st.none(), st.integers(-2, 3).map(float)),
)


def expected(points: list[tuple[int, Value]], condition: Condition, cooldown: int) -> list[tuple[int, float]]:
    """Return the firings over points in the order of time, the simple way."""
    fired: list[tuple[int, float]] = []
    for at_us, together in itertools.groupby(points, key=lambda point: point[0]):
        last = [value for _, value in together][-1]
        if not plain(condition, float(last)):  # pyright: ignore[reportArgumentType] - only numbers are left
            continue
        if not fired or at_us - fired[-1][0] >= cooldown:
            fired.append((at_us, float(last)))  # pyright: ignore[reportArgumentType] - numbers remain
    return fired


def plain(condition: Condition, value: float) -> bool:
    """Return what a condition says, spelled out."""
    low, high = condition.threshold, condition.high
    answers = {
        "gt": value > low, "lt": value < low, "gte": value >= low, "lte": value <= low, "eq": abs(value - low) <= 1e-9,
        "between": high is not None and value >= low and value <= high,
        "not_between": high is not None and (value < low or value > high),
    }  # fmt: skip
    return answers[condition.operator]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(points=POINTS, condition=CONDITIONS, cooldown=st.integers(0, 5), page=st.integers(1, 7))
def test_a_trial_finds_what_a_simple_reading_finds(
    loop_bench: tuple[asyncio.AbstractEventLoop, Bench],
    points: list[tuple[int, Value]],
    condition: Condition,
    cooldown: int,
    page: int,
) -> None:
    loop, bench = loop_bench
    slug = f"rig-{next(_numbers)}"

    async def run() -> tuple[Trial, list[tuple[int, Value]]]:
        every = [*points, (99, 9.9)]
        await bench.signals.write("org", [Column(slug, "m", [at_us for at_us, _ in every], [value for _, value in every])])
        channel = bench.channel(slug, "m").id
        stored = await bench.signals.page(Selection.between({channel: ("", "")}, 0, 50), None, 1000)
        sweep = bench.signals.numbers.sweep([Stretch(channel, 0, 50)], page)
        found = await rule_trial.run(sweep, Trial(condition, cooldown))
        numbers = [(placed.point.at_us, placed.point.value) for placed in stored if placed.point.value != "text"]
        return found, numbers

    found, stored = loop.run_until_complete(run())
    assert found.examined == len(stored)
    assert found.firings == expected(stored, condition, cooldown)
    assert found.total == len(found.firings)


_numbers = itertools.count(1)
