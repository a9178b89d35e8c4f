"""Finds where a segment of an edit belongs in the original, by the lines that both have."""

from __future__ import annotations

from dataclasses import dataclass

from core.plans.edit_lines import indent_of, same
from core.plans.edit_rivals import ends, reading, readings

_LARGEST_LOSS = 20
"""Lines of the original, besides three for each new one, that a segment may replace; more looks like a wrong anchor."""

_LARGEST_REMOVAL = 2_000
"""Lines of the original among which a segment may leave some out."""


@dataclass(slots=True)
class Segment:
    """Lines of an edit between two references.

    Attributes:
        lines: The lines.
        follows_reference: Whether a reference stands before it.
        reference_indent: Indentation of the reference behind it; None when there is none.
    """

    lines: list[str]
    follows_reference: bool = False
    reference_indent: int | None = None


@dataclass(slots=True)
class Placed:
    """Where a segment belongs: lines `start` to `end` of the original give way to it."""

    start: int
    end: int
    lines: list[str]


def place(old: list[str], position: int, segment: Segment, kind: str) -> Placed | str:
    """Return where a segment belongs, at or after a position; a sentence why that is not certain otherwise."""
    placed = _placed(old, position, segment, kind)
    if isinstance(placed, str):
        return placed
    anchor = next((line for line in placed.lines if line.strip()), "")
    idle = (segment.follows_reference and _is_blank(old[position : placed.start])) or (
        segment.reference_indent is not None and _is_blank(old[placed.end :])
    )
    # A reference that stands for nothing is only untidy, unless the anchor might be meant to be another.
    if idle and sum(same(line, anchor) for line in old) > 1:
        return f"a reference beside {anchor.strip()!r} would stand for nothing"
    return placed


def _placed(old: list[str], position: int, segment: Segment, kind: str) -> Placed | str:
    lines = _trimmed(segment.lines)
    adds = kind in ("add", "append", "prepend")
    if kind == "remove":
        cut = _removal(old, position, lines)
        if cut is not None:
            return cut
    first, begin = _run_from(old, position, lines)
    if begin == -1:
        return (
            _without_first(old, position, segment, lines) if adds else f"the line {lines[0].strip()!r} is not in the original"
        )
    places = _places(old, position, lines, first)
    if len(places) > 1 and adds:
        places = [at for at in places if _end_of_insertion(old, at + first, lines[first:]) is not None]
    if len(places) != 1:
        return _several(lines[0])
    begin = places[0]
    inserted = begin + first if first == len(lines) else _end_of_insertion(old, begin + first, lines[first:])
    if adds:
        return Placed(begin, inserted, lines) if inserted is not None else _insertion(old, begin, first, lines)
    placed = Placed(begin, inserted, lines) if inserted is not None else _replacement(old, begin, first, segment, lines, kind)
    if isinstance(placed, str):
        return placed
    return _several(lines[0]) if _has_rival(old, position, placed, inserts=inserted is not None) else placed


def _removal(old: list[str], position: int, lines: list[str]) -> Placed | str | None:
    """Place lines that have nothing new among them and only leave others out; None where they leave none out."""
    found = readings(old, position, lines, _LARGEST_REMOVAL)
    if found is None:
        return _several(lines[0])
    cuts = [one for one in found if one.shared == len(lines) > 1]
    if all(one.end - one.start == one.shared for one in cuts):
        return None
    return Placed(cuts[0].start, cuts[0].end, lines) if len(cuts) == 1 else _several(lines[0])


def _has_rival(old: list[str], position: int, placed: Placed, *, inserts: bool) -> bool:
    """Whether another stretch has as many lines in common with a segment as the one that it was put in the place of.

    What begins where it does but ends elsewhere was weighed when its end was looked for, unless it only inserts.
    """
    lines = placed.lines
    mine = reading(old, placed.start, placed.end, lines)
    found = readings(old, position, lines, 3 * len(lines) + _LARGEST_LOSS)
    return found is None or any(
        one.shared >= mine.shared and (one.start != mine.start or (inserts and one.end != mine.end)) for one in found
    )


def _several(line: str) -> str:
    return f"the line {line.strip()!r} fits in several places"


def _replacement(old: list[str], begin: int, first: int, segment: Segment, lines: list[str], kind: str) -> Placed | str:
    """Place lines that take the place of what lies between their first and their last anchor."""
    end = _end(old, begin, first, segment, lines)
    if isinstance(end, str):
        return end
    if same(old[end - 1], lines[-1]) and end not in ends(old, begin, lines):
        return f"the lines from {lines[0].strip()!r} to {lines[-1].strip()!r} are not of one block"
    if kind != "remove" and end - begin > 3 * len(lines) + _LARGEST_LOSS:
        return f"the segment at {lines[0].strip()!r} would replace too much"
    return Placed(begin, end, lines)


def _end_of_insertion(old: list[str], at: int, rest: list[str]) -> int | None:
    """Return the end of the anchor behind new lines, where it follows directly upon the anchor before them."""
    while at < len(old) and not old[at].strip():
        at += 1
    for size in range(min(len(rest), len(old) - at), 0, -1):
        if rest[-size].strip() and all(map(same, old[at : at + size], rest[-size:])):
            return at + size
    return None


def _insertion(old: list[str], begin: int, first: int, lines: list[str]) -> Placed | str:
    """Place lines that are added behind an anchor and have none behind them."""
    start = begin + first
    follows = next((line for line in old[start:] if line.strip()), "")
    if follows and same(follows, next(line for line in lines[first:] if line.strip())):
        return f"empty lines before {follows.strip()!r} are not in the edit"
    says_something = any(character.isalnum() for character in lines[-1])
    if says_something and any(same(line, lines[-1]) for line in old[start:]):
        return f"the line {lines[-1].strip()!r} does not follow upon {lines[first - 1].strip()!r} in the original"
    return Placed(begin, start, lines)


def _end(old: list[str], begin: int, first: int, segment: Segment, lines: list[str]) -> int | str:
    """Return the line of the original behind what a segment replaces."""
    start = begin + first
    found = [at for at in range(start, len(old)) if same(old[at], lines[-1])]
    if found:
        chosen = _nearest_end(old, begin, start, found, lines, first)
        return chosen if isinstance(chosen, str) else chosen + 1
    if _is_blank(old[start:]):
        return len(old)
    return _block_end(old, begin, segment, lines)


def _nearest_end(old: list[str], begin: int, start: int, found: list[int], lines: list[str], first: int) -> int | str:
    """Return the end anchor that belongs to a beginning, of several that read alike."""
    nearest = found[0]
    indent = indent_of(lines[0])
    between = [line for line in old[begin + 1 : nearest] if line.strip()]
    closes = indent_of(lines[-1]) <= indent and all(indent_of(line) > indent for line in between)
    if len(found) == 1 or closes:
        return nearest
    lowest = min(indent, indent_of(lines[-1]))
    if any(line.strip() and indent_of(line) < lowest for line in old[nearest + 1 : found[1]]):
        return nearest
    rest = lines[first:]
    lengths = {at: _run_back(old, start, at, rest) for at in found}
    longest = max(lengths.values())
    best = [at for at, length in lengths.items() if length == longest]
    return best[0] if len(best) == 1 else _several(lines[-1])


def _block_end(old: list[str], begin: int, segment: Segment, lines: list[str]) -> int | str:
    """Return where the indented block ends that a segment begins with, for a segment that holds the whole of the new block."""
    indent = indent_of(lines[0])
    whole = all(not line.strip() or indent_of(line) > indent for line in lines[1:])
    beyond = segment.reference_indent is None or segment.reference_indent <= indent
    if not (lines[0].rstrip().endswith(":") and whole and beyond):
        return f"the line {lines[-1].strip()!r} is not in the original"
    end = begin + 1
    while end < len(old) and (not old[end].strip() or indent_of(old[end]) > indent):
        end += 1
    while not old[end - 1].strip():
        end -= 1
    return end


def _without_first(old: list[str], position: int, segment: Segment, lines: list[str]) -> Placed | str:
    """Place lines that are added and whose first is new: before their last ones, or at an edge of the file."""
    found = [at for at in range(position, len(old)) if same(old[at], lines[-1])]
    if not found and segment.reference_indent is None:
        return Placed(len(old), len(old), segment.lines)
    if not found and not segment.follows_reference:
        return Placed(position, position, segment.lines)
    lengths = {at: _run_back(old, position, at, lines) for at in found}
    longest = max(lengths.values(), default=0)
    best = [at for at, length in lengths.items() if length == longest]
    if len(best) != 1:
        return f"the line {lines[-1].strip()!r} fits in no place or in several"
    return Placed(best[0] - longest + 1, best[0] + 1, segment.lines)


def _run_from(old: list[str], position: int, lines: list[str]) -> tuple[int, int]:
    """Return the most lines at the beginning of a segment that the original has in one piece, and where; -1 for nowhere."""
    best, where = 0, -1
    for at in range(position, len(old)):
        size = 0
        while size < len(lines) and at + size < len(old) and same(old[at + size], lines[size]):
            size += 1
        if size > best:
            best, where = size, at
    # An anchor of empty lines, or one that trails off into them, says nothing.
    while best and not lines[best - 1].strip():
        best -= 1
    return best, where if best else -1


def _places(old: list[str], position: int, lines: list[str], size: int) -> list[int]:
    """Return where the original has the first lines of a segment."""
    wanted = [line.rstrip() for line in lines[:size]]
    return [at for at in range(position, len(old) - size + 1) if [line.rstrip() for line in old[at : at + size]] == wanted]


def _run_back(old: list[str], start: int, end: int, lines: list[str]) -> int:
    """Return how many lines at the end of a segment the original has up to a line."""
    size = 0
    while size < len(lines) and end - size >= start and same(old[end - size], lines[-1 - size]):
        size += 1
    while size and not lines[-size].strip():
        size -= 1
    return size


def _trimmed(lines: list[str]) -> list[str]:
    """Return lines without empty ones at the edges, where they only set off a reference."""
    first, last = 0, len(lines)
    while not lines[first].strip():
        first += 1
    while not lines[last - 1].strip():
        last -= 1
    return lines[first:last]


def _is_blank(lines: list[str]) -> bool:
    return not any(line.strip() for line in lines)
