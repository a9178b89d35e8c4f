"""Tells where else in the original a segment of an edit could belong: repetitive code has many places that read alike.

A reading of a segment is a stretch of the original that begins with its first line and ends with its last one. It does not
leave the block that it begins in, unless the segment does.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from core.plans.edit_lines import indent_of, same

_MOST_READINGS = 1_000
"""Readings after which it is plain that no certain one will be found."""


@dataclass(frozen=True, slots=True)
class Reading:
    """Lines `start` to `end` of the original.

    Attributes:
        shared: How many lines the segment repeats of them, at both edges together.
    """

    start: int
    end: int
    shared: int


def readings(old: Sequence[str], position: int, lines: Sequence[str], longest: int) -> list[Reading] | None:
    """Return the readings of a segment at or after a position that are not too long; None where there are too many of them."""
    found: list[Reading] = []
    for start in range(position, len(old)):
        if not same(old[start], lines[0]):
            continue
        for end in ends(old[: start + longest], start, lines):
            found.append(reading(old, start, end, lines))
            if len(found) > _MOST_READINGS:
                return None
    return found


def reading(old: Sequence[str], start: int, end: int, lines: Sequence[str]) -> Reading:
    """Return a reading with what the segment has in common with it."""
    shared = _shared_before(old, start, end, lines) + _shared_behind(old, start, end, lines)
    return Reading(start, end, min(shared, len(lines), end - start))


def _shared_before(old: Sequence[str], start: int, end: int, lines: Sequence[str]) -> int:
    size = 0
    while size < len(lines) and start + size < end and same(old[start + size], lines[size]):
        size += 1
    return size


def _shared_behind(old: Sequence[str], start: int, end: int, lines: Sequence[str]) -> int:
    size = 0
    while size < len(lines) and end - 1 - size >= start and same(old[end - 1 - size], lines[-1 - size]):
        size += 1
    return size


def ends(old: Sequence[str], start: int, lines: Sequence[str]) -> Iterator[int]:
    """Yield where a reading that starts at a line can end, which is behind it."""
    first, last = indent_of(lines[0]), indent_of(lines[-1])
    is_bracket = not any(character.isalnum() for character in lines[-1])
    inside = (last > first or is_bracket) and all(indent_of(line) > first for line in lines[1:-1] if line.strip())
    for at in range(start, len(old)):
        if at > start and old[at].strip() and indent_of(old[at]) <= (first if inside else min(first, last) - 1):
            if inside and same(old[at], lines[-1]):
                yield at + 1
            return
        if same(old[at], lines[-1]):
            yield at + 1
            if is_bracket and last < first:
                # Only the first of them closes a block around the beginning.
                return
