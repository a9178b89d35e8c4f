"""Maps of a project: made at request within limits, and brought along to the next plan."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from threading import Event

import httpx
import pytest

from core.kernel.errors import DeadlineExceeded, InvalidArgument, NotFound, ResourceExhausted
from core.plans import file_maps, map_cache
from core.plans.file_maps import FileMapService
from gen.busbar.plans.v1.contexts_pb import UpdateContextParams
from gen.busbar.plans.v1.file_maps_pb import (
    CreateFileMapRequest,
    LoadCachedFileMapRequest,
    LoadCachedFileMapResponse,
)
from tests.conftest import Person, Running
from tests.plans.desk import Desk, call_of
from tests.plans.reading import Reading, file, make_plan, map_item


class Mapping:
    """Two plans of a project, and the service of maps."""

    def __init__(self, desk: Desk) -> None:
        self.reading = Reading(desk)
        self.service = FileMapService(desk.store, self.reading.keeper, self.reading.maps)
        self.call = call_of(desk.alice)

    async def create(self, **files: str) -> dict[str, str]:
        """Make maps; `__` stands for the dot in names of files."""
        inputs = {name.replace("__", "."): text for name, text in files.items()}
        return dict((await self.service.create_file_map(CreateFileMapRequest(map_inputs=inputs), self.call)).map_bodies)

    async def cached(self, *paths: str, plan_id: str = "plan-2") -> LoadCachedFileMapResponse:
        """Load what the project has had of some directories."""
        request = LoadCachedFileMapRequest(plan_id=plan_id, branch="main", file_paths=list(paths))
        return await self.service.load_cached_file_map(request, self.call)


async def _mapping(desk: Desk) -> Mapping:
    await desk.plan()
    await desk.plan(plan_id="plan-2", project_id="project-of-plan-1")
    return Mapping(desk)


@pytest.fixture
async def mapping(desk: Desk) -> AsyncIterator[Mapping]:
    made = await _mapping(desk)
    yield made
    await made.service.stop()


async def test_every_file_has_a_map_and_it_may_be_empty(mapping: Mapping) -> None:
    assert await mapping.create(a__py="def a(): ...\n", b__bin="\0", c__py="") == {"a.py": "- def a()", "b.bin": "", "c.py": ""}
    assert await mapping.create() == {}


@pytest.mark.parametrize(("constant", "value"), [("MOST_PATHS", 1), ("MOST_BYTES", 5), ("MOST_FILE", 5)])
async def test_a_request_beyond_a_limit_is_refused(
    mapping: Mapping, monkeypatch: pytest.MonkeyPatch, constant: str, value: int
) -> None:
    monkeypatch.setattr(file_maps, constant, value)
    with pytest.raises(InvalidArgument):
        await mapping.create(a__py="ü" * 3, b__py="x")


def test_the_limits_are_those_of_the_contract() -> None:
    assert (file_maps.MOST_PATHS, file_maps.MOST_BYTES, file_maps.MOST_FILE) == (500, 10 * 1024 * 1024, 512_000)
    assert (file_maps.MOST_WAITING, file_maps.MOST_SECONDS) == (20, 60)


async def test_too_many_at_once_are_asked_to_come_again(mapping: Mapping, monkeypatch: pytest.MonkeyPatch) -> None:
    go = Event()

    def slow(_path: str, _text: str) -> str:
        go.wait(20)
        return "- a"

    monkeypatch.setattr(file_maps, "map_of", slow)
    waiting = [asyncio.create_task(mapping.create(a__py="x")) for _ in range(file_maps.MOST_WAITING)]
    await asyncio.sleep(0)
    with pytest.raises(ResourceExhausted) as refusal:
        await mapping.create(a__py="x")
    assert refusal.value.retry_after
    go.set()
    assert await asyncio.gather(*waiting) == [{"a.py": "- a"}] * file_maps.MOST_WAITING
    assert await mapping.create(a__py="x") == {"a.py": "- a"}


async def test_what_takes_too_long_is_given_up(mapping: Mapping, monkeypatch: pytest.MonkeyPatch) -> None:
    go, made = Event(), list[str]()

    def slow(path: str, _text: str) -> str:
        made.append(path)
        go.wait(20)
        return ""

    monkeypatch.setattr(file_maps, "map_of", slow)
    monkeypatch.setattr(file_maps, "MOST_SECONDS", 0.05)
    with pytest.raises(DeadlineExceeded):
        await mapping.create(a__py="x", b__py="x")
    assert mapping.call.status == 408
    go.set()
    monkeypatch.setattr(file_maps, "MOST_SECONDS", 20)
    await mapping.create(c__py="x")
    # Nobody waits for the second file any more.
    assert made == ["a.py", "c.py"]


async def test_the_next_plan_of_a_project_takes_over_its_newest_maps(any_desk: Desk) -> None:
    mapping = await _mapping(any_desk)
    reading = mapping.reading
    await reading.load(map_item(a__py="- a", b__py="- b"), map_item("src", c__py="- c"))
    change = UpdateContextParams(map_bodies={"a.py": "- aa"}, removed_map_paths=["b.py"])
    await reading.update({(await reading.item("cwd")).id: change})
    answer = await mapping.cached(".", "src", "nothing")
    assert answer.load_res is not None
    assert answer.load_res.msg.startswith("Loaded 2 maps into context")
    assert answer.cached_by_path is not None
    assert dict(answer.cached_by_path.paths) == {".": True, "src": True}
    taken = {item.file_path: item for item in (await reading.desk.state("plan-2")).contexts.values()}
    whole = taken["."]
    assert (whole.name, dict(whole.map_parts), dict(whole.map_shas)) == ("cwd", {"a.py": "- aa"}, {"a.py": "sha of a.py"})
    assert (dict(taken["src"].map_tokens), dict(taken["src"].map_sizes)) == ({"c.py": 7}, {"c.py": 28})
    again = await mapping.cached(".")
    assert again.load_res is not None
    assert again.load_res.msg == "No context added"
    await mapping.service.stop()


async def test_where_a_project_has_had_no_map_both_members_are_null(mapping: Mapping) -> None:
    await mapping.reading.load(file("a.py", "x"))
    assert await mapping.cached(".", "a.py") == LoadCachedFileMapResponse()
    assert await mapping.cached() == LoadCachedFileMapResponse()


async def test_maps_stay_in_their_project(mapping: Mapping) -> None:
    await mapping.reading.load(map_item(a__py="- a"))
    await mapping.reading.desk.plan(plan_id="plan-3")
    assert await mapping.cached(".", plan_id="plan-3") == LoadCachedFileMapResponse()
    await mapping.reading.desk.plan(mapping.reading.desk.eve, plan_id="plan-of-eve")
    with pytest.raises(NotFound):
        await mapping.cached(".", plan_id="plan-of-eve")


async def test_a_map_that_was_refused_is_not_kept(mapping: Mapping, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("core.plans.context_keeper.context_limit", lambda *_: 1)
    assert (await mapping.reading.load(map_item(a__py="- a"))).max_tokens_exceeded
    assert await mapping.cached(".") == LoadCachedFileMapResponse()


async def test_a_map_of_a_very_long_path_is_loaded_but_not_kept(mapping: Mapping) -> None:
    path = "ü" * (map_cache.MOST_PATH // 2 + 1)
    assert (await mapping.reading.load(map_item(path, a__py="- a"))).tokens_added
    assert await mapping.cached(path) == LoadCachedFileMapResponse()


async def test_over_rest_maps_are_shown_as_the_command_line_reads_them(
    busbar: Running, alice: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    web, branch = busbar.http(alice.session), f"/plans/{await make_plan(busbar, alice)}/main"
    made = await web.post("/file_map", json={"mapInputs": {"src/a.py": "class A: ...\n", "b": "x"}})
    assert (made.status_code, made.json()) == (200, {"mapBodies": {"src/a.py": "- class A", "b": ""}})
    none = await web.post(f"{branch}/load_cached_file_map", json={"filePaths": ["."]})
    assert none.json() == {"loadRes": None, "cachedByPath": None}
    loaded = {
        "contextType": "map",
        "name": "cwd",
        "file_path": ".",
        "mapBodies": made.json()["mapBodies"],
        "inputShas": {"b": "1"},
    }
    assert (await web.post(f"{branch}/context", json=[loaded])).status_code == 200
    cached = (await web.post(f"{branch}/load_cached_file_map", json={"filePaths": ["."]})).json()
    assert (cached["cachedByPath"], cached["loadRes"]["msg"]) == ({".": True}, "No context added")
    await _refused(web, monkeypatch)


async def _refused(web: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch) -> None:
    body = {"mapInputs": {"a.py": "x" * 600_000}}
    assert (await web.post("/file_map", json=body)).status_code == 400
    for constant, status in (("MOST_SECONDS", 408), ("MOST_WAITING", 429)):
        monkeypatch.setattr(file_maps, constant, 0)
        answer = await web.post("/file_map", json={"mapInputs": {"a.py": "x"}})
        assert (answer.status_code, answer.headers["content-type"]) == (status, "text/plain; charset=utf-8")
