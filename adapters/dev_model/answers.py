"""The answers of the development model: the same question has the same answer, and nothing else has a say in it.

It plays the role that its name says. Where its name is that of the planner, it plans if the system message teaches it how tasks
are written, and talks otherwise. A coder is told its task by a line `Task: **title**`, or takes the first task of the newest
prompt that no reply has completed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from adapters.dev_model import edits
from adapters.dev_model.directives import Directive, directives, seconds_to_sleep, ticked, titled

NAME = "dev-plan"
FINISH = "<PlandexFinish/>"

_TASK = re.compile(r"^Task: \*\*(.+)\*\*\s*$", re.MULTILINE)
_BEGUN = re.compile(r"### BEGINNING OF YOUR REPLY ###\n(.*)\n### END OF THE BEGINNING ###", re.DOTALL)
_UPDATE = re.compile(r"^(?:[-*] )?Update (.+)$", re.MULTILINE)
_LANGUAGES = {"py": "python", "js": "javascript", "ts": "typescript", "md": "markdown", "sh": "bash", "yml": "yaml"}
_SUMMARY = 200


@dataclass(frozen=True, slots=True)
class Pause:
    """Nothing is said for some time."""

    seconds: float


Step = str | Pause


@dataclass(frozen=True, slots=True)
class Asked:
    """What the model is asked.

    Attributes:
        role: Role that it plays.
        messages: Speaker and text of each message.
        function: Function that it is to call: its name and the kinds of its parameters.
    """

    role: str
    messages: Sequence[tuple[str, str]]
    function: tuple[str, Mapping[str, str]] | None = None

    @property
    def system(self) -> str:
        """The system messages."""
        return "\n".join(text for speaker, text in self.messages if speaker == "system")

    @property
    def prompt(self) -> str:
        """The newest message of the user."""
        return next((text for speaker, text in reversed(self.messages) if speaker == "user"), "")


def answer(asked: Asked) -> list[Step]:
    """Return the answer to a question, in steps."""
    if asked.function is not None:
        return [_call(asked)]
    return _ROLES.get(asked.role, _talk)(asked)


def _plan(asked: Asked) -> list[Step]:
    if "### Tasks" not in asked.system:
        return _talk(asked)
    tasks = titled(directives(asked.prompt))
    intro = f"I plan by rule: {len(tasks)} of the lines are directives.\n\n"
    lines = ["### Tasks\n"] if tasks else []
    for number, (title, directive) in enumerate(tasks, 1):
        lines.append(f"{number}. {title}\n- {directive.line}\nUses: `{directive.path}`\n")
    return [intro, *_sleep(asked), "\n".join([*lines, FINISH, ""])]


def _talk(asked: Asked) -> list[Step]:
    said = asked.prompt.replace("<Plandex", "< Plandex").replace("</Plandex", "< /Plandex")
    return ["I am a development model and answer by rule. ", *_sleep(asked), f"You said:\n\n{said}\n\n{FINISH}\n"]


def _sleep(asked: Asked) -> list[Step]:
    seconds = seconds_to_sleep(asked.prompt)
    return [Pause(seconds)] if seconds else []


def _code(asked: Asked) -> list[Step]:
    title, directive = _task(asked)
    if directive is None:
        text = "There is no directive in this task.\n\n"
    elif directive.text is None:
        text = f"I remove the file.\n\n### Remove Files\n- `{directive.path}`\n<EndPlandexFileOps/>\n\n"
    else:
        path = directive.path
        suffix = path.rpartition(".")[2].lower() if "." in path else ""
        tag = f'<PlandexBlock lang="{_LANGUAGES.get(suffix, suffix)}" path="{path}">'
        text = f"I write the file.\n\n**Updating `{path}`**\nType: overwrite\nSummary: Write the whole file.\n\n"
        text += f"- {path}:\n{tag}\n{directive.text}</PlandexBlock>\n\n"
    text += f"**{title}** has been completed\n\n{FINISH}\n"
    begun = _BEGUN.search(asked.prompt)
    return [text.removeprefix(begun[1])] if begun else [text]


def _task(asked: Asked) -> tuple[str, Directive | None]:
    """Return the task of a coder."""
    told = _TASK.search(asked.prompt)
    own = directives(asked.prompt)
    if told and own:
        return told[1], own[0]
    done: list[str] = []
    for speaker, text in reversed(asked.messages):
        if speaker == "assistant":
            done.append(text)
        elif speaker == "user" and (found := titled(directives(text))):
            named = dict(found)
            open_tasks = [title for title in named if not any(f"**{title}** has been completed" in reply for reply in done)]
            title = told[1] if told else next(iter(open_tasks), found[-1][0])
            return title, named.get(title)
    return (told[1] if told else "Task"), None


def _choose_files(asked: Asked) -> list[Step]:
    paths = ticked(asked.prompt)
    if not paths:
        # Of a chat this is all of the answer.
        return [f"This names no files that have to be read: {asked.prompt}\n\n{FINISH}\n"]
    listed = "\n".join(f"- `{path}`" for path in paths)
    return [f"The request names files.\n\n### Categories\n\n- What the request names\n\n### Files\n\n{listed}\n\n{FINISH}\n"]


def _build(asked: Asked) -> list[Step]:
    # Where a pack has nobody who writes whole files, the builder does.
    writes_whole = "<PlandexReplacements>" not in asked.system
    return _write_whole(asked) if writes_whole else [edits.replacements(asked.prompt)]


def _write_whole(asked: Asked) -> list[Step]:
    return [edits.whole_file(asked.prompt)]


def _commit(asked: Asked) -> list[Step]:
    return [_commit_message(asked)]


def _commit_message(asked: Asked) -> str:
    first = asked.prompt.partition("\n")[0]
    paths = ticked(first) if first.startswith("Files:") else []
    if not paths:
        paths = [path.strip() for found in _UPDATE.findall(asked.prompt) for path in found.split(",")]
    return f"Update {', '.join(dict.fromkeys(paths or ticked(asked.prompt))) or 'files'}"


def _summarize(asked: Asked) -> list[Step]:
    return [f"Summary: {asked.prompt[:_SUMMARY]}"]


def _call(asked: Asked) -> str:
    """Return the arguments of a call."""
    assert asked.function is not None  # noqa: S101 - the caller looked
    _, kinds = asked.function
    values: dict[str, Any] = {}
    for name, kind in kinds.items():
        if kind == "boolean":
            values[name] = True
        elif asked.role == "commit-messages":
            values[name] = _commit_message(asked)
        else:
            values[name] = NAME if asked.role == "names" else "Every task is done in one reply."
    return json.dumps(values)


_ROLES: Mapping[str, Callable[[Asked], list[Step]]] = {
    "planner": _plan,
    "coder": _code,
    "architect": _choose_files,
    "summarizer": _summarize,
    "builder": _build,
    "whole-file-builder": _write_whole,
    "names": lambda _asked: [NAME],
    "commit-messages": _commit,
    "auto-continue": lambda _asked: ["finished"],
}
