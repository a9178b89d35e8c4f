"""Reads the reply of a model while it arrives: what to show, files it writes, operations, tasks.

The grammar goes by lines, so however the reply is cut into pieces, what is read from it is the same.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field

from core.plans.reply_marks import (
    CLOSE,
    END_OPERATIONS,
    FINISH,
    certain_content,
    certain_prose,
    opened_path,
    shown_content,
    shown_prose,
)
from core.plans.reply_sections import HEADING, OPERATIONS, is_inside_project, read_operation, read_tasks, read_titles, ticked
from core.plans.tokens import count_tokens
from gen.busbar.plans.v1.conversation_pb import Operation, Subtask

_LABEL = re.compile(r"^(-|\*\*.+\*\*:?\s*$|#{1,6}\s.*:\s*$)")


@dataclass(frozen=True, slots=True)
class Shown:
    """Text for the client."""

    text: str


@dataclass(frozen=True, slots=True)
class BlockOpened:
    """A file begins; the text of its block follows.

    Attributes:
        path: Path of the file.
        before: The reply before it, without its label: what is left when the file is skipped.
    """

    path: str
    before: str


@dataclass(frozen=True, slots=True)
class OperationRead:
    """A file is whole, or an operation on one was named."""

    operation: Operation


Event = Shown | BlockOpened | OperationRead


@dataclass(slots=True)
class Reply:
    """What a reply says.

    Attributes:
        text: The reply as it was written, up to the mark that finishes it.
        shown: What the client is shown.
        operations: Changes of files, in order.
        refused: Paths of operations outside the project, which were left out.
        has_tasks: Whether there is a section of tasks.
        tasks: The tasks.
        removed_tasks: Titles of tasks that it removes.
        has_files: Whether there is a section of files.
        files: What that section has in backticks.
        mentioned: Whatever it has in backticks outside blocks.
        commands: The section of commands.
        finished: Whether it has the mark that finishes it; most providers keep that to themselves.
        open_path: Path of a block that has no end.
        prose: The reply without blocks.
    """

    text: str = ""
    shown: str = ""
    operations: list[Operation] = field(default_factory=list[Operation])
    refused: list[str] = field(default_factory=list[str])
    has_tasks: bool = False
    tasks: list[Subtask] = field(default_factory=list[Subtask])
    removed_tasks: list[str] = field(default_factory=list[str])
    has_files: bool = False
    files: list[str] = field(default_factory=list[str])
    mentioned: list[str] = field(default_factory=list[str])
    commands: str = ""
    finished: bool = False
    open_path: str | None = None
    prose: str = ""

    def completes(self, title: str) -> bool:
        """Whether it says that a task is done."""
        return f"**{title}** has been completed" in self.prose


class ReplyParser:
    """Reads one reply. `feed` it the pieces; `finish` tells what it came to, of a reply that was broken off as well."""

    def __init__(self) -> None:
        self._reply = Reply()
        self._text: list[str] = []
        self._shown: list[str] = []
        self._length = 0
        self._line = ""
        self._line_shown = 0
        self._prose: list[str] = []
        self._since: list[tuple[int, str]] = []
        self._content: list[str] = []
        self._block: Operation | None = None
        self._section = ""
        self._sections: dict[str, list[str]] = {}
        self._events: list[Event] = []

    @property
    def text(self) -> str:
        """The reply so far, as it was written."""
        return "".join(self._text) + self._line

    @property
    def shown(self) -> str:
        """What the client was shown so far."""
        return "".join(self._shown)

    @property
    def operations(self) -> list[Operation]:
        """The operations so far."""
        return self._reply.operations

    def feed(self, text: str) -> list[Event]:
        """Take a piece in and return what it brings, in order."""
        *lines, rest = text.split("\n")
        for line in lines:
            self._take(f"{line}\n")
        if rest:
            self._take(rest)
        return self._taken()

    def finish(self) -> tuple[list[Event], Reply]:
        """Return what the last line brings, and the whole."""
        if self._line:
            self._end_line("")
        reply = self._reply
        reply.text, reply.shown, reply.prose = "".join(self._text), self.shown, "\n".join(self._prose)
        reply.open_path = self._block.path if self._block else None
        sections = self._sections
        tasks = sections.get("Tasks", []) + sections.get("Task", [])
        reply.has_tasks = "Tasks" in sections or "Task" in sections
        reply.tasks = read_tasks(tasks)
        reply.removed_tasks = read_titles(sections.get("Remove Tasks", []))
        reply.has_files, reply.files = "Files" in sections, ticked(sections.get("Files", []))
        reply.mentioned = ticked(self._prose)
        reply.commands = "\n".join(sections.get("Commands", [])).strip()
        return self._taken(), reply

    def _taken(self) -> list[Event]:
        events, self._events = self._events, []
        return events

    def _take(self, part: str) -> None:
        """Take a piece of a line in, or its rest."""
        if self._reply.finished:
            return
        self._line += part
        line, mark, _ = self._line.partition(FINISH)
        if mark:
            self._line, self._reply.finished = line, True
            self._end_line("")
        elif self._line.endswith("\n"):
            self._line = self._line[:-1]
            self._end_line("\n")
        else:
            self._show((certain_content if self._block else certain_prose)(self._line))

    def _end_line(self, end: str) -> None:
        line, self._line = self._line, ""
        start = self._length
        self._text.append(line + end)
        self._length += len(line) + len(end)
        if self._block is None:
            self._end_prose(line, end, start)
        elif line.rstrip() == CLOSE:
            self._show_whole(line, end, shown_content)
            self._close(self._block)
        else:
            self._show_whole(line, end, shown_content)
            self._content.append(line + end)
        self._line_shown = 0

    def _end_prose(self, line: str, end: str, start: int) -> None:
        path = opened_path(line)
        if path is not None:
            self._open(path, start)
            self._show_whole(line, end, shown_prose)
            return
        self._show_whole(line, end, shown_prose)
        self._prose.append(line)
        self._since.append((start, line))
        heading = HEADING.match(line)
        if heading:
            self._section = heading[1]
            self._sections.setdefault(self._section, [])
        elif END_OPERATIONS in line:
            self._section = ""
        elif self._section:
            self._sections[self._section].append(line)
            kind = OPERATIONS.get(self._section)
            operation = read_operation(kind, line) if kind else None
            if operation is not None:
                self._add(operation)

    def _open(self, path: str, start: int) -> None:
        lines = self._since
        while lines and not lines[-1][1].strip():
            lines = lines[:-1]
        if lines and _LABEL.match(lines[-1][1]):
            start = lines[-1][0]
            lines = lines[:-1]
        before = "".join(self._text)[:start]
        description = "\n".join(line for _, line in lines).strip()
        self._block = Operation(type="file", path=path, description=description, reply_before=before)
        self._since, self._section = [], ""
        self._events.append(BlockOpened(path, before))

    def _close(self, block: Operation) -> None:
        self._block = None
        block.content = "".join(self._content)
        block.num_tokens = count_tokens(block.content)
        self._content = []
        self._add(block)

    def _add(self, operation: Operation) -> None:
        outside = [path for path in (operation.path, operation.destination) if path and not is_inside_project(path)]
        self._reply.refused.extend(outside)
        if outside:
            return
        self._reply.operations.append(operation)
        self._events.append(OperationRead(operation))

    def _show_whole(self, line: str, end: str, how: Callable[[str], str]) -> None:
        shown = how(line)
        # A line of nothing but a mark that is not shown leaves no empty line behind.
        self._show(shown if line and not shown else shown + end)

    def _show(self, shown: str) -> None:
        """Show what was not yet shown of a line."""
        text = shown[self._line_shown :]
        if text:
            self._line_shown = len(shown)
            self._shown.append(text)
            self._events.append(Shown(text))
