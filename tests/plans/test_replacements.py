"""Replacements: whatever two texts are, what is between them makes the one of the other."""

from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st
from protobuf.wkt import Timestamp

from core.plans.current import current_files
from core.plans.replacements import replace, replacements_between, result_for
from core.plans.state import PlanState
from gen.busbar.plans.v1.changes_pb import PlanFileResult, Replacement

NOW = Timestamp(seconds=1_750_000_000)

# Few different lines, so that the same ones occur again and again, some of them the end of another.
LINES = st.lists(st.sampled_from(["a\n", "b\n", "ba\n", "\n", "}\n", "    }\n", "x\r\n", "\0\n", "ü\u2028\n"]), max_size=40)
TEXTS = st.one_of(st.tuples(LINES, st.sampled_from(["", "a", "}"])).map(lambda parts: "".join(parts[0]) + parts[1]), st.text())


@given(TEXTS, TEXTS)
@example("", "a")
@example("a", "")
@example("a\n", "a")
@example("a\n" * 20, "a\n" * 10 + "b\n" + "a\n" * 10)
@example("x\n" + "a\n" * 20 + "y\n", "a\n" * 20)
def test_what_is_between_two_texts_makes_the_one_of_the_other(old: str, new: str) -> None:
    assert replace(old, replacements_between(old, new)) == new


def test_each_hunk_has_three_lines_around_it() -> None:
    lines = [f"line {number}\n" for number in range(100)]
    changed = lines.copy()
    changed[20], changed[80] = "twenty\n", "eighty\n"
    first, second = replacements_between("".join(lines), "".join(changed))
    assert first.old == "".join(lines[17:24])
    assert second.new == "".join(changed[77:84])


def test_a_replacement_is_looked_for_after_the_one_before() -> None:
    edits = [Replacement(old="a", new="aa"), Replacement(old="a", new="b")]
    assert replace("a-a", edits) == "aa-b"
    assert replace("a-", edits) is None


def test_rejected_and_failed_replacements_are_passed_over() -> None:
    edits = [
        Replacement(old="a", new="b", rejected_at=NOW),
        Replacement(old="nothing", failed=True),
        Replacement(old="c", new="d"),
    ]
    assert replace("a c", edits) == "a d"


def test_an_empty_new_file_is_a_change_too() -> None:
    made = current_files(PlanState(results=[result("pkg/__init__.py", None, "")]))
    assert made.files == {"pkg/__init__.py": ""}


def test_a_file_that_is_made_edited_and_removed_is_removed() -> None:
    results = [result("a.py", None, "one\n"), result("a.py", "one\n", "two\n")]
    assert current_files(PlanState(results=results)).files == {"a.py": "two\n"}
    made = current_files(PlanState(results=[*results, result("a.py", "two\n", None)]))
    assert (made.files, made.removed_by_path) == ({}, {"a.py": True})
    made = current_files(PlanState(results=[*results, result("a.py", "two\n", None), result("a.py", None, "three\n")]))
    assert (made.files, made.removed_by_path) == ({"a.py": "three\n"}, {})


def result(path: str, old: str | None, new: str | None) -> PlanFileResult:
    return result_for(path, old, new, message_id="message", build_id="build", now=NOW)
