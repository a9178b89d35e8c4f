"""Dashboards: who sees them, who changes them, and what is on them."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest

from gen.busbar.api.v1.options_pb import CredentialKind
from tests.conftest import Person, Running
from tests.doors import Refused
from tests.lab.conftest import linked, person, sign_in
from tests.lab.things import measure

NOT_ALLOWED = (403, {"detail": "Not allowed."})


@pytest.fixture
async def otto(busbar: Running, admin: httpx.AsyncClient) -> httpx.AsyncClient:
    """An operator."""
    return await person(busbar, admin, "otto", "operator")


async def made(client: httpx.AsyncClient, **body: object) -> dict[str, Any]:
    """Make a dashboard."""
    answer = await client.post("/api/v1/dashboards", json={"name": "Bench", **body})
    assert answer.status_code == 201, answer.text
    return answer.json()


async def test_a_new_dashboard_and_its_widgets_are_answered_as_they_are(otto: httpx.AsyncClient) -> None:
    board = await made(otto)
    me = (await otto.get("/api/v1/auth/me")).json()["public_id"]
    assert (board["name"], board["is_global"], board["user_public_id"], board["widgets"]) == ("Bench", False, me, [])
    path = f"/api/v1/dashboards/{board['public_id']}"
    first = await otto.post(f"{path}/widgets", json={"widget_type": "gauge", "title": "one", "x": -3})
    body = {"widget_type": "line_chart", "title": "two", "w": 12, "h": 1, "config_json": "not {json"}
    second = await otto.post(f"{path}/widgets/", json=body)
    assert (first.status_code, second.status_code) == (201, 201)
    assert {name: value for name, value in first.json().items() if name != "public_id"} == {
        "widget_type": "gauge", "title": "one", "event_public_id": None, "x": -3, "y": 0, "w": 4, "h": 3, "config_json": None,
    }  # fmt: skip
    listed = (await otto.get("/api/v1/dashboards/")).json()
    assert (listed["total"], listed["data"][0]["widgets"]) == (1, [first.json(), second.json()])
    assert (await otto.get(path)).json() == listed["data"][0]


async def test_people_see_their_own_and_global_dashboards_newest_first(
    busbar: Running, admin: httpx.AsyncClient, otto: httpx.AsyncClient
) -> None:
    vera = await person(busbar, admin, "vera", "viewer")
    mine, shared = await made(otto, name="mine"), await made(otto, name="shared", is_global=True)
    hers = await made(admin, name="hers")
    names = [board["name"] for board in (await otto.get("/api/v1/dashboards")).json()["data"]]
    assert names == ["shared", "mine"]
    for other in (vera, admin):
        assert (await other.get(f"/api/v1/dashboards/{shared['public_id']}")).status_code == 200
        answer = await other.get(f"/api/v1/dashboards/{mine['public_id']}")
        assert (answer.status_code, answer.json()) == NOT_ALLOWED
    assert [board["name"] for board in (await admin.get("/api/v1/dashboards")).json()["data"]] == ["hers", "shared"]
    assert [board["name"] for board in (await vera.get("/api/v1/dashboards")).json()["data"]] == ["shared"]
    refused = await vera.post("/api/v1/dashboards", json={})
    assert (refused.status_code, refused.json()) == (403, {"detail": "Operator privileges required."})
    assert (await otto.get(f"/api/v1/dashboards/{hers['public_id']}")).status_code == 403


async def test_owners_and_administrators_change_a_dashboard_and_nobody_else(
    busbar: Running, admin: httpx.AsyncClient, otto: httpx.AsyncClient
) -> None:
    olga = await person(busbar, admin, "olga", "operator")
    shared = f"/api/v1/dashboards/{(await made(otto, is_global=True))['public_id']}"
    widget = (await otto.post(f"{shared}/widgets", json={"widget_type": "gauge", "title": "t"})).json()["public_id"]
    for answer in (
        await olga.put(shared, json={"name": "x"}),
        await olga.delete(shared),
        await olga.post(f"{shared}/widgets", json={"widget_type": "gauge", "title": "t"}),
        await olga.put(f"{shared}/widgets/{widget}", json={"title": "x"}),
        await olga.delete(f"{shared}/widgets/{widget}"),
    ):
        assert (answer.status_code, answer.json()) == NOT_ALLOWED
    # An administrator changes what they cannot read.
    private = f"/api/v1/dashboards/{(await made(otto))['public_id']}"
    assert (await admin.put(private, json={"name": "tidy"})).json()["message"] == "Dashboard successfully updated."
    assert (await admin.get(private)).status_code == 403
    assert (await otto.get(private)).json()["name"] == "tidy"
    assert (await admin.delete(private)).json()["message"] == "Dashboard successfully deleted."
    answer = await otto.get(private)
    assert (answer.status_code, answer.json()) == (
        404,
        {"detail": f"Dashboard '{private.rpartition('/')[2]}' not found."},
    )


async def test_a_widget_changes_in_all_but_its_kind(busbar: Running, alice: Person, otto: httpx.AsyncClient) -> None:
    await measure(busbar, alice, 1.0)
    event = await linked(busbar, alice, "rig-1", "temp")
    path = f"/api/v1/dashboards/{(await made(otto))['public_id']}/widgets"
    body = {"widget_type": "gauge", "title": "t", "event_public_id": event, "config_json": "{}"}
    widget = (await otto.post(path, json=body)).json()
    assert widget["event_public_id"] == event
    changed = await otto.put(f"{path}/{widget['public_id']}", json={"widget_type": "stat_card", "title": "u", "x": 7, "w": 1})
    assert (changed.status_code, changed.json()["message"]) == (200, "Widget successfully updated.")

    async def shown() -> dict[str, Any]:
        return (await otto.get(path.removesuffix("/widgets"))).json()["widgets"][0]

    assert await shown() == {**widget, "title": "u", "x": 7, "w": 1}
    await otto.put(f"{path}/{widget['public_id']}", json={"event_public_id": None, "config_json": None})
    assert await shown() == {**widget, "title": "u", "x": 7, "w": 1, "event_public_id": None, "config_json": None}
    for wrong in ({"title": None}, {"x": None}, {"w": 13}, {"h": 0}, {"title": ""}, {"x": 0.5}):
        answer = await otto.put(f"{path}/{widget['public_id']}", json=wrong)
        assert (answer.status_code, answer.json()["detail"][0]["loc"]) == (422, ["body", *wrong])
    assert (await otto.delete(f"{path}/{widget['public_id']}")).json()["message"] == "Widget successfully deleted."


async def test_what_a_widget_names_must_exist(busbar: Running, alice: Person, otto: httpx.AsyncClient, eve: Person) -> None:
    await measure(busbar, eve, 1.0)
    foreign = await linked(busbar, eve, "rig-1", "temp")
    path = f"/api/v1/dashboards/{(await made(otto))['public_id']}/widgets"
    other = f"/api/v1/dashboards/{(await made(otto))['public_id']}/widgets"
    widget = (await otto.post(path, json={"widget_type": "gauge", "title": "t"})).json()["public_id"]
    for answer, detail in (
        (await otto.post(path, json={"widget_type": "gauge", "title": "t", "event_public_id": foreign}), "Event not found."),
        (await otto.put(f"{path}/{widget}", json={"event_public_id": "nothing"}), "Event not found."),
        (await otto.put(f"{path}/none", json={"title": "x"}), "DashboardWidget 'none' not found."),
        (await otto.delete(f"{path}/none"), "DashboardWidget 'none' not found."),
        (await otto.put(f"{other}/{widget}", json={"title": "x"}), "Widget not on this dashboard."),
        (await otto.delete(f"{other}/{widget}"), "Widget not on this dashboard."),
        (await otto.post("/api/v1/dashboards/none/widgets", json={"widget_type": "gauge", "title": "t"}),
         "Dashboard 'none' not found."),
    ):  # fmt: skip
        assert (answer.status_code, answer.json()) == (404, {"detail": detail})


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        ({}, "missing"),
        ({"name": ""}, "string_too_short"),
        ({"name": "x" * 256}, "string_too_long"),
    ],
)
async def test_a_dashboard_needs_a_name(otto: httpx.AsyncClient, body: dict[str, str], kind: str) -> None:
    answer = await otto.post("/api/v1/dashboards", json=body)
    (detail,) = answer.json()["detail"]
    assert (answer.status_code, detail["type"], detail["loc"]) == (422, kind, ["body", "name"])


@pytest.mark.parametrize(
    ("change", "field", "kind"),
    [
        ({"widget_type": "pie"}, "widget_type", "enum"),
        ({"w": 0}, "w", "greater_than_equal"),
        ({"h": 13}, "h", "less_than_equal"),
        ({"title": None}, "title", "string_type"),
    ],
)
async def test_a_widget_is_checked_field_by_field(
    otto: httpx.AsyncClient, change: dict[str, object], field: str, kind: str
) -> None:
    path = f"/api/v1/dashboards/{(await made(otto))['public_id']}"
    answer = await otto.post(f"{path}/widgets", json={"widget_type": "gauge", "title": "t", **change})
    (detail,) = answer.json()["detail"]
    assert (answer.status_code, detail["type"], detail["loc"]) == (422, kind, ["body", field])
    assert (await otto.get(path)).json()["widgets"] == []


async def test_dashboards_of_another_organisation_do_not_exist(busbar: Running, otto: httpx.AsyncClient, eve: Person) -> None:
    stranger = await sign_in(busbar, eve.email)
    board = (await made(otto, is_global=True))["public_id"]
    for answer in (
        await stranger.get(f"/api/v1/dashboards/{board}"),
        await stranger.put(f"/api/v1/dashboards/{board}", json={"name": "x"}),
        await stranger.delete(f"/api/v1/dashboards/{board}"),
    ):
        assert (answer.status_code, answer.json()) == (404, {"detail": f"Dashboard '{board}' not found."})
    assert (await stranger.get("/api/v1/dashboards")).json()["data"] == []


async def test_a_deleted_user_takes_their_dashboards_along(
    busbar: Running, admin: httpx.AsyncClient, otto: httpx.AsyncClient
) -> None:
    board = await made(otto, is_global=True)
    path = f"/api/v1/dashboards/{board['public_id']}"
    await otto.post(f"{path}/widgets", json={"widget_type": "gauge", "title": "t"})
    await admin.delete(f"/api/v1/users/{board['user_public_id']}")
    assert (await admin.get(path)).status_code == 404


async def test_a_widget_and_the_end_of_its_dashboard_may_come_at_once(otto: httpx.AsyncClient) -> None:
    path = f"/api/v1/dashboards/{(await made(otto))['public_id']}"
    body = {"widget_type": "gauge", "title": "t"}
    answers = await asyncio.gather(*(otto.post(f"{path}/widgets", json=body) for _ in range(5)), otto.delete(path))
    assert {answer.status_code for answer in answers} <= {200, 201, 404}
    assert (await otto.get("/api/v1/dashboards")).json()["data"] == []


@pytest.mark.parametrize("door", ["grpc", "rest"])
async def test_every_door_keeps_dashboards(busbar: Running, alice: Person, door: str) -> None:
    client = busbar.client(door, alice.session)
    board = await client.call("DashboardService.CreateDashboard", name="Bench")
    widget = await client.call(
        "DashboardService.CreateWidget", dashboard_id=board.public_id, widget_type="gauge", title="t", w=2
    )
    await client.call("DashboardService.UpdateWidget", dashboard_id=board.public_id, widget_id=widget.public_id, title="u")
    await client.call("DashboardService.UpdateDashboard", public_id=board.public_id, is_global=True)
    read = await client.call("DashboardService.GetDashboard", public_id=board.public_id)
    assert (read.is_global, [(w.title, w.w) for w in read.widgets]) == (True, [("u", 2)])
    await client.call("DashboardService.DeleteDashboard", public_id=board.public_id)
    with pytest.raises(Refused) as refused:
        await client.call("DashboardService.GetDashboard", public_id=board.public_id)
    assert refused.value.code == "NOT_FOUND"


async def test_a_key_without_a_user_owns_no_dashboard(busbar: Running, alice: Person) -> None:
    key = await busbar.key(alice, CredentialKind.TELEMETRY_KEY, "lab:write")
    with pytest.raises(Refused) as refused:
        await busbar.client("grpc", key).call("DashboardService.CreateDashboard", name="x")
    assert refused.value.code == "PERMISSION_DENIED"
