"""How the development model puts a change into a file: by its first and last line, or else at the end."""

from __future__ import annotations

import re

_ORIGINAL = re.compile(r"<Original>\n(.*)\n</Original>", re.DOTALL)
_CHANGE = re.compile(r"<Change>\n(.*)\n</Change>", re.DOTALL)
_REFERENCE = "... existing code ..."

WHOLE_FILE = "<PlandexVerdict>whole-file</PlandexVerdict>\n"
_REPLACEMENT = """\
<PlandexVerdict>replacements</PlandexVerdict>

<PlandexReplacements>
<Replacement>
<Old>
{old}
</Old>
<New>
{new}
</New>
</Replacement>
</PlandexReplacements>
"""


def replacements(prompt: str) -> str:
    """Return which lines a change replaces: those from its first line, which must occur once, to its last one."""
    original, change = _lines(_ORIGINAL, prompt), _lines(_CHANGE, prompt)
    while change and (not change[0].strip() or _REFERENCE in change[0]):
        change.pop(0)
    while change and (not change[-1].strip() or _REFERENCE in change[-1]):
        change.pop()
    if not change or any(_REFERENCE in line for line in change) or original.count(change[0]) != 1:
        return WHOLE_FILE
    start = original.index(change[0])
    if change[-1] not in original[start + 1 :]:
        return WHOLE_FILE
    end = original.index(change[-1], start + 1) + 1
    return _REPLACEMENT.format(old="\n".join(original[start:end]), new="\n".join(change))


def whole_file(prompt: str) -> str:
    """Return a changed file: the file, and what of the change it does not have."""
    original, change = _lines(_ORIGINAL, prompt), _lines(_CHANGE, prompt)
    new = [line for line in change if line not in original and _REFERENCE not in line]
    return "<PlandexWholeFile>\n" + "\n".join([*original, *new]) + "\n</PlandexWholeFile>\n"


def _lines(tag: re.Pattern[str], prompt: str) -> list[str]:
    found = tag.search(prompt)
    return found[1].removesuffix("\n").split("\n") if found else []
