"""Puts the edit that a reply writes into a file: parts that stay are abbreviated by a comment with `... existing code ...`.

Between two such comments stands a segment. It begins and ends with lines of the original, its anchors; what lies between them
in the original gives way to the segment, and each comment stands for the lines between two neighbours. Nothing is guessed:
where an anchor is missing, or fits in several places, a model has to put the edit in.
"""

from __future__ import annotations

import ast
import json
import re
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import PurePosixPath

from core.plans.edit_anchors import Segment, place

_OPENERS = r"(?://+|#+|--+|;+|%+|/\*+|<!--|\{/\*|\{#|\{\{!--|\(\*|'+|\"+|\.\.|REM\b|rem\b|@comment\b)"
_REFERENCE = re.compile(rf"^\s*{_OPENERS}.*(?:\.\.\.|…)\s*existing code\s*(?:\.\.\.|…)", re.IGNORECASE)
_TYPE = re.compile(r"^[\s*_>-]*Type:[\s*_`]*(add|prepend|append|replace|remove|overwrite)\b", re.IGNORECASE | re.MULTILINE)

_CHECKS: dict[str, Callable[[str], object]] = {
    ".py": ast.parse,
    ".pyi": ast.parse,
    ".json": json.loads,
    ".toml": tomllib.loads,
}
_FAULTS = (SyntaxError, ValueError, RecursionError, MemoryError)


@dataclass(frozen=True, slots=True)
class NeedsWholeFile:
    """The edit cannot be put in by rule.

    Attributes:
        reason: Why, for the log and for the model that puts it in.
    """

    reason: str


def is_reference(line: str) -> bool:
    """Whether a line is a comment that stands for lines of the original."""
    return _REFERENCE.match(line) is not None


def kinds_of(description: str) -> list[str]:
    """Return the kinds of change that a description names, in order."""
    return [kind.lower() for kind in _TYPE.findall(description)]


def merge(original: str | None, block: str, description: str, path: str) -> str | NeedsWholeFile:
    """Return the new text of a file.

    Args:
        original: Its present text; None for a new file.
        block: What the reply has for it.
        description: What the reply says before that.
        path: Its path, by whose end it is known what a valid text is.
    """
    if original is None:
        return block
    kinds = kinds_of(description)
    lines = block.split("\n")
    if block.endswith("\n"):
        lines.pop()
    has_references = any(map(is_reference, lines))
    only = kinds[0] if len(set(kinds)) == 1 else ""
    if only == "overwrite" or (not has_references and only not in ("append", "prepend")):
        return block
    old = [line.rstrip("\r") for line in original.split("\n")]
    if original.endswith("\n"):
        old.pop()
    merged = _joined(old, lines, only)
    if isinstance(merged, NeedsWholeFile):
        return merged
    if only == "remove" and merged == old:
        return NeedsWholeFile("the edit would remove nothing")
    text = _like(original, merged)
    if is_valid(path, original) and not is_valid(path, text):
        return NeedsWholeFile(f"the merged text is not valid {PurePosixPath(path).suffix[1:]}")
    return text


def is_valid(path: str, text: str) -> bool:
    """Whether a text is valid for its kind of file, as far as the standard library can tell."""
    check = _CHECKS.get(PurePosixPath(path).suffix.lower())
    if check is None:
        return True
    try:
        check(text)
    except _FAULTS:
        return False
    return True


def _joined(old: list[str], lines: list[str], kind: str) -> list[str] | NeedsWholeFile:
    segments = _segments(lines)
    filled = [segment for segment in segments if segment.lines]
    if kind == "append" and filled == [segments[-1]]:
        return _appended(old, segments[-1].lines)
    if kind == "prepend" and filled == [segments[0]]:
        return _appended(old[::-1], segments[0].lines[::-1])[::-1]
    merged: list[str] = []
    position = 0
    for segment in segments:
        if not segment.lines:
            continue
        placed = place(old, position, segment, kind)
        if isinstance(placed, str):
            return NeedsWholeFile(placed)
        merged += old[position : placed.start]
        merged += placed.lines if not merged or merged[-1].strip() else _without_first_blanks(placed.lines)
        position = placed.end
    return merged + old[position:]


def _segments(lines: list[str]) -> list[Segment]:
    """Return what stands between references; the first and the last have none before and behind them, and may be empty."""
    segments = [Segment([])]
    for line in lines:
        if is_reference(line):
            indent = len(line) - len(line.lstrip())
            segments[-1].reference_indent = indent
            segments.append(Segment([], follows_reference=True))
        else:
            segments[-1].lines.append(line)
    for segment in segments:
        if not any(line.strip() for line in segment.lines):
            segment.lines = []
    return segments


def _without_first_blanks(lines: list[str]) -> list[str]:
    first = next(at for at, line in enumerate(lines) if line.strip())
    return lines[first:]


def _appended(old: list[str], new: list[str]) -> list[str]:
    """Return a text with lines added, which may begin by repeating how the text ends."""
    end = len(old)
    while end and not old[end - 1].strip():
        end -= 1
    body = [line.rstrip() for line in old[:end]]
    start = 0
    while start < len(new) and not new[start].strip():
        start += 1
    wanted = [line.rstrip() for line in new[start:]]
    if body and _contains(wanted, body):
        return new[start:]
    for size in range(min(len(body), len(wanted)), 0, -1):
        if body[-size:] == wanted[:size]:
            return old[:end] + new[start + size :]
    return old[:end] + new


def _contains(lines: list[str], part: list[str]) -> bool:
    """Whether a text has all lines of another, in one piece."""
    size = len(part)
    return any(lines[at : at + size] == part for at in range(len(lines) - size + 1))


def _like(original: str, lines: list[str]) -> str:
    """Return the text of lines, with the line ends of the original, and no empty lines at its edges but those it had."""
    first, last = 0, len(lines)
    while first < last and not lines[first].strip() and not original.startswith(("\n", "\r\n")):
        first += 1
    while last > first and not lines[last - 1].strip() and not original.endswith(("\n\n", "\n\r\n")):
        last -= 1
    lines = lines[first:last]
    newline = "\r\n" if "\r\n" in original else "\n"
    text = newline.join(lines)
    return text + newline if lines and (original.endswith("\n") or not original) else text
