"""The marks in replies of models, and what a client is shown in their place.

A line is shown as soon as nothing that follows can change how it is shown, so a part of a mark is held back until it is whole.
"""

from __future__ import annotations

import re

OPEN = "<PlandexBlock"
CLOSE = "</PlandexBlock>"
END_OPERATIONS = "<EndPlandexFileOps/>"
FINISH = "<PlandexFinish/>"
FENCE = "```"
ESCAPED_FENCE = r"\`\`\`"

_PATH = re.compile(r'\bpath="([^"]+)"')
_LANGUAGE = re.compile(r'\blang="([^"]*)"')


def opened_path(line: str) -> str | None:
    """Return the path of the block that a line opens; None when it opens none."""
    found = _PATH.search(line) if line.startswith(OPEN) else None
    return found[1].strip() if found else None


def shown_prose(line: str) -> str:
    """Return how a whole line outside blocks is shown, without its end."""
    if opened_path(line) is not None:
        language = _LANGUAGE.search(line)
        return FENCE + (language[1] if language else "")
    return line.replace(END_OPERATIONS, "")


def shown_content(line: str) -> str:
    """Return how a whole line of a block is shown; the line that closes it too."""
    return FENCE if line.rstrip() == CLOSE else line.replace(FENCE, ESCAPED_FENCE)


def certain_prose(start: str) -> str:
    """Return what is certain of how a line outside blocks is shown, from its start."""
    start = without_partial(start, FINISH)
    if OPEN.startswith(start) or start.startswith(OPEN):
        return ""
    return shown_prose(without_partial(start, END_OPERATIONS))


def certain_content(start: str) -> str:
    """Return what is certain of how a line of a block is shown, from its start."""
    start = without_partial(start, FINISH)
    if CLOSE.startswith(start) or start.startswith(CLOSE):
        return ""
    return shown_content(start.rstrip("`"))


def without_partial(text: str, mark: str) -> str:
    """Return a text without an end that may be the beginning of a mark."""
    for size in range(min(len(mark) - 1, len(text)), 0, -1):
        if text.endswith(mark[:size]):
            return text[:-size]
    return text
