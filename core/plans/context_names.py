"""Names of notes and piped data: the naming model finds them."""

from __future__ import annotations

import re
from collections.abc import Container, Iterable, Mapping
from itertools import chain, count

from core.kernel.errors import DomainError
from core.plans.completion import RoleModels, Roles
from core.plans.context_items import NOTE, UNNAMED
from core.plans.questions import Function, Message, Parameter
from core.plans.state import PlanState
from gen.busbar.plans.v1.contexts_pb import Context, LoadContextParams

MOST_READ = 8000
"""Characters of a text that the naming model is shown."""

_NAME = Parameter("A name of two to five lower-case words joined by dashes, without an extension.")
_FUNCTIONS = {
    True: Function("nameNote", "Tells the name of a note.", {"name": _NAME}),
    False: Function("namePipedData", "Tells the name of the output of a command.", {"name": _NAME}),
}
_WORDS = 4


class ContextNames:
    """Finds names."""

    def __init__(self, roles: Roles) -> None:
        self._roles = roles

    async def fill(
        self, org_id: str, state: PlanState, items: Iterable[LoadContextParams], auth_vars: Mapping[str, str]
    ) -> None:
        """Give a name to each note and piece of piped data that has none; a text that the plan has keeps the name it has there.

        Where no model can be asked, the first words of the text are its name: a note is not worth refusing for its label.
        """
        known: list[Context | LoadContextParams] = list(state.contexts.values())
        models: RoleModels | None = await self._roles.for_branch(org_id, state.settings, auth_vars)
        for item in items:
            if lacks_name(item):
                alike = [one for one in known if one.context_type == item.context_type]
                same = next((one.name for one in alike if one.body == item.body), "")
                asked = "" if same or models is None else await _ask(models, item)
                # Who failed once would be waited for again with each further text.
                models = models if same or asked else None
                item.name = same or _free(asked or first_words(item), {one.name for one in alike})
            known.append(item)


async def _ask(models: RoleModels, item: LoadContextParams) -> str:
    function = _FUNCTIONS[item.context_type == NOTE]
    question = (
        Message("system", f"You name things. {function.description} {_NAME.description}"),
        Message("user", item.body[:MOST_READ]),
    )
    try:
        answer = await models.ask("names", question, function=function)
    except DomainError:
        return ""
    return slug(str(answer.get("name", "")))


def lacks_name(item: LoadContextParams) -> bool:
    """Whether the client leaves the name of an item to the server."""
    return not item.name and item.context_type in UNNAMED


def first_words(item: LoadContextParams) -> str:
    """Return a name made of the beginning of a text."""
    return slug("-".join(re.findall(r"\w+", item.body[:400])[:_WORDS])) or item.context_type.replace(" ", "-")


def slug(text: str) -> str:
    """Return a text as lower-case words with dashes between them, at most 60 characters."""
    return "-".join(re.findall(r"\w+", text.lower()))[:60].strip("-")


def _free(name: str, taken: Container[str]) -> str:
    """Return the name, with a number where it is taken: items of one name and kind are taken for the same."""
    return next(one for one in chain([name], (f"{name}-{number}" for number in count(2))) if one not in taken)
