"""The context of plans: what is kept of it, what is refused, and what becomes of pending changes when it changes."""

from __future__ import annotations

import hashlib
from typing import Any

import httpx
import pytest

from core.kernel.errors import InvalidArgument, NotFound, Unauthenticated
from core.plans import context_items, context_keeper
from core.plans.current import current_files
from core.plans.state import Settings
from core.plans.tables import PlanRow
from gen.busbar.plans.v1.configs_pb import PlanConfig
from gen.busbar.plans.v1.contexts_pb import (
    ListContextRequest,
    LoadContextParams,
    LoadContextRequest,
    UpdateContextParams,
)
from tests.conftest import Person, Running
from tests.doors import Refused
from tests.plans.desk import Desk, call_of
from tests.plans.reading import PLAN, Answering, Reading, edit, file, make_plan, map_item, note, png

OLD = "".join(f"line {number}\n" for number in range(20))
NEW = OLD.replace("line 10\n", "line ten\n")


@pytest.fixture
async def reading(desk: Desk) -> Reading:
    await desk.plan()
    return Reading(desk)


async def test_a_body_is_kept_and_summed_byte_for_byte(reading: Reading) -> None:
    body = "  ü\r\n\r```js\n```\n\n "
    answer = await reading.load(file("src/a.js", body, force_skip_ignore=True))
    (item,) = await reading.listed()
    assert (item.sha, item.body_size) == (hashlib.sha256(body.encode()).hexdigest(), len(body.encode()))
    assert (item.owner_id, item.context_type, item.name, item.file_path) == ("alice", "file", "src/a.js", "src/a.js")
    assert (item.force_skip_ignore, item.auto_loaded, item.num_tokens) == (True, False, -(-len(body) // 4))
    assert item.created_at == item.updated_at is not None
    assert await reading.body(item.id) == body
    tokens = item.num_tokens
    assert (answer.tokens_added, answer.total_tokens, answer.max_tokens_exceeded) == (tokens, tokens, False)
    assert (await reading.desk.main()).branch.context_tokens == tokens


async def test_items_are_listed_in_the_order_of_loading_without_what_makes_them_large(reading: Reading) -> None:
    await reading.load(file("b.py", "x = 1\n"), map_item(a__py="- def a()"))
    await reading.load(file("a.py", "y = 1\n"))
    listed = await reading.listed()
    assert [item.name for item in listed] == ["b.py", "cwd", "a.py"]
    assert [(item.body, dict(item.map_parts)) for item in listed] == [("", {})] * 3
    assert dict(listed[1].map_shas) == {"a.py": "sha of a.py"}
    assert (dict(listed[1].map_tokens), dict(listed[1].map_sizes), listed[1].sha) == ({"a.py": 7}, {"a.py": 28}, "")


async def test_the_body_of_a_map_shows_every_file_in_the_order_of_paths(reading: Reading) -> None:
    await reading.load(map_item(b__bin="", a__py="- def a()\n- def b()"))
    (item,) = await reading.listed()
    assert await reading.body(item.id) == "\n### a.py (7 🪙)\n\n- def a()\n- def b()\n\n### b.bin (7 🪙)\n\n[NO MAP]\n"
    assert item.num_tokens > 0


async def test_what_is_there_already_is_passed_over(reading: Reading) -> None:
    await reading.load(file("a.py", "one\n"))
    answer = await reading.load(file("a.py", "other\n"))
    assert (answer.tokens_added, answer.total_tokens, answer.msg) == (0, 1, "No context added")
    assert (await reading.load()).msg == "No context added"
    await reading.load(file("a.py", "other\n"), file("b.py", "two\n"), file("b.py", "three\n"))
    assert [await reading.body(item.id) for item in await reading.listed()] == ["one\n", "two\n"]
    assert len(await reading.log()) == 2
    await reading.load(LoadContextParams(context_type="directory tree", name="a.py", file_path="a.py", body="x"))
    assert len(await reading.listed()) == 3


async def test_an_item_without_a_name_is_called_by_its_path_or_address(reading: Reading) -> None:
    await reading.load(
        LoadContextParams(context_type="file", file_path="a.py", body="x"),
        LoadContextParams(context_type="file", file_path="b.py", body="x"),
        LoadContextParams(context_type="url", url="https://example.com", body="x"),
    )
    assert [item.name for item in await reading.listed()] == ["a.py", "b.py", "https://example.com"]


async def test_the_log_tells_what_happened_to_the_context(reading: Reading) -> None:
    loaded = await reading.load(file("a.py", "x" * 40), file("b.py", "x" * 4), note("y", name="todo"))
    updated = await reading.update({(await reading.item("a.py")).id: UpdateContextParams(body="x" * 4)})
    removed = await reading.remove((await reading.item("b.py")).id)
    assert loaded.msg.startswith("Loaded 2 files, a note into context | added → 12 🪙 |  total → 12 🪙\n\n")
    assert updated.msg.startswith("Updated a file in context | removed → 9 🪙 | total → 3 🪙\n\n")
    assert removed.msg.startswith("Removed 1 piece of context | removed → 1 🪙 | total → 2 🪙\n\n")
    assert [line.split(" | ")[0].strip() for line in loaded.msg.splitlines()[2:]] == ["Name", "a.py", "b.py", "todo"]
    assert await reading.log() == [removed.msg, updated.msg, loaded.msg]


@pytest.mark.parametrize(
    ("constant", "value", "items"),
    [
        ("MOST_ITEMS", 2, [file("a", "x"), file("b", "x"), file("c", "x")]),
        ("MOST_BODY", 5, [file("a", "ü" * 3)]),
        ("MOST_MAP_PATHS", 1, [map_item(a__py="x", b__py="x")]),
        ("MOST_MAP_ENTRY", 5, [map_item(a__py="ü" * 3)]),
        ("MOST_PLAN", 5, [file("a", "xxx"), file("b", "xxx")]),
    ],
)
async def test_beyond_a_limit_nothing_is_loaded(
    reading: Reading, monkeypatch: pytest.MonkeyPatch, constant: str, value: int, items: list[LoadContextParams]
) -> None:
    monkeypatch.setattr(context_items, constant, value)
    with pytest.raises(InvalidArgument):
        await reading.load(*items)
    assert (await reading.listed(), await reading.log()) == ([], [])


async def test_the_limits_are_those_of_the_contract(reading: Reading) -> None:
    assert (context_items.MOST_ITEMS, context_items.MOST_MAP_PATHS) == (1000, 3000)
    assert (context_items.MOST_BODY, context_items.MOST_MAP_ENTRY) == (25 * 1024 * 1024, 500 * 1024)
    assert context_items.MOST_PLAN == 1024**3
    await reading.load(*(file(f"{number}", "x") for number in range(1000)))
    with pytest.raises(InvalidArgument, match="1000"):
        await reading.load(file("one more", "x"))
    assert len(await reading.listed()) == 1000


@pytest.mark.parametrize(
    ("constant", "change"),
    [
        ("MOST_BODY", UpdateContextParams(body="xxxxxx")),
        ("MOST_MAP_PATHS", UpdateContextParams(map_bodies={"b.py": "x"})),
    ],
)
async def test_an_update_keeps_the_limits_too(
    reading: Reading, monkeypatch: pytest.MonkeyPatch, constant: str, change: UpdateContextParams
) -> None:
    await reading.load(map_item(a__py="x") if "MAP" in constant else file("a", "x"))
    monkeypatch.setattr(context_items, constant, 5 if constant == "MOST_BODY" else 1)
    (item,) = await reading.listed()
    with pytest.raises(InvalidArgument):
        await reading.update({item.id: change})
    assert await reading.listed() == [item]


def limits(monkeypatch: pytest.MonkeyPatch, **tokens: int) -> None:
    monkeypatch.setattr(context_keeper, "context_limit", lambda _stock, _pack, role: tokens[role])


async def test_what_the_planner_could_not_read_is_not_loaded(reading: Reading, monkeypatch: pytest.MonkeyPatch) -> None:
    limits(monkeypatch, planner=10)
    await reading.load(file("a.py", "x" * 20))
    answer = await reading.load(file("b.py", "x" * 24))
    assert answer.max_tokens_exceeded
    assert (answer.tokens_added, answer.total_tokens, answer.max_tokens, answer.msg) == (6, 11, 10, "")
    assert [item.name for item in await reading.listed()] == ["a.py"]
    assert not (await reading.load(file("c.py", "x" * 20))).max_tokens_exceeded


async def test_an_update_that_the_planner_could_not_read_changes_nothing(
    reading: Reading, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits(monkeypatch, planner=10)
    await reading.load(file("a.py", "x" * 20))
    (item,) = await reading.listed()
    answer = await reading.update({item.id: UpdateContextParams(body="x" * 44)})
    assert (answer.max_tokens_exceeded, answer.tokens_added, answer.total_tokens, answer.max_tokens) == (True, 6, 11, 10)
    assert await reading.listed() == [item]
    assert (await reading.desk.main()).branch.context_tokens == 5


async def test_with_automatic_context_the_architect_reads_the_maps(reading: Reading, monkeypatch: pytest.MonkeyPatch) -> None:
    async with reading.desk.database.unit_of_work() as session:
        plan = await session.get(PlanRow, "plan-1")
        assert plan is not None
        plan.config = PlanConfig(auto_context=True).to_json()
    limits(monkeypatch, planner=10, architect=20)
    assert not (await reading.load(map_item(a__py="x" * 20))).max_tokens_exceeded
    assert not (await reading.load(file("a.py", "x" * 40))).max_tokens_exceeded
    assert not (await reading.load(file("auto.py", "x" * 400, auto_loaded=True))).max_tokens_exceeded
    assert (await reading.load(file("b.py", "x"))).max_tokens == 10
    assert (await reading.load(map_item("src", a__py="x" * 80))).max_tokens == 20
    assert (await reading.item("auto.py")).auto_loaded


def image(body: str, **more: Any) -> LoadContextParams:
    return LoadContextParams(context_type="image", name="board.png", file_path="board.png", body=body, **more)


async def test_a_picture_costs_what_its_size_costs(reading: Reading) -> None:
    body = png(1024, 1024)
    answer = await reading.load(image(body, image_detail="high"))
    (item,) = await reading.listed()
    # Of the three rules, that by area is the dearest here.
    assert answer.tokens_added == item.num_tokens == -(-1024 * 1024 // 750)
    assert item.sha == hashlib.sha256(body.encode()).hexdigest()
    assert (item.image_detail, await reading.body(item.id)) == ("high", body)


@pytest.mark.parametrize("body", ["no base64!", "aGVsbG8=", ""])
async def test_what_is_no_picture_is_refused(reading: Reading, body: str) -> None:
    with pytest.raises(InvalidArgument):
        await reading.load(image(body))
    assert await reading.listed() == []


async def test_a_planner_that_cannot_see_gets_no_pictures(reading: Reading) -> None:
    async with reading.desk.store.change(reading.desk.alice, "plan-1", "main") as change:
        change.state.settings = Settings("r1-planner")
        change.message = "Updated model settings"
    with pytest.raises(InvalidArgument, match="cannot see images"):
        await reading.load(image(png(1, 1)), file("a.py", "x"))
    assert await reading.listed() == []


async def test_a_model_names_notes_and_piped_data(desk: Desk) -> None:
    await desk.plan()
    reading = Reading(desk, Answering("Pin  Layout!", "build log"))
    keys = {"OPENAI_API_KEY": "sk-secret-0123"}
    piped = LoadContextParams(context_type="piped data", body="make: ok\n")
    await reading.load(note("The LED is on pin 4", auth_vars=keys), piped, note("z", name="Own Name"))
    assert [item.name for item in await reading.listed()] == ["pin-layout", "build-log", "Own Name"]
    assert reading.names.asked == [("names", "nameNote", "The LED is on pin 4"), ("names", "namePipedData", "make: ok\n")]
    assert reading.names.auth_vars == keys
    assert not any(b"sk-secret" in path.read_bytes() for path in desk.folder.rglob("*") if path.is_file())


async def test_without_a_model_the_first_words_are_the_name(desk: Desk) -> None:
    await desk.plan()
    reading = Reading(desk, Answering(None))
    await reading.load(note("The LED blinks, twice a second"), note("Über alle Maßen!"), note("…"))
    assert [item.name for item in await reading.listed()] == ["the-led-blinks-twice", "über-alle-maßen", "note"]
    # A model that failed is not waited for again.
    assert len(reading.names.asked) == 1


async def test_two_notes_of_one_name_are_both_kept_but_one_text_only_once(desk: Desk) -> None:
    await desk.plan()
    reading = Reading(desk, Answering("todo", "todo", "todo"))
    await reading.load(note("first"), note("second"))
    await reading.load(note("third"))
    assert (await reading.load(note("first"))).msg == "No context added"
    listed = [(item.name, await reading.body(item.id)) for item in await reading.listed()]
    assert listed == [("todo", "first"), ("todo-2", "second"), ("todo-3", "third")]


async def test_an_update_keeps_id_and_time_of_loading(reading: Reading) -> None:
    await reading.load(file("a.py", "one\n"))
    (before,) = await reading.listed()
    reading.desk.clock.forward(seconds=5)
    answer = await reading.update({before.id: UpdateContextParams(body="eleven\r\n")})
    (after,) = await reading.listed()
    assert (after.id, after.created_at) == (before.id, before.created_at)
    assert (after.sha, after.body_size) == (hashlib.sha256(b"eleven\r\n").hexdigest(), 8)
    assert after.updated_at != before.updated_at
    assert (answer.tokens_added, answer.total_tokens, after.num_tokens) == (1, 2, 2)


async def test_an_update_of_a_map_touches_the_paths_that_it_names(reading: Reading) -> None:
    await reading.load(map_item(a__py="- a", b__py="- b", c__py="- c"))
    (before,) = await reading.listed()
    change = UpdateContextParams(
        map_bodies={"b.py": "- bb", "d.py": "- d"},
        input_shas={"b.py": "2", "d.py": "3"},
        input_tokens={"b.py": 1, "d.py": 1},
        input_sizes={"b.py": 4, "d.py": 4},
        removed_map_paths=["c.py"],
    )
    await reading.update({before.id: change})
    item = await reading.item("cwd")
    assert dict(item.map_parts) == {"a.py": "- a", "b.py": "- bb", "d.py": "- d"}
    assert dict(item.map_shas) == {"a.py": "sha of a.py", "b.py": "2", "d.py": "3"}
    assert (dict(item.map_tokens), dict(item.map_sizes)) == (
        {"a.py": 7, "b.py": 1, "d.py": 1},
        {"a.py": 28, "b.py": 4, "d.py": 4},
    )
    assert (item.body_size, item.sha) == (len((await reading.body(item.id)).encode()), "")


async def test_an_update_of_an_unknown_item_changes_nothing(reading: Reading) -> None:
    await reading.load(file("a.py", "one\n"))
    (item,) = await reading.listed()
    with pytest.raises(NotFound):
        await reading.update({item.id: UpdateContextParams(body="two\n"), "nothing": UpdateContextParams(body="x")})
    assert await reading.listed() == [item]
    assert (await reading.update({})).msg == "No context added"


async def test_removal_passes_over_what_is_unknown_or_false(reading: Reading) -> None:
    await reading.load(file("a.py", "x" * 40), file("b.py", "x" * 4))
    a, b = await reading.listed()
    answer = await reading.remove(a.id, "nothing", **{b.id: False})
    assert (answer.tokens_removed, answer.total_tokens) == (10, 1)
    assert [item.id for item in await reading.listed()] == [b.id]
    nothing = await reading.remove("nothing")
    assert (nothing.tokens_removed, nothing.total_tokens, nothing.msg) == (0, 1, "No context removed")
    assert len(await reading.log()) == 2
    with pytest.raises(NotFound, match="Context not found"):
        await reading.body(a.id)


@pytest.mark.parametrize(("text", "fits"), [("first\n" + OLD, True), (OLD.replace("line 9\n", "line nine\n"), False)])
async def test_an_update_drops_pending_edits_that_no_longer_fit(reading: Reading, text: str, fits: bool) -> None:
    await reading.load(file("a.py", OLD), file("b.py", OLD))
    await reading.pend(edit("a.py", OLD, NEW), edit("b.py", OLD, NEW))
    await reading.update({(await reading.item("a.py")).id: UpdateContextParams(body=text)})
    state = await reading.desk.state()
    assert [result.path for result in state.results] == (["a.py", "b.py"] if fits else ["b.py"])
    assert dict(state.descriptions[0].build_paths_invalidated) == ({} if fits else {"a.py": True})
    if fits:
        assert current_files(state).files["a.py"] == "first\n" + NEW


async def test_a_file_that_is_loaded_takes_the_place_of_a_pending_new_one(reading: Reading) -> None:
    await reading.pend(edit("a.py", None, "print()\n"), edit("b.py", None, "print()\n"))
    await reading.load(file("a.py", "# mine\n"), file("b.py", ""))
    state = await reading.desk.state()
    assert dict(current_files(state).files) == {"b.py": "print()\n"}
    assert dict(state.descriptions[0].build_paths_invalidated) == {"a.py": True}


async def test_removal_drops_pending_edits_but_not_new_files(reading: Reading) -> None:
    await reading.load(file("a.py", OLD), file("gone.py", OLD), note(OLD, name="new.py"))
    await reading.pend(edit("a.py", OLD, NEW), edit("new.py", None, "x\n"), edit("gone.py", OLD, None))
    await reading.remove(*(item.id for item in await reading.listed()))
    state = await reading.desk.state()
    files = current_files(state)
    assert (dict(files.files), dict(files.removed_by_path)) == ({"new.py": "x\n"}, {"gone.py": True})
    assert dict(state.descriptions[0].build_paths_invalidated) == {"a.py": True}


async def test_only_who_may_work_on_a_plan_sees_and_changes_its_context(reading: Reading) -> None:
    for caller, refusal in ((reading.desk.eve, NotFound), (reading.desk.bob, Unauthenticated)):
        with pytest.raises(refusal):
            await reading.service.list_context(ListContextRequest(**PLAN), call_of(caller))
        with pytest.raises(refusal):
            await reading.service.load_context(LoadContextRequest(**PLAN, items=[file("a", "x")]), call_of(caller))
    assert await reading.listed() == []


async def test_over_rest_every_shape_is_what_the_command_line_sends_and_reads(busbar: Running, alice: Person) -> None:
    web, path = busbar.http(alice.session), f"/plans/{await make_plan(busbar, alice)}/main/context"
    sent = {"contextType": "file", "name": "a.py", "url": "", "file_path": "a.py", "body": "x\r\n", "forceSkipIgnore": False}
    empty = dict.fromkeys(("inputShas", "inputTokens", "inputSizes", "mapBodies", "apiKeys", "authVars"))
    loaded = await web.post(
        path,
        json=[{**sent, **empty, "imageDetail": "", "autoLoaded": False, "openAIBase": "", "openAIOrgId": "", "sessionId": ""}],
    )
    assert (loaded.status_code, loaded.json()["tokensAdded"]) == (200, 1)
    assert set(loaded.json()) == {"tokensAdded", "totalTokens", "maxTokensExceeded", "maxTokens", "msg"}
    (item,) = (await web.get(path)).json()
    always = {"id", "ownerId", "contextType", "name", "url", "file_path", "sha", "numTokens", "forceSkipIgnore", "autoLoaded"}
    assert set(item) == {*always, "createdAt", "updatedAt", "bodySize"}
    assert (item["file_path"], item["sha"]) == ("a.py", hashlib.sha256(b"x\r\n").hexdigest())

    updated = await web.put(path, json={item["id"]: {"body": "x" * 9, "removedMapPaths": None, "mapBodies": None}})
    assert (updated.status_code, updated.json()["totalTokens"]) == (200, 3)
    assert (await web.get(f"{path}/{item['id']}/body")).json() == {"body": "x" * 9}
    removed = await web.request("DELETE", path, json={"ids": {item["id"]: True}})
    assert (removed.status_code, removed.headers["content-type"]) == (200, "application/json")
    assert {"tokensRemoved": 3, "totalTokens": 0}.items() <= removed.json().items()
    gone = await web.get(f"{path}/{item['id']}/body")
    assert (gone.status_code, gone.text) == (404, "Context not found\n")
    await refused(web, path)


async def refused(web: httpx.AsyncClient, path: str) -> None:
    """Check that refusals are texts, since the command line ends at any other."""
    for body in (
        [{"contextType": "image", "name": "a", "body": "x"}],
        [{"contextType": "directoryTree", "name": "a"}],
        {"a": 1},
    ):
        answer = await web.post(path, json=body)
        assert (answer.status_code, answer.headers["content-type"]) == (400, "text/plain; charset=utf-8")
    assert (await web.put(path, json={"nothing": {"body": ""}})).status_code == 404


@pytest.mark.parametrize("door", ["grpc", "mcp"])
async def test_other_doors_load_the_same(busbar: Running, alice: Person, eve: Person, door: str) -> None:
    plan_id = await make_plan(busbar, alice)
    name, items = (
        "plans.ContextService.LoadContext",
        [{"context_type": "file", "name": "a.py", "file_path": "a.py", "body": "x"}],
    )
    sent = [{"contextType": "file", "name": "a.py", "file_path": "a.py", "body": "x"}] if door == "mcp" else items
    answer = await busbar.client(door, alice.session).call(name, plan_id=plan_id, branch="main", items=sent)
    assert (answer.tokens_added, answer.total_tokens) == (1, 1)
    with pytest.raises(Refused):
        await busbar.client(door, eve.session).call(name, plan_id=plan_id, branch="main", items=sent)
