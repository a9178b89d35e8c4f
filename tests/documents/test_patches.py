"""JSON Patch between contents: what differs is told exactly, and applying it is all or nothing."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.documents import patches
from core.documents.content import Content, depth
from core.kernel.errors import InvalidArgument, TooLarge

SCALARS = st.none() | st.booleans() | st.integers(-5, 5) | st.floats(-4, 4, width=16) | st.text("ab/~0\x00é", max_size=3)
CONTENTS = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text("ab/~", max_size=2), inner, max_size=4),
    max_leaves=25,
)


def text(value: object) -> str:
    return Content.of(value).text


@given(CONTENTS, CONTENTS)
def test_a_difference_applied_to_one_content_gives_the_other(before: Any, after: Any) -> None:
    kept = text(before)
    assert text(patches.apply(before, patches.diff(before, after))) == text(after)
    assert text(before) == kept


@given(CONTENTS)
def test_equal_contents_do_not_differ(content: Any) -> None:
    assert patches.diff(content, content) == []


@given(CONTENTS)
def test_canonical_text_is_its_own_canonical_text(content: Any) -> None:
    made = Content.of(content)
    assert Content.of(patches.apply(content, [])) == made
    assert made.size == len(made.text.encode())


def test_a_patch_does_all_or_nothing() -> None:
    content = {"a": [1, 2]}
    with pytest.raises(InvalidArgument, match="patch: operation 1: "):
        patches.apply(content, [{"op": "add", "path": "/a/-", "value": 3}, {"op": "remove", "path": "/b"}])
    assert content == {"a": [1, 2]}
    patched = patches.apply(content, [{"op": "test", "path": "/a/0", "value": 1}, {"op": "move", "from": "/a", "path": "/b"}])
    assert patched == {"b": [1, 2]}


@pytest.mark.parametrize(
    "operation",
    [
        5,
        {},
        {"op": "dance", "path": "/a"},
        {"op": "add", "path": "/a"},
        {"op": "add", "path": "a", "value": 1},
        {"op": "add", "path": 5, "value": 1},
        {"op": "add", "path": "/missing/x", "value": 1},
        {"op": "replace", "path": "/missing", "value": 1},
        {"op": "remove", "path": "/missing"},
        {"op": "move", "from": "/list", "path": "/list/0"},
        {"op": "copy", "from": "/missing", "path": "/a"},
        {"op": "copy", "from": [1], "path": "/a"},
        {"op": "add", "path": "/list/7", "value": 1},
        {"op": "test", "path": "/a", "value": 2},
        {"op": "test", "path": "/a", "value": True},
    ],
    ids=repr,
)
def test_what_is_no_patch_of_this_content_is_refused(operation: object) -> None:
    with pytest.raises(InvalidArgument, match=r"^patch: operation 0: "):
        patches.apply({"a": 1, "list": [1]}, [operation])


def test_a_patch_cannot_blow_up_the_content() -> None:
    doubling = [{"op": "copy", "from": "", "path": f"/{name}"} for name in "abcdefghijklmnopqrstuvwxyz"]
    with pytest.raises(TooLarge):
        patches.apply({"text": "x"}, doubling)
    with pytest.raises(InvalidArgument, match="nests more than"):
        patches.apply({}, [{"op": "copy", "from": "", "path": "/a"}] * 300)
    with pytest.raises(InvalidArgument, match="at most 1000 operations"):
        patches.apply({}, [{"op": "add", "path": "/a", "value": 1}] * 1001)


def test_depth_counts_arrays_and_objects() -> None:
    assert [depth(value) for value in (1, [], {"a": 1}, {"a": [1, {}]}, [[[]], []])] == [0, 1, 1, 3, 3]
