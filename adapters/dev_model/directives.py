r"""What a prompt tells the development model to do, each on a line of its own; whatever else stands there is ignored.

write PATH: TEXT    write a file; the two characters \n in the text break the line, and a line break ends it
remove PATH         remove a file
sleep SECONDS       say nothing for so long
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

_WRITE = re.compile(r"write ([^:\s`*]+): ?(.*)")
_REMOVE = re.compile(r"remove ([^:\s`*]+)")
_SLEEP = re.compile(r"sleep (\d{1,5}(?:\.\d+)?)")
_TICKED = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")
_LONGEST_SLEEP = 3600.0


@dataclass(frozen=True, slots=True)
class Directive:
    """A change of one file.

    Attributes:
        line: The directive as it was written.
        path: Path of the file.
        text: What it is to hold; None removes it.
    """

    line: str
    path: str
    text: str | None

    @property
    def title(self) -> str:
        """Title of the task that carries it out."""
        return f"{'Remove' if self.text is None else 'Write'} {self.path}"


def directives(text: str) -> list[Directive]:
    """Return the changes that a text asks for, in order."""
    found: list[Directive] = []
    for line in _lines(text):
        written, removed = _WRITE.fullmatch(line), _REMOVE.fullmatch(line)
        if written:
            content = written[2].replace("\\n", "\n") + "\n"
            found.append(Directive(line, written[1], content))
        elif removed:
            found.append(Directive(line, removed[1], None))
    return found


def titled(found: Iterable[Directive]) -> list[tuple[str, Directive]]:
    """Return directives with titles that are all unlike."""
    count: dict[str, int] = {}
    named: list[tuple[str, Directive]] = []
    for directive in found:
        number = count[directive.title] = count.get(directive.title, 0) + 1
        named.append((directive.title if number == 1 else f"{directive.title} ({number})", directive))
    return named


def seconds_to_sleep(text: str) -> float:
    """Return for how long a text wants nothing to be said."""
    return min(sum(float(found[1]) for line in _lines(text) if (found := _SLEEP.fullmatch(line))), _LONGEST_SLEEP)


def ticked(text: str) -> list[str]:
    """Return what stands in single backticks, each once, in order."""
    return list(dict.fromkeys(_TICKED.findall(text)))


def _lines(text: str) -> list[str]:
    """Return the lines of a text without what indents or lists them."""
    return [line.strip().removeprefix("- ") for line in text.split("\n")]
