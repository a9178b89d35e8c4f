"""Sections of a reply: tasks, files to load, and operations on whole files."""

from __future__ import annotations

import re
from pathlib import PurePosixPath

from gen.busbar.plans.v1.conversation_pb import Operation, Subtask

HEADING = re.compile(r"^#{1,6}\s+(.*?)\s*:?\s*$")
TICKED = re.compile(r"`([^`\n]+)`")
_TASK = re.compile(r"^\s*(\d+)\.\s+(.+?)\s*$")
_USES = re.compile(r"^\s*(?:[-*]\s*)?(?:\*\*)?Uses:(?:\*\*)?\s*(.*)$")
_ITEM = re.compile(r"^\s*[-*]\s+(.+?)\s*$")
_MOVE = re.compile(r"`([^`]+)`\s*→\s*`([^`]+)`")

OPERATIONS = {"Move Files": "move", "Remove Files": "remove", "Reset Changes": "reset"}
"""Kind of the operations of a section, by its heading."""


def is_inside_project(path: str) -> bool:
    """Whether a path stays below the directory of the project: the client writes to wherever an operation points."""
    pure = PurePosixPath(path.replace("\\", "/"))
    has_drive = path[1:2] == ":"
    return bool(pure.parts) and not pure.is_absolute() and ".." not in pure.parts and not has_drive


def read_operation(kind: str, line: str) -> Operation | None:
    """Return the operation on a line of a section; None when it holds none."""
    item = _ITEM.match(line)
    if item is None:
        return None
    if kind == "move":
        moved = _MOVE.search(item[1])
        return Operation(type=kind, path=moved[1].strip(), destination=moved[2].strip()) if moved else None
    named = TICKED.search(item[1])
    return Operation(type=kind, path=named[1].strip()) if named else None


def read_tasks(lines: list[str]) -> list[Subtask]:
    """Return the tasks of a section, in order."""
    tasks: list[Subtask] = []
    descriptions: list[list[str]] = []
    for line in lines:
        begun, uses = _TASK.match(line), _USES.match(line)
        if begun:
            tasks.append(Subtask(title=_plain(begun[2])))
            descriptions.append([])
        elif tasks and uses:
            tasks[-1].uses_files.extend(path.strip() for path in TICKED.findall(uses[1]))
        elif tasks and line.strip():
            descriptions[-1].append(re.sub(r"^\s*-\s*", "", line).rstrip())
    for task, description in zip(tasks, descriptions, strict=True):
        task.description = "\n".join(description)
    return tasks


def read_titles(lines: list[str]) -> list[str]:
    """Return the titles that a section lists."""
    return [_plain(item[1]) for line in lines if (item := _ITEM.match(line))]


def ticked(lines: list[str]) -> list[str]:
    """Return what stands in single backticks, each once, in order."""
    return list(dict.fromkeys(found.strip() for line in lines for found in TICKED.findall(line)))


def _plain(title: str) -> str:
    """Return a title without the marks of bold print around it, which the sentence that completes it adds."""
    bold = re.fullmatch(r"\*\*(.+?)\*\*", title)
    return bold[1].strip() if bold else title
