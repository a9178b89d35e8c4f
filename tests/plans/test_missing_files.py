"""Files that the model would write without having read them."""

from __future__ import annotations

import pytest

from core.kernel.errors import NotFound
from core.plans.current import current_files
from tests.plans.running import BLOCK, Bench, bench, code, collected, error_of, eventually, flags_of, kinds, text, until

__all__ = ["bench"]

PATHS = {"a.txt": True, "b.txt": True}


async def test_a_run_stops_before_a_file_that_it_has_not_read(bench: Bench) -> None:
    stream = bench.tell(project_paths=PATHS)
    seen = await until(stream, "promptMissingFile")
    assert seen[-1].type == "promptMissingFile"
    assert seen[-1].missing_file_path == "a.txt"
    assert not seen[-1].missing_file_auto_context
    assert "- a.txt:" in text(seen)
    assert "```" not in text(seen)
    assert await bench.branch_status() == "missingFile"
    run = await bench.status()
    assert (run.status, run.missing_file_path) == ("waiting", "a.txt")
    await bench.stop()
    await collected(stream)
    kept = (await bench.state()).messages[-1]
    assert kept.stopped
    assert kept.message == "Here it is.\n\n"


async def test_a_file_that_is_handed_over_is_read_before_the_reply_goes_on(bench: Bench) -> None:
    bench.script.says["coder"] = [code(), BLOCK.format(path="a.txt", text="new") + "\n**Write a** has been completed\n"]
    stream = bench.tell(project_paths=PATHS, auto_context=True)
    seen = await until(stream, "promptMissingFile")
    assert seen[-1].missing_file_auto_context
    await bench.respond("load", "a.txt", "old\n")
    rest = await collected(stream)
    assert kinds(rest)[-1] == "finished"
    assert text(seen + rest).count("- a.txt:") == 1
    again = bench.script.prompts("coder")[1]
    assert "- a.txt:\n\n```\nold\n\n```" in again
    assert "### BEGINNING OF YOUR REPLY ###\nHere it is." in again
    state = await bench.state()
    assert next(item for item in state.contexts.values() if item.file_path == "a.txt").auto_loaded
    assert state.messages[-1].message.count("<PlandexBlock") == 1
    assert state.messages[-1].message.startswith("Here it is.\n\n- a.txt:")
    (result,) = state.results
    assert (result.content, len(result.replacements)) == ("", 1)
    assert current_files(state).files == {"a.txt": "new\n"}


async def test_a_file_that_is_skipped_is_left_out(bench: Bench) -> None:
    bench.script.says["coder"] = [
        "Two files.\n\n"
        + BLOCK.format(path="a.txt", text="no")
        + "\nAnd the other.\n\n"
        + BLOCK.format(path="c.txt", text="yes")
        + "\n**Write a** has been completed\n"
    ]
    stream = bench.tell(project_paths=PATHS)
    seen = await until(stream, "promptMissingFile")
    await bench.respond("skip", "a.txt")
    rest = await collected(stream)
    assert "no\n" not in text(seen + rest)
    state = await bench.state()
    assert [operation.path for operation in state.descriptions[0].operations] == ["c.txt"]
    assert 'path="a.txt"' not in state.messages[-1].message
    assert "And the other." in state.messages[-1].message
    assert current_files(state).files == {"c.txt": "yes\n"}
    assert flags_of(state.messages[-1]).did_complete_task


async def test_a_skipped_file_is_not_asked_about_again_in_its_reply(bench: Bench) -> None:
    bench.script.says["coder"] = [BLOCK.format(path="a.txt", text="one") + BLOCK.format(path="a.txt", text="two") + "\nDone.\n"]
    stream = bench.tell(project_paths=PATHS)
    await until(stream, "promptMissingFile")
    await bench.respond("skip", "a.txt")
    assert "promptMissingFile" not in kinds(await collected(stream))
    assert (await bench.state()).descriptions == []


async def test_a_file_that_is_overwritten_goes_on_as_it_came(bench: Bench) -> None:
    stream = bench.tell(project_paths=PATHS)
    await until(stream, "promptMissingFile")
    await bench.respond("overwrite", "a.txt")
    rest = await collected(stream)
    assert "```text\nhello\n```" in text(rest)
    state = await bench.state()
    assert state.results[0].content == "hello\n"
    assert len(bench.script.prompts("coder")) == 1
    assert state.messages[-1].message == code()


async def test_the_model_is_read_on_while_the_user_thinks(bench: Bench) -> None:
    bench.script.says["coder"] = [code().splitlines(keepends=True)]
    stream = bench.tell(project_paths=PATHS)
    await until(stream, "promptMissingFile")
    await eventually(lambda: any(one.role == "coder" for one in bench.script.usage))
    assert (await bench.status()).status == "waiting"
    await bench.respond("overwrite", "a.txt")
    assert kinds(await collected(stream))[-1] == "finished"


@pytest.mark.parametrize("where", ["loaded", "pending", "not in the project", "in a chat"])
async def test_nobody_is_asked_about_a_file_that_is_known(bench: Bench, where: str) -> None:
    paths = dict(PATHS)
    if where == "loaded":
        await bench.desk.load("a.txt", "old\n")
    elif where == "pending":
        await collected(bench.tell())
    elif where == "not in the project":
        del paths["a.txt"]
    chat = where == "in a chat"
    if chat:
        bench.script.says["planner"] = [code()]
    messages = await collected(bench.tell(project_paths=paths, is_chat_only=chat))
    assert "promptMissingFile" not in kinds(messages)
    assert kinds(messages)[-1] == "finished"


async def test_an_answer_that_nobody_asked_for_is_refused(bench: Bench) -> None:
    with pytest.raises(NotFound):
        await bench.respond("skip", "a.txt")
    stream = bench.tell(project_paths=PATHS)
    await until(stream, "promptMissingFile")
    with pytest.raises(NotFound):
        await bench.respond("skip", "b.txt")
    await bench.respond("skip", "a.txt")
    await collected(stream)


async def test_who_connects_meanwhile_sees_the_question(bench: Bench) -> None:
    stream = bench.tell(project_paths=PATHS)
    await until(stream, "promptMissingFile")
    joined = bench.connect()
    await anext(joined)
    assert (await anext(joined)).missing_file_path == "a.txt"
    await bench.respond("overwrite", "a.txt")
    assert kinds(await collected(joined))[-1] == "finished"
    await collected(stream)


async def test_nobody_waits_for_an_answer_for_ever(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("core.plans.client_questions.MISSING_FILE_SECONDS", 0.05)
    last = (await collected(bench.tell(project_paths=PATHS)))[-1]
    assert last.type == "error"
    assert "a.txt" in error_of(last).msg
