"""Edits that replies write into files that exist."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.plans.edits import NeedsWholeFile, is_reference, merge
from tests.plans.repetitive_code import edits

ORIGINAL = """\
import os


def first():
    value = 1
    return value


def second():
    value = 2
    return value


def third():
    return 3
"""


def edited(block: str, description: str, original: str = ORIGINAL, path: str = "a.py") -> str:
    """Return the merged text of an edit that can be merged."""
    merged = merge(original, block, description, path)
    assert isinstance(merged, str), merged
    return merged


def refused(block: str, description: str, original: str = ORIGINAL, path: str = "a.py") -> str:
    """Return why an edit cannot be merged."""
    merged = merge(original, block, description, path)
    assert isinstance(merged, NeedsWholeFile), merged
    return merged.reason


@pytest.mark.parametrize(
    "line",
    [
        "# ... existing code ...",
        "  // ... existing code ...",
        "/* ... existing code ... */",
        "<!-- ... existing code ... -->",
        "{/* ... existing code ... */}",
        "-- ... existing code ...",
        "; ... existing code ...",
        "% ... existing code ...",
        "(* ... existing code ... *)",
        "' ... existing code ...",
        '" ... existing code ...',
        "REM ... existing code ...",
        "# … existing code …",
        "// ... Existing code ... (the imports)",
    ],
)
def test_a_comment_of_any_language_stands_for_existing_code(line: str) -> None:
    assert is_reference(line)


@pytest.mark.parametrize("line", ["existing code", 'x = "... existing code ..."', "# existing code", "print() # ... existing"])
def test_other_lines_do_not(line: str) -> None:
    assert not is_reference(line)


def test_the_block_of_a_new_file_is_the_file() -> None:
    assert merge(None, "print(1)\n", "Type: add", "new.py") == "print(1)\n"


def test_a_block_without_references_is_the_whole_file() -> None:
    assert edited("print(1)\n", "Type: replace") == "print(1)\n"


def test_overwriting_takes_the_block_as_it_is() -> None:
    block = "# ... existing code ...\nprint(1)\n"
    assert edited(block, "**Updating `a.py`**\nType: overwrite\nSummary: anew") == block


def test_a_block_in_the_middle_is_replaced() -> None:
    merged = edited("# ... existing code ...\n\ndef second():\n    return 20\n\n\n# ... existing code ...\n", "Type: replace")
    assert merged == ORIGINAL.replace("    value = 2\n    return value\n\n\ndef third", "    return 20\n\n\ndef third")


def test_lines_between_two_anchors_are_replaced() -> None:
    merged = edited(
        "# ... existing code ...\ndef second():\n    value = 22\n    return value\n# ... existing code ...\n", "Type: replace"
    )
    assert merged == ORIGINAL.replace("value = 2\n", "value = 22\n")


def test_braces_end_the_block_that_they_belong_to() -> None:
    original = "function a() {\n  if (x) {\n    y();\n  }\n  return 1;\n}\n\nfunction b() {\n  return 2;\n}\n"
    merged = edited("function a() {\n  return 2;\n}\n\n// ... existing code ...\n", "Type: replace", original, "a.js")
    assert merged == "function a() {\n  return 2;\n}\n\nfunction b() {\n  return 2;\n}\n"


def test_a_method_is_replaced_inside_of_its_class() -> None:
    original = "class A:\n    def b(self):\n        return 1\n\n    def c(self):\n        return 2\n"
    block = (
        "class A:\n    # ... existing code ...\n\n"
        "    def b(self):\n        x = 3\n        return x\n\n    # ... existing code ...\n"
    )
    assert edited(block, "Type: replace", original) == original.replace(
        "        return 1\n", "        x = 3\n        return x\n"
    )


def test_lines_are_added_between_two_anchors() -> None:
    merged = edited(
        "# ... existing code ...\n    return value\n\n\ndef new():\n    return 0\n\n\ndef third():\n# ... existing code ...\n",
        "Type: add",
    )
    assert merged == ORIGINAL.replace("def third", "def new():\n    return 0\n\n\ndef third")


def test_lines_are_added_behind_an_anchor() -> None:
    assert edited("import os\nimport sys\n\n# ... existing code ...\n", "Type: add") == ORIGINAL.replace(
        "import os\n", "import os\nimport sys\n"
    )


def test_lines_are_added_before_an_anchor() -> None:
    merged = edited("# ... existing code ...\n\nLIMIT = 3\n\n\ndef first():\n# ... existing code ...\n", "Type: add")
    assert merged == ORIGINAL.replace("def first", "LIMIT = 3\n\n\ndef first")


def test_lines_are_appended() -> None:
    merged = edited("# ... existing code ...\n\n\ndef fourth():\n    return 4\n", "Type: append")
    assert merged == ORIGINAL + "\n\ndef fourth():\n    return 4\n"


def test_appended_lines_may_repeat_how_the_file_ends() -> None:
    merged = edited("# ... existing code ...\n\ndef third():\n    return 3\n\n\ndef fourth():\n    return 4\n", "Type: append")
    assert merged == ORIGINAL + "\n\ndef fourth():\n    return 4\n"


def test_appending_without_a_reference_keeps_the_file() -> None:
    assert edited("def fourth():\n    return 4\n", "Type: append") == ORIGINAL + "def fourth():\n    return 4\n"


def test_appending_a_block_that_holds_the_file_takes_the_block() -> None:
    block = ORIGINAL + "\n\nprint(1)\n"
    assert edited(block, "Type: append") == block


def test_lines_are_prepended() -> None:
    assert edited('"""Doc."""\n\nimport os\n# ... existing code ...\n', "Type: prepend") == '"""Doc."""\n\n' + ORIGINAL


def test_lines_are_removed() -> None:
    block = "# ... existing code ...\ndef second():\n    return value\n# ... existing code ...\n"
    assert edited(block, "Type: remove") == ORIGINAL.replace("    value = 2\n", "")


def test_several_places_are_edited_at_once() -> None:
    block = (
        "import os\nimport sys\n\n\ndef first():\n    # ... existing code ...\n\n"
        "def second():\n    value = 22\n    return value\n\n\n"
        "# ... existing code ...\n"
    )
    merged = edited(block, "Type: replace")
    assert merged == ORIGINAL.replace("import os\n", "import os\nimport sys\n").replace("value = 2\n", "value = 22\n")


def test_what_a_block_does_not_show_at_the_edges_stays() -> None:
    merged = edited("def second():\n    value = 22\n    return value\n# ... existing code ...\n", "Type: replace")
    assert merged == ORIGINAL.replace("value = 2\n", "value = 22\n")


def test_an_anchor_that_is_missing_needs_the_whole_file() -> None:
    reason = refused("# ... existing code ...\ndef nowhere():\n    return 1\n# ... existing code ...\n", "Type: replace")
    assert "not in the original" in reason


def test_an_anchor_that_fits_twice_needs_the_whole_file() -> None:
    reason = refused("# ... existing code ...\n    return value\n    print(1)\n# ... existing code ...\n", "Type: replace")
    assert "several places" in reason


def test_lines_are_not_taken_for_added_because_their_anchors_meet_somewhere() -> None:
    original = "def a():\n    load()\n    return 1\n\n\ndef b():\n    load()\n    check()\n    return 1\n"
    block = "# ... existing code ...\n    load()\n    new()\n    return 1\n# ... existing code ...\n"
    assert "several places" in refused(block, "Type: replace", original)


def test_a_line_is_not_taken_for_removed_where_it_was_not() -> None:
    original = "def a():\n    load()\n    save()\n\n\ndef b():\n    load()\n    check()\n    save()\n    end()\n"
    block = "# ... existing code ...\n    load()\n    save()\n    end()\n"
    assert edited(block, "Type: remove", original) == original.replace("    check()\n", "")
    refused("# ... existing code ...\n    load()\n    save()\n# ... existing code ...\n", "Type: remove", original)


def test_a_removal_that_removes_nothing_needs_the_whole_file() -> None:
    assert "nothing" in refused("# ... existing code ...\ndef first():\n# ... existing code ...\n", "Type: remove")


def test_a_function_between_anchors_of_two_others_is_not_swallowed() -> None:
    original = ORIGINAL.replace("return 3", "return value")
    new = "\n\ndef new():\n    x = 4\n    return value\n"
    block = f"# ... existing code ...\n    value = 2\n    return value\n{new}# ... existing code ...\n"
    assert "one block" in refused(block, "Type: replace", original)


def test_an_empty_line_that_the_edit_left_out_is_no_reason_to_write_a_function_twice() -> None:
    original = "f() {\n\n  load();\n  return 1;\n}\n\ng() {\n  return 1;\n}\n"
    refused("f() {\n  load();\n  new();\n  return 1;\n}\n// ... existing code ...\n", "Type: add", original, "a.js")


def test_edits_of_repetitive_code_are_put_where_they_belong_or_refused() -> None:
    right = wrong = 0
    for edit in edits(2_000):
        merged = merge(edit.original, edit.block, f"Type: {edit.kind}", edit.path)
        right += merged == edit.wanted
        wrong += isinstance(merged, str) and merged != edit.wanted
    assert (wrong, right >= 1_400) == (0, True), (wrong, right)


def test_changes_of_several_kinds_are_not_guessed() -> None:
    refused("# ... existing code ...\nNEW = 1\n# ... existing code ...\n", "Type: add\nType: replace")


def test_a_segment_that_would_swallow_much_needs_the_whole_file() -> None:
    original = "start\n" + "".join(f"line {number}\n" for number in range(100)) + "end\n"
    assert "too much" in refused("start\nnew\nend\n# ... existing code ...\n", "Type: replace", original + "tail\n", "a.txt")


@pytest.mark.parametrize(
    ("path", "original", "block"),
    [
        ("a.py", "def a():\n    return 1\n\n\nb = 2\n", "def a():\n  x = (\n# ... existing code ...\n"),
        ("a.json", '{\n  "a": 1,\n  "b": 2\n}\n', '{\n  "new": 1\n// ... existing code ...\n'),
        ("a.toml", "a = 1\n[b]\nc = 2\n", "a = 1\na = 2\n# ... existing code ...\n"),
    ],
)
def test_a_text_that_would_not_be_valid_needs_the_whole_file(path: str, original: str, block: str) -> None:
    assert "not valid" in refused(block, "Type: add", original, path)


def test_a_file_that_was_not_valid_before_need_not_be_after() -> None:
    original = "def a(:\n    pass\nb = 1\n"
    assert edited("def a(:\n    pass\nc = 1\n# ... existing code ...\n", "Type: add", original) == original.replace(
        "b", "c = 1\nb"
    )


def test_the_line_ends_of_the_original_are_kept() -> None:
    merged = edited("a\nnew\nb\n# ... existing code ...\n", "Type: add", "a\r\nb\r\nc\r\n", "a.txt")
    assert merged == "a\r\nnew\r\nb\r\nc\r\n"


def test_a_file_without_a_last_line_end_keeps_none() -> None:
    assert edited("a\nnew\nb\n# ... existing code ...\n", "Type: add", "a\nb\nc", "a.txt") == "a\nnew\nb\nc"


def test_empty_lines_around_a_block_are_not_added_to_the_file() -> None:
    assert edited("\n\na\nnew\nb\n\n# ... existing code ...\n\n", "Type: add", "a\nb\n", "a.txt") == "a\nnew\nb\n"


LINES = st.lists(st.integers(0, 9999), min_size=6, max_size=30, unique=True)


@settings(max_examples=200, deadline=None)
@given(LINES, st.data())
def test_an_edit_between_anchors_that_occur_once_is_put_where_it_belongs(numbers: list[int], data: st.DataObject) -> None:
    lines = [f"line {number}" for number in numbers]
    first = data.draw(st.integers(0, len(lines) - 2))
    last = data.draw(st.integers(first + 1, min(len(lines) - 1, first + 12)))
    new = [f"new {number}" for number in range(data.draw(st.integers(0, 5)))]
    reference = "# ... existing code ..."
    block = [*([reference] if first else []), lines[first], *new, lines[last], *([reference] if last < len(lines) - 1 else [])]
    if reference not in block:
        return
    merged = merge("\n".join(lines) + "\n", "\n".join(block) + "\n", "Type: replace", "a.txt")
    assert merged == "\n".join([*lines[: first + 1], *new, *lines[last:]]) + "\n"


@settings(max_examples=200, deadline=None)
@given(
    st.text(alphabet="ab {}\n#.", max_size=60),
    st.text(alphabet="ab {}\n#.", max_size=40),
    st.sampled_from(["add", "replace", ""]),
)
def test_whatever_comes_is_merged_or_refused(original: str, block: str, kind: str) -> None:
    block = block.replace("#", "# ... existing code ...\n")
    assert isinstance(merge(original, block, f"Type: {kind}", "a.txt"), str | NeedsWholeFile)
