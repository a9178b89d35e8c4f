"""What is read from the reply of a model, while it arrives."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from core.plans.reply_parser import BlockOpened, Event, OperationRead, Reply, ReplyParser, Shown

PYTHON = '<PlandexBlock lang="python" path="src/app.py">\nprint("hi")\n</PlandexBlock>\n'


def read(*parts: str) -> tuple[list[Event], Reply]:
    """Read a reply that arrives in parts; text that is shown comes in one piece."""
    parser = ReplyParser()
    events = [event for part in parts for event in parser.feed(part)]
    last, reply = parser.finish()
    joined: list[Event] = []
    for event in (*events, *last):
        if isinstance(event, Shown) and joined and isinstance(joined[-1], Shown):
            joined[-1] = Shown(joined[-1].text + event.text)
        else:
            joined.append(event)
    return joined, reply


def shown(*parts: str) -> str:
    return read(*parts)[1].shown


def test_a_block_becomes_an_operation_with_what_was_said_before_it() -> None:
    text = f"I add a greeting.\n\n- src/app.py:\n{PYTHON}And that is it.\n"
    _, reply = read(text)
    (operation,) = reply.operations
    assert (operation.type, operation.path) == ("file", "src/app.py")
    assert operation.content == 'print("hi")\n'
    assert operation.description == "I add a greeting."
    assert operation.reply_before == "I add a greeting.\n\n"
    assert operation.num_tokens == 3
    assert reply.text == text
    assert reply.open_path is None


def test_the_second_block_is_described_by_what_stands_between_the_two() -> None:
    _, reply = read(f"First.\n- a:\n{PYTHON}Second.\n**src/b.py**\n{PYTHON}")
    assert [operation.description for operation in reply.operations] == ["First.", "Second."]


@pytest.mark.parametrize("label", ["- src/app.py:", "**src/app.py**", "**src/app.py:**", "### src/app.py:", "- src/app.py:\n"])
def test_a_label_before_a_block_is_no_part_of_its_description(label: str) -> None:
    _, reply = read(f"Why.\n{label}\n{PYTHON}")
    assert reply.operations[0].description == "Why."


def test_a_tag_without_a_path_opens_nothing() -> None:
    _, reply = read('<PlandexBlock lang="python">\nx\n</PlandexBlock>\n')
    assert not reply.operations
    assert reply.shown.startswith('<PlandexBlock lang="python">\nx\n')


def test_a_tag_within_a_line_is_prose() -> None:
    _, reply = read(f"Use {PYTHON}")
    assert not reply.operations


def test_only_a_line_that_is_the_closing_tag_ends_a_block() -> None:
    _, reply = read('<PlandexBlock path="a.md">\nthe tag </PlandexBlock> ends it\n  </PlandexBlock>\n</PlandexBlock>\n')
    assert reply.operations[0].content == "the tag </PlandexBlock> ends it\n  </PlandexBlock>\n"


def test_a_block_without_an_end_is_no_operation() -> None:
    _, reply = read('- a.py:\n<PlandexBlock path="a.py">\nprint(1)\n')
    assert not reply.operations
    assert reply.open_path == "a.py"


def test_a_block_that_ends_with_the_reply_is_whole() -> None:
    _, reply = read('<PlandexBlock path="a.py">\nprint(1)\n</PlandexBlock>')
    assert reply.operations[0].content == "print(1)\n"


def test_the_opening_of_a_block_is_told_before_its_text() -> None:
    events, _ = read(f"Why.\n- src/app.py:\n{PYTHON}")
    before, opened, block, done = events
    assert before == Shown("Why.\n- src/app.py:\n")
    assert opened == BlockOpened("src/app.py", "Why.\n")
    assert isinstance(block, Shown)
    assert isinstance(done, OperationRead)


def test_the_client_sees_fences_in_the_place_of_tags() -> None:
    assert shown(f"- src/app.py:\n{PYTHON}") == '- src/app.py:\n```python\nprint("hi")\n```\n'


def test_fences_inside_a_block_are_escaped() -> None:
    text = '<PlandexBlock lang="markdown" path="a.md">\n```sh\nls\n````\n</PlandexBlock>\n```\n'
    assert shown(text) == "```markdown\n\\`\\`\\`sh\nls\n\\`\\`\\``\n```\n```\n"


def test_nothing_from_the_finishing_mark_on_is_read() -> None:
    _, reply = read("Done.\n<PlandexFinish/>\n- a.py:\n" + PYTHON)
    assert reply.shown == reply.text == "Done.\n"
    assert reply.finished
    assert not reply.operations


def test_the_mark_that_ends_operations_is_not_shown() -> None:
    assert shown("### Remove Files\n- `a`\n<EndPlandexFileOps/>\nNext.\n") == "### Remove Files\n- `a`\nNext.\n"


@pytest.mark.parametrize("mark", ["<PlandexBlock", "<PlandexFinish", "<EndPlandexFileOps"])
def test_a_part_of_a_mark_is_held_back(mark: str) -> None:
    parser = ReplyParser()
    assert parser.feed("One\n" + mark) == [Shown("One\n")]
    last, reply = parser.finish()
    assert last == [Shown(mark)]
    assert reply.shown == f"One\n{mark}"


def test_text_is_shown_before_its_line_ends() -> None:
    assert ReplyParser().feed("a < b and") == [Shown("a < b and")]


def test_operations_on_whole_files_are_read() -> None:
    text = (
        "### Move Files\n- `a/b.txt` → `c/d.txt`\n<EndPlandexFileOps/>\n"
        "### Remove Files\n- `x`\n- `y`\n<EndPlandexFileOps/>\n"
        "### Reset Changes\n- `z`\n<EndPlandexFileOps/>\n- `not this one`\n"
    )
    _, reply = read(text)
    found = [(operation.type, operation.path, operation.destination) for operation in reply.operations]
    assert found == [("move", "a/b.txt", "c/d.txt"), ("remove", "x", ""), ("remove", "y", ""), ("reset", "z", "")]


@pytest.mark.parametrize("path", ["/etc/passwd", "../../x", "a/../../x", "C:\\x", "a\\..\\..\\x", "."])
def test_operations_outside_the_project_are_left_out(path: str) -> None:
    _, reply = read(f'<PlandexBlock path="{path}">\nx\n</PlandexBlock>\n### Move Files\n- `a` → `{path}`\n')
    assert not reply.operations
    assert reply.refused == [path, path]


def test_tasks_are_read() -> None:
    text = (
        "I would do this.\n\n### Tasks\n\n1. Add the module\n- With a class\n  - and a test\nUses: `src/a.py`, `src/b.py`\n\n"
        "2. **Use it**\nUses: `src/c.py`\n\n### Commands\n\nNone.\n"
    )
    _, reply = read(text)
    assert reply.has_tasks
    assert [task.title for task in reply.tasks] == ["Add the module", "Use it"]
    assert reply.tasks[0].description == "With a class\nand a test"
    assert [task.uses_files for task in reply.tasks] == [["src/a.py", "src/b.py"], ["src/c.py"]]
    assert reply.commands == "None."


def test_a_single_task_may_have_its_own_heading() -> None:
    assert [task.title for task in read("### Task\n1. Do it\n")[1].tasks] == ["Do it"]


def test_titles_of_removed_tasks_are_read() -> None:
    assert read("### Remove Tasks\n- Add the module\n- Use it\n")[1].removed_tasks == ["Add the module", "Use it"]


def test_a_reply_without_tasks_has_none() -> None:
    assert not read("Just words.\n1. one\n")[1].has_tasks


def test_files_to_load_are_read() -> None:
    _, reply = read("I look at `x`.\n### Categories\n- code\n### Files\n- `src/a.py`\n- `src/b.py` and `src/a.py`\n")
    assert reply.has_files
    assert reply.files == ["src/a.py", "src/b.py"]
    assert reply.mentioned == ["x", "src/a.py", "src/b.py"]


def test_the_sentence_that_completes_a_task_counts_outside_of_blocks() -> None:
    sentence = "**Add it** has been completed"
    assert read(f"{PYTHON}{sentence}")[1].completes("Add it")
    assert not read(f"{sentence}")[1].completes("Add")
    assert not read(f'<PlandexBlock path="a">\n{sentence}\n</PlandexBlock>\n')[1].completes("Add it")


PIECES = st.sampled_from(
    [
        "- src/app.py:\n",
        '<PlandexBlock lang="go" path="a.go">\n',
        "<PlandexBlock>\n",
        "</PlandexBlock>\n",
        "</PlandexBlock>",
        "</PlandexBlock> x\n",
        "```",
        "`",
        "````sh\n",
        "<EndPlandexFileOps/>\n",
        "<EndPlandexFileOps/>",
        "<EndPlandex",
        "<PlandexFinish/>",
        "<Plandex",
        "</Plan",
        "<",
        "\n",
        " ",
        "\r\n",
        "### Remove Files\n",
        "### Move Files\n",
        "- `a` → `b`\n",
        "### Tasks\n",
        "1. One\n",
        "Uses: `a`, `b`\n",
        "**One** has been completed",
        "words \u2028 ",
    ]
)


@settings(max_examples=300, deadline=None)
@given(st.lists(PIECES, max_size=12).map("".join), st.lists(st.integers(0, 200), max_size=12))
@example("a<EndPlandexFileOps/><PlandexFinish/>", list(range(40)))
@example('<PlandexBlock path="a">\n``` <PlandexFinish\n</PlandexBlock><PlandexFinish/>', list(range(80)))
def test_however_a_reply_is_cut_into_pieces_the_same_is_read(text: str, cuts: list[int]) -> None:
    places = sorted({0, len(text), *(cut for cut in cuts if cut < len(text))})
    parts = [text[start:end] for start, end in pairwise(places)]
    assert read(*parts) == read(text)
    assert read(*text) == read(text)
