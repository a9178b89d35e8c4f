"""A user of the command line works through every command, against a server that was started as the README says."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.clients.plans.command_line import CommandLine, Exited, Failed, Seen
from tests.clients.plans.server import serving

PYTHON = '"""Greets."""\n\n\ndef greet(name: str) -> str:\n    return f"Hello {name}"\n'


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server in local mode with the development model."""
    with serving(tmp_path_factory.mktemp("server") / "data") as address:
        yield address


@pytest.fixture
async def line(url: str, tmp_path: Path) -> AsyncIterator[CommandLine]:
    """Somebody who has signed in, with a project of three files."""
    folder = tmp_path / "hello"
    (folder / "src").mkdir(parents=True)
    (folder / "src" / "greet.py").write_text(PYTHON)
    (folder / "notes.md").write_text("# Notes\r\nbe kind\r\n")
    (folder / "old.txt").write_text("old\n")
    async with CommandLine(url, folder) as made:
        await made.sign_in()
        yield made


def text_of(seen: Seen) -> str:
    return "\n".join(seen.replies)


async def test_a_plan_writes_files_without_any_key(line: CommandLine) -> None:
    assert await line.new() == "draft"
    await line.load("notes.md", "old.txt")
    seen = await line.tell("write src/hello.py: print('hello')\\n# end\nremove old.txt\nwrite notes.md: # Notes\\nbe brief")
    assert seen.end == "finished"
    assert set(seen.built) == {"src/hello.py", "old.txt", "notes.md"}
    assert seen.removed == ["old.txt"]
    assert "```" in text_of(seen)
    assert "<Plandex" not in text_of(seen)
    assert (await line.plan())["name"] != "draft"
    diff = await line.diff()
    assert "+print('hello')" in diff
    assert "-be kind" in diff
    assert "\x1b[" in await line.diff(plain=False)
    assert (await line.apply()).strip()
    assert (line.folder / "src/hello.py").read_text() == "print('hello')\n# end\n"
    assert (line.folder / "notes.md").read_text() == "# Notes\nbe brief\n"
    assert not (line.folder / "old.txt").exists()
    assert await line.diff() == ""
    assert await line.apply() == ""
    assert await line.outdated() == []
    names = [item["name"] for item in await line.contexts()]
    assert sorted(names) == ["cwd", "notes.md", "src/hello.py"]


async def test_what_is_said_is_kept_and_can_be_taken_back(line: CommandLine) -> None:
    await line.new("talk")
    assert "how are you" in text_of(await line.chat("how are you"))
    await line.load("notes.md")
    await line.tell("write a.txt: one")
    messages = await line.conversation()
    assert [message["num"] for message in messages] == list(range(1, len(messages) + 1))
    assert messages[0]["flags"]["isChat"]
    assert (await line.summary()).startswith("Summary: ")
    entries = await line.log()
    assert any("Loaded" in message for _, message in entries)
    assert any("🏗️" in message for _, message in entries)
    loaded = next(sha for sha, message in entries if message.startswith("Loaded"))
    assert (await line.rewind(loaded)).startswith("📝 Update " + loaded)
    assert await line.diff() == ""
    assert len(await line.conversation()) == 2
    assert [sha for sha, _ in await line.log()] == [sha for sha, _ in entries][[sha for sha, _ in entries].index(loaded) :]


async def test_branches_go_their_own_way(line: CommandLine) -> None:
    await line.new("ways")
    await line.load("notes.md")
    await line.checkout("other")
    await line.tell("write b.txt: two")
    assert "b.txt" in await line.diff()
    await line.checkout("main")
    assert await line.diff() == ""
    assert sorted(await line.branches()) == ["main", "other"]
    await line.delete_branch("other")
    assert await line.branches() == ["main"]
    await line.checkout("other")
    assert await line.diff() == ""
    with pytest.raises(Failed, match="Cannot delete main branch"):
        await line.ask("DELETE", f"/plans/{line.plan_id}/branches/main")


async def test_context_is_shown_updated_and_removed(line: CommandLine) -> None:
    await line.new("context")
    message = await line.load("notes.md", "src/greet.py", note="keep the style of the house", tree=".", piped="ls -l\n")
    assert message.startswith("Loaded ")
    assert await line.show("notes.md") == "# Notes\nbe kind\n"
    assert await line.outdated() == []
    (line.folder / "notes.md").write_text("# Notes\nbe kind and brief\n")
    (line.folder / "src/greet.py").unlink()
    assert sorted(await line.outdated()) == ["notes.md", "src/greet.py"]
    assert "Updated" in await line.update()
    assert await line.outdated() == []
    assert "No context added" in await line.load("notes.md")
    await line.clear()
    assert await line.contexts() == []


async def test_changes_are_rejected_and_built_anew(line: CommandLine) -> None:
    await line.new("changes", autoBuild=False, autoContext=False)
    await line.load("notes.md")
    seen = await line.tell("write notes.md: # Other\nwrite c.txt: three")
    assert seen.built == []
    built = await line.build()
    assert isinstance(built, Seen)
    assert set(built.built) == {"notes.md", "c.txt"}
    assert await line.build() == "No builds"
    await line.reject("c.txt")
    assert "c.txt" not in await line.diff()
    await line.reject()
    assert await line.diff() == ""
    with pytest.raises(Failed) as refused:
        await line.reject("c.txt")
    assert refused.value.status == 404


async def test_a_run_goes_on_alone_is_found_again_and_stopped(line: CommandLine) -> None:
    await line.new("alone")
    await line.start("sleep 60\nwrite d.txt: four")
    running = await line.running()
    assert [branch["name"] for branch in running["branches"]] == ["main"]
    with pytest.raises(Failed) as refused:
        await line.start("write e.txt: five")
    assert refused.value.status == 409
    following = asyncio.create_task(line.connect())
    await asyncio.sleep(0.5)
    await line.build_status()
    await line.stop()
    assert (await following).end == "aborted"
    assert (await line.running())["branches"] == []
    recent = await line.running(recent=True)
    assert set(recent["streamFinishedAtByBranchId"]) == {branch["id"] for branch in recent["branches"]}
    for command in (line.stop, line.connect, line.build_status):
        with pytest.raises(Failed) as refused:
            await command()
        assert refused.value.status == 404
        assert not isinstance(refused.value, Exited)
    (stopped,) = [branch for branch in recent["branches"] if branch["planId"] == line.plan_id]
    assert stopped["status"] == "stopped"


@pytest.mark.parametrize("choice", ["load", "skip", "overwrite"])
async def test_a_file_that_was_not_read_is_asked_for(line: CommandLine, choice: str) -> None:
    await line.new("missing", autoContext=False)
    asked: list[str] = []

    def answer(path: str) -> tuple[str, str]:
        asked.append(path)
        return choice, (line.folder / path).read_text() if choice == "load" else ""

    seen = await line.tell("write src/greet.py: print('new')", missing=answer)
    assert (asked, seen.end) == (["src/greet.py"], "finished")
    assert ("src/greet.py" in seen.built) == (choice != "skip")
    assert ("src/greet.py" in [item["name"] for item in await line.contexts()]) == (choice == "load")


async def test_the_model_chooses_what_to_read(line: CommandLine) -> None:
    await line.new("chooses", autoContext=True)
    (mapped,) = await line.contexts()
    assert (mapped["name"], mapped["contextType"]) == ("cwd", "map")
    assert set(mapped["mapShas"]) == {"notes.md", "old.txt", "src/greet.py"}
    seen = await line.tell("look at `src/greet.py`\nwrite src/greet.py: print('changed')")
    assert seen.end == "finished"
    assert any(message["type"] == "loadContext" for message in seen.messages)
    assert "src/greet.py" in [item["name"] for item in await line.contexts()]
    assert (await line.conversation())[1]["flags"]["didLoadContext"]
    await line.new("again", autoContext=True)
    assert [item["name"] for item in await line.contexts()] == ["cwd"]


async def test_plans_are_listed_archived_renamed_and_deleted(line: CommandLine) -> None:
    await line.new("one")
    assert await line.new("one") == "one.2"
    assert [plan["name"] for plan in await line.plans()] == ["one.2", "one"]
    await line.archive()
    with pytest.raises(Failed, match="Plan already archived"):
        await line.archive()
    assert await line.archived() == ["one.2"]
    await line.unarchive()
    await line.rename("two")
    assert (await line.plan())["name"] == "two"
    await line.delete_plan()
    assert [plan["name"] for plan in await line.plans()] == ["one"]


async def test_models_and_configuration_are_chosen(line: CommandLine) -> None:
    await line.new("models")
    settings = await line.settings()
    own = settings["modelPackName"]
    assert "Updated model settings" in await line.set_model("strong")
    assert (await line.settings())["modelPackName"] == "strong"
    assert await line.set_model("strong") == "No changes to settings"
    await line.set_model(own)
    assert (await line.log())[0][1].startswith("⚙️")
    with pytest.raises(Failed) as refused:
        await line.set_model("no such pack")
    assert refused.value.status == 422
    await line.set_config(autoApply=True)
    assert (await line.config())["config"]["autoApply"]
    await line.custom()


async def test_going_on_without_anything_said_is_an_error_of_the_stream(line: CommandLine) -> None:
    await line.new("silence")
    seen = await line.go_on()
    assert (seen.end, seen.messages[-1]["error"]["type"]) == ("error", "continue_no_messages")


async def test_what_local_mode_does_not_have_ends_the_client(line: CommandLine) -> None:
    for method, path in (("GET", "/users"), ("GET", "/invites/pending"), ("DELETE", f"/orgs/users/{line.user_id}")):
        with pytest.raises(Exited) as refused:
            await line.ask(method, path)
        assert refused.value.status == 403
