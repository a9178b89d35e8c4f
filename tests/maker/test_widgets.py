"""Sets of widgets: replaced whole, with whatever else clients put into them."""

from __future__ import annotations

from typing import Any

import pytest

from core.maker.access import Role
from tests.conftest import Person, Running
from tests.maker.projects import make_project

FULL = {
    "id": "w1", "type": "ENHANCED_GRAPH", "x": 999, "y": 3, "width": 100, "height": 1, "label": "Heat", "boardId": "brd-gone",
    "pinIndex": 0, "pinType": "analog", "min": -1.5, "max": 10, "step": 0.1, "color": "#00ffAA",
    "config": {"lines": [{"pin": 1}], "deep": {"a": None}},
}  # fmt: skip
DEFAULTS = {
    "x": 0, "y": 0, "width": 2, "height": 2, "label": "", "boardId": None, "pinIndex": None, "pinType": "virtual", "min": None,
    "max": None, "step": None, "color": None, "config": {},
}  # fmt: skip


@pytest.fixture
async def project(busbar: Running, alice: Person) -> str:
    return await make_project(busbar, alice)


async def test_a_project_begins_without_widgets(busbar: Running, alice: Person, project: str) -> None:
    answer = await busbar.http(alice.session).get(f"/api/projects/{project}/widgets")
    assert (answer.status_code, answer.json(), answer.headers["etag"]) == (200, {"widgets": []}, '"0"')


@pytest.mark.parametrize("bare", [False, True])
async def test_the_set_is_replaced_and_kept_in_its_order(busbar: Running, alice: Person, project: str, bare: bool) -> None:
    client, path = busbar.http(alice.session), f"/api/projects/{project}/widgets"
    widgets: list[dict[str, Any]] = [FULL, {"type": "BUTTON"}, {"id": "a", "type": "LED", "color": None, "config": None}]
    saved = await client.put(path, json=widgets if bare else {"widgets": widgets})
    assert saved.status_code == 200, saved.text
    assert saved.headers["etag"] == '"1"'
    found = saved.json()["widgets"]
    assert [widget["type"] for widget in found] == ["ENHANCED_GRAPH", "BUTTON", "LED"]
    assert found[0] == FULL
    assert found[1] == {"id": found[1]["id"], "type": "BUTTON", **DEFAULTS}
    assert found[1]["id"]
    assert found[2] == {"id": "a", "type": "LED", **DEFAULTS}
    assert (await client.get(path)).json() == saved.json()
    assert (await client.put(path, json=saved.json())).headers["etag"] == '"1"'
    assert (await client.put(path, json=[])).json() == {"widgets": []}


async def test_members_that_we_do_not_know_come_back(busbar: Running, alice: Person, project: str) -> None:
    client, path = busbar.http(alice.session), f"/api/projects/{project}/widgets"
    extra = {"frequency": 9007199254740993, "others": {"x": [1.0, None]}, "pin_type": "kept?", "Ü": "ü", "theme": None}
    widget = {"id": "w", "type": "LED", **extra}
    del widget["pin_type"]
    saved = (await client.put(path, json={"widgets": [widget]})).json()["widgets"][0]
    assert saved == {**DEFAULTS, **widget}
    assert (await client.get(path)).json()["widgets"] == [saved]
    grpc = await busbar.client("grpc", alice.session).call("WidgetService.ListWidgets", project_id=project)
    assert '"others":{"x":[1,null]}' in grpc.widgets[0].others


@pytest.mark.parametrize(
    ("widget", "name"),
    [
        ({}, "type"),
        ({"type": "button"}, "type"),
        ({"type": "A" * 49}, "type"),
        ({"type": "A-B"}, "type"),
        ({"type": "LED", "id": "x" * 65}, "id"),
        ({"type": "LED", "id": 5}, "id"),
        ({"type": "LED", "x": 1000}, "x"),
        ({"type": "LED", "y": -1}, "y"),
        ({"type": "LED", "width": 0}, "width"),
        ({"type": "LED", "height": 101}, "height"),
        ({"type": "LED", "x": 1.5}, "x"),
        ({"type": "LED", "label": "x" * 81}, "label"),
        ({"type": "LED", "pinIndex": 256}, "pinIndex"),
        ({"type": "LED", "pinType": "quantum"}, "pinType"),
        ({"type": "LED", "min": "NaN"}, "min"),
        ({"type": "LED", "color": "red"}, "color"),
        ({"type": "LED", "config": []}, "config"),
        ({"type": "LED", "config": {"text": "x" * 10_240}}, "config"),
        ({"type": "LED", "junk": "x" * 10_240}, "others"),
    ],
)
async def test_one_bad_widget_leaves_all_as_it_was(
    busbar: Running, alice: Person, project: str, widget: object, name: str
) -> None:
    client, path = busbar.http(alice.session), f"/api/projects/{project}/widgets"
    before = (await client.put(path, json=[FULL])).json()
    answer = await client.put(path, json={"widgets": [{"type": "LED"}, widget]})
    assert answer.status_code == 400
    assert answer.json()["error"].startswith(f"widgets[1].{name}: ")
    assert (await client.get(path)).json() == before


@pytest.mark.parametrize(
    "body",
    [
        {"widgets": [{"type": "LED", "id": "a"}, {"type": "LED", "id": "a"}]},
        {"widgets": [{"type": "LED"}] * 201},
        {"widgets": [{"type": "LED", "min": 2, "max": 1}]},
        {"widgets": [5]},
        {"widgets": {}},
        [[]],
        5,
        "x",
    ],
)
async def test_a_bad_set_is_400(busbar: Running, alice: Person, project: str, body: object) -> None:
    client, path = busbar.http(alice.session), f"/api/projects/{project}/widgets"
    answer = await client.put(path, json=body)
    assert answer.status_code == 400
    assert set(answer.json()) == {"error"}
    assert (await client.get(path)).headers["etag"] == '"0"'


async def test_two_hundred_widgets_with_10_kib_each_are_kept(busbar: Running, alice: Person, project: str) -> None:
    client, path = busbar.http(alice.session), f"/api/projects/{project}/widgets"
    config = {"text": "x" * (10_240 - len('{"text":""}'))}
    answer = await client.put(path, json=[{"type": "LED", "config": config}] * 200)
    assert answer.status_code == 200
    assert [widget["config"] for widget in (await client.get(path)).json()["widgets"]] == [config] * 200
    assert (await client.put(path, content=b'{"widgets":"' + b"x" * 6_291_456 + b'"}')).status_code == 413


async def test_revisions_of_widgets_are_guarded(busbar: Running, alice: Person, project: str) -> None:
    client, path = busbar.http(alice.session), f"/api/projects/{project}/widgets"
    await client.put(path, json={"widgets": [FULL], "baseRevision": 0})
    assert (await client.put(path, json={"widgets": [], "baseRevision": 0})).status_code == 409
    assert (await client.put(path, json=[], headers={"If-Match": '"0"'})).status_code == 412
    assert (await client.get(path, headers={"If-None-Match": '"1"'})).status_code == 304
    assert (await client.put(path, json=[], headers={"If-Match": '"1"'})).headers["etag"] == '"2"'


async def test_roles_decide_who_reads_and_who_replaces(busbar: Running, alice: Person, eve: Person) -> None:
    editor, viewer = await busbar.person("editor"), await busbar.person("viewer")
    roles = {editor.id: Role.EDITOR, viewer.id: Role.VIEWER}
    for visibility, stranger in (("private", (404, 404)), ("unlisted", (200, 403)), ("public", (200, 403))):
        project = await make_project(busbar, alice, visibility=visibility, **roles)
        for person, statuses in ((alice, (200, 200)), (editor, (200, 200)), (viewer, (200, 403)), (eve, stranger)):
            client, path = busbar.http(person.session), f"/api/projects/{project}/widgets"
            assert ((await client.get(path)).status_code, (await client.put(path, json=[FULL])).status_code) == statuses
