"""Plans about projects of makers: documents become context, and what is pending becomes a revision of the firmware."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import product
from typing import Any

import pytest

from core.kernel.errors import Unavailable
from core.live.bus import Policy
from core.maker.access import Role
from core.maker.documents import ProjectDocuments
from core.maker.events import DocumentSaved, project_topic
from core.plans import project_documents
from core.plans.condensing import Condenser
from core.plans.current import current_files
from core.plans.run_tables import PlanRunRow
from core.plans.state import PlanState
from core.plans.store import PlanStore
from gen.busbar.api.v1.options_pb import CredentialKind
from gen.busbar.plans.v1.changes_pb import PlanFileResult
from tests.conftest import Person, Running, Start
from tests.doors import Refused
from tests.maker.projects import make_project
from tests.plans.desk import principal
from tests.plans.reading import edit, make_plan, pend, store_of

SKETCH = """\
#include "pins.h"

void setup() {
  pinMode(LED, OUTPUT);
}

void loop() {
  digitalWrite(LED, HIGH);
  delay(1000);
  digitalWrite(LED, LOW);
  delay(1000);
}
"""
FASTER = SKETCH.replace("1000", "250")
PINS = "#define LED 13\r\n"
WIRING = {"parts": [{"id": "led", "pin": 13}]}

LOAD, APPLY = "ProjectDocumentService.LoadProjectDocuments", "ProjectDocumentService.ApplyToProject"


@dataclass
class Work:
    """Alice's project with a sketch, and a plan of hers."""

    busbar: Running
    alice: Person
    project_id: str
    plan_id: str
    files: dict[str, str] = field(default_factory=lambda: {"main.ino": SKETCH, "pins.h": PINS})

    @property
    def names(self) -> dict[str, str]:
        """What both rpcs are asked with."""
        return {"plan_id": self.plan_id, "branch": "main", "project_id": self.project_id}

    async def call(self, name: str, door: str = "grpc", by: Person | None = None, /, **fields: Any) -> Any:
        """Call an rpc as Alice, or as somebody else."""
        return await self.busbar.client(door, (by or self.alice).session).call(name, **fields)

    async def load(self, door: str = "grpc", **fields: Any) -> Any:
        """Load the documents."""
        return await self.call(LOAD, door, **{**self.names, **fields})

    async def apply(self, door: str = "grpc", **fields: Any) -> Any:
        """Save what is pending."""
        return await self.call(APPLY, door, **{**self.names, **fields})

    async def save(self, files: dict[str, str], **fields: Any) -> Any:
        """Save the firmware as its own editor does."""
        texts = [{"path": path, "content": text} for path, text in files.items()]
        return await self.call("FirmwareService.SaveFirmware", project_id=self.project_id, files=texts, **fields)

    async def firmware(self) -> tuple[int, dict[str, str]]:
        """Return the revision of the firmware and its files."""
        found = await self.call("FirmwareService.GetFirmware", project_id=self.project_id)
        return found.revision, {file.path: file.content for file in found.files}

    async def state(self, busbar: Running | None = None) -> PlanState:
        """Return the state of the plan."""
        store = store_of(busbar or self.busbar)
        return await store.read(await store.open(self.caller, self.plan_id, "main"))

    async def context(self) -> dict[str, str]:
        """Return the bodies of the context, by path."""
        return {item.file_path: item.body for item in (await self.state()).contexts.values()}

    async def log(self) -> list[str]:
        """Return the entries of the plan, newest first."""
        store = store_of(self.busbar)
        return [entry.message for entry in await store.log(await store.open(self.caller, self.plan_id, "main"))]

    @property
    def caller(self) -> Any:
        """Alice as a caller."""
        return principal(self.alice.org_id, self.alice.id)

    async def pend(self, *results: PlanFileResult, message: str = "Blink faster") -> None:
        """Let results be pending, built from one reply."""
        async with store_of(self.busbar).change(self.caller, self.plan_id, "main") as change:
            pend(change.state, *results, message=message)
            change.message = "Build pending changes"


async def work_of(busbar: Running, alice: Person, *, firmware: bool = True) -> Work:
    project_id = await make_project(busbar, alice)
    work = Work(busbar, alice, project_id, await make_plan(busbar, alice))
    if firmware:
        await work.save(work.files)
        await work.call("DesignService.SaveWiring", project_id=project_id, data=WIRING)
    return work


@pytest.fixture
async def work(busbar: Running, alice: Person) -> Work:
    return await work_of(busbar, alice)


@pytest.mark.parametrize("door", ["grpc", "rest", "mcp"])
async def test_a_sketch_is_loaded_edited_and_applied_as_a_new_revision(work: Work, door: str) -> None:
    loaded = await work.load(door)
    assert loaded.msg.startswith("Loaded 3 files into context")
    assert await work.context() == {**work.files, "wiring.json": json.dumps(WIRING, indent=2)}

    await work.pend(edit("main.ino", SKETCH, FASTER))
    applied = await work.apply(door)
    assert (applied.commit_msg, applied.revision, list(applied.paths)) == ("Blink faster\n", 2, ["main.ino"])
    assert await work.firmware() == (2, {"main.ino": FASTER, "pins.h": PINS})

    history = await work.call("DocumentHistoryService.ListRevisions", project_id=work.project_id, kind="firmware")
    assert [(one.revision, one.updated_by) for one in history.revisions] == [(2, work.alice.id), (1, work.alice.id)]
    state = await work.state()
    assert dict(current_files(state).files) == {}
    assert [(one.commit_msg, one.user_id) for one in state.applies] == [("Blink faster", work.alice.id)]
    assert state.descriptions[0].applied_at is not None
    assert (await work.context())["main.ino"] == FASTER
    assert (await work.log())[0].startswith("✅ Marked pending results as applied\n • 📄 main.ino\n✏️  Blink faster\n")
    with pytest.raises(Refused, match="no change of the firmware is pending"):
        await work.apply(door)


async def test_new_and_removed_files_are_saved_too(work: Work) -> None:
    await work.load()
    await work.pend(edit("pins.h", PINS, None), edit("lib/led.h", None, "#pragma once\n"))
    assert list((await work.apply()).paths) == ["lib/led.h", "pins.h"]
    assert await work.firmware() == (2, {"main.ino": SKETCH, "lib/led.h": "#pragma once\n"})
    assert set(await work.context()) == {"main.ino", "lib/led.h", "wiring.json"}


async def test_loading_again_brings_what_changed_up_to_date(work: Work) -> None:
    assert (await work.load(kinds=["firmware"])).msg.startswith("Loaded 2 files")
    assert (await work.load(kinds=["firmware"])).msg == "No context added"
    await work.save({"main.ino": FASTER, "pins.h": PINS, "new.h": "x"})
    answer = await work.load()
    assert answer.msg.startswith("Updated a file in context")
    assert "\n\nLoaded 2 files into context" in answer.msg
    assert await work.context() == {
        "main.ino": FASTER,
        "pins.h": PINS,
        "new.h": "x",
        "wiring.json": json.dumps(WIRING, indent=2),
    }
    assert len(await work.log()) == 3


async def test_firmware_that_changed_since_it_was_loaded_is_not_overwritten(work: Work) -> None:
    await work.load()
    await work.pend(edit("main.ino", SKETCH, FASTER))
    await work.save({"main.ino": SKETCH + "// mine\n", "pins.h": PINS})
    with pytest.raises(Refused, match=r"main\.ino has changed in the project since it was loaded") as refusal:
        await work.apply()
    assert refusal.value.code == "CONFLICT"
    assert await work.firmware() == (2, {"main.ino": SKETCH + "// mine\n", "pins.h": PINS})
    assert dict(current_files(await work.state()).files) == {"main.ino": FASTER}
    # Its own change is out of the way of the pending one, so both are in once it is loaded again.
    await work.load()
    assert (await work.apply()).revision == 3
    assert (await work.firmware())[1]["main.ino"] == FASTER + "// mine\n"


async def test_a_change_of_another_file_of_the_firmware_is_kept(work: Work) -> None:
    await work.load()
    await work.pend(edit("main.ino", SKETCH, FASTER))
    await work.save({"main.ino": SKETCH, "pins.h": "#define LED 2\n"})
    assert (await work.apply()).revision == 3
    assert (await work.firmware())[1] == {"main.ino": FASTER, "pins.h": "#define LED 2\n"}


async def test_a_save_between_reading_and_saving_is_a_conflict(work: Work, monkeypatch: pytest.MonkeyPatch) -> None:
    await work.load()
    await work.pend(edit("main.ino", SKETCH, FASTER))

    async def meanwhile(*_: Any) -> str:
        await work.save({"main.ino": SKETCH, "pins.h": "// meanwhile\n"})
        return ""

    monkeypatch.setattr(project_documents, "commit_message", meanwhile)
    with pytest.raises(Refused) as refusal:
        await work.apply()
    assert refusal.value.code == "CONFLICT"
    assert (await work.firmware())[1]["main.ino"] == SKETCH
    assert dict(current_files(await work.state()).files) == {"main.ino": FASTER}


async def test_a_branch_that_changed_meanwhile_is_a_conflict(work: Work, monkeypatch: pytest.MonkeyPatch) -> None:
    await work.load()
    await work.pend(edit("main.ino", SKETCH, FASTER))

    async def meanwhile(*_: Any) -> str:
        await work.pend(edit("more.h", None, "x\n"))
        return ""

    monkeypatch.setattr(project_documents, "commit_message", meanwhile)
    with pytest.raises(Refused, match="the branch changed meanwhile"):
        await work.apply()
    assert await work.firmware() == (1, work.files)


async def test_changes_of_other_paths_stay_pending(work: Work) -> None:
    await work.load()
    notes = {"context_type": "file", "name": "notes.md", "file_path": "notes.md", "body": "old\n"}
    names = {"plan_id": work.plan_id, "branch": "main"}
    await work.call("plans.ContextService.LoadContext", **names, items=[notes])
    await work.pend(edit("main.ino", SKETCH, FASTER), edit("notes.md", "old\n", "new\n"), edit("_apply.sh", None, "make\n"))
    applied = await work.apply()
    assert (list(applied.paths), applied.commit_msg) == (["main.ino"], "Blink faster\n")
    state = await work.state()
    assert dict(current_files(state).files) == {"notes.md": "new\n", "_apply.sh": "make\n"}
    assert (await work.context())["notes.md"] == "old\n"
    # The reply is applied as a whole with the last of its files.
    assert state.descriptions[0].applied_at is None
    assert (await work.call("plans.ChangeService.ApplyPlan", **names)).commit_msg == "Blink faster\n"
    assert (await work.state()).descriptions[0].applied_at is not None


async def test_messages_of_several_replies_become_one(work: Work, monkeypatch: pytest.MonkeyPatch) -> None:
    await work.load()
    await work.pend(edit("main.ino", SKETCH, FASTER))
    await work.pend(edit("lib/led.h", None, "x\n"), message="Add a header")
    asked: list[tuple[str, ...]] = []

    async def condense(_self: Condenser, _org: str, _settings: Any, _keys: Any, messages: Any) -> str:
        asked.append(tuple(messages))
        return "Blink faster with a header"

    monkeypatch.setattr(Condenser, "__call__", condense)
    assert (await work.apply()).commit_msg == "Blink faster with a header"
    assert asked == [("Blink faster", "Add a header")]


async def test_without_a_model_that_condenses_the_messages_stand_one_by_one(work: Work) -> None:
    await work.load()
    await work.pend(edit("main.ino", SKETCH, FASTER))
    await work.pend(edit("lib/led.h", None, "x\n"), message="Add a header")
    assert (await work.apply()).commit_msg == "Blink faster\nAdd a header\n"


@pytest.mark.parametrize("loaded", [[], ["firmware"], ["wiring"]])
async def test_nothing_is_saved_from_a_plan_that_has_not_read_the_project(work: Work, loaded: list[str]) -> None:
    if loaded:
        await work.load(kinds=loaded)
    await work.pend(edit("new.h", None, "x\n"))
    if loaded:
        assert (await work.apply()).revision == 2
    else:
        with pytest.raises(Refused, match="no document of this project is loaded"):
            await work.apply()


@pytest.mark.parametrize(("path", "language"), [("main.ino", "arduino"), ("main.py", "micropython"), ("main.cpp", "cpp")])
async def test_the_first_firmware_of_a_project_may_come_from_a_plan(
    busbar: Running, alice: Person, path: str, language: str
) -> None:
    work = await work_of(busbar, alice, firmware=False)
    assert (await work.load()).msg == "No context added"
    await work.call("DesignService.SaveWiring", project_id=work.project_id, data=WIRING)
    await work.load()
    await work.pend(edit(path, None, "start\n"))
    assert (await work.apply()).revision == 1
    saved = await work.call("FirmwareService.GetFirmware", project_id=work.project_id)
    assert (saved.language, saved.entry, saved.source) == (language, path, "start\n")


async def test_the_entry_and_the_language_stay_as_they_are(busbar: Running, alice: Person) -> None:
    work = await work_of(busbar, alice, firmware=False)
    await work.save({"boot.py": "a\n"}, language="micropython", entry="boot.py")
    await work.load()
    await work.pend(edit("boot.py", "a\n", "b\n"))
    await work.apply()
    saved = await work.call("FirmwareService.GetFirmware", project_id=work.project_id)
    assert (saved.language, saved.entry, saved.source) == ("micropython", "boot.py", "b\n")
    await work.pend(edit("boot.py", "b\n", None), edit("other.py", None, "x\n"))
    with pytest.raises(Refused) as refusal:
        await work.apply()
    assert refusal.value.code == "INVALID_ARGUMENT"


async def test_a_file_of_the_firmware_comes_before_the_wiring_of_its_name(work: Work) -> None:
    await work.save({**work.files, "wiring.json": "{}\n"})
    await work.load()
    assert (await work.context())["wiring.json"] == "{}\n"
    await work.pend(edit("wiring.json", "{}\n", "[]\n"))
    await work.apply()
    assert (await work.firmware())[1]["wiring.json"] == "[]\n"


async def test_the_project_of_somebody_else_is_not_there(work: Work, eve: Person) -> None:
    names = {**work.names, "plan_id": await make_plan(work.busbar, eve)}
    for name, door in product((LOAD, APPLY), ("grpc", "rest", "mcp")):
        with pytest.raises(Refused, match=f"project {work.project_id} not found") as refusal:
            await work.call(name, door, eve, **names)
        assert refusal.value.code == ("TOOL_ERROR" if door == "mcp" else "NOT_FOUND")
    with pytest.raises(Refused, match="plan not found"):
        await work.call(LOAD, "grpc", eve, **{**work.names, "project_id": await make_project(work.busbar, eve)})


async def test_a_viewer_may_load_but_not_save(work: Work) -> None:
    viewer = await work.busbar.person("viewer")
    who = {"project_id": work.project_id, "user_id": viewer.id}
    await work.call("CollaboratorService.AddCollaborator", **who, role=Role.VIEWER.word)
    theirs = Work(work.busbar, viewer, work.project_id, await make_plan(work.busbar, viewer))
    assert (await theirs.load()).tokens_added
    await theirs.pend(edit("main.ino", SKETCH, FASTER))
    with pytest.raises(Refused) as refusal:
        await theirs.apply()
    assert refusal.value.code == "PERMISSION_DENIED"
    assert await work.firmware() == (1, work.files)
    assert dict(current_files(await theirs.state()).files) == {"main.ino": FASTER}


async def test_a_key_reaches_the_project_only_with_its_scopes(work: Work) -> None:
    await work.load()
    await work.pend(edit("main.ino", SKETCH, FASTER))
    for scopes, calls in (((), (LOAD, APPLY)), (("projects:read",), (APPLY,))):
        key = await work.busbar.key(work.alice, CredentialKind.AGENT_KEY, "plans:read", "plans:write", *scopes)
        for name in calls:
            with pytest.raises(Refused, match="insufficient scope: projects:") as refusal:
                await work.busbar.client("grpc", key).call(name, **work.names)
            assert refusal.value.code == "PERMISSION_DENIED"
    assert await work.firmware() == (1, work.files)
    key = await work.busbar.key(work.alice, CredentialKind.AGENT_KEY, "plans:write", "projects:read", "projects:write")
    assert (await work.busbar.client("grpc", key).call(APPLY, **work.names)).revision == 2


async def test_nothing_is_saved_while_a_run_is_active(work: Work) -> None:
    await work.load()
    await work.pend(edit("main.ino", SKETCH, FASTER))
    opened = await store_of(work.busbar).open(work.caller, work.plan_id, "main")
    now_us = work.busbar.clock.now_us()
    async with work.busbar.app.database.unit_of_work() as session:
        whose: dict[str, Any] = {
            "org_id": work.alice.org_id,
            "user_id": work.alice.id,
            "plan_id": work.plan_id,
            "branch_id": opened.branch.id,
        }
        run: dict[str, Any] = {"id": "run", "branch": "main", "kind": "tell", "request": "{}", "prompt": "", "owner": "x"}
        session.add(PlanRunRow(**whose, **run, lease_us=now_us, started_us=now_us))
    with pytest.raises(Refused, match="a run is active"):
        await work.apply()
    assert await work.firmware() == (1, work.files)


async def test_who_watches_the_project_hears_of_the_new_revision(work: Work) -> None:
    await work.load()
    await work.pend(edit("main.ino", SKETCH, FASTER))
    async with work.busbar.app.bus.subscribe(project_topic(work.project_id), policy=Policy.LAGGED, size=8) as events:
        await work.apply()
        _, event = await asyncio.wait_for(anext(aiter(events)), 5)
    assert isinstance(event, DocumentSaved)
    assert (event.kind, event.revision) == ("firmware", 2)


@pytest.mark.parametrize(
    ("where", "what", "late"),
    [(ProjectDocuments, "_store", True), (ProjectDocuments, "_store", False), (PlanStore, "_commit", False)],
)
async def test_a_failure_meanwhile_saves_neither(
    work: Work, monkeypatch: pytest.MonkeyPatch, where: type, what: str, late: bool
) -> None:
    await work.load()
    await work.pend(edit("main.ino", SKETCH, FASTER))
    entries = await work.log()
    real: Callable[..., Any] = getattr(where, what)

    async def fail(*arguments: Any, **named: Any) -> Any:
        if late:
            await real(*arguments, **named)
        raise Unavailable("the disk is full")

    monkeypatch.setattr(where, what, fail)
    with pytest.raises(Refused, match="the disk is full"):
        await work.apply()
    monkeypatch.undo()
    assert (await work.firmware(), await work.log()) == ((1, work.files), entries)
    assert dict(current_files(await work.state()).files) == {"main.ino": FASTER}
    assert (await work.apply()).revision == 2


async def test_a_server_that_is_killed_meanwhile_has_saved_both_or_neither(start: Start) -> None:
    busbar = await start()
    work = await work_of(busbar, await busbar.person("alice"))
    await work.load()
    await work.pend(edit("main.ino", SKETCH, FASTER))
    data, request = busbar.app.settings.data, json.dumps(work.names)
    caller = json.dumps([work.alice.org_id, work.alice.id])
    command = (sys.executable, "-m", "tests.plans.killed_saving", str(data), request, caller)

    # Had the first one saved anything, the second one would be refused, or make a further revision.
    child = await asyncio.create_subprocess_exec(*command, "saved without commit", "committed without reference")
    assert await asyncio.wait_for(child.wait(), 60) == 0
    assert await work.firmware() == (2, {**work.files, "main.ino": FASTER})
    state = await work.state()
    assert (dict(current_files(state).files), len(state.applies)) == ({}, 1)
    assert [entry.partition("\n")[0] for entry in await work.log()][:2] == [
        "✅ Marked pending results as applied",
        "Build pending changes",
    ]
