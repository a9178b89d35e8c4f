"""Changes that the builder makes by naming the lines to replace, and what becomes of answers that cannot be used."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.kernel.http import AddressPolicy
from core.kernel.settings import Outgoing
from core.models.endpoints import Endpoints
from core.plans.completion import RoleModels
from core.plans.pack_roles import role_of
from core.plans.replacing import Piece, Unusable, put_in, read
from core.plans.writers import Writers
from core.plans.writing import CannotWrite, Wanted, fault_of
from tests.plans.scripted_provider import Answer, ScriptedProvider, scripted
from tests.plans.test_completion import asking, mine, model, pack_of, stock_of

ORIGINAL = "def a():\n    return 1\n\n\ndef b():\n    return 1\n"
CHANGED = "def a():\n    return 1\n\n\ndef b():\n    return 2\n"
WANTED = Wanted("a.py", ORIGINAL, "Type: replace", "    return 2\n", "it fits in several places")
WHOLE = f"<PlandexWholeFile>\n{CHANGED}</PlandexWholeFile>"


def replacing(*pieces: tuple[str, str], verdict: str = "replacements") -> str:
    """Return an answer of the builder."""
    items = "".join(f"<Replacement>\n<Old>\n{old}\n</Old>\n<New>\n{new}\n</New>\n</Replacement>\n" for old, new in pieces)
    head = f"It is about b.\n\n<PlandexVerdict>{verdict}</PlandexVerdict>\n\n"
    return f"{head}<PlandexReplacements>\n{items}</PlandexReplacements>\n"


GOOD = replacing(("def b():\n    return 1", "def b():\n    return 2"))
TWICE = replacing(("    return 1", "    return 2"))


@pytest.fixture
async def provider() -> AsyncIterator[ScriptedProvider]:
    async with scripted() as serving:
        yield serving


@pytest.fixture
async def models(provider: ScriptedProvider) -> AsyncIterator[RoleModels]:
    pack = pack_of()
    pack.builder = role_of("builder", "mine/builder")
    pack.builder.strong_model = role_of("builder", "mine/strong")
    pack.whole_file_builder = role_of("whole-file-builder", "mine/whole")
    listed = [model(name) for name in ("mine/one", "mine/builder", "mine/strong", "mine/whole")]
    endpoints = Endpoints(AddressPolicy.of(Outgoing()))
    yield asking(endpoints, stock_of(mine(provider), models=listed), pack)
    await endpoints.stop()


async def written(models: RoleModels, provider: ScriptedProvider, *answers: str, wanted: Wanted = WANTED) -> str:
    """Return the text that is written when the provider gives answers in turn."""

    async def progress(_tokens: int) -> None:
        pass

    provider.script = [Answer(pieces=(text,)) for text in answers]
    return await Writers(models).write(wanted, progress)


def asked(provider: ScriptedProvider) -> list[str]:
    return [request["model"] for request in provider.requests]


async def test_the_builder_names_the_lines_to_replace(models: RoleModels, provider: ScriptedProvider) -> None:
    assert await written(models, provider, GOOD) == CHANGED
    assert asked(provider) == ["builder"]
    assert "it fits in several places" in str(provider.requests[0]["messages"])


async def test_a_second_try_goes_to_the_strong_model_which_is_told_the_fault(
    models: RoleModels, provider: ScriptedProvider
) -> None:
    assert await written(models, provider, TWICE, GOOD) == CHANGED
    assert asked(provider) == ["builder", "strong"]
    assert "occur 2 times" in str(provider.requests[1]["messages"])


async def test_after_two_answers_of_no_use_the_file_is_written_whole(models: RoleModels, provider: ScriptedProvider) -> None:
    assert await written(models, provider, "<PlandexReplacements>", TWICE, WHOLE) == CHANGED
    assert asked(provider) == ["builder", "strong", "whole"]


async def test_a_builder_may_leave_the_file_to_be_written_whole(models: RoleModels, provider: ScriptedProvider) -> None:
    assert await written(models, provider, "<PlandexVerdict>whole-file</PlandexVerdict>", WHOLE) == CHANGED
    assert asked(provider) == ["builder", "whole"]


async def test_of_an_empty_file_nothing_can_be_replaced(models: RoleModels, provider: ScriptedProvider) -> None:
    wanted = Wanted("a.py", "", "Type: replace", "x = 1\n# ... existing code ...\n", "it is not in the original")
    assert await written(models, provider, "<PlandexWholeFile>\nx = 1\n</PlandexWholeFile>", wanted=wanted) == "x = 1\n"
    assert asked(provider) == ["whole"]


async def test_what_nobody_can_write_is_refused(models: RoleModels, provider: ScriptedProvider) -> None:
    with pytest.raises(CannotWrite, match="did not write the whole file"):
        await written(models, provider, "No.")
    assert asked(provider) == ["builder", "strong", "whole", "whole"]


async def test_every_try_is_counted_for_the_role_that_made_it(models: RoleModels, provider: ScriptedProvider) -> None:
    await written(models, provider, "No.", TWICE, WHOLE)
    assert [(one.role, one.model_id) for one in models.usage] == [
        ("builder", "mine/builder"),
        ("builder", "mine/strong"),
        ("whole-file-builder", "mine/whole"),
    ]
    assert all(one.input_tokens == 11 for one in models.usage)


@pytest.mark.parametrize(
    "answer",
    [
        replacing(("def b():\n    return 1", "def b():\n    return (")),
        replacing(("def b():\n    return 1", "def b():\n    # ... existing code ...\n    return 2")),
        replacing(("def b():\n    return 1", "def b():\n    return 1")),
        replacing(("def b():\n    return 3", "def b():\n    return 2")),
        replacing(("def b():", "def c():"), ("def a():", "def d():")),
        replacing(("", "x = 1")),
        replacing(),
    ],
    ids=["not valid", "left out", "no change", "not there", "out of order", "of nothing", "none"],
)
async def test_replacements_that_do_harm_or_nothing_are_not_made(
    models: RoleModels, provider: ScriptedProvider, answer: str
) -> None:
    assert await written(models, provider, answer, answer, WHOLE) == CHANGED
    assert asked(provider) == ["builder", "strong", "whole"]


def test_replacements_are_read_whether_or_not_their_tags_stand_alone() -> None:
    inline = "<PlandexReplacements><Replacement><Old>  a</Old><New>b</New></Replacement></PlandexReplacements>"
    assert read(inline) == [Piece(["  a"], ["b"])]
    assert read(replacing(("\n  a\n", ""))) == [Piece(["", "  a", ""], [])]


@pytest.mark.parametrize(
    "answer",
    ["", "<PlandexVerdict>replacements</PlandexVerdict>", GOOD.replace("</New>", ""), GOOD.replace("</Replacement>", "more")],
)
def test_other_answers_are_not_read(answer: str) -> None:
    with pytest.raises(Unusable):
        read(answer)


def test_lines_that_are_only_repeated_stay_as_the_file_has_them() -> None:
    pieces = [Piece(["a", "b", "c"], ["a", "B", "c"])]
    assert put_in("a  \r\nb\r\nc\t\r\nd\r\n", pieces) == "a  \r\nB\r\nc\t\r\nd\r\n"


def test_the_last_line_may_be_replaced_with_and_without_an_end() -> None:
    assert put_in("a\nb\n", [Piece(["b"], ["c"])]) == "a\nc\n"
    assert put_in("a\nb", [Piece(["b"], ["c"])]) == "a\nc"
    assert put_in("a\n", [Piece(["a"], [])]) == ""


@settings(max_examples=100, deadline=None)
@given(st.lists(st.sampled_from(["a", "b", "  c", "}", "", "d "]), min_size=1, max_size=30), st.data())
def test_all_other_lines_stay(lines: list[str], data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(lines) - 1))
    end = data.draw(st.integers(start + 1, len(lines)))
    new = data.draw(st.lists(st.sampled_from(["a", "new", ""]), max_size=3))
    original = "\n".join(lines) + "\n"
    try:
        made = put_in(original, [Piece(lines[start:end], new)])
    except Unusable:
        return
    expected = [*lines[:start], *new, *lines[end:]]
    assert [line.rstrip() for line in made.split("\n")] == [*(line.rstrip() for line in expected), ""]
    assert made.startswith("".join(f"{line}\n" for line in lines[:start]))
    assert made.endswith("".join(f"{line}\n" for line in lines[end:]))


LONG = "".join(f"line {number}\n" for number in range(100))


@pytest.mark.parametrize(
    ("description", "kept", "is_lost"),
    [
        ("Type: replace", 70, False),
        ("Type: replace", 40, True),
        ("Type: replace\nReplace: lines 41-100", 40, False),
        ("Type: remove", 40, False),
        ("Type: add", 99, False),
        ("Type: add", 90, True),
    ],
)
def test_a_change_costs_no_lines_that_it_does_not_speak_of(description: str, kept: int, is_lost: bool) -> None:
    new = "".join(f"line {number}\n" for number in range(kept)) + "new\n"
    wanted = Wanted("a.txt", LONG, description, "new\n# ... existing code ...\n", "")
    assert ("would be lost" in fault_of(wanted, new)) == is_lost
