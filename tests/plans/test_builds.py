"""Builds: what becomes of the operations of replies."""

from __future__ import annotations

import asyncio

import pytest

from core.kernel.errors import AlreadyExists, NotFound, Unavailable
from core.plans.current import current_files, current_state, invalidate
from core.plans.run_tables import PlanRunRow
from core.plans.whole_file import extract
from gen.busbar.plans.v1.conversation_pb import Operation
from gen.busbar.plans.v1.runs_pb import BuildRequest
from tests.plans.running import BLOCK, Bench, bench, code, collected, error_of, flat, kinds, until

__all__ = ["bench"]

OLD = "one\ntwo\nthree\n"
EDIT = "# ... existing code ...\nnowhere to be found\n# ... existing code ...\n"


def block(path: str, content: str, description: str = "") -> Operation:
    return Operation(type="file", path=path, content=content, description=description)


async def test_nothing_to_build_is_said_in_the_words_that_clients_know(bench: Bench) -> None:
    with pytest.raises(NotFound, match=r"^No builds$"):
        await collected(bench.build())
    await collected(bench.tell())
    with pytest.raises(NotFound, match=r"^No builds$"):
        await bench.service.build(BuildRequest(plan_id="plan-1", branch="main"), bench.call)


async def test_replies_that_were_not_built_are_built_later(bench: Bench) -> None:
    await collected(bench.tell(build_mode="none"))
    state = await bench.state()
    assert (state.results, state.descriptions[0].did_build) == ([], False)
    messages = await collected(bench.build())
    assert kinds(messages) == ["start", "buildInfo", "finished"]
    state = await bench.state()
    assert state.descriptions[0].did_build
    assert current_files(state).files == {"a.txt": "hello\n"}
    assert await bench.branch_status() == "finished"


async def test_a_changed_file_is_stored_as_replacements(bench: Bench) -> None:
    await bench.desk.load("a.txt", OLD)
    await bench.described(block("a.txt", "one\n2\nthree\n"))
    await collected(bench.build())
    (result,) = (await bench.state()).results
    assert (result.content, result.type_version, result.replace_with_line_nums) == ("", 1, False)
    assert len(result.replacements) == 1
    assert current_files(await bench.state()).files == {"a.txt": "one\n2\nthree\n"}


async def test_a_new_file_is_stored_whole_and_changed_by_what_follows(bench: Bench) -> None:
    await bench.described(block("a.txt", OLD), block("a.txt", "one\n2\nthree\n"))
    await collected(bench.build())
    first, second = (await bench.state()).results
    assert first.content == OLD
    assert second.replacements
    assert current_files(await bench.state()).files == {"a.txt": "one\n2\nthree\n"}


async def test_files_are_moved_removed_and_reset_in_order(bench: Bench) -> None:
    await bench.desk.load("a.txt", OLD)
    await bench.desk.load("b.txt", OLD)
    await bench.desk.load("c.txt", OLD)
    await bench.described(
        block("c.txt", "changed\n"),
        Operation(type="move", path="a.txt", destination="d/a.txt"),
        Operation(type="remove", path="b.txt"),
        Operation(type="reset", path="c.txt"),
    )
    messages = await collected(bench.build())
    current = current_files(await bench.state())
    assert current.files == {"d/a.txt": OLD}
    assert set(current.removed_by_path) == {"a.txt", "b.txt"}
    removed = {m.build_info.path for m in flat(messages) if m.build_info is not None and m.build_info.removed}
    assert removed == {"a.txt", "b.txt"}


async def test_a_reset_drops_what_earlier_replies_changed(bench: Bench) -> None:
    await bench.desk.load("a.txt", OLD)
    await bench.described(block("a.txt", "changed\n"))
    await collected(bench.build())
    await bench.described(Operation(type="reset", path="a.txt"))
    await collected(bench.build())
    state = await bench.state()
    assert current_files(state).files == {}
    assert state.results[0].rejected_at is not None


async def test_an_edit_that_fits_nowhere_is_written_whole_by_a_model(bench: Bench) -> None:
    await bench.desk.load("a.py", OLD)
    bench.script.says["whole-file-builder"] = ["Sure.\n<PlandexWholeFile>\none\n2\nthree\n</PlandexWholeFile>\n"]
    await bench.described(block("a.py", EDIT, "Type: replace"))
    await collected(bench.build())
    assert current_files(await bench.state()).files == {"a.py": "one\n2\nthree\n"}
    (asked,) = bench.script.prompts("whole-file-builder")
    assert OLD in asked
    assert EDIT in asked


REPLACED = """\
It belongs where two is.

<PlandexVerdict>replacements</PlandexVerdict>

<PlandexReplacements>
<Replacement>
<Old>
two
</Old>
<New>
2
</New>
</Replacement>
</PlandexReplacements>
"""


async def test_an_edit_that_fits_nowhere_is_made_by_replacements_of_the_builder(bench: Bench) -> None:
    await bench.desk.load("a.py", OLD)
    pad = "I think. " * 40
    bench.script.says["builder"] = [[pad, REPLACED]]
    await bench.described(block("a.py", EDIT, "Type: replace"), block("b.txt", "fine\n"))
    messages = await collected(bench.build())
    assert kinds(messages)[-1] == "finished"
    assert current_files(await bench.state()).files == {"a.py": "one\n2\nthree\n", "b.txt": "fine\n"}
    assert bench.script.prompts("whole-file-builder") == []
    (asked,) = bench.script.prompts("builder")
    assert OLD in asked
    assert EDIT in asked
    told = [m.build_info for m in flat(messages) if m.build_info is not None and m.build_info.path == "a.py"]
    assert len(pad) // 4 in [info.num_tokens for info in told]
    assert told[-1].finished


async def test_a_builder_that_nobody_can_ask_is_no_reason_not_to_build(bench: Bench) -> None:
    await bench.desk.load("a.py", OLD)
    bench.script.says["builder"] = [[Unavailable("no provider")]]
    bench.script.says["whole-file-builder"] = ["<PlandexWholeFile>\none\n2\nthree\n</PlandexWholeFile>"]
    await bench.described(block("a.py", EDIT, "Type: replace"))
    await collected(bench.build())
    assert current_files(await bench.state()).files == {"a.py": "one\n2\nthree\n"}


async def test_a_file_that_no_model_writes_is_left_to_another_build(bench: Bench) -> None:
    await bench.desk.load("a.py", OLD)
    bench.script.says["builder"] = ["I would rather not."]
    bench.script.says["whole-file-builder"] = ["I would rather not."]
    await bench.described(block("a.py", EDIT, "Type: replace"), block("b.txt", "fine\n"))
    last = (await collected(bench.build()))[-1]
    assert last.type == "error"
    assert error_of(last).msg.startswith("Could not build a.py: ")
    state = await bench.state()
    assert current_files(state).files == {"b.txt": "fine\n"}
    assert dict(state.descriptions[0].build_paths_invalidated) == {"a.py": True}
    assert [len(bench.script.prompts(role)) for role in ("builder", "whole-file-builder")] == [2, 2]
    bench.script.says["whole-file-builder"] = ["<PlandexWholeFile>\none\n2\nthree\n</PlandexWholeFile>"]
    await collected(bench.build())
    state = await bench.state()
    assert current_files(state).files == {"a.py": "one\n2\nthree\n", "b.txt": "fine\n"}
    assert not state.descriptions[0].build_paths_invalidated


async def test_results_that_a_new_text_made_void_are_built_anew(bench: Bench) -> None:
    await bench.desk.load("a.txt", OLD)
    await bench.described(block("a.txt", "one\n2\nthree\n"), block("b.txt", "fine\n"))
    await collected(bench.build())
    async with bench.desk.store.change(bench.desk.alice, "plan-1", "main") as change:
        assert invalidate(change.state, "a.txt", "quite another text\n")
        for item in change.state.contexts.values():
            item.body = "quite another text\n"
        change.message = "Updated a.txt in context"
    assert list(current_files(await bench.state()).files) == ["b.txt"]
    await collected(bench.build())
    state = await bench.state()
    assert current_files(state).files == {"a.txt": "one\n2\nthree\n", "b.txt": "fine\n"}
    assert len([result for result in state.results if result.path == "b.txt"]) == 1
    assert current_state(state).plan_result is not None
    with pytest.raises(NotFound, match=r"^No builds$"):
        await collected(bench.build())


async def test_a_file_that_changes_during_its_build_is_built_again(bench: Bench) -> None:
    await bench.desk.load("a.py", OLD)
    gate = asyncio.Event()
    bench.script.says["whole-file-builder"] = [
        ["<PlandexWholeFile>\n", gate, "old build\n</PlandexWholeFile>"],
        "<PlandexWholeFile>\nnew build\n</PlandexWholeFile>",
    ]
    await bench.described(block("a.py", EDIT, "Type: replace"))
    stream = bench.build()
    await until(stream, "buildInfo")
    async with bench.desk.store.change(bench.desk.alice, "plan-1", "main") as change:
        for item in change.state.contexts.values():
            item.body = "a text of another kind\n"
        change.message = "Updated a.py in context"
    gate.set()
    assert kinds(await collected(stream))[-1] == "finished"
    assert current_files(await bench.state()).files == {"a.py": "new build\n"}


async def test_a_client_that_polls_sees_which_files_are_built(bench: Bench) -> None:
    await bench.desk.load("a.py", OLD)
    gate = asyncio.Event()
    bench.script.says["whole-file-builder"] = [["<PlandexWholeFile>\n", gate, "x = 1\n</PlandexWholeFile>"]]
    await bench.described(block("a.py", EDIT, "Type: replace"))
    stream = bench.build()
    await until(stream, "buildInfo")
    status = await bench.build_status()
    assert (dict(status.built_files), dict(status.is_building_by_path)) == ({}, {"a.py": True})
    assert await bench.branch_status() == "building"
    joined = bench.connect()
    await anext(joined)
    assert (await anext(joined)).init_build_only
    assert [build.path for build in [(await anext(joined)).build_info] if build is not None] == ["a.py"]
    with pytest.raises(AlreadyExists, match=r"^Error building plan: "):
        await collected(bench.build())
    gate.set()
    await collected(joined)
    await collected(stream)
    with pytest.raises(NotFound):
        await bench.build_status()


async def test_a_build_that_is_stopped_is_still_to_be_done(bench: Bench) -> None:
    await bench.desk.load("a.py", OLD)
    bench.script.says["whole-file-builder"] = [
        ["<PlandexWholeFile>\n", asyncio.Event()],
        "<PlandexWholeFile>\nx\n</PlandexWholeFile>",
    ]
    await bench.described(block("a.py", EDIT, "Type: replace"))
    stream = bench.build()
    await until(stream, "buildInfo")
    await bench.stop()
    assert kinds(await collected(stream))[-1] == "aborted"
    assert not (await bench.state()).descriptions[0].did_build
    await collected(bench.build())
    assert current_files(await bench.state()).files == {"a.py": "x\n"}


async def test_a_build_is_kept_as_a_run_of_its_kind(bench: Bench) -> None:
    await bench.described(block("a.txt", "hello\n"))
    started = await bench.service.build(BuildRequest(plan_id="plan-1", branch="main"), bench.call)
    await collected(bench.connect(0))
    async with bench.desk.database.read() as session:
        row = await session.get(PlanRunRow, started.id)
    assert row is not None
    assert (row.kind, row.status) == ("build", "finished")


async def test_a_path_outside_the_project_is_never_built(bench: Bench) -> None:
    bench.script.says["coder"] = [BLOCK.format(path="../../etc/passwd", text="x") + code()]
    await collected(bench.tell())
    assert list(current_files(await bench.state()).files) == ["a.txt"]


@pytest.mark.parametrize(
    ("answer", "original", "found"),
    [
        ("<PlandexWholeFile>\na\n</PlandexWholeFile>", "b\n", "a\n"),
        ("<PlandexWholeFile>a</PlandexWholeFile>", "b\n", "a\n"),
        ("<PlandexWholeFile>\na\n</PlandexWholeFile>", "b", "a"),
        ("<PlandexWholeFile>\na\n", "b\n", None),
        ("a", "b\n", None),
        ("<PlandexWholeFile></PlandexWholeFile>", "b\n", ""),
    ],
)
def test_a_whole_file_is_read_from_between_its_tags(answer: str, original: str, found: str | None) -> None:
    assert extract(answer, original) == found
