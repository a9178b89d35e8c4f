"""Lines of code as edits compare them."""

from __future__ import annotations


def same(one: str, other: str) -> bool:
    """Whether lines are equal but for blanks at their ends."""
    return one.rstrip() == other.rstrip()


def indent_of(line: str) -> int:
    """Return by how many characters a line is indented."""
    return len(line) - len(line.lstrip())
