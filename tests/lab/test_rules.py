"""Rules: kept by operators, at work on every value that is stored, whichever way it came."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from sqlmodel.ext.asyncio.session import AsyncSession

from core.lab.conditions import Condition
from core.lab.effects import Effects
from core.lab.event_directory import EventDirectory
from core.lab.log_book import LogBook
from core.signals.model import Column
from gen.busbar.api.v1.options_pb import CredentialKind
from tests.conftest import Person, Running, Start
from tests.doors import Refused
from tests.lab.conftest import linked, make_event, person, sign_in
from tests.lab.things import Worker, another_worker, fired, log_of, make, measure, rule, until

LOG: dict[str, object] = {"action_type": "log"}


@pytest.fixture
async def otto(busbar: Running, admin: httpx.AsyncClient) -> httpx.AsyncClient:
    """An operator."""
    return await person(busbar, admin, "otto", "operator")


@pytest.fixture
async def event(busbar: Running, alice: Person) -> str:
    """An event, of a metric of a telemetry source."""
    await measure(busbar, alice, 0.0)
    return await linked(busbar, alice, "rig-1", "temp")


# Keeping rules


async def test_a_rule_is_listed_as_it_was_made(otto: httpx.AsyncClient, event: str) -> None:
    me = (await otto.get("/api/v1/auth/me")).json()["public_id"]
    body = rule(event, operator="between", threshold="1.5", threshold_high=2, cooldown_seconds=0, enabled=False)
    answer = await otto.post("/api/v1/rules", json=body)
    assert (answer.status_code, answer.json()) == (201, {"status": "success", "message": "Rule successfully created."})
    page = (await otto.get("/api/v1/rules/")).json()
    (listed,) = page["data"]
    assert (page["page"], page["page_size"], page["total"]) == (1, 25, 1)
    assert {name: value for name, value in listed.items() if name not in ("public_id", "created_on")} == {
        "name": "hot", "event_public_id": event, "operator": "between", "threshold": 1.5, "threshold_high": 2.0,
        "action_type": "webhook", "webhook_event_type": None, "enabled": False, "cooldown_seconds": 0,
        "last_triggered_at": None, "user_public_id": me,
    }  # fmt: skip
    assert (await otto.get(f"/api/v1/rules/{listed['public_id']}")).json() == listed


async def test_a_rule_that_states_little_is_enabled_and_rests_for_a_minute(otto: httpx.AsyncClient, event: str) -> None:
    made = await make(otto, "rules", rule(event))
    assert (made["enabled"], made["cooldown_seconds"], made["threshold_high"]) == (True, 60, None)


async def test_viewers_have_nothing_to_do_with_rules(busbar: Running, admin: httpx.AsyncClient) -> None:
    vera = await person(busbar, admin, "vera", "viewer")
    for answer in (await vera.get("/api/v1/rules"), await vera.post("/api/v1/rules", json={})):
        assert (answer.status_code, answer.json()) == (403, {"detail": "Operator privileges required."})


async def test_a_name_is_taken_once_also_when_many_want_it_at_once(otto: httpx.AsyncClient, event: str) -> None:
    answers = await asyncio.gather(*(otto.post("/api/v1/rules", json=rule(event)) for _ in range(8)))
    assert sorted(answer.status_code for answer in answers) == [201] + [409] * 7
    other = await make(otto, "rules", rule(event, name="cold"))
    answer = await otto.put(f"/api/v1/rules/{other['public_id']}", json={"name": "hot"})
    assert (answer.status_code, answer.json()) == (409, {"detail": "Rule already exists."})


async def test_the_event_of_a_rule_must_exist(busbar: Running, otto: httpx.AsyncClient, event: str, eve: Person) -> None:
    await measure(busbar, eve, 1.0)
    foreign = await linked(busbar, eve, "rig-1", "temp")
    made = await make(otto, "rules", rule(event))
    for answer in (
        await otto.post("/api/v1/rules", json=rule(foreign, name="x")),
        await otto.put(f"/api/v1/rules/{made['public_id']}", json={"event_public_id": "nothing"}),
    ):
        assert (answer.status_code, answer.json()) == (404, {"detail": "Event not found."})
    for path in ("none", made["public_id"]):
        client = otto if path == "none" else await sign_in(busbar, eve.email)
        for answer in (
            await client.get(f"/api/v1/rules/{path}"),
            await client.put(f"/api/v1/rules/{path}", json={"name": "x"}),
            await client.delete(f"/api/v1/rules/{path}"),
        ):
            assert (answer.status_code, answer.json()) == (404, {"detail": f"Rule '{path}' not found."})


@pytest.mark.parametrize(
    ("change", "kind", "where"),
    [
        ({"name": ""}, "string_too_short", ["body", "name"]),
        ({"name": None}, "string_type", ["body", "name"]),
        ({"name": "x" * 256}, "string_too_long", ["body", "name"]),
        ({"operator": "near"}, "enum", ["body", "operator"]),
        ({"threshold": None}, "float_type", ["body", "threshold"]),
        ({"action_type": "shout"}, "enum", ["body", "action_type"]),
        ({"webhook_event_type": "x"}, "enum", ["body", "webhook_event_type"]),
        ({"cooldown_seconds": -1}, "greater_than_equal", ["body", "cooldown_seconds"]),
    ],
)
async def test_a_rule_is_checked_field_by_field(
    otto: httpx.AsyncClient, event: str, change: dict[str, object], kind: str, where: list[str]
) -> None:
    answer = await otto.post("/api/v1/rules", json=rule(event, **change))
    (detail,) = answer.json()["detail"]
    assert (answer.status_code, detail["type"], detail["loc"]) == (422, kind, where)
    assert (await otto.get("/api/v1/rules")).json()["total"] == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"operator": "between"}, "threshold_high required for between/not_between operators"),
        ({"operator": "not_between", "threshold_high": 29}, "threshold_high must be >= threshold"),
    ],
)
async def test_a_range_without_order_is_refused_as_a_whole(
    otto: httpx.AsyncClient, event: str, change: dict[str, object], message: str
) -> None:
    made = await make(otto, "rules", rule(event, name="other"))
    for answer in (
        await otto.post("/api/v1/rules", json=rule(event, **change)),
        await otto.put(f"/api/v1/rules/{made['public_id']}", json={"threshold": 30, **change}),
    ):
        (detail,) = answer.json()["detail"]
        assert answer.status_code == 422
        assert (detail["type"], detail["loc"], detail["msg"], detail["ctx"]) == (
            "value_error", ["body"], f"Value error, {message}", {"error": {}},
        )  # fmt: skip


async def test_a_change_is_checked_with_what_it_leaves(otto: httpx.AsyncClient, event: str) -> None:
    made = await make(otto, "rules", rule(event))
    path = f"/api/v1/rules/{made['public_id']}"
    answer = await otto.put(path, json={"operator": "between"})
    assert (answer.status_code, answer.json()) == (
        422,
        {"detail": "threshold_high required for between/not_between operators"},
    )
    # Whatever the operator.
    answer = await otto.put(path, json={"threshold_high": 29})
    assert (answer.status_code, answer.json()) == (422, {"detail": "threshold_high must be >= threshold"})
    assert (await otto.get(path)).json() == made
    answer = await otto.put(path, json={"operator": "between", "threshold_high": 40})
    assert answer.json() == {"status": "success", "message": "Rule successfully updated."}
    answer = await otto.put(path, json={"threshold_high": None})
    assert answer.json()["detail"] == "threshold_high required for between/not_between operators"


async def test_null_clears_what_may_be_empty_and_nothing_else(otto: httpx.AsyncClient, event: str) -> None:
    body = rule(event, threshold_high=40, webhook_event_type="sensor.reading")
    path = f"/api/v1/rules/{(await make(otto, 'rules', body))['public_id']}"
    await otto.put(path, json={"threshold_high": None, "webhook_event_type": None})
    changed = (await otto.get(path)).json()
    assert (changed["threshold_high"], changed["webhook_event_type"]) == (None, None)
    for name in ("name", "event_public_id", "operator", "threshold", "action_type", "enabled", "cooldown_seconds"):
        answer = await otto.put(path, json={name: None})
        assert (answer.status_code, answer.json()["detail"][0]["loc"]) == (422, ["body", name])
    assert (await otto.get(path)).json() == changed


@pytest.mark.parametrize("door", ["grpc", "rest", "mcp"])
async def test_every_door_keeps_rules(busbar: Running, alice: Person, event: str, door: str) -> None:
    key = await busbar.key(alice, CredentialKind.AGENT_KEY, "lab:read", "lab:write")
    client = busbar.client(door, key if door == "mcp" else alice.session)
    await client.call("RuleService.CreateRule", **rule(event))
    (made,) = (await client.call("RuleService.ListRules")).data
    await client.call("RuleService.UpdateRule", public_id=made.public_id, threshold=12.5)
    assert (await client.call("RuleService.GetRule", public_id=made.public_id)).threshold == 12.5
    with pytest.raises(Refused):
        await client.call("RuleService.CreateRule", **rule(event))
    await client.call("RuleService.DeleteRule", public_id=made.public_id)
    assert (await client.call("RuleService.ListRules")).total == 0


async def test_a_deleted_user_takes_their_rules_along(
    busbar: Running, alice: Person, admin: httpx.AsyncClient, otto: httpx.AsyncClient, event: str
) -> None:
    made = await make(otto, "rules", rule(event, **LOG))
    await make(admin, "rules", rule(event, name="stays", **LOG))
    await admin.delete(f"/api/v1/users/{made['user_public_id']}")
    await measure(busbar, alice, 31)
    (entry,) = await until(lambda: log_of(admin))
    assert "'stays'" in entry["content"]
    assert [row["name"] for row in (await admin.get("/api/v1/rules")).json()["data"]] == ["stays"]


async def test_a_deleted_event_takes_its_rules_along_and_leaves_widgets_without_it(
    busbar: Running, alice: Person, admin: httpx.AsyncClient, event: str
) -> None:
    await busbar.app.signals.write(alice.org_id, [Column("rig-1", "other", [1], [1.0])])
    made = await make(admin, "rules", rule(event))
    board = (await admin.post("/api/v1/dashboards", json={"name": "Bench"})).json()
    path = f"/api/v1/dashboards/{board['public_id']}"
    await admin.post(f"{path}/widgets", json={"widget_type": "gauge", "title": "t", "event_public_id": event})
    await make(admin, "rules", rule(await linked(busbar, alice, "rig-1", "other", "Other"), name="stays"))
    assert (await admin.delete(f"/api/v1/events/{event}")).status_code == 200
    assert [row["name"] for row in (await admin.get("/api/v1/rules")).json()["data"]] == ["stays"]
    assert (await admin.get(f"/api/v1/rules/{made['public_id']}")).status_code == 404
    assert [widget["event_public_id"] for widget in (await admin.get(path)).json()["widgets"]] == [None]


# What values they look at


@pytest.mark.parametrize(
    ("operator", "meets", "misses"),
    [
        ("gt", [2.0000001, 1e300], [2.0, 1.9]),
        ("lt", [1.9999999, -1e300], [2.0, 2.1]),
        ("gte", [2.0, 2.1], [1.9999999]),
        ("lte", [2.0, 1.9], [2.0000001]),
        ("eq", [2.0, 2 + 9e-10, 2 - 9e-10], [2 + 2e-9, 2 - 2e-9]),
        ("between", [2.0, 2.5, 3.0], [1.9999999, 3.0000001]),
        ("not_between", [1.9999999, 3.0000001], [2.0, 2.5, 3.0]),
    ],
)
def test_each_operator_has_its_ends_and_its_tolerance(operator: str, meets: list[float], misses: list[float]) -> None:
    condition = Condition(operator, 2.0, 3.0)
    assert [condition.met_by(value) for value in meets + misses] == [True] * len(meets) + [False] * len(misses)


@pytest.mark.parametrize("operator", ["between", "not_between"])
def test_a_range_without_an_upper_end_is_never_met(operator: str) -> None:
    assert not any(Condition(operator, 2.0).met_by(value) for value in (-1e300, 1.0, 2.0, 3.0, 1e300))


# At work


async def test_a_pin_written_by_home_assistant_fires_a_rule(
    busbar: Running, alice: Person, admin: httpx.AsyncClient, otto: httpx.AsyncClient, bench: Any
) -> None:
    home = busbar.http(await busbar.key(alice, CredentialKind.AGENT_KEY))
    await home.post(f"/api/ha/board/{bench.id}/pin/1", content=b"20")
    event = await linked(busbar, alice, bench.id, "V1")
    made = await make(otto, "rules", rule(event, **LOG))
    await home.post(f"/api/ha/board/{bench.id}/pin/1", content=b"30")
    await home.post(f"/api/ha/board/{bench.id}/pin/1", content=b"30.5")
    (entry,) = await until(lambda: log_of(admin))
    assert entry["content"] == f"Rule 'hot' triggered: value 30.5 gt 30.0 (event {event})."
    assert entry["user_public_id"] == made["user_public_id"]
    assert await fired(otto, made["public_id"]) is not None


async def test_a_metric_from_telemetry_fires_a_rule(
    busbar: Running, alice: Person, admin: httpx.AsyncClient, event: str
) -> None:
    await make(admin, "rules", rule(event, **LOG))
    key = await busbar.key(alice, CredentialKind.TELEMETRY_KEY)
    points = [
        {"metric": "temp", "value": value, "timestamp": 1_750_000_000_000 + index, "source_id": "rig-1"}
        for index, value in enumerate((99, 98, 31.0))
    ]
    answer = await busbar.http(**{"x-api-key": key}).post("/api/ingest", json={"points": points})
    assert answer.status_code == 200, answer.text
    (entry,) = await until(lambda: log_of(admin))
    assert "value 31.0" in entry["content"]


async def test_a_datapoint_has_fired_its_rules_when_it_is_answered(
    admin: httpx.AsyncClient, otto: httpx.AsyncClient, mapped: set[str]
) -> None:
    own = await make_event(admin, "Own")
    mapped.add(own)
    made = await make(otto, "rules", rule(own, **LOG))
    await make(otto, "rules", rule(own, name="cool", operator="lt", **LOG))
    batch = {"datapoints": [{"event_public_id": own, "value": value} for value in (99, 98, 5)]}
    answers = await asyncio.gather(*(otto.post("/api/v1/datapoints/batch", json=batch) for _ in range(10)))
    assert {answer.status_code for answer in answers} == {201}
    # Of each batch the last value counts, and of all batches at once one fires.
    (entry,) = await log_of(admin)
    assert "'cool'" in entry["content"]
    assert await fired(otto, made["public_id"]) is None
    await otto.post("/api/v1/datapoints", json={"event_public_id": own, "value": 31})
    assert await fired(otto, made["public_id"]) is not None


async def test_an_event_that_is_being_deleted_gets_no_rule_and_no_widget(
    busbar: Running, alice: Person, admin: httpx.AsyncClient, event: str
) -> None:
    board = (await admin.post("/api/v1/dashboards", json={"name": "Bench"})).json()["public_id"]
    widget = {"widget_type": "gauge", "title": "t", "event_public_id": event}
    gone, *made = await asyncio.gather(
        admin.delete(f"/api/v1/events/{event}"),
        *(admin.post("/api/v1/rules", json=rule(event, name=str(number))) for number in range(5)),
        *(admin.post(f"/api/v1/dashboards/{board}/widgets", json=widget) for _ in range(5)),
    )
    assert gone.status_code == 200
    assert {answer.status_code for answer in made} <= {201, 404}
    assert (await admin.get("/api/v1/rules")).json()["total"] == 0
    shown = (await admin.get(f"/api/v1/dashboards/{board}")).json()["widgets"]
    assert {one["event_public_id"] for one in shown} <= {None}
    # The directory may say yes when storage says no already.
    directory = busbar.app.found.part(EventDirectory)
    ghost = dataclasses.replace(event_of(busbar, alice, await linked(busbar, alice, "rig-1", "temp")), public_id="ghost")
    directory._by_org[alice.org_id]["ghost"] = ghost  # pyright: ignore[reportPrivateUsage]
    for answer in (
        await admin.post("/api/v1/rules", json=rule("ghost")),
        await admin.post(f"/api/v1/dashboards/{board}/widgets", json={**widget, "event_public_id": "ghost"}),
    ):
        assert (answer.status_code, answer.json()) == (404, {"detail": "Event not found."})


async def test_only_the_last_value_of_a_batch_counts(
    busbar: Running, alice: Person, admin: httpx.AsyncClient, event: str
) -> None:
    await make(admin, "rules", rule(event, **LOG))
    await make(admin, "rules", rule(event, name="cool", operator="lt", **LOG))
    now = busbar.clock.now_us()
    await busbar.app.signals.write(alice.org_id, [Column("rig-1", "temp", [now + 2, now, now + 1], [5.0, 99.0, 98.0])])
    (entry,) = await until(lambda: log_of(admin))
    assert "'cool'" in entry["content"]


@pytest.mark.parametrize("value", ["99", {"t": 99}, [99]])
async def test_what_is_no_number_fires_nothing(
    busbar: Running, alice: Person, admin: httpx.AsyncClient, event: str, value: object
) -> None:
    await make(admin, "rules", rule(event, **LOG))
    await make(admin, "rules", rule(event, name="on", operator="eq", threshold=1, **LOG))
    await measure(busbar, alice, value)
    await measure(busbar, alice, True)  # noqa: FBT003 - a switch is a value
    (entry,) = await until(lambda: log_of(admin))
    assert "'on'" in entry["content"]


async def test_a_rule_rests_after_it_has_fired_and_then_fires_again(
    busbar: Running, alice: Person, admin: httpx.AsyncClient, event: str
) -> None:
    worker = Worker.of(busbar)
    made = await make(admin, "rules", rule(event, cooldown_seconds=60, **LOG))
    for ahead, times in ((0, 1), (59, 1), (2, 2), (61, 3)):
        busbar.clock.forward(seconds=ahead)
        for value in (31.0, 32.0):
            await worker.see(alice, value)
        assert len(await log_of(admin)) == times
    assert await fired(admin, made["public_id"]) is not None


async def test_a_rule_without_cooldown_fires_at_every_value(
    busbar: Running, alice: Person, admin: httpx.AsyncClient, event: str
) -> None:
    await make(admin, "rules", rule(event, cooldown_seconds=0, **LOG))
    await asyncio.gather(*(Worker.of(busbar).see(alice, 31.0) for _ in range(20)))
    assert len(await log_of(admin)) == 20


async def test_two_workers_on_one_database_fire_a_rule_once(
    busbar: Running, alice: Person, admin: httpx.AsyncClient, event: str
) -> None:
    made = await make(admin, "rules", rule(event, **LOG))
    async with another_worker(busbar) as other:
        workers = [Worker.of(busbar), other]
        await asyncio.gather(*(one.see(alice, 31.0 + n) for n in range(5) for one in workers))
        assert len(await log_of(admin)) == 1
        # The one that lost knows why: it rests as long as the one that won.
        busbar.clock.forward(seconds=61)
        await asyncio.gather(*(one.see(alice, 31.0) for one in workers))
        assert len(await log_of(admin)) == 2
    assert await fired(admin, made["public_id"]) is not None


async def test_a_changed_rule_counts_from_the_next_value(
    busbar: Running, alice: Person, admin: httpx.AsyncClient, event: str
) -> None:
    worker = Worker.of(busbar)
    path = f"/api/v1/rules/{(await make(admin, 'rules', rule(event, cooldown_seconds=0, **LOG)))['public_id']}"
    for change, times in (({"enabled": False}, 0), ({"enabled": True}, 1), ({"threshold": 40}, 1), ({"operator": "lt"}, 2)):
        assert (await admin.put(path, json=change)).status_code == 200
        await worker.see(alice, 31.0)
        assert len(await log_of(admin)) == times
    await admin.delete(path)
    await worker.see(alice, 31.0)
    assert len(await log_of(admin)) == 2


async def test_values_that_meet_no_rule_cost_no_transaction_beside_their_own(
    busbar: Running, alice: Person, admin: httpx.AsyncClient, event: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker, database = Worker.of(busbar), busbar.app.database
    await make(admin, "rules", rule(event, **LOG))
    await worker.see(alice, 31.0)
    opened: list[str] = []
    unit_of_work = database.unit_of_work

    @asynccontextmanager
    async def counted() -> AsyncGenerator[AsyncSession]:
        opened.append("unit of work")
        async with unit_of_work() as session:
            yield session

    monkeypatch.setattr(database, "unit_of_work", counted)
    monkeypatch.setattr(database, "read", lambda: opened.append("read"))
    for value in range(100):
        # Below the threshold, or within the cooldown.
        await worker.see(alice, float(value))
    assert opened == []


async def test_a_rule_that_cannot_fire_now_fires_at_the_next_value(
    busbar: Running, alice: Person, admin: httpx.AsyncClient, event: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = Worker.of(busbar)
    await make(admin, "rules", rule(event, **LOG))
    with monkeypatch.context() as patched:
        patched.setattr(LogBook, "write", broken)
        # Nothing is raised: the sender's points are stored.
        await worker.see(alice, 31.0)
    assert await log_of(admin) == []
    await worker.see(alice, 31.0)
    assert len(await log_of(admin)) == 1


async def test_a_cooldown_outlives_a_restart(busbar: Running, alice: Person, admin: httpx.AsyncClient, event: str) -> None:
    await make(admin, "rules", rule(event, **LOG))
    await Worker.of(busbar).see(alice, 31.0)
    async with another_worker(busbar) as again:
        await again.see(alice, 31.0)
    assert len(await log_of(admin)) == 1


# Between the commit of a value and what follows from it


def broken(*_: object) -> None:
    raise RuntimeError("no log today")


async def test_what_failed_is_tried_again_and_holds_up_nothing_else(
    busbar: Running, alice: Person, admin: httpx.AsyncClient, event: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = Worker.of(busbar)
    await make(admin, "rules", rule(event, cooldown_seconds=0, **LOG))
    told = await make(admin, "rules", rule(event, name="told"))
    with monkeypatch.context() as patched:
        patched.setattr(LogBook, "write", broken)
        await asyncio.gather(*(worker.see(alice, 31.0 + number) for number in range(3)))
    assert await fired(admin, told["public_id"]) is not None
    assert await log_of(admin) == []
    busbar.clock.forward(seconds=31)
    async with another_worker(busbar):
        await until(lambda: logged(admin, 3))
    assert await left(busbar) == 0


async def test_what_a_crash_left_is_done_at_the_next_start_once(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    busbar = await start()
    alice = await busbar.person("alice")
    admin = await sign_in(busbar, alice.email)
    await measure(busbar, alice, 0.0)
    event = await linked(busbar, alice, "rig-1", "temp")
    await make(admin, "rules", rule(event, **LOG))
    await make(admin, "rules", rule(event, name="each", cooldown_seconds=0, **LOG))
    gone = await make(admin, "rules", rule(event, name="gone", **LOG))
    hook = await make(admin, "webhooks", {"url": "http://127.0.0.1:9/", "events": ["sensor.reading"]})

    async def nothing(*_: object) -> bool:
        return False

    with monkeypatch.context() as patched:
        # As if it died between the commit, with which the sender is answered, and what follows.
        patched.setattr(Effects, "_carry_out", nothing)
        key = await busbar.key(alice, CredentialKind.TELEMETRY_KEY)
        for value in (31.5, 32.5):
            points = [{"metric": "temp", "value": value, "source_id": "rig-1"}]
            answer = await busbar.http(**{"x-api-key": key}).post("/api/ingest", json={"points": points})
            assert answer.status_code == 200, answer.text
        assert await log_of(admin) == []
        assert (await admin.delete(f"/api/v1/rules/{gone['public_id']}")).status_code == 200
        await busbar.app.found.part(Effects).stop()
    assert await left(busbar) == 6
    again = await start()
    async with another_worker(again):
        # Several may come back at once.
        admin = await sign_in(again, alice.email)
        await until(lambda: logged(admin, 3))
    contents = sorted(entry["content"] for entry in await log_of(admin))
    assert [content.split("(")[0] for content in contents] == [
        "Rule 'each' triggered: value 31.5 gt 30.0 ",
        "Rule 'each' triggered: value 32.5 gt 30.0 ",
        "Rule 'hot' triggered: value 31.5 gt 30.0 ",
    ]
    assert await left(again) == 0
    told = (await admin.get(f"/api/v1/webhooks/{hook['public_id']}/deliveries")).json()
    assert told["total"] == 1


async def test_a_value_that_is_not_stored_has_no_consequence(
    busbar: Running, alice: Person, admin: httpx.AsyncClient, event: str
) -> None:
    await make(admin, "rules", rule(event, cooldown_seconds=0, **LOG))

    async def full(*_: object) -> list[object]:
        raise RuntimeError("not today")

    # Whatever comes later in the transaction takes all of it back.
    busbar.app.signals.on_writing(full)
    with pytest.raises(RuntimeError):
        await Worker.of(busbar).see(alice, 31.0)
    assert await left(busbar) == 0
    assert await log_of(admin) == []


async def logged(admin: httpx.AsyncClient, times: int) -> bool:
    """Whether rules have written so many entries."""
    return len(await log_of(admin)) == times


async def left(busbar: Running) -> int:
    """Return how much is still to be done."""
    return (await busbar.app.database.query(lambda tx: tx.fetch("SELECT count(*) FROM lab_effect")))[0][0]


def event_of(busbar: Running, owner: Person, public_id: str) -> Any:
    """Return an event as the engine knows it."""
    return busbar.app.found.part(EventDirectory).by_public_id(owner.org_id, public_id)
