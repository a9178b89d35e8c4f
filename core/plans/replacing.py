"""Has a model say which lines of a file a change replaces, so that all others stay as they are."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from core.plans import prompts
from core.plans.completion import RoleModels
from core.plans.edit_lines import same
from core.plans.questions import Message
from core.plans.writing import CannotWrite, Progress, Wanted, answer, fault_of

ROLE = "builder"
MOST_TRIES = 2

_VERDICT = re.compile(r"<PlandexVerdict>\s*([\w-]*)\s*</PlandexVerdict>")
_ALL = re.compile(r"<PlandexReplacements>(.*)</PlandexReplacements>", re.DOTALL)
_ONE = re.compile(r"\s*<Replacement>\s*<Old>(.*?)</Old>\s*<New>(.*?)</New>\s*</Replacement>\s*", re.DOTALL)
_EDGE = re.compile(r"\A[ \t]*\r?\n|\r?\n[ \t]*\Z")


class Unusable(Exception):
    """An answer has another form, or does not fit the file."""


@dataclass(frozen=True, slots=True)
class Piece:
    """Lines of a file, and those that take their place."""

    old: list[str]
    new: list[str]


async def write_replacements(models: RoleModels, wanted: Wanted, progress: Progress) -> str:
    """Return the new text of a file. What is wrong with a first answer is told to the strong model of the role.

    Raises:
        CannotWrite: No answer can be used, or the model holds that the file is better written whole.
        Unavailable: No provider can be asked.
    """
    asked = [Message("system", prompts.builder()), Message("user", prompts.for_edit(wanted))]
    fault = ""
    for number in range(MOST_TRIES):
        text = await answer(models, ROLE, asked, progress, strong=number > 0)
        try:
            pieces = read(text)
            if pieces is None:
                raise CannotWrite("the builder leaves the change to the model that writes whole files")
            new = put_in(wanted.original, pieces)
            fault = "the replacements change nothing" if new == wanted.original else fault_of(wanted, new)
        except Unusable as error:
            fault = str(error)
        else:
            if not fault:
                return new
        asked += [Message("assistant", text), Message("user", prompts.for_another_try(fault))]
    raise CannotWrite(fault)


def read(answer: str) -> list[Piece] | None:
    """Return the pieces that an answer replaces; None where its verdict is that the file be written whole.

    Raises:
        Unusable: It has neither.
    """
    verdict = _VERDICT.search(answer)
    if verdict and verdict[1].lower() == "whole-file":
        return None
    listed = _ALL.search(answer)
    if listed is None:
        raise Unusable("the answer has no section of replacements")
    pieces: list[Piece] = []
    at = 0
    while found := _ONE.match(listed[1], at):
        pieces.append(Piece(_lines(found[1]), _lines(found[2])))
        at = found.end()
    if listed[1][at:].strip():
        raise Unusable("the section of replacements is not well-formed")
    if not pieces:
        raise Unusable("the section of replacements is empty")
    return pieces


def put_in(original: str, pieces: Sequence[Piece]) -> str:
    """Return a text with pieces replaced.

    Raises:
        Unusable: One of them does not occur exactly once, or not behind the one before.
    """
    newline = "\r\n" if "\r\n" in original else "\n"
    old = original.removesuffix(newline).split(newline)
    made: list[str] = []
    done = 0
    for number, piece in enumerate(pieces, 1):
        places = _places(old, piece.old)
        if len(places) != 1:
            raise Unusable(f"the old lines of replacement {number} occur {len(places)} times in the file, not once")
        if places[0] < done:
            raise Unusable(f"the old lines of replacement {number} do not stand behind those of the one before")
        first, last = _kept(piece)
        start, end = places[0] + first, places[0] + len(piece.old) - last
        made += [*old[done:start], *piece.new[first : len(piece.new) - last]]
        done = end
    made += old[done:]
    return newline.join(made) + (newline if made and original.endswith(newline) else "")


def _lines(text: str) -> list[str]:
    """Return the lines between two tags, each of which may stand on a line of its own."""
    text = _EDGE.sub("", text) if text.strip() else ""
    return [line.removesuffix("\r") for line in text.split("\n")] if text else []


def _places(old: Sequence[str], lines: Sequence[str]) -> list[int]:
    if not any(line.strip() for line in lines):
        return []
    size = len(lines)
    return [at for at in range(len(old) - size + 1) if all(map(same, old[at : at + size], lines))]


def _kept(piece: Piece) -> tuple[int, int]:
    """Return how many lines at both edges of a piece are only repeated, and stay as the file has them."""
    most = min(len(piece.old), len(piece.new))
    first = 0
    while first < most and same(piece.old[first], piece.new[first]):
        first += 1
    last = 0
    while last < most - first and same(piece.old[-1 - last], piece.new[-1 - last]):
        last += 1
    return first, last
